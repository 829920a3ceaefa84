// SPDX-License-Identifier: Apache-2.0
// How busy a thread is: which part of its time it does not sleep.

#pragma once

#include <atomic>
#include <chrono>
#include <optional>

namespace xfrmfs::netio {

class BusyMeter {
 public:
  using Clock = std::chrono::steady_clock;

  /// The owner: before it sleeps, and in between when it works for long.
  void tick() noexcept { tick(Clock::now()); }
  /// The owner: after it slept.
  void woke() noexcept { since_ = Clock::now(); }
  /// The last tick() or woke(). The owner.
  Clock::time_point now() const noexcept { return since_; }

  /// Time spent awake. Any thread; another one's may lag.
  Clock::duration total() const noexcept {
    return Clock::duration(total_.load(std::memory_order_relaxed));
  }

 private:
  void tick(Clock::time_point now) noexcept {
    const auto total = total_.load(std::memory_order_relaxed) + (now - since_).count();
    total_.store(total, std::memory_order_relaxed);  // nobody else writes
    since_ = now;
  }

  Clock::time_point since_ = Clock::now();
  std::atomic<Clock::rep> total_{0};
};

/// The share of busy time, window after window. One thread.
class LoadWindow {
 public:
  explicit LoadWindow(BusyMeter::Clock::duration length) : length_(length) {}

  /// The next window begins. `busy`: a total that grows.
  void begin(BusyMeter::Clock::time_point now, BusyMeter::Clock::duration busy) noexcept {
    begin_ = now;
    busy_ = busy;
  }
  /// Percent of the window, if it is over; the next one begins then.
  std::optional<int> end(BusyMeter::Clock::time_point now,
                         BusyMeter::Clock::duration busy) noexcept {
    if (now - begin_ < length_) return std::nullopt;
    const auto percent = (busy - busy_) * 100 / (now - begin_);
    begin(now, busy);
    return static_cast<int>(percent);
  }

 private:
  const BusyMeter::Clock::duration length_;
  BusyMeter::Clock::time_point begin_{};
  BusyMeter::Clock::duration busy_{};
};

}  // namespace xfrmfs::netio
