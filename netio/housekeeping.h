// SPDX-License-Identifier: Apache-2.0
// What the engine needs done besides packets and changes: time passes, and old snapshots go.
//
// It calls Engine::advance() at the time the engine asked for, after every change, and when a
// worker calls for attention; and while somebody still holds an outdated snapshot, it nudges the
// workers until they have let go.

#pragma once

#include <functional>

#include "engine/engine.h"
#include "netio/asio.h"
#include "netio/boot_timer.h"
#include "netio/event_fd.h"

namespace xfrmfs::netio {

/// The io_context's thread only, except where it says otherwise.
class Housekeeping final : public engine::AttentionSink {
 public:
  /// `nudge` makes idle workers refresh. The engine outlives this.
  Housekeeping(asio::io_context& io, engine::Engine& engine, std::function<void()> nudge);
  ~Housekeeping() override;

  /// Something was published, or deadlines have moved: looks soon, once for many calls.
  void engine_changed() noexcept { doorbell_.ring(); }
  /// Any thread. Neither blocks nor allocates.
  void engine_needs_attention() noexcept override { doorbell_.ring(); }

 private:
  void wait();
  void advance();
  void let_go();

  engine::Engine& engine_;
  std::function<void()> nudge_;
  EventFd doorbell_;
  asio::posix::stream_descriptor rung_;  // the doorbell, for Asio; closes nothing
  BootTimer deadline_;
  asio::steady_timer retry_;
  bool retrying_ = false;
};

}  // namespace xfrmfs::netio
