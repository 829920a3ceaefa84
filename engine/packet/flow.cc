// SPDX-License-Identifier: Apache-2.0
#include "engine/packet/flow.h"

namespace xfrmfs::engine {
namespace {

constexpr std::uint16_t kGreChecksumPresent = 0x8000;  // RFC 2784 §2.1
constexpr std::uint16_t kGreKeyPresent = 0x2000;       // RFC 2890 §2

void set_ports(Flow& flow, std::uint16_t source, std::uint16_t destination) {
  flow.source_port = source;
  flow.destination_port = destination;
  flow.ports_known = true;
}

void read_transport(Bytes upper, Flow& flow) {
  if (upper.size() < 4) return;
  set_ports(flow, load_be16(&upper[0]), load_be16(&upper[2]));
}

void read_icmp(Bytes upper, Flow& flow) {
  if (upper.size() < 2) return;
  set_ports(flow, std::to_integer<std::uint16_t>(upper[0]),
            std::to_integer<std::uint16_t>(upper[1]));
}

/// RFC 6275 §6.1.1: payload protocol, length, type.
void read_mobility(Bytes upper, Flow& flow) {
  if (upper.size() < 3) return;
  set_ports(flow, std::to_integer<std::uint16_t>(upper[2]), 0);
}

void read_gre(Bytes upper, Flow& flow) {
  if (upper.size() < 4) return;
  const std::uint16_t flags = load_be16(upper.data());
  if ((flags & kGreKeyPresent) == 0) return;
  const std::size_t key_at = (flags & kGreChecksumPresent) != 0 ? 8 : 4;
  if (upper.size() < key_at + 4) return;
  set_ports(flow, load_be16(&upper[key_at]), load_be16(&upper[key_at + 2]));
}

}  // namespace

Flow flow_of(const IpHeader& header, Bytes packet) {
  Flow flow;
  flow.source = header.source;
  flow.destination = header.destination;
  flow.protocol = header.protocol;
  if (header.is_later_fragment) return flow;
  if (header.total_size > packet.size() || header.header_size > header.total_size) return flow;
  const Bytes upper = packet.first(header.total_size).subspan(header.header_size);

  switch (header.protocol) {
    case Protocol::kTcp:
    case Protocol::kUdp:
    case Protocol::kUdpLite:
    case Protocol::kSctp:
    case Protocol::kDccp:
      read_transport(upper, flow);
      break;
    case Protocol::kIcmp:
      if (header.family == Family::kIpv4) read_icmp(upper, flow);
      break;
    case Protocol::kIcmpv6:
      if (header.family == Family::kIpv6) read_icmp(upper, flow);
      break;
    case Protocol::kMobility:
      if (header.family == Family::kIpv6) read_mobility(upper, flow);
      break;
    case Protocol::kGre:
      read_gre(upper, flow);
      break;
    default:
      break;
  }
  return flow;
}

}  // namespace xfrmfs::engine
