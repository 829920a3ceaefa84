// SPDX-License-Identifier: Apache-2.0
// Selector: which flows a policy, or an SA, is about (RFC 4301 §4.4.1.1).

#pragma once

#include <cstdint>

#include "engine/base/address.h"
#include "engine/base/types.h"
#include "engine/packet/flow.h"

namespace xfrmfs::engine {

/// A port and the bits of it that count; mask 0 accepts any port, and packets without ports.
struct PortMatch {
  std::uint16_t port = 0;
  std::uint16_t mask = 0;

  bool operator==(const PortMatch&) const = default;
};

struct Selector {
  Family family = Family::kNone;  // kNone: of either family (only SAs may have that)
  Prefix source{};
  Prefix destination{};
  PortMatch source_port{};
  PortMatch destination_port{};
  Protocol protocol{};  // 0: any
  std::int32_t interface_index = 0;
  std::uint32_t user = 0;

  /// Family none matches every flow.
  bool matches(const Flow& flow) const;
  bool operator==(const Selector&) const = default;
};

}  // namespace xfrmfs::engine
