// SPDX-License-Identifier: Apache-2.0
#include "engine/path/mode.h"

#include <cstring>

namespace xfrmfs::engine {
namespace {

constexpr std::uint8_t kDscpMask = static_cast<std::uint8_t>(~kEcnMask);

constexpr std::uint16_t kIpv4ProtocolAt = 9;
constexpr std::uint16_t kIpv6ProtocolAt = 6;

std::uint8_t outer_class(const SaConfig& params, const InnerFacts& inner) {
  std::uint8_t traffic_class = inner.traffic_class;
  if ((params.extra_flags & kSaDontEncapDscp) != 0) traffic_class &= kEcnMask;
  if ((params.flags & kSaNoEcn) != 0) traffic_class &= kDscpMask;
  return traffic_class;
}

bool outer_dont_fragment(const SaConfig& params, const InnerFacts& inner) {
  return inner.dont_fragment && (params.flags & kSaNoPmtuDiscovery) == 0;
}

/// Hop-by-hop options and a routing header stay in front, and so do destination options but those
/// behind a routing header, which are for the last destination alone. `packet`'s chain has been
/// walked by parse_ip_header().
void split_extensions(Bytes packet, InnerFacts& facts) {
  facts.kept = kIpv6HeaderSize;
  facts.protocol_at = kIpv6ProtocolAt;
  facts.protocol = Protocol{std::to_integer<std::uint8_t>(packet[kIpv6ProtocolAt])};
  bool routed = false;
  while (facts.protocol == Protocol::kHopByHop || facts.protocol == Protocol::kRouting ||
         (facts.protocol == Protocol::kDestinationOptions && !routed)) {
    routed |= facts.protocol == Protocol::kRouting;
    facts.protocol_at = facts.kept;
    facts.protocol = Protocol{std::to_integer<std::uint8_t>(packet[facts.kept])};
    const auto units = std::to_integer<std::uint16_t>(packet[facts.kept + 1u]);
    facts.kept = static_cast<std::uint16_t>(facts.kept + (units + 1u) * 8u);
  }
}

}  // namespace

InnerFacts InnerFacts::of(const IpHeader& header, Bytes packet) {
  InnerFacts facts{.family = header.family,
                   .traffic_class = header.traffic_class,
                   .flow_label = header.flow_label,
                   .dont_fragment = header.dont_fragment,
                   .kept = static_cast<std::uint16_t>(header.header_size),
                   .protocol_at = kIpv4ProtocolAt,
                   .protocol = header.protocol};
  if (header.family == Family::kIpv6) split_extensions(packet, facts);
  return facts;
}

InnerFacts InnerFacts::after(const SaConfig& params, Protocol named) const {
  InnerFacts facts = *this;
  facts.protocol = named;
  if (params.mode == Mode::kTransport) return facts;
  facts.family = params.family();
  facts.traffic_class = outer_class(params, *this);
  facts.dont_fragment = facts.family == Family::kIpv6 || outer_dont_fragment(params, *this);
  facts.kept = static_cast<std::uint16_t>(outer_header_size(facts.family));
  facts.protocol_at = facts.family == Family::kIpv4 ? kIpv4ProtocolAt : kIpv6ProtocolAt;
  return facts;
}

Wrapping wrapping(const SaConfig& params, const InnerFacts& inner) {
  const std::size_t udp = params.encapsulation ? kUdpHeaderSize : 0;
  if (params.mode == Mode::kTransport) {
    return {.kept = inner.kept, .front = inner.kept + udp, .next_header = inner.protocol};
  }
  return {.kept = 0,
          .front = outer_header_size(params.family()) + udp,
          .next_header = protocol_of(inner.family)};
}

Protocol outer_protocol(const SaConfig& params) {
  return params.encapsulation ? Protocol::kUdp : params.id.protocol;
}

void write_front(const SaConfig& params, const InnerFacts& inner, Protocol protocol,
                 std::uint16_t identification, std::size_t payload_size, std::byte* at) {
  const std::size_t udp_size = params.encapsulation ? kUdpHeaderSize : 0;
  std::size_t ip_size = inner.kept;
  if (params.mode == Mode::kTransport) {
    at[inner.protocol_at] = static_cast<std::byte>(protocol);
    set_total_size({at, ip_size}, ip_size + udp_size + payload_size);
  } else {
    ip_size = outer_header_size(params.family());
    write_outer_header({.source = params.source,
                        .destination = params.id.destination,
                        .protocol = protocol,
                        .traffic_class = outer_class(params, inner),
                        .flow_label = inner.flow_label,
                        .dont_fragment = outer_dont_fragment(params, inner),
                        .identification = identification},
                       udp_size + payload_size, at);
  }
  if (!params.encapsulation) return;
  std::byte* const udp = at + ip_size;
  store_be16(udp, params.encapsulation->source_port);
  store_be16(udp + 2, params.encapsulation->destination_port);
  store_be16(udp + 4, static_cast<std::uint16_t>(kUdpHeaderSize + payload_size));
  store_be16(udp + 6, 0);
}

Protocol protocol_of(Family family) {
  return family == Family::kIpv4 ? Protocol::kIpip : Protocol::kIpv6;
}

MutableBytes put_front_back(const IpHeader& header, const std::byte* front, std::uint16_t number,
                            Protocol next_header, MutableBytes payload) {
  std::byte* const at = payload.data() - header.header_size;
  std::memmove(at, front, header.header_size);
  const MutableBytes whole(at, header.header_size + payload.size());
  std::size_t protocol_at = kIpv4ProtocolAt;
  if (header.family == Family::kIpv6) {
    protocol_at = kIpv6ProtocolAt;
    for (std::size_t end = kIpv6HeaderSize; end < header.header_size;) {
      protocol_at = end;
      end += (std::to_integer<std::size_t>(at[end + 1]) + 1) * 8;
    }
  }
  if (header.family == Family::kIpv4) {
    store_be16(at + 4, static_cast<std::uint16_t>(load_be16(at + 4) + number));
  }
  at[protocol_at] = static_cast<std::byte>(next_header);
  set_total_size(whole.first(header.header_size), whole.size());
  return whole;
}

std::expected<void, Mib> remove_outer_header(const SaConfig& params, std::uint8_t outer_class,
                                             Protocol next_header, MutableBytes payload,
                                             IpHeader& inner) {
  const Family wanted = params.selector.family;
  Family family = Family::kNone;
  if (next_header == Protocol::kIpip) family = Family::kIpv4;
  if (next_header == Protocol::kIpv6) family = Family::kIpv6;
  if (family == Family::kNone || (wanted != Family::kNone && wanted != family)) {
    return std::unexpected(Mib::kInStateModeError);
  }
  if (payload.size() < outer_header_size(family)) return std::unexpected(Mib::kInStateModeError);

  if (!parse_ip_header(payload, inner) || inner.family != family) {
    return std::unexpected(Mib::kInHdrError);
  }

  std::uint8_t traffic_class = inner.traffic_class;
  if ((params.flags & kSaDecapDscp) != 0) {
    traffic_class =
        static_cast<std::uint8_t>((outer_class & kDscpMask) | (traffic_class & kEcnMask));
  }
  if ((params.flags & kSaNoEcn) == 0) {
    const auto ecn = decapsulated_ecn(traffic_class & kEcnMask, outer_class & kEcnMask);
    if (!ecn) return std::unexpected(Mib::kInStateModeError);
    traffic_class = static_cast<std::uint8_t>((traffic_class & kDscpMask) | *ecn);
  }
  if (traffic_class != inner.traffic_class) {
    set_traffic_class(payload, traffic_class);
    inner.traffic_class = traffic_class;
  }
  return {};
}

}  // namespace xfrmfs::engine
