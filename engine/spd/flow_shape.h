// SPDX-License-Identifier: Apache-2.0
// FlowShape: which bits of a flow a policy looks at, as a value.
//
// Two policies of one shape differ only in what these bits must be: that makes them a hash table.

#pragma once

#include <compare>
#include <cstdint>

#include "engine/packet/flow.h"
#include "engine/spd/selector.h"

namespace xfrmfs::engine {

class FlowShape {
 public:
  FlowShape() = default;
  /// The shape of a policy with this selector and mark.
  FlowShape(const Selector& selector, const Mark& mark);

  /// Can a policy of this shape match such a flow at all?
  bool admits(const Flow& flow) const {
    return family_ == Family::kNone ||
           (family_ == flow.family() && (flow.ports_known || !looks_at_ports()));
  }
  /// The hash of what this shape looks at: equal for a flow and for each policy of this shape that
  /// matches it. `seed` belongs to the shape, too; see seed_for().
  std::uint64_t hash(std::uint64_t seed, const Flow& flow, std::uint32_t mark,
                     std::uint32_t if_id) const;
  /// The same, for what a policy wants.
  std::uint64_t hash(std::uint64_t seed, const Selector& selector, const Mark& mark,
                     std::uint32_t if_id) const;
  /// Different seeds for different shapes.
  std::uint64_t seed_for(std::uint64_t seed) const;

  auto operator<=>(const FlowShape&) const = default;

 private:
  bool looks_at_ports() const { return (source_port_mask_ | destination_port_mask_) != 0; }
  std::uint64_t hash(std::uint64_t seed, const IpAddress& source, const IpAddress& destination,
                     Protocol protocol, std::uint16_t source_port, std::uint16_t destination_port,
                     std::uint32_t mark_value, std::uint32_t if_id) const;

  Family family_ = Family::kNone;
  bool protocol_ = false;
  std::uint8_t source_length_ = 0;
  std::uint8_t destination_length_ = 0;
  std::uint16_t source_port_mask_ = 0;
  std::uint16_t destination_port_mask_ = 0;
  std::uint32_t mark_mask_ = 0;
  // What the lengths say, in the bytes' order in memory.
  std::uint64_t source_mask_[2]{};
  std::uint64_t destination_mask_[2]{};
};

}  // namespace xfrmfs::engine
