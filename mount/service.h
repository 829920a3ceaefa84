// SPDX-License-Identifier: Apache-2.0
// One running engine with everything around it: devices, threads, control socket, mount.
//
//   TUN queues, wires -- workers -- engine -- control server, housekeeping, address watch
//                                            \---- FUSE session
//
// Made in the order of the members and taken apart in reverse; a part that cannot be made takes
// with it those before it.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "fs/fuse_session.h"
#include "fs/tree.h"
#include "mount/daemon.h"
#include "mount/options.h"
#include "mount/status_report.h"
#include "netio/address_watch.h"
#include "netio/asio.h"
#include "netio/cleartext_guard.h"
#include "netio/control_server.h"
#include "netio/housekeeping.h"
#include "netio/next_hop_resolver.h"
#include "netio/packet_wire.h"
#include "netio/system_clock.h"
#include "netio/tun_device.h"
#include "netio/wire.h"
#include "netio/worker.h"

namespace xfrmfs {

/// One thread makes, runs and destroys it; that becomes the control thread.
class Service {
 public:
  /// Opens, connects and mounts everything; nothing runs yet. Throws std::system_error.
  explicit Service(const MountOptions& options);

  /// Starts the threads, says so, and works until a signal or the end of the mount.
  void run(Readiness& readiness);

 private:
  /// The FUSE loop in a thread; ends it when destroyed.
  class FuseThread {
   public:
    FuseThread(fs::FuseSession& session, netio::asio::io_context& io);
    ~FuseThread();

   private:
    fs::FuseSession& session_;
    std::jthread thread_;
  };

  void open_devices(const MountOptions& options);
  /// For all lanes; none if nobody asked for the port and it is taken.
  std::vector<std::unique_ptr<netio::UdpEncapSocket>> open_udp(const MountOptions& options);
  void open_guard(bool wanted);
  void start_workers();
  void nudge_workers();
  /// What `xfrmfs status` tells.
  Status status(const std::string& socket, netio::RawSend raw_send) const;

  const std::vector<int> cpus_;  // that the program may use
  const unsigned lanes_;
  const bool pin_;
  netio::SystemClock clock_;
  fs::Tree tree_ = fs::make_tree();
  engine::Engine engine_;
  netio::asio::io_context io_;  // younger than the engine, which its last handlers may still know
  netio::asio::signal_set signals_;
  netio::Housekeeping housekeeping_;
  std::unique_ptr<netio::TunInterface> tun_;
  std::uint16_t udp_port_ = 0;  // 0: none
  std::string without_udp_;     // why, if nobody said that there should be none
  std::unique_ptr<netio::CleartextGuard> guard_;
  std::string without_guard_;  // why there is none
  netio::NextHopTable next_hops_;
  std::unique_ptr<netio::NextHopResolver> resolver_;
  std::vector<std::unique_ptr<netio::Wire>> wires_;
  std::unique_ptr<netio::AddressWatch> addresses_;
  std::unique_ptr<netio::ControlServer> control_;
  std::unique_ptr<fs::FuseSession> session_;
  std::unique_ptr<FuseThread> fuse_thread_;
  std::vector<std::unique_ptr<netio::Worker>> workers_;
  std::string summary_;
};

}  // namespace xfrmfs
