// SPDX-License-Identifier: Apache-2.0
// Every length is compared with what is left before it is used, and every step moves forward.

#include "engine/transform/immutable_header.h"

#include <algorithm>
#include <cstring>

#include "engine/base/types.h"
#include "engine/packet/ip_header.h"

namespace xfrmfs::engine {
namespace {

std::size_t number_at(Bytes bytes, std::size_t i) {
  return std::to_integer<std::size_t>(bytes[i]);
}

void zero(MutableBytes bytes) {
  std::ranges::fill(bytes, std::byte{0});
}

void swap_bytes(MutableBytes a, MutableBytes b) {
  std::ranges::swap_ranges(a, b);
}

// --- IPv4

enum class Ipv4Option : std::uint8_t {
  kEnd = 0,
  kNoOperation = 1,
  kSecurity = 130,
  kLooseSourceRoute = 131,
  kExtendedSecurity = 133,
  kCommercialSecurity = 134,
  kStrictSourceRoute = 137,
  kRouterAlert = 148,
  kMultiDestinationDelivery = 149,
};

constexpr std::size_t kSmallestSourceRoute = 7;  // type, length, pointer, one address

/// The last address of a route is where the packet arrives, unless it has been used up.
bool arrive(Bytes route, MutableBytes destination) {
  if (route.size() < kSmallestSourceRoute) return false;
  const std::size_t pointer = number_at(route, 2);  // counted from 1
  if (pointer <= route.size()) {
    std::memcpy(destination.data(), &route[route.size() - 4], 4);
  }
  return true;
}

/// RFC 4302 App. A1: an option is immutable, or zero as a whole, its type included. Options that
/// the table there does not know may change.
bool mask_ipv4_options(MutableBytes options, MutableBytes destination) {
  while (!options.empty()) {
    const Ipv4Option type{std::to_integer<std::uint8_t>(options[0])};
    if (type == Ipv4Option::kEnd) return true;
    std::size_t size = 1;
    if (type != Ipv4Option::kNoOperation) {
      if (options.size() < 2) return false;
      size = number_at(options, 1);
      if (size < 2 || size > options.size()) return false;
    }
    const MutableBytes option = options.first(size);
    switch (type) {
      case Ipv4Option::kEnd:
      case Ipv4Option::kNoOperation:
      case Ipv4Option::kSecurity:
      case Ipv4Option::kExtendedSecurity:
      case Ipv4Option::kCommercialSecurity:
      case Ipv4Option::kRouterAlert:
      case Ipv4Option::kMultiDestinationDelivery:
        break;
      case Ipv4Option::kLooseSourceRoute:
      case Ipv4Option::kStrictSourceRoute:
        if (!arrive(option, destination)) return false;
        zero(option);
        break;
      default:
        zero(option);
        break;
    }
    options = options.subspan(size);
  }
  return true;
}

/// RFC 4302 §3.3.3.1.1.1.
bool mask_ipv4(MutableBytes header) {
  if (header.size() < kIpv4HeaderSize || (number_at(header, 0) & 0x0f) * 4 != header.size()) {
    return false;
  }
  zero(header.subspan(1, 1));   // DSCP, ECN
  zero(header.subspan(6, 3));   // flags, fragment offset, TTL
  zero(header.subspan(10, 2));  // checksum
  return mask_ipv4_options(header.subspan(kIpv4HeaderSize), header.subspan(16, 4));
}

// --- IPv6

constexpr std::size_t kIpv6Source = 8;
constexpr std::size_t kIpv6Destination = 24;
constexpr std::size_t kIpv6Address = 16;
constexpr std::size_t kExtensionUnit = 8;

constexpr std::size_t kPad1 = 0;
constexpr std::size_t kMayChange = 0x20;  // RFC 8200 §4.2
constexpr std::size_t kHomeAddress = 0xc9;

/// RFC 4302 §3.3.3.1.2.2: the data of options that may change is zero. A home address takes the
/// place of the source address, as it does where it arrives (RFC 6275 §11.3.2).
bool mask_ipv6_options(MutableBytes options, MutableBytes source, bool& home_seen) {
  while (!options.empty()) {
    const std::size_t type = number_at(options, 0);
    if (type == kPad1) {
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2) return false;
    const std::size_t size = number_at(options, 1);
    if (size > options.size() - 2) return false;
    const MutableBytes data = options.subspan(2, size);
    if (type == kHomeAddress) {
      if (home_seen || size != kIpv6Address) return false;
      home_seen = true;
      swap_bytes(data, source);
    } else if ((type & kMayChange) != 0) {
      zero(data);
    }
    options = options.subspan(2 + size);
  }
  return true;
}

/// As it is where it arrives: nothing left of the route, each address replaced by the destination
/// that the packet had before (RFC 4302 §3.3.3.1.2.3, RFC 2460 §4.4, RFC 6275 §6.4).
bool mask_routing_header(MutableBytes routing, MutableBytes destination) {
  const std::size_t type = number_at(routing, 2);
  const std::size_t left = number_at(routing, 3);
  if (left == 0) return true;
  const std::size_t addresses = (routing.size() - kExtensionUnit) / kIpv6Address;
  const bool whole = routing.size() == kExtensionUnit + addresses * kIpv6Address;
  const bool known = type == 0 || (type == 2 && addresses == 1);
  if (!known || !whole || left > addresses) return false;

  routing[3] = std::byte{0};
  const MutableBytes ahead = routing.last(left * kIpv6Address);
  std::byte last[kIpv6Address];
  std::memcpy(last, &ahead[ahead.size() - kIpv6Address], kIpv6Address);
  std::memmove(ahead.data() + kIpv6Address, ahead.data(), ahead.size() - kIpv6Address);
  std::memcpy(ahead.data(), destination.data(), kIpv6Address);
  std::memcpy(destination.data(), last, kIpv6Address);
  return true;
}

/// RFC 4302 §3.3.3.1.2.
bool mask_ipv6(MutableBytes header) {
  if (header.size() < kIpv6HeaderSize) return false;
  header[0] = std::byte{0x60};
  zero(header.subspan(1, 3));  // the rest of the traffic class, flow label
  header[7] = std::byte{0};    // hop limit
  const MutableBytes source = header.subspan(kIpv6Source, kIpv6Address);
  const MutableBytes destination = header.subspan(kIpv6Destination, kIpv6Address);

  Protocol type{std::to_integer<std::uint8_t>(header[6])};
  bool home_seen = false;
  for (MutableBytes rest = header.subspan(kIpv6HeaderSize); !rest.empty();) {
    if (rest.size() < kExtensionUnit) return false;
    const std::size_t size = (number_at(rest, 1) + 1) * kExtensionUnit;
    if (size > rest.size()) return false;
    const MutableBytes extension = rest.first(size);
    switch (type) {
      case Protocol::kHopByHop:
      case Protocol::kDestinationOptions:
        if (!mask_ipv6_options(extension.subspan(2), source, home_seen)) return false;
        break;
      case Protocol::kRouting:
        if (!mask_routing_header(extension, destination)) return false;
        break;
      default:
        return false;
    }
    type = Protocol{std::to_integer<std::uint8_t>(extension[0])};
    rest = rest.subspan(size);
  }
  return true;
}

}  // namespace

bool write_immutable_header(Bytes header, MutableBytes out) noexcept {
  if (header.empty() || header.size() > kLongestImmutableHeader || header.size() > out.size()) {
    return false;
  }
  out = out.first(header.size());
  std::memcpy(out.data(), header.data(), header.size());
  switch (number_at(header, 0) >> 4) {
    case 4:
      return mask_ipv4(out);
    case 6:
      return mask_ipv6(out);
    default:
      return false;
  }
}

}  // namespace xfrmfs::engine
