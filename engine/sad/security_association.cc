// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/security_association.h"

#include <limits>

namespace xfrmfs::engine {
namespace {

/// The last number that may be sent (RFC 4303 §3.3.3). An SA that may wrap goes on counting in 64
/// bits, so that its IVs do not repeat.
SeqNo sequence_limit(const SaParams& params) {
  const bool extended = params.replay.kind == ReplayKind::kEsn;
  const bool may_wrap = (params.extra_flags & kSaOseqMayWrap) != 0;
  return extended || may_wrap ? std::numeric_limits<SeqNo>::max()
                              : std::numeric_limits<std::uint32_t>::max();
}

}  // namespace

SecurityAssociation::SecurityAssociation(SaParams params, std::unique_ptr<Transform> transform,
                                         SaState state, std::uint64_t serial,
                                         const Settings& settings, BootTime now, WallTime wall_now)
    : transform_(std::move(transform)),
      sequence_(params.replay.out_sequence, sequence_limit(params)),
      state_(state),
      serial_(serial),
      lifetime_(params.limits, params.usage, now, wall_now),
      replay_(params.replay),
      config_(std::move(static_cast<SaConfig&>(params))),
      aevent_threshold_packets_(params.aevent_threshold_packets.value_or(
          settings.aevent_rseqth_packets.load(std::memory_order_relaxed))),
      aevent_interval_ms_(params.aevent_interval_ms.value_or(
          settings.aevent_etime_100ms.load(std::memory_order_relaxed) * 100)) {}

ReplayParams SecurityAssociation::replay_state() const {
  ReplayParams state = replay_.state();
  state.out_sequence = sequence_.last();
  return state;
}

SaStatistics SecurityAssociation::statistics() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  return {.replay_window = replay_window_errors_.load(kRelaxed),
          .replay = replay_errors_.load(kRelaxed),
          .integrity_failed = integrity_failed_.load(kRelaxed)};
}

void SecurityAssociation::count(ReplayFailure failure) {
  switch (failure) {
    case ReplayFailure::kZero:
      break;
    case ReplayFailure::kLeftOfWindow:
      replay_window_errors_.fetch_add(1, std::memory_order_relaxed);
      break;
    case ReplayFailure::kSeen:
      replay_errors_.fetch_add(1, std::memory_order_relaxed);
      break;
  }
}

}  // namespace xfrmfs::engine
