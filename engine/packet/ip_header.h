// SPDX-License-Identifier: Apache-2.0
// IPv4 and IPv6 headers: read from hostile bytes, written for tunnels (RFC 791, 8200, 6040).

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/address.h"
#include "engine/base/bytes.h"
#include "engine/base/types.h"

namespace xfrmfs::engine {

inline constexpr std::size_t kIpv4HeaderSize = 20;
inline constexpr std::size_t kIpv6HeaderSize = 40;
inline constexpr std::size_t kUdpHeaderSize = 8;
inline constexpr std::size_t kTcpHeaderSize = 20;  // without options

// Where the fields of transport headers lie that change in a train (RFC 9293 §3.1, RFC 768).
inline constexpr std::size_t kTcpSequence = 4;
inline constexpr std::size_t kTcpDataOffset = 12;
inline constexpr std::size_t kTcpFlags = 13;
inline constexpr std::size_t kTcpChecksum = 16;
inline constexpr std::size_t kUdpLength = 4;
inline constexpr std::size_t kUdpChecksum = 6;

inline constexpr std::uint8_t kTcpFin = 0x01;
inline constexpr std::uint8_t kTcpPush = 0x08;
inline constexpr std::uint8_t kTcpAck = 0x10;
inline constexpr std::uint8_t kTcpEce = 0x40;
inline constexpr std::uint8_t kTcpCwr = 0x80;

/// The facts of one IP header, extension headers of IPv6 included.
struct IpHeader {
  Family family = Family::kNone;
  std::size_t header_size =
      0;                       // to the upper-layer header: IPv4 with options, IPv6 with extensions
  std::size_t total_size = 0;  // of the packet, as the header says; never above what was given
  Protocol protocol{};         // of the upper layer
  IpAddress source;
  IpAddress destination;
  std::uint8_t traffic_class = 0;  // DSCP and ECN
  std::uint8_t hop_limit = 0;
  std::uint32_t flow_label = 0;    // IPv6
  bool dont_fragment = false;      // IPv4; IPv6 always true
  bool is_fragment = false;        // part of a fragmented packet, first included
  bool is_later_fragment = false;  // its upper-layer header is elsewhere
};

/// Reads the header in front of `packet`. Nothing if it is not IPv4 or IPv6, or if a length in it
/// disagrees with another or with packet.size() (a longer `packet` is fine: link padding).
/// At most 8 IPv6 extension headers in at most 1 KiB, at most one fragment header.
std::optional<IpHeader> parse_ip_header(Bytes packet);
/// The same in place; what `header` holds if false is undefined.
bool parse_ip_header(Bytes packet, IpHeader& header);

/// What a tunnel's outer header takes from its owner.
struct OuterHeader {
  IpAddress source;
  IpAddress destination;
  Protocol protocol{};
  std::uint8_t traffic_class = 0;
  std::uint8_t hop_limit = 64;
  std::uint32_t flow_label = 0;      // IPv6
  bool dont_fragment = false;        // IPv4
  std::uint16_t identification = 0;  // IPv4
};

/// Bytes that write_outer_header() writes: 20 or 40.
std::size_t outer_header_size(Family family);

/// Writes the header in front of `payload_size` bytes; `at` has outer_header_size() bytes of room.
void write_outer_header(const OuterHeader& outer, std::size_t payload_size, std::byte* at);

/// The packet behind this header, header included, has `size` bytes from now on; the IPv4 checksum
/// is made anew. `header` is the whole header, extensions included, as parse_ip_header() accepts
/// it.
void set_total_size(MutableBytes header, std::size_t size);

inline constexpr std::uint8_t kEcnMask = 3;
inline constexpr std::uint8_t kEcnNotEct = 0;
inline constexpr std::uint8_t kEcnEct1 = 1;
inline constexpr std::uint8_t kEcnEct0 = 2;
inline constexpr std::uint8_t kEcnCe = 3;

/// Changes DSCP and ECN of the packet in place, the IPv4 header checksum with it.
/// `packet` starts with a header that parse_ip_header() accepted.
void set_traffic_class(MutableBytes packet, std::uint8_t traffic_class);

/// ECN on the way out of a tunnel, RFC 6040 §4.2: what the inner packet carries from now on, or
/// nothing if it must be dropped (CE outside, not ECN-capable inside).
std::optional<std::uint8_t> decapsulated_ecn(std::uint8_t inner, std::uint8_t outer);

}  // namespace xfrmfs::engine
