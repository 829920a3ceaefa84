// SPDX-License-Identifier: Apache-2.0
#include "netio/cleartext_guard.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <pthread.h>

namespace xfrmfs::netio {
namespace {

using std::chrono::milliseconds;

/// How old the counters may be, and how long changes of the SPD are collected.
constexpr auto kInterval = milliseconds(100);
/// Changes that are not the SPD's, of SAs mostly, do not wake the thread more often than this.
constexpr auto kGlance = milliseconds(10);
/// A table that takes long to change is changed less often: a fifth of the time at most.
constexpr int kShare = 4;
/// After an error of the kernel.
constexpr auto kRetryInterval = milliseconds(1000);

}  // namespace

CleartextGuard::CleartextGuard(engine::View view, engine::CounterBlock& counters,
                               GuardTable::Options options, Log log)
    : view_(view), counters_(counters), table_(std::move(options)), log_(std::move(log)) {}

CleartextGuard::~CleartextGuard() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  woken_.notify_one();
  thread_.join();
}

// No nfnetlink; nfnetlink without nf_tables; nf_tables without family inet.
bool CleartextGuard::unavailable(const std::error_code& error) {
  return error == std::errc::protocol_not_supported ||
         error == std::errc::operation_not_supported ||
         error == std::errc::address_family_not_supported;
}

void CleartextGuard::start() {
  thread_ = std::thread([this] {
    std::ignore = ::pthread_setname_np(::pthread_self(), "xfrmfs/guard");
    run();
  });
}

void CleartextGuard::engine_changed() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(changed_, true)) return;
  }
  woken_.notify_one();
}

void CleartextGuard::run() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    // While nothing is dropped, nothing moves by itself. A policy that expires is found within an
    // interval: as long as it matters, something is dropped.
    const bool resting = !guards_ && version_;
    const auto stirred = [this] { return changed_ || ending_; };
    if (resting) {
      woken_.wait(lock, stirred);
    } else {
      woken_.wait_until(lock, Clock::now() + kInterval, stirred);
    }
    if (ending_) break;
    if (Clock::now() < not_before_) {
      // Early: what has changed waits, counters do not.
      woken_.wait_until(lock, std::min(not_before_, Clock::now() + kInterval),
                        [this] { return ending_; });
      if (ending_) break;
    }
    const bool due = Clock::now() >= not_before_;
    if (due) changed_ = false;
    lock.unlock();
    if (due) look_at_policies();
    if (guards_) look_at_counters();
    lock.lock();
  }
}

void CleartextGuard::look_at_policies() {
  const auto began = Clock::now();
  not_before_ = began + kGlance;
  auto snapshot = view_.snapshot();
  const std::uint64_t version = snapshot->spd.version();
  const engine::DefaultActions defaults = snapshot->defaults;
  if (version_ == version && defaults_ == defaults) return;
  const auto rules = [&](engine::Direction direction) {
    return guard_rules(snapshot->spd, direction, defaults[direction]);
  };
  GuardRules both{.input = rules(engine::Direction::kIn),
                  .forward = rules(engine::Direction::kForward)};
  const bool guards = both.input.refuses() || both.forward.refuses();
  snapshot.reset();  // the engine need not keep it for the kernel's sake
  if (const int error = table_.replace(std::move(both)); error != 0) {
    complain(error, "the rules before stay in force");
    if (error == ENOENT && table_.restore() == 0) return;  // again at once, from nothing
    not_before_ = Clock::now() + kRetryInterval;
    version_.reset();
    return;
  }
  version_ = version;
  defaults_ = defaults;
  guards_ = guards;
  if (!works_.exchange(true, std::memory_order_relaxed)) log_("guard: works again");
  const auto took = Clock::now() - began;
  not_before_ = Clock::now() + std::max<Clock::duration>(kInterval, took * kShare);
}

void CleartextGuard::look_at_counters() {
  const int error = table_.collect(counters_);
  if (error == 0 || error == EINTR || error == EAGAIN) return;
  complain(error, "its table is made again");
  version_.reset();
  if (table_.restore() != 0) not_before_ = Clock::now() + kRetryInterval;
}

/// Once until it works again.
void CleartextGuard::complain(int error, const char* what) {
  if (!works_.exchange(false, std::memory_order_relaxed)) return;
  log_(fmt::format("guard: nf_tables table \"{}\": {}; {}", table_.name(),
                   std::generic_category().message(error), what));
}

}  // namespace xfrmfs::netio
