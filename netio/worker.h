// SPDX-License-Identifier: Apache-2.0
// One lane: a thread that seals and a thread that opens, each from reading to writing.
//
//   xfrmfs/outN   TUN queue -> outbound path -> wire     (and ICMP replies back into the TUN queue)
//   xfrmfs/inN    wire -> inbound path -> TUN queue
//
// A thread waits in poll(2), takes what is there in batches, and waits again.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "engine/datapath.h"
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
  void run_inbound() noexcept;
  /// The packets of one batch, from reading to writing. The number read.
  std::size_t move_outbound() noexcept;
  std::size_t move_inbound() noexcept;

  ClearPort& clear_;
  WirePort& wire_;
  std::atomic<bool> stopping_{false};
  OutboundHalf outbound_;
  InboundHalf inbound_;
  std::jthread outbound_thread_;
  std::jthread inbound_thread_;
};

}  // namespace xfrmfs::netio
