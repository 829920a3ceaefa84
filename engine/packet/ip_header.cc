// SPDX-License-Identifier: Apache-2.0
// Every length is compared with what is there before it is used, and every step of the walk along
// IPv6 extension headers moves forward, at most kMaxExtensions times.

#include "engine/packet/ip_header.h"

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

constexpr unsigned kMaxExtensions = 8;            // more only burn time (RFC 8504 §5.3)
constexpr std::size_t kMaxExtensionBytes = 1024;  // likewise
constexpr std::size_t kFragmentHeaderSize = 8;

constexpr std::uint16_t kIpv4DontFragment = 0x4000;
constexpr std::uint16_t kIpv4MoreFragments = 0x2000;
constexpr std::uint16_t kIpv4OffsetMask = 0x1fff;
constexpr std::uint16_t kIpv6MoreFragments = 0x0001;
constexpr std::uint16_t kIpv6OffsetMask = 0xfff8;

std::uint8_t byte_at(Bytes bytes, std::size_t i) {
  return std::to_integer<std::uint8_t>(bytes[i]);
}

bool parse_ipv4(Bytes packet, IpHeader& header) {
  if (packet.size() < kIpv4HeaderSize) return false;
  header.family = Family::kIpv4;
  header.header_size = (byte_at(packet, 0) & 0x0fU) * std::size_t{4};
  header.total_size = load_be16(&packet[2]);
  if (header.header_size < kIpv4HeaderSize || header.header_size > header.total_size ||
      header.total_size > packet.size()) {
    return false;
  }
  header.traffic_class = byte_at(packet, 1);
  const std::uint16_t fragment = load_be16(&packet[6]);
  header.dont_fragment = (fragment & kIpv4DontFragment) != 0;
  header.is_fragment = (fragment & (kIpv4MoreFragments | kIpv4OffsetMask)) != 0;
  header.is_later_fragment = (fragment & kIpv4OffsetMask) != 0;
  header.hop_limit = byte_at(packet, 8);
  header.protocol = Protocol{byte_at(packet, 9)};
  header.source.assign(Family::kIpv4, &packet[12]);
  header.destination.assign(Family::kIpv4, &packet[16]);
  header.flow_label = 0;
  return true;
}

/// Follows the extension headers of the packet that ends at header.total_size. AH and ESP are
/// upper layers here, as they are for a policy. False if the chain leaves the packet or is too
/// long.
bool walk_extensions(Bytes packet, IpHeader& header) {
  bool fragment_header_seen = false;
  for (unsigned extensions = 0;; ++extensions) {
    const Protocol type = header.protocol;
    if (type != Protocol::kHopByHop && type != Protocol::kRouting &&
        type != Protocol::kDestinationOptions && type != Protocol::kFragment) {
      return true;
    }
    if (extensions == kMaxExtensions) return false;
    const Bytes rest = packet.subspan(header.header_size);
    if (rest.size() < kFragmentHeaderSize) return false;  // the smallest of each kind
    std::size_t size = kFragmentHeaderSize;
    if (type != Protocol::kFragment) size = (byte_at(rest, 1) + std::size_t{1}) * 8;
    if (size > rest.size() || header.header_size + size > kIpv6HeaderSize + kMaxExtensionBytes) {
      return false;
    }
    header.header_size += size;
    header.protocol = Protocol{byte_at(rest, 0)};
    if (type != Protocol::kFragment) continue;

    if (fragment_header_seen) return false;
    fragment_header_seen = true;
    const std::uint16_t fragment = load_be16(&rest[2]);
    header.is_fragment = (fragment & (kIpv6OffsetMask | kIpv6MoreFragments)) != 0;
    header.is_later_fragment = (fragment & kIpv6OffsetMask) != 0;
    if (header.is_later_fragment) return true;  // what follows is the middle of something
  }
}

bool parse_ipv6(Bytes packet, IpHeader& header) {
  if (packet.size() < kIpv6HeaderSize) return false;
  header.family = Family::kIpv6;
  header.header_size = kIpv6HeaderSize;
  header.total_size = kIpv6HeaderSize + load_be16(&packet[4]);
  if (header.total_size > packet.size()) return false;
  const std::uint32_t first_word = load_be32(packet.data());
  header.traffic_class = static_cast<std::uint8_t>(first_word >> 20);
  header.flow_label = first_word & 0xfffff;
  header.protocol = Protocol{byte_at(packet, 6)};
  header.hop_limit = byte_at(packet, 7);
  header.source.assign(Family::kIpv6, &packet[8]);
  header.destination.assign(Family::kIpv6, &packet[24]);
  header.dont_fragment = true;
  header.is_fragment = header.is_later_fragment = false;
  return walk_extensions(packet.first(header.total_size), header);
}

}  // namespace

bool parse_ip_header(Bytes packet, IpHeader& header) {
  if (packet.empty()) return false;
  switch (byte_at(packet, 0) >> 4) {
    case 4:
      return parse_ipv4(packet, header);
    case 6:
      return parse_ipv6(packet, header);
    default:
      return false;
  }
}

std::optional<IpHeader> parse_ip_header(Bytes packet) {
  std::optional<IpHeader> header(std::in_place);
  if (!parse_ip_header(packet, *header)) header.reset();
  return header;
}

std::size_t outer_header_size(Family family) {
  return family == Family::kIpv4 ? kIpv4HeaderSize : kIpv6HeaderSize;
}

void write_outer_header(const OuterHeader& outer, std::size_t payload_size, std::byte* at) {
  if (outer.source.family() == Family::kIpv4) {
    at[0] = std::byte{0x45};
    at[1] = std::byte{outer.traffic_class};
    store_be16(at + 2, static_cast<std::uint16_t>(kIpv4HeaderSize + payload_size));
    store_be16(at + 4, outer.identification);
    store_be16(at + 6, outer.dont_fragment ? kIpv4DontFragment : std::uint16_t{0});
    at[8] = std::byte{outer.hop_limit};
    at[9] = static_cast<std::byte>(outer.protocol);
    store_be16(at + 10, 0);
    std::memcpy(at + 12, outer.source.storage().data(), 4);
    std::memcpy(at + 16, outer.destination.storage().data(), 4);
    store_be16(at + 10, static_cast<std::uint16_t>(~checksum_add({at, kIpv4HeaderSize})));
    return;
  }
  store_be32(at,
             6U << 28 | std::uint32_t{outer.traffic_class} << 20 | (outer.flow_label & 0xfffff));
  store_be16(at + 4, static_cast<std::uint16_t>(payload_size));
  at[6] = static_cast<std::byte>(outer.protocol);
  at[7] = std::byte{outer.hop_limit};
  std::memcpy(at + 8, outer.source.storage().data(), 16);
  std::memcpy(at + 24, outer.destination.storage().data(), 16);
}

void set_total_size(MutableBytes header, std::size_t size) {
  std::byte* const at = header.data();
  if (std::to_integer<unsigned>(at[0]) >> 4 == 6) {
    return store_be16(at + 4, static_cast<std::uint16_t>(size - kIpv6HeaderSize));
  }
  store_be16(at + 2, static_cast<std::uint16_t>(size));
  store_be16(at + 10, 0);
  const Bytes fixed_and_options = header.first((std::to_integer<std::size_t>(at[0]) & 0x0f) * 4);
  store_be16(at + 10, static_cast<std::uint16_t>(~checksum_add(fixed_and_options)));
}

void set_traffic_class(MutableBytes packet, std::uint8_t traffic_class) {
  std::byte* const at = packet.data();
  if (std::to_integer<unsigned>(at[0]) >> 4 == 6) {
    const std::uint32_t word = load_be32(at);
    store_be32(at, (word & 0xf00fffff) | std::uint32_t{traffic_class} << 20);
    return;
  }
  // RFC 1624, eqn. 3: HC' = ~(~HC + ~m + m')
  const std::uint16_t before = load_be16(at);
  at[1] = std::byte{traffic_class};
  const std::uint16_t after = load_be16(at);
  std::uint32_t sum = std::uint32_t{static_cast<std::uint16_t>(~load_be16(at + 10))} +
                      static_cast<std::uint16_t>(~before) + after;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  store_be16(at + 10, static_cast<std::uint16_t>(~sum));
}

std::optional<std::uint8_t> decapsulated_ecn(std::uint8_t inner, std::uint8_t outer) {
  constexpr std::uint8_t kDrop = 0xff;
  // clang-format off
  constexpr std::uint8_t kTable[4][4] = {
      // outer:  Not-ECT     ECT(1)      ECT(0)      CE           inner:
      {kEcnNotEct, kEcnNotEct, kEcnNotEct, kDrop},             // Not-ECT
      {kEcnEct1,   kEcnEct1,   kEcnEct1,   kEcnCe},            // ECT(1)
      {kEcnEct0,   kEcnEct1,   kEcnEct0,   kEcnCe},            // ECT(0)
      {kEcnCe,     kEcnCe,     kEcnCe,     kEcnCe},            // CE
  };
  // clang-format on
  const std::uint8_t result = kTable[inner & kEcnMask][outer & kEcnMask];
  if (result == kDrop) return std::nullopt;
  return result;
}

}  // namespace xfrmfs::engine
