// SPDX-License-Identifier: Apache-2.0
#include "engine/path/pmtu.h"

#include <algorithm>
#include <array>

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kIcmpHeaderSize = 8;
constexpr std::size_t kLargestError4 = 576;   // RFC 1812 §4.3.2.3
constexpr std::size_t kLargestError6 = 1280;  // RFC 4443 §2.4 (c)

bool is_icmp_error(const IpHeader& header, Bytes packet) {
  if (packet.size() <= header.header_size) return true;  // cannot tell: be silent
  const auto type = std::to_integer<unsigned>(packet[header.header_size]);
  if (header.protocol == Protocol::kIcmp) {
    return type != 0 && type != 8 && type != 13 && type != 14;  // neither echo nor timestamp
  }
  return header.protocol == Protocol::kIcmpv6 && type < 128;
}

bool may_answer(const IpHeader& header, Bytes packet) {
  const bool icmp = header.protocol == Protocol::kIcmp || header.protocol == Protocol::kIcmpv6;
  return !header.is_later_fragment && !header.source.is_any() && !header.source.is_multicast() &&
         !header.destination.is_multicast() && !(icmp && is_icmp_error(header, packet));
}

/// RFC 8200 §8.1.
std::uint32_t pseudo_header_sum(const IpAddress& source, const IpAddress& destination,
                                std::size_t size) {
  std::array<std::byte, 8> rest{};
  store_be32(rest.data(), static_cast<std::uint32_t>(size));
  store_be32(rest.data() + 4, static_cast<std::uint32_t>(Protocol::kIcmpv6));
  return checksum_add(rest, checksum_add(destination.bytes(), checksum_add(source.bytes())));
}

}  // namespace

bool make_too_big(ClearPacket& packet, const IpHeader& header, std::size_t mtu) {
  const bool v6 = header.family == Family::kIpv6;
  const std::size_t ip_size = outer_header_size(header.family);
  const std::size_t overhead = ip_size + kIcmpHeaderSize;
  if (!may_answer(header, packet.bytes()) || packet.headroom() < overhead) return false;

  const std::size_t largest = v6 ? kLargestError6 : kLargestError4;
  const std::size_t quoted = std::min(header.total_size, largest - overhead);
  packet.reframe(packet.data() - overhead, overhead + quoted);
  const OuterHeader ip{.source = header.destination,
                       .destination = header.source,
                       .protocol = v6 ? Protocol::kIcmpv6 : Protocol::kIcmp};
  write_outer_header(ip, kIcmpHeaderSize + quoted, packet.data());

  const MutableBytes icmp = packet.bytes().subspan(ip_size);
  std::ranges::fill(icmp.first(kIcmpHeaderSize), std::byte{});
  if (v6) {
    icmp[0] = std::byte{2};  // packet too big
    store_be32(icmp.data() + 4, static_cast<std::uint32_t>(mtu));
  } else {
    icmp[0] = std::byte{3};  // destination unreachable
    icmp[1] = std::byte{4};  // fragmentation needed and DF set
    store_be16(icmp.data() + 6, static_cast<std::uint16_t>(std::min<std::size_t>(mtu, 65535)));
  }
  const std::uint32_t seed = v6 ? pseudo_header_sum(ip.source, ip.destination, icmp.size()) : 0;
  store_be16(icmp.data() + 2, static_cast<std::uint16_t>(~checksum_add(icmp, seed)));
  return true;
}

}  // namespace xfrmfs::engine
