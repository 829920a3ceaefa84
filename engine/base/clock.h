// SPDX-License-Identifier: Apache-2.0
// Time, as a door: durations run on the boot clock, wall time is only for display.
//
// A stepped or suspended wall clock must not make SAs live longer or shorter.

#pragma once

#include <chrono>

namespace xfrmfs::engine {

/// Time since boot, suspend included.
using BootTime = std::chrono::nanoseconds;
/// Seconds since 1970, as the control protocol and the listings show them.
using WallTime = std::chrono::seconds;

class Clock {
 public:
  virtual ~Clock() = default;
  /// Any thread.
  virtual BootTime boot_now() const = 0;
  /// Any thread.
  virtual WallTime wall_now() const = 0;
};

}  // namespace xfrmfs::engine
