// SPDX-License-Identifier: Apache-2.0
// What does a UDP socket tell about a datagram, and what is it told (udp(7), ip(7), ipv6(7))?
// Between outer headers, which the engine knows, and addresses and ancillary data. No system calls.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <netinet/in.h>
#include <sys/socket.h>

#include "engine/base/bytes.h"
#include "engine/packet/ip_header.h"
#include "engine/packet/packet.h"

namespace xfrmfs::netio {

/// What is left of a UDP payload once those things are gone that are no ESP.
struct EspInUdp {
  std::size_t size = 0;
  std::uint16_t segment_size = 0;  // as in SealedPacket
  bool operator==(const EspInUdp&) const = default;
};

/// RFC 3948 §2.2, §2.3: a single byte 0xff keeps a NAT mapping alive, four zero bytes in front mean
/// IKE. Nothing if that is all. `segment_size`: of the datagrams that the kernel joined, the last
/// may be shorter; 0: there is one.
std::optional<EspInUdp> esp_in_udp(engine::Bytes payload, std::size_t segment_size);

/// Ancillary data of one message: local address, hop limit, traffic class, segment size.
struct alignas(cmsghdr) UdpControl {
  static constexpr std::size_t kSize =
      CMSG_SPACE(sizeof(in6_pktinfo)) + 3 * CMSG_SPACE(sizeof(int));
  std::array<std::byte, kSize> bytes;
};

/// A message that came, besides its payload.
struct UdpArrival {
  engine::OuterHeader outer;
  std::uint16_t source_port = 0;
  std::size_t segment_size = 0;  // as esp_in_udp() wants it
};

/// From msg_name, a sockaddr_in6 or a sockaddr_in in such a place, and msg_control. Nothing if the
/// destination is missing.
std::optional<UdpArrival> read_arrival(msghdr& message);

/// Writes msg_name, which has room for a sockaddr_in6, and msg_control, which has UdpControl::kSize
/// bytes, by the outer headers of `train`: IPv4 without options or IPv6, and UDP.
void write_departure(const engine::SealedPacket& train, msghdr& message);
/// Behind write_departure(): the kernel cuts the payload (UDP_SEGMENT).
void add_segment_size(msghdr& message, std::uint16_t segment_size);
void remove_segment_size(msghdr& message);

}  // namespace xfrmfs::netio
