// SPDX-License-Identifier: Apache-2.0
// The small words of RFC 4301: numbers and choices that name an SA or a policy.
//
// Everything is in host byte order; byte order exists only inside bytes.h.

#pragma once

#include <cstdint>

namespace xfrmfs::engine {

enum class Spi : std::uint32_t {};
enum class Reqid : std::uint32_t {};

/// A sequence number, always 64 bits inside; the wire carries the low half (RFC 4303 §2.2.1).
using SeqNo = std::uint64_t;

/// IANA protocol numbers that the engine treats by name. Any other number is a valid value.
enum class Protocol : std::uint8_t {
  kHopByHop = 0,
  kIcmp = 1,
  kIpip = 4,
  kTcp = 6,
  kUdp = 17,
  kDccp = 33,
  kIpv6 = 41,
  kRouting = 43,
  kFragment = 44,
  kGre = 47,
  kEsp = 50,
  kAh = 51,
  kIcmpv6 = 58,
  kNoNext = 59,
  kDestinationOptions = 60,
  kComp = 108,
  kSctp = 132,
  kMobility = 135,
  kUdpLite = 136,
};

/// Values as in the kernel's interface, which every client of ours speaks.
enum class Mode : std::uint8_t { kTransport = 0, kTunnel = 1, kBeet = 4 };

/// The one direction that an SA may be used in, if its owner said so.
enum class SaDirection : std::uint8_t { kAny = 0, kIn = 1, kOut = 2 };

enum class Direction : std::uint8_t { kIn = 0, kOut = 1, kForward = 2 };
inline constexpr unsigned kDirections = 3;

/// A packet with mark `m` belongs here when (m & mask) == value. All zero: every packet does.
struct Mark {
  std::uint32_t value = 0;
  std::uint32_t mask = 0;

  constexpr bool matches(std::uint32_t packet_mark) const { return (packet_mark & mask) == value; }
  constexpr bool operator==(const Mark&) const = default;
};

}  // namespace xfrmfs::engine
