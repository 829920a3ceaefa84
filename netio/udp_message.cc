// SPDX-License-Identifier: Apache-2.0
#include "netio/udp_message.h"

#include <cstring>

#include <netinet/udp.h>

#include "netio/ancillary.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::Family;
using engine::SealedPacket;

constexpr std::size_t kSpiSize = 4;
constexpr std::byte kKeepAlive{0xff};

}  // namespace

std::optional<EspInUdp> esp_in_udp(Bytes payload, std::size_t segment_size) {
  std::size_t size = payload.size();
  if (segment_size == 0 || segment_size > size) segment_size = size;
  // Of a train only the last segments can be that short, for the others are as long as the first.
  while (size != 0 && (size - 1) % segment_size == 0 && payload[size - 1] == kKeepAlive) --size;
  if (size == 0 && !payload.empty()) return std::nullopt;
  if (size > segment_size) return EspInUdp{size, static_cast<std::uint16_t>(segment_size)};
  const bool is_ike = size >= kSpiSize && engine::load_be32(payload.data()) == 0;
  if (is_ike) return std::nullopt;
  return EspInUdp{size, 0};
}

std::optional<UdpArrival> read_arrival(msghdr& message) {
  UdpArrival arrival;
  engine::OuterHeader& outer = arrival.outer;
  outer.protocol = engine::Protocol::kUdp;
  const auto& name = *static_cast<const sockaddr_in6*>(message.msg_name);
  arrival.source_port = ntohs(name.sin6_port);  // sin_port is at the same place
  if (name.sin6_family == AF_INET) {
    sockaddr_in ipv4;
    std::memcpy(&ipv4, &name, sizeof ipv4);
    outer.source = to_address(Family::kIpv4, ipv4.sin_addr);
  } else {
    outer.source = to_address(Family::kIpv6, name.sin6_addr);
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    const auto is = [c](int level, int type, std::size_t size) {
      return c->cmsg_level == level && c->cmsg_type == type && c->cmsg_len >= CMSG_LEN(size);
    };
    if (is(IPPROTO_IP, IP_PKTINFO, sizeof(in_pktinfo))) {
      outer.destination = to_address(Family::kIpv4, control_value<in_pktinfo>(c).ipi_addr);
    } else if (is(IPPROTO_IPV6, IPV6_PKTINFO, sizeof(in6_pktinfo))) {
      outer.destination = to_address(Family::kIpv6, control_value<in6_pktinfo>(c).ipi6_addr);
    } else if (is(IPPROTO_IP, IP_TOS, 1)) {
      outer.traffic_class = control_value<std::uint8_t>(c);
    } else if (is(IPPROTO_IPV6, IPV6_TCLASS, sizeof(int))) {
      outer.traffic_class = static_cast<std::uint8_t>(control_value<int>(c));
    } else if (is(IPPROTO_IP, IP_TTL, sizeof(int)) ||
               is(IPPROTO_IPV6, IPV6_HOPLIMIT, sizeof(int))) {
      outer.hop_limit = static_cast<std::uint8_t>(control_value<int>(c));
    } else if (is(IPPROTO_UDP, UDP_GRO, sizeof(int))) {
      arrival.segment_size = static_cast<std::uint16_t>(control_value<int>(c));
    }
  }
  if (outer.destination.family() != outer.source.family()) return std::nullopt;
  return arrival;
}

void write_departure(const SealedPacket& train, msghdr& message) {
  const bool is_ipv4 = (train.data()[0] >> 4) == std::byte{4};
  auto& name = *static_cast<sockaddr_in6*>(message.msg_name);
  const std::byte* const ip = train.data();
  const std::byte* const udp = ip + (is_ipv4 ? engine::kIpv4HeaderSize : engine::kIpv6HeaderSize);
  message.msg_controllen = 0;
  if (is_ipv4) {
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    std::memcpy(&peer.sin_port, udp + 2, sizeof peer.sin_port);
    std::memcpy(&peer.sin_addr, ip + 16, sizeof peer.sin_addr);
    std::memcpy(&name, &peer, sizeof peer);
    message.msg_namelen = sizeof peer;
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, ip + 12, sizeof info.ipi_spec_dst);
    add_control(message, IPPROTO_IP, IP_PKTINFO, info);
    add_control(message, IPPROTO_IP, IP_TOS, std::to_integer<int>(ip[1]));
    add_control(message, IPPROTO_IP, IP_TTL, std::to_integer<int>(ip[8]));
    return;
  }
  name = {};
  name.sin6_family = AF_INET6;
  std::memcpy(&name.sin6_port, udp + 2, sizeof name.sin6_port);
  std::memcpy(&name.sin6_addr, ip + 24, sizeof name.sin6_addr);
  message.msg_namelen = sizeof name;
  in6_pktinfo info{};
  std::memcpy(&info.ipi6_addr, ip + 8, sizeof info.ipi6_addr);
  add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, info);
  const auto traffic_class = static_cast<int>(engine::load_be32(ip) >> 20 & 0xff);
  add_control(message, IPPROTO_IPV6, IPV6_TCLASS, traffic_class);
  add_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, std::to_integer<int>(ip[7]));
}

void add_segment_size(msghdr& message, std::uint16_t segment_size) {
  add_control(message, IPPROTO_UDP, UDP_SEGMENT, segment_size);
}

void remove_segment_size(msghdr& message) {
  message.msg_controllen -= CMSG_SPACE(sizeof(std::uint16_t));
}

}  // namespace xfrmfs::netio
