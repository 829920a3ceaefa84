// SPDX-License-Identifier: Apache-2.0
// An alarm in boot time: Asio's own timers stand still while the machine is suspended, and an SA
// must not live longer for that (timerfd_create(2)).

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <tuple>
#include <utility>

#include <sys/timerfd.h>

#include "engine/base/clock.h"
#include "netio/asio.h"
#include "netio/file_descriptor.h"

namespace xfrmfs::netio {

/// The io_context's thread only.
class BootTimer {
 public:
  /// `on_time` is called once for each time that was set and not replaced before it came.
  BootTimer(asio::io_context& io, std::function<void()> on_time)
      : on_time_(std::move(on_time)), timer_(io, open_timer().release()) {
    wait();
  }

  /// Replaces the time that was set. A time in the past is now.
  void set(engine::BootTime time) {
    // All zero would mean "never".
    arm(std::max<engine::BootTime>(time, std::chrono::nanoseconds(1)));
  }
  void clear() { arm({}); }

 private:
  static FileDescriptor open_timer() {
    return own_or_throw(::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd");
  }
  void arm(std::chrono::nanoseconds time) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    itimerspec setting{};
    setting.it_value.tv_sec = seconds.count();
    setting.it_value.tv_nsec = (time - seconds).count();
    ::timerfd_settime(timer_.native_handle(), TFD_TIMER_ABSTIME, &setting, nullptr);
  }
  void wait() {
    timer_.async_wait(
        asio::posix::stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
          if (error) return;  // cancelled: we are being destroyed
          std::uint64_t times = 0;
          const bool rang = ::read(timer_.native_handle(), &times, sizeof times) == sizeof times;
          if (rang) on_time_();
          wait();
        });
  }

  std::function<void()> on_time_;
  asio::posix::stream_descriptor timer_;
};

}  // namespace xfrmfs::netio
