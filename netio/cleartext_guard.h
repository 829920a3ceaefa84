// SPDX-License-Identifier: Apache-2.0
// The cleartext guard: keeps packets that the inbound SPD wants protected, but that arrive in clear
// on the underlay, from the host and from those it forwards to (RFC 4301 §5.2).
//
// A TUN device never sees such packets. So a thread keeps a table of nf_tables as the SPD says
// (guard_rules, guard_table), and carries what its rules dropped over to the engine's counters.

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include "engine/base/counters.h"
#include "engine/view.h"
#include "netio/guard_table.h"

namespace xfrmfs::netio {

class CleartextGuard {
 public:
  /// For one line of the log; called by the guard's thread.
  using Log = std::function<void(const std::string&)>;

  /// Makes the table, in the calling thread's network namespace. Throws std::system_error;
  /// unavailable() tells what that means. `counters` and the engine outlive this.
  CleartextGuard(engine::View view, engine::CounterBlock& counters, GuardTable::Options options,
                 Log log);
  /// Removes the table.
  ~CleartextGuard();

  /// Is this what a kernel without nf_tables says?
  static bool unavailable(const std::error_code& error);

  /// Starts the thread: from now on the SPD has an effect.
  void start();
  /// Something was published. Any thread; soon, and once for many calls.
  void engine_changed() noexcept;
  /// The table holds what the SPD says, or will in a moment. Any thread.
  bool works() const { return works_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  void look_at_policies();
  void look_at_counters();
  void complain(int error, const char* what);

  const engine::View view_;
  engine::CounterBlock& counters_;
  GuardTable table_;
  const Log log_;
  std::atomic<bool> works_{true};

  // The thread's own.
  std::optional<std::uint64_t> version_;  // of the SPD that the table holds; none: look again
  engine::DefaultActions defaults_;
  bool guards_ = false;             // the table drops something
  Clock::time_point not_before_{};  // the next change of the table

  std::mutex mutex_;
  std::condition_variable woken_;
  bool changed_ = true;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace xfrmfs::netio
