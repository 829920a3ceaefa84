// SPDX-License-Identifier: Apache-2.0
// The machine's clocks: the engine reads none itself.

#pragma once

#include <chrono>
#include <ctime>

#include "engine/base/clock.h"

namespace xfrmfs::netio {

class SystemClock final : public engine::Clock {
 public:
  engine::BootTime boot_now() const override { return read(CLOCK_BOOTTIME); }
  engine::WallTime wall_now() const override {
    return std::chrono::floor<engine::WallTime>(read(CLOCK_REALTIME));
  }

 private:
  static std::chrono::nanoseconds read(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  }
};

}  // namespace xfrmfs::netio
