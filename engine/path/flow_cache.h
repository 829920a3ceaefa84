// SPDX-License-Identifier: Apache-2.0
// What a path decided about a flow, remembered while the snapshot that it was decided from is
// current: bounded, exact match, one probe.
//
// One thread. The pointers in it live as long as that snapshot.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/prefetch.h"
#include "engine/packet/flow.h"
#include "engine/sad/sad.h"
#include "engine/spd/spd.h"

namespace xfrmfs::engine {

/// Sub and main policy of a flow; null: none.
using PolicyPair = std::array<const SecurityPolicy*, 2>;

/// A packet matched them.
inline void touch(const PolicyPair& policies, BootTime now) {
  for (const SecurityPolicy* policy : policies) {
    if (policy != nullptr) policy->touch(now);
  }
}

/// The SAs that protect a flow, innermost first, and the policies that said so.
struct Bundle {
  std::array<SecurityAssociation*, kUsableTemplates> associations{};
  std::array<bool, kUsableTemplates> was_dying{};
  std::uint32_t size = 0;
  PolicyPair policies{};

  std::span<SecurityAssociation* const> used() const { return std::span(associations).first(size); }
  void add(SecurityAssociation& association) {
    was_dying[size] = association.lifetime().soft_told();
    associations[size++] = &association;
  }
  /// Would the same SAs be chosen again? Not if one expired, died or reached a soft limit since.
  bool is_fresh() const {
    for (std::uint32_t i = 0; i < size; ++i) {
      if (associations[i]->state() != SaState::kValid) return false;
      if (associations[i]->lifetime().soft_told() != was_dying[i]) return false;
    }
    return true;
  }
  bool same_associations(const Bundle& other) const {
    return size == other.size && associations == other.associations;
  }
};

template <class Verdict>
class FlowCache {
 public:
  FlowCache() : slots_(kSlots) {}

  struct alignas(kCacheLine) Slot {
    Flow flow;
    std::uint64_t epoch = 0;  // of another epoch: empty
    Verdict value;
  };
  /// The place for this flow; another flow, or none, may be in it.
  Slot& slot(const Flow& flow) { return slots_[hash(flow) % kSlots]; }
  bool holds(const Slot& slot, const Flow& flow) const {
    return slot.epoch == epoch_ && slot.flow == flow;
  }
  void put(Slot& slot, const Flow& flow, const Verdict& value) {
    slot.flow = flow;
    slot.epoch = epoch_;
    slot.value = value;
  }

  /// Forgets everything: the snapshot changed.
  void clear() { ++epoch_; }

 private:
  static constexpr std::size_t kSlots = 4096;

  static std::size_t hash(const Flow& flow) {
    std::uint64_t sum = 0;
    const auto add = [&sum](std::uint64_t value) {
      sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
      sum ^= sum >> 32;
    };
    for (const IpAddress* address : {&flow.source, &flow.destination}) {
      add(load_be64(address->storage().data()));
      add(load_be64(address->storage().data() + 8));
    }
    add(std::uint64_t{flow.source_port} << 32 | std::uint64_t{flow.destination_port} << 16 |
        static_cast<std::uint8_t>(flow.protocol));
    return static_cast<std::size_t>(sum >> 16);
  }

  std::vector<Slot> slots_;
  std::uint64_t epoch_ = 1;
};

}  // namespace xfrmfs::engine
