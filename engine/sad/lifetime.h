// SPDX-License-Identifier: Apache-2.0
// How much an SA has been used, and how much it may be: soft and hard limits in bytes, packets and
// seconds (RFC 4301 §4.4.2.1).
//
// A limit is tested before a packet is processed and charged: hard limit N lets N packets through,
// the one that crosses a byte limit included.

#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>

#include "engine/base/clock.h"

namespace xfrmfs::engine {

inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

/// kUnlimited bytes or packets, and 0 seconds, mean no limit.
struct LifetimeLimits {
  std::uint64_t soft_bytes = kUnlimited;
  std::uint64_t hard_bytes = kUnlimited;
  std::uint64_t soft_packets = kUnlimited;
  std::uint64_t hard_packets = kUnlimited;
  std::uint64_t soft_add_seconds = 0;
  std::uint64_t hard_add_seconds = 0;
  std::uint64_t soft_use_seconds = 0;
  std::uint64_t hard_use_seconds = 0;

  bool operator==(const LifetimeLimits&) const = default;
};

/// A copy of what was used so far.
struct LifetimeUsage {
  std::uint64_t bytes = 0;
  std::uint64_t packets = 0;
  WallTime added{};
  WallTime first_used{};  // zero: never
};

class Lifetime {
 public:
  Lifetime(const LifetimeLimits& limits, const LifetimeUsage& usage, BootTime now,
           WallTime wall_now);

  /// What the limits say about one more packet.
  enum class Verdict : std::uint8_t { kWithin, kSoftReached, kHardReached };
  /// Before charging. Any worker; `now` is the batch's time, noted as first use.
  Verdict check(BootTime now);
  /// How many packets, whatever their size, pass before check() could say anything new: for them a
  /// run needs no order of check and charge. Any worker.
  std::uint64_t within_limits() const;
  /// After a packet passed. Any worker.
  void charge(std::uint64_t bytes, std::uint64_t packets, BootTime now);

  /// The time limits. Control thread; any worker may use the SA meanwhile.
  Verdict check_time(BootTime now) const;
  /// When check_time() is worth calling again; nothing without a time limit.
  std::optional<BootTime> next_deadline(BootTime now) const;

  /// Any thread.
  LifetimeLimits limits() const;
  LifetimeUsage usage() const;
  /// Since the SA was added; since its first packet and its last (nothing: never used).
  BootTime added_at() const { return added_at_; }
  std::optional<BootTime> first_used_at() const;
  std::optional<BootTime> last_used_at() const;
  /// For display: what the wall clock would have shown.
  WallTime wall_time_of(BootTime when) const;

  /// Control thread. Soft limits are told again afterwards.
  void set_limits(const LifetimeLimits& limits);
  bool soft_told() const { return soft_told_.load(std::memory_order_relaxed); }
  /// True for the first caller since creation or set_limits().
  bool tell_soft() { return !soft_told_.exchange(true, std::memory_order_relaxed); }

 private:
  struct AtomicLimits {
    std::atomic<std::uint64_t> soft_bytes, hard_bytes, soft_packets, hard_packets;
    std::atomic<std::uint64_t> soft_add, hard_add, soft_use, hard_use;
  };

  void note_first_use(BootTime now);

  // What a packet touches comes first; SecurityAssociation knows.
  std::atomic<std::uint64_t> bytes_;
  std::atomic<std::uint64_t> packets_;
  std::atomic<std::int64_t> last_used_ns_;  // boot time
  std::atomic<bool> soft_told_{false};
  std::atomic<bool> limited_{false};  // some limit of bytes or packets is set
  std::atomic<std::int64_t> first_used_ns_;
  AtomicLimits limits_;
  const BootTime added_at_;
  const WallTime added_wall_;
};

}  // namespace xfrmfs::engine
