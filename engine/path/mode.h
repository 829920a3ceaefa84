// SPDX-License-Identifier: Apache-2.0
// Modes: what an SA puts in front of what it protects, and what is left when that is taken off.
//
//   tunnel     | new IP | UDP | ESP ... [ IP | TCP | data ]      RFC 4301 §5.1.2, RFC 6040
//   transport  | IP     | UDP | ESP ... [      TCP | data ]      RFC 4303 §3.1.1
//
// The UDP header is there with encapsulation only (RFC 3948). The front is all that precedes the
// protocol's own header.

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>

#include "engine/base/counters.h"
#include "engine/packet/ip_header.h"
#include "engine/sad/sa_params.h"

namespace xfrmfs::engine {

/// What the next SA has to know of a packet's IP header.
struct InnerFacts {
  Family family = Family::kNone;
  std::uint8_t traffic_class = 0;
  std::uint32_t flow_label = 0;
  bool dont_fragment = false;
  /// What stays in front in transport mode, and which byte of it says what follows: IPv6 extension
  /// headers that routers look at are not protected (RFC 4303 §3.1.1).
  std::uint16_t kept = 0;
  std::uint16_t protocol_at = 0;
  Protocol protocol{};

  /// `header` as parse_ip_header() found it in front of `packet`.
  static InnerFacts of(const IpHeader& header, Bytes packet);
  /// What an SA makes of them whose front names `named`.
  InnerFacts after(const SaConfig& params, Protocol named) const;

  bool operator==(const InnerFacts&) const = default;
};

/// How an SA cuts a packet.
struct Wrapping {
  std::size_t kept = 0;   // bytes that are not protected: they become part of the front
  std::size_t front = 0;  // bytes of the front
  Protocol next_header{};
};
Wrapping wrapping(const SaConfig& params, const InnerFacts& inner);

/// What the front's IP header names: the SA's protocol, or the UDP header around it.
Protocol outer_protocol(const SaConfig& params);

/// Writes the front of `payload_size` bytes; `at` has wrapping().front bytes of room. Transport
/// mode finds its header there already. `protocol` is outer_protocol(), unless there is nothing of
/// the SA's protocol in the packet. `identification` is that of a new IPv4 header. The UDP checksum
/// is 0 (RFC 3948 §2.1); over IPv6, whoever sends it fills it in.
void write_front(const SaConfig& params, const InnerFacts& inner, Protocol protocol,
                 std::uint16_t identification, std::size_t payload_size, std::byte* at);

/// The next header value that says "an IP packet of this family".
Protocol protocol_of(Family family);

/// The header that was in front of a packet of a transport SA comes back in front of `payload`,
/// where there is room for it, and names `next_header`. `front` is where its bytes are; with IPv4,
/// packet `number` of a train has the identification that comes so many after. The whole packet.
MutableBytes put_front_back(const IpHeader& header, const std::byte* front, std::uint16_t number,
                            Protocol next_header, MutableBytes payload);

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
