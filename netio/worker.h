// SPDX-License-Identifier: Apache-2.0
// One lane: two threads that move packets, each from reading to writing.
//
//   out   TUN queue -> outbound path -> wire     (and ICMP replies back into the TUN queue)
//   in    wire -> inbound path -> TUN queue
//
// Under load each direction has a thread of its own, xfrmfs/outN and xfrmfs/inN. As long as one
// thread can do it, xfrmfs/inN serves both, and xfrmfs/outN sleeps: an answer then leaves on the
// thread that brought the question in, without the wake-up of another one, which costs more than
// all of our work on a packet. The outbound half belongs to whom `split_` says.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "engine/datapath.h"
#include "netio/busy_meter.h"
#include "netio/cpus.h"
#include "netio/event_fd.h"
#include "netio/ports.h"

namespace xfrmfs::netio {

class Worker {
 public:
  /// Starts both threads. The ports outlive the worker; deliver() of `clear` is called by both
  /// threads, everything else by one of them. With `cpus` each thread stays on its processor.
  Worker(unsigned lane, ClearPort& clear, WirePort& wire,
         std::unique_ptr<engine::OutboundPath> outbound,
         std::unique_ptr<engine::InboundPath> inbound, std::optional<CpuPair> cpus = {});
  /// Stops both threads after the batch they are at, and joins them.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Idle threads let go of outdated snapshots. Any thread.
  void nudge() noexcept;

 private:
  /// What both directions are made of. The pool is older than the path, which may hold packets.
  struct Half {
    EventFd doorbell;
    BusyMeter meter;
    engine::PacketPool pool;
    Half();
  };
  struct OutboundHalf : Half {
    std::unique_ptr<engine::OutboundPath> path;
    engine::Batch<engine::ClearPacket> arrived;
  };
  struct InboundHalf : Half {
    std::unique_ptr<engine::InboundPath> path;
    engine::Batch<engine::SealedPacket> arrived;
  };

  void stop() noexcept;
  void run_outbound() noexcept;
  void run_inbound() noexcept;  // and outbound, while nobody else does
  /// The inbound thread gives the outbound half away, and the outbound thread gives it back.
  void split() noexcept;
  void join() noexcept;
  /// The packets of one batch, from reading to writing. False if there were none.
  bool move_outbound() noexcept;
  bool move_inbound() noexcept;

  ClearPort& clear_;
  WirePort& wire_;
  std::atomic<bool> stopping_{false};
  /// The outbound half belongs to its own thread, else to the inbound one. Whoever has it hands it
  /// over, with everything that was written to it.
  std::atomic<bool> split_{false};
  OutboundHalf outbound_;
  InboundHalf inbound_;
  std::jthread outbound_thread_;
  std::jthread inbound_thread_;
};

}  // namespace xfrmfs::netio
