// SPDX-License-Identifier: Apache-2.0
// Which clear packets does the SPD refuse? Its inbound policies as rules that a packet filter can
// hold. Pure; nf_tables.h's wording appears in guard_table.cc only.
//
// The answer is that of the engine's own check of a packet to which no SA was applied: sub policies
// first, both must allow, a mandatory template is not met by clear text, then the default
// (engine/path/inbound.cc).
//
// Policies that look at the same bits of a packet become one lookup: a map from these bits to what
// happens. So the number of rules follows the number of shapes, not that of policies:
//
//   source & /24, destination & /24, protocol tcp  ->  { 10.1.0, 10.2.0: refuse; 10.1.1, ... }
//
// Order is kept where it can matter. Two policies of one shape match different packets, or the same
// ones; and policies with the same outcome may change places. Everything else stays in its turn.

#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/snapshot.h"
#include "engine/spd/spd.h"

namespace xfrmfs::netio {

/// What happens to a packet. Values from kAfterSub on: on to the chain with this place in
/// GuardDirection::after_sub.
enum class GuardTarget : std::uint8_t {
  kPass,
  kTmplMismatch,
  kNoPols,
  kPolBlock,
  kBufferError,
  kAfterSub,
};

/// Bits of a packet: some bytes, masked.
struct GuardField {
  enum class Where : std::uint8_t {
    kSource,       // of the shape's family
    kDestination,  //
    kTransport,    // bytes behind the IP headers, from `offset` on
    kMark,         // the packet's, in host order
  };
  Where where{};
  std::uint8_t offset = 0;
  std::uint8_t size = 0;
  std::array<std::uint8_t, 16> mask{};

  auto operator<=>(const GuardField&) const = default;
};

/// Bytes of the packet that must have this value.
struct GuardTest {
  GuardField field;
  std::array<std::uint8_t, 4> value{};

  auto operator<=>(const GuardTest&) const = default;
};

/// What a lookup requires of a packet, and what it looks at.
struct GuardShape {
  engine::Family family{};
  std::optional<engine::Protocol> protocol;
  std::uint32_t interface = 0;     // index, 0: any
  std::vector<GuardTest> tests;    // that say where ports are (GRE)
  std::vector<GuardField> fields;  // at most five; none: the one element matches

  auto operator<=>(const GuardShape&) const = default;
};

struct GuardElement {
  std::vector<std::uint8_t> key;  // the fields' values, masked, each padded to four bytes
  GuardTarget target{};
};

struct GuardLookup {
  GuardShape shape;
  std::vector<GuardElement> elements;  // keys differ
};

struct GuardChain {
  std::vector<GuardLookup> lookups;  // in this order
  GuardTarget otherwise = GuardTarget::kPass;
};

/// All of one direction.
struct GuardDirection {
  GuardChain first;
  std::vector<GuardChain> after_sub;  // main policies, for packets that a sub policy allows

  /// True if there is a packet that does not pass.
  bool refuses() const { return !first.lookups.empty() || first.otherwise != GuardTarget::kPass; }
};

/// What the SPD says about clear packets of direction in or forward.
GuardDirection guard_rules(const engine::SpdView& spd, engine::Direction direction,
                           engine::DefaultAction otherwise);

}  // namespace xfrmfs::netio
