// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/lifetime.h"

#include <algorithm>

namespace xfrmfs::engine {
namespace {

using std::chrono::duration_cast;
using std::chrono::seconds;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min();

/// The boot time at which the wall clock showed `wall`, given both clocks now.
BootTime boot_time_of(WallTime wall, BootTime now, WallTime wall_now) {
  return now - BootTime(wall_now - wall);
}

/// `start` plus a limit of so many seconds; the far end of time for limits beyond it.
BootTime after(BootTime start, std::uint64_t limit_seconds) {
  const std::uint64_t farthest =
      static_cast<std::uint64_t>(duration_cast<seconds>(BootTime::max()).count()) / 4;
  return start + seconds(std::min(limit_seconds, farthest));
}

bool over_time(BootTime start, BootTime now, std::uint64_t limit_seconds) {
  return limit_seconds != 0 && now >= after(start, limit_seconds);
}

}  // namespace

Lifetime::Lifetime(const LifetimeLimits& limits, const LifetimeUsage& usage, BootTime now,
                   WallTime wall_now)
    : bytes_(usage.bytes),
      packets_(usage.packets),
      last_used_ns_(usage.first_used.count() == 0
                        ? kNever
                        : boot_time_of(usage.first_used, now, wall_now).count()),
      first_used_ns_(last_used_ns_.load(kRelaxed)),
      added_at_(usage.added.count() == 0 ? now : boot_time_of(usage.added, now, wall_now)),
      added_wall_(usage.added.count() == 0 ? wall_now : usage.added) {
  set_limits(limits);
}

Lifetime::Verdict Lifetime::check(BootTime now) {
  if (last_used_ns_.load(kRelaxed) == kNever) note_first_use(now);
  if (!limited_.load(kRelaxed)) return Verdict::kWithin;
  const std::uint64_t bytes = bytes_.load(kRelaxed);
  const std::uint64_t packets = packets_.load(kRelaxed);
  if (bytes >= limits_.hard_bytes.load(kRelaxed) ||
      packets >= limits_.hard_packets.load(kRelaxed)) {
    return Verdict::kHardReached;
  }
  if (bytes >= limits_.soft_bytes.load(kRelaxed) ||
      packets >= limits_.soft_packets.load(kRelaxed)) {
    return Verdict::kSoftReached;
  }
  return Verdict::kWithin;
}

std::uint64_t Lifetime::within_limits() const {
  if (!limited_.load(kRelaxed)) return kUnlimited;
  constexpr std::uint64_t kLargest = 65535;
  const bool told = soft_told();
  const auto left = [told](std::uint64_t used, std::uint64_t soft, std::uint64_t hard) {
    const std::uint64_t limit = told ? hard : std::min(soft, hard);
    return limit > used ? limit - used : 0;
  };
  const std::uint64_t packets = left(packets_.load(kRelaxed), limits_.soft_packets.load(kRelaxed),
                                     limits_.hard_packets.load(kRelaxed));
  const std::uint64_t bytes = left(bytes_.load(kRelaxed), limits_.soft_bytes.load(kRelaxed),
                                   limits_.hard_bytes.load(kRelaxed));
  return std::min(packets, bytes / kLargest);
}

void Lifetime::note_first_use(BootTime now) {
  if (first_used_ns_.load(kRelaxed) == kNever) first_used_ns_.store(now.count(), kRelaxed);
}

void Lifetime::charge(std::uint64_t bytes, std::uint64_t packets, BootTime now) {
  bytes_.fetch_add(bytes, kRelaxed);
  packets_.fetch_add(packets, kRelaxed);
  last_used_ns_.store(now.count(), kRelaxed);
}

Lifetime::Verdict Lifetime::check_time(BootTime now) const {
  const LifetimeLimits limit = limits();
  const auto used = first_used_at();
  if (over_time(added_at_, now, limit.hard_add_seconds) ||
      (used && over_time(*used, now, limit.hard_use_seconds))) {
    return Verdict::kHardReached;
  }
  if (over_time(added_at_, now, limit.soft_add_seconds) ||
      (used && over_time(*used, now, limit.soft_use_seconds))) {
    return Verdict::kSoftReached;
  }
  return Verdict::kWithin;
}

std::optional<BootTime> Lifetime::next_deadline(BootTime now) const {
  const LifetimeLimits limit = limits();
  // Nobody tells when an unused SA is used first, so its use limits are looked at again one
  // whole limit from now: never too early, and exact once it has been used.
  const BootTime use_start = first_used_at().value_or(now);
  std::optional<BootTime> next;
  const auto consider = [&](BootTime start, std::uint64_t limit_seconds, bool told) {
    if (limit_seconds == 0 || told) return;
    const BootTime deadline = after(start, limit_seconds);
    if (!next || deadline < *next) next = deadline;
  };
  consider(added_at_, limit.hard_add_seconds, false);
  consider(use_start, limit.hard_use_seconds, false);
  consider(added_at_, limit.soft_add_seconds, soft_told());
  consider(use_start, limit.soft_use_seconds, soft_told());
  return next;
}

LifetimeLimits Lifetime::limits() const {
  return {.soft_bytes = limits_.soft_bytes.load(kRelaxed),
          .hard_bytes = limits_.hard_bytes.load(kRelaxed),
          .soft_packets = limits_.soft_packets.load(kRelaxed),
          .hard_packets = limits_.hard_packets.load(kRelaxed),
          .soft_add_seconds = limits_.soft_add.load(kRelaxed),
          .hard_add_seconds = limits_.hard_add.load(kRelaxed),
          .soft_use_seconds = limits_.soft_use.load(kRelaxed),
          .hard_use_seconds = limits_.hard_use.load(kRelaxed)};
}

void Lifetime::set_limits(const LifetimeLimits& limits) {
  limits_.soft_bytes.store(limits.soft_bytes, kRelaxed);
  limits_.hard_bytes.store(limits.hard_bytes, kRelaxed);
  limits_.soft_packets.store(limits.soft_packets, kRelaxed);
  limits_.hard_packets.store(limits.hard_packets, kRelaxed);
  limits_.soft_add.store(limits.soft_add_seconds, kRelaxed);
  limits_.hard_add.store(limits.hard_add_seconds, kRelaxed);
  limits_.soft_use.store(limits.soft_use_seconds, kRelaxed);
  limits_.hard_use.store(limits.hard_use_seconds, kRelaxed);
  limited_.store((limits.soft_bytes & limits.hard_bytes & limits.soft_packets &
                  limits.hard_packets) != kUnlimited,
                 kRelaxed);
  soft_told_.store(false, kRelaxed);
}

LifetimeUsage Lifetime::usage() const {
  LifetimeUsage usage{
      .bytes = bytes_.load(kRelaxed), .packets = packets_.load(kRelaxed), .added = added_wall_};
  if (const auto used = first_used_at()) usage.first_used = wall_time_of(*used);
  return usage;
}

WallTime Lifetime::wall_time_of(BootTime when) const {
  return added_wall_ + duration_cast<seconds>(when - added_at_);
}

std::optional<BootTime> Lifetime::first_used_at() const {
  const std::int64_t ns = first_used_ns_.load(kRelaxed);
  if (ns == kNever) return std::nullopt;
  return BootTime(ns);
}

std::optional<BootTime> Lifetime::last_used_at() const {
  const std::int64_t ns = last_used_ns_.load(kRelaxed);
  if (ns == kNever) return std::nullopt;
  return BootTime(ns);
}

}  // namespace xfrmfs::engine
