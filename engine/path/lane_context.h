// SPDX-License-Identifier: Apache-2.0
// What one path of one lane keeps: its snapshot, its counters, its random numbers, its time.
//
// One thread, except for construction.

#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "engine/base/clock.h"
#include "engine/base/counters.h"
#include "engine/base/published.h"
#include "engine/base/settings.h"
#include "engine/crypto/random_pool.h"
#include "engine/path/expiry_queue.h"
#include "engine/snapshot.h"
#include "engine/transform/transform.h"

namespace xfrmfs::engine {

/// What a lane shares with the rest of its engine, which outlives it.
struct LaneSources {
  const Published<Snapshot>& published;
  CounterBlock& counters;  // this path's own
  const Settings& settings;
  const Clock& clock;
  ExpiryQueue& expiries;
};

class LaneContext {
 public:
  LaneContext(unsigned index, const LaneSources& sources, std::unique_ptr<CryptoLane> crypto)
      : sources_(sources),
        crypto_(std::move(crypto)),
        generation_(sources.published.generation()),
        snapshot_(sources.published.get()) {
    lane_.index = index;
    lane_.ivs = &random_;
    lane_.crypto = crypto_.get();
  }

  /// Once per batch: the newest snapshot; true if it is another one. The mutex behind it is met
  /// only then.
  bool refresh() {
    const std::uint64_t generation = sources_.published.generation();
    if (generation == generation_) return false;
    generation_ = generation;
    snapshot_ = sources_.published.get();
    return true;
  }
  const Snapshot& snapshot() const { return *snapshot_; }
  /// Once per batch.
  BootTime now() const { return sources_.clock.boot_now(); }
  const Lane& lane() const { return lane_; }
  const Settings& settings() const { return sources_.settings; }

  void count(Mib reason, std::uint64_t packets = 1) noexcept {
    sources_.counters.bump(reason, packets);
  }
  /// An SA reached a hard limit: as good as gone from here on, removed by the control thread.
  void expire(SecurityAssociation& association) noexcept {
    association.set_state(SaState::kExpired);
    sources_.expiries.push(association.serial());
  }

 private:
  const LaneSources sources_;
  const std::unique_ptr<CryptoLane> crypto_;
  std::uint64_t generation_;
  std::shared_ptr<const Snapshot> snapshot_;
  RandomPool random_;
  Lane lane_;
};

}  // namespace xfrmfs::engine
