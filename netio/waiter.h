// SPDX-License-Identifier: Apache-2.0
// Where a packet thread sleeps: in poll(2), on two groups of descriptors and a doorbell.
//
// A descriptor may stay readable without a packet behind it (a device that is down, buffers that
// all wait inside a path). A group that woke the thread twice in a row for nothing is looked away
// from for a moment, so that a lasting condition does not spin. Once is nothing: what came may have
// been a keep-alive.

#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <poll.h>

#include "netio/event_fd.h"

namespace xfrmfs::netio {

/// One thread, the doorbell's rings excepted.
class Waiter {
 public:
  enum Group : std::size_t { kFirst, kSecond, kGroups };

  struct Ready {
    bool rang = false;  // the doorbell, which is quiet again
    std::array<bool, kGroups> groups{};
  };

  /// The descriptors and the doorbell outlive the waiter.
  Waiter(EventFd& doorbell, std::span<const int> first, std::span<const int> second = {});

  /// Sleeps until the doorbell rings, a descriptor of the first `groups` groups is readable, or
  /// `most` is over.
  Ready wait(std::size_t groups, std::optional<std::chrono::milliseconds> most = {}) noexcept;
  /// What became of it, said once for each group that was ready.
  void served(Group group, bool brought_packets) noexcept;

 private:
  static constexpr std::chrono::milliseconds kPause{10};

  struct State {
    std::size_t end = 0;  // in polled_; it begins where the one before ends
    unsigned in_vain = 0;
    bool paused = false;
  };

  void set_paused(Group group, bool paused) noexcept;

  EventFd& doorbell_;
  std::vector<pollfd> polled_;  // the doorbell first
  std::array<State, kGroups> states_;
};

}  // namespace xfrmfs::netio
