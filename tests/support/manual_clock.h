// SPDX-License-Identifier: Apache-2.0
// A clock that stands still until a test moves it.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "engine/base/clock.h"

namespace xfrmfs::testing {

/// Starts at an hour after boot, 2023-11-14 22:13:20 UTC. Any thread.
class ManualClock : public engine::Clock {
 public:
  engine::BootTime boot_now() const override {
    return engine::BootTime(boot_ns_.load(std::memory_order_relaxed));
  }
  engine::WallTime wall_now() const override {
    return engine::WallTime(wall_s_.load(std::memory_order_relaxed));
  }

  void set(engine::BootTime boot, engine::WallTime wall) {
    boot_ns_.store(boot.count(), std::memory_order_relaxed);
    wall_s_.store(wall.count(), std::memory_order_relaxed);
  }
  /// Both clocks; the wall clock, which counts seconds, keeps the rest of a second for itself.
  void advance(engine::BootTime by) {
    const std::int64_t before = boot_ns_.fetch_add(by.count(), std::memory_order_relaxed);
    const std::int64_t seconds = (before + by.count()) / kSecond - before / kSecond;
    wall_s_.fetch_add(seconds, std::memory_order_relaxed);
  }

 private:
  static constexpr std::int64_t kSecond = 1'000'000'000;
  std::atomic<std::int64_t> boot_ns_{3600 * kSecond};
  std::atomic<std::int64_t> wall_s_{1'700'000'000};
};

}  // namespace xfrmfs::testing
