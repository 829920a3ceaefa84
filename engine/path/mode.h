// SPDX-License-Identifier: Apache-2.0
// Tunnel mode: the outer header on and off (RFC 4301 §5.1.2, RFC 6040).

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>

#include "engine/base/counters.h"
#include "engine/packet/ip_header.h"
#include "engine/sad/sa_params.h"

namespace xfrmfs::engine {

/// What of an inner header shows in the outer one.
struct InnerFacts {
  Family family = Family::kNone;
  std::uint8_t traffic_class = 0;
  std::uint32_t flow_label = 0;
  bool dont_fragment = false;

  static InnerFacts of(const IpHeader& header);
  /// Of a packet that this outer header was just written for.
  static InnerFacts of(const OuterHeader& header);
};

/// Bytes of what lies in front of an SA's protocol header: the outer IP header, and UDP's where the
/// SA says so.
std::size_t outer_size(const SaConfig& params);

/// Writes both around `payload_size` bytes; `at` has outer_size() bytes of room. The UDP checksum
/// is 0 (RFC 3948 §2.1); over IPv6, whoever sends it fills it in.
void write_outer_headers(const SaConfig& params, const OuterHeader& outer, std::size_t payload_size,
                         std::byte* at);

/// The outer header of a tunnel SA around such a packet, RFC 4301 §5.1.2.1.
OuterHeader outer_header(const SaConfig& params, const InnerFacts& inner,
                         std::uint16_t identification);

/// The next header value that says "an IP packet of this family".
Protocol protocol_of(Family family);

/// Checks what came out of a tunnel SA and carries ECN, and DSCP if the SA says so, inward.
///
/// `payload` is the opened payload, `outer_class` the traffic class of the header around it.
/// `inner` becomes the inner packet's header; or why the packet cannot be taken: not the next
/// header or family that the SA allows, incomplete, or CE outside a packet that is not ECN-capable
/// (RFC 6040 §4.2).
std::expected<void, Mib> remove_outer_header(const SaConfig& params, std::uint8_t outer_class,
                                             Protocol next_header, MutableBytes payload,
                                             IpHeader& inner);

}  // namespace xfrmfs::engine
