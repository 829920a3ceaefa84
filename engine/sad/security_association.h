// SPDX-License-Identifier: Apache-2.0
// One SA: what was configured, and what has happened to it since (RFC 4301 §4.4.2).
//
// Among a million SAs the next packet's is in no cache, so what packets touch lies together:
//
//   line 0    transform, sequence, state, serial, what was used      every packet
//   line 1-2  limits, times; replay window (end of line 2)           inbound
//   line 3    id, reqid, if_id, mode, flags, source                  every packet
//   line 4    selector, encapsulation                                every packet
//
// Behind it is what only listings want.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "engine/base/clock.h"
#include "engine/base/control_error.h"
#include "engine/base/prefetch.h"
#include "engine/base/settings.h"
#include "engine/sad/lifetime.h"
#include "engine/sad/replay_window.h"
#include "engine/sad/sa_params.h"
#include "engine/sad/sequence.h"
#include "engine/transform/transform.h"

namespace xfrmfs::engine {

enum class SaState : std::uint8_t {
  kLarval,  // a place held for a key that is being negotiated
  kValid,
  kExpired,  // a hard limit was reached: as good as gone, the control thread removes it
  kDead,     // removed; whoever still holds it must not use it
};

/// Refused packets, as the control protocol reports them.
struct SaStatistics {
  std::uint32_t replay_window = 0;
  std::uint32_t replay = 0;
  std::uint32_t integrity_failed = 0;
};

class alignas(64) SecurityAssociation {
 public:
  /// Validates nothing: `params` come from Engine::add_sa. `serial` orders SAs by age.
  SecurityAssociation(SaParams params, std::unique_ptr<Transform> transform, SaState state,
                      std::uint64_t serial, const Settings& settings, BootTime now,
                      WallTime wall_now);

  // As configured; any thread.
  const SaConfig& params() const { return config_; }
  const SaId& id() const { return config_.id; }
  Family family() const { return config_.family(); }
  /// Greater is younger. Unique within an engine.
  std::uint64_t serial() const { return serial_; }
  std::uint32_t aevent_threshold_packets() const { return aevent_threshold_packets_; }
  std::uint32_t aevent_interval_ms() const { return aevent_interval_ms_; }

  // Run time; any thread.
  SaState state() const { return state_.load(std::memory_order_acquire); }
  void set_state(SaState state) { state_.store(state, std::memory_order_release); }
  const Lifetime& lifetime() const { return lifetime_; }
  Lifetime& lifetime() { return lifetime_; }
  const ReplayWindow& replay() const { return replay_; }
  ReplayWindow& replay() { return replay_; }
  const Sequence& sequence() const { return sequence_; }
  Sequence& sequence() { return sequence_; }
  /// Replay state of both directions, as the control protocol reports it.
  ReplayParams replay_state() const;
  SaStatistics statistics() const;
  /// What a packet will touch: one that arrives, one that leaves.
  void prefetch_inbound(FetchList& list) const noexcept {
    prefetch_outbound(list);
    list.add(line(2));
  }
  void prefetch_outbound(FetchList& list) const noexcept {
    for (const std::size_t i : {0u, 3u, 4u}) list.add(line(i));
  }
  void count(ReplayFailure failure);
  void count_integrity_failure() { integrity_failed_.fetch_add(1, std::memory_order_relaxed); }

  /// Null for a larval SA. Const, but its sealers belong to one thread each.
  Transform* transform() const { return transform_.get(); }

 private:
  friend class Sad;
  friend class SadView;

  const std::byte* line(std::size_t i) const {
    return reinterpret_cast<const std::byte*>(this) + i * kCacheLine;
  }

  const std::unique_ptr<Transform> transform_;
  [[no_unique_address]] Sequence sequence_;
  std::atomic<SaState> state_;  // in the sequence's padding
  const std::uint64_t serial_;
  Lifetime lifetime_;
  ReplayWindow replay_;
  alignas(kCacheLine) const SaConfig config_;
  // Among those with the same destination, reqid and protocol: for Sad and its readers.
  std::atomic<SecurityAssociation*> older_{nullptr};
  SecurityAssociation* younger_ = nullptr;
  const std::uint32_t aevent_threshold_packets_;
  const std::uint32_t aevent_interval_ms_;
  std::atomic<std::uint32_t> replay_window_errors_{0};
  std::atomic<std::uint32_t> replay_errors_{0};
  std::atomic<std::uint32_t> integrity_failed_{0};
};
static_assert(sizeof(Sequence) == 16 && sizeof(Lifetime) == 120 && sizeof(ReplayWindow) == 40,
              "the lines above");

}  // namespace xfrmfs::engine
