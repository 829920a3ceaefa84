// SPDX-License-Identifier: Apache-2.0
// Flow: what a selector can see of a packet (RFC 4301 §4.4.1.1).
//
// Ports follow the kernel's habit: ICMP type and code, and the Mobility Header type, stand in for
// ports; a fragment that is not the first has none, and then only selectors that accept any port
// match (RFC 4301 §4.4.1.1, OPAQUE).

#pragma once

#include <cstdint>
#include <expected>

#include "engine/base/address.h"
#include "engine/base/bytes.h"
#include "engine/base/types.h"
#include "engine/packet/ip_header.h"

namespace xfrmfs::engine {

struct Flow {
  IpAddress source;
  IpAddress destination;
  Protocol protocol{};
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  bool ports_known = false;

  Family family() const { return source.family(); }
  bool operator==(const Flow&) const = default;
};

/// The flow of the packet whose header `header` describes. `packet` is the whole packet, from its
/// IP header on. Never fails: what cannot be read is unknown.
Flow flow_of(const IpHeader& header, Bytes packet);

}  // namespace xfrmfs::engine
