// SPDX-License-Identifier: Apache-2.0
#include "engine/path/mode.h"

namespace xfrmfs::engine {
namespace {

constexpr std::uint8_t kDscpMask = static_cast<std::uint8_t>(~kEcnMask);

std::size_t fixed_header_size(Family family) {
  return family == Family::kIpv4 ? kIpv4HeaderSize : kIpv6HeaderSize;
}

}  // namespace

InnerFacts InnerFacts::of(const IpHeader& header) {
  return {.family = header.family,
          .traffic_class = header.traffic_class,
          .flow_label = header.flow_label,
          .dont_fragment = header.dont_fragment};
}

InnerFacts InnerFacts::of(const OuterHeader& header) {
  const Family family = header.destination.family();
  return {.family = family,
          .traffic_class = header.traffic_class,
          .flow_label = header.flow_label,
          .dont_fragment = family == Family::kIpv6 || header.dont_fragment};
}

OuterHeader outer_header(const SaConfig& params, const InnerFacts& inner,
                         std::uint16_t identification) {
  std::uint8_t traffic_class = inner.traffic_class;
  if ((params.extra_flags & kSaDontEncapDscp) != 0) traffic_class &= kEcnMask;
  if ((params.flags & kSaNoEcn) != 0) traffic_class &= kDscpMask;
  return {.source = params.source,
          .destination = params.id.destination,
          .protocol = params.encapsulation ? Protocol::kUdp : params.id.protocol,
          .traffic_class = traffic_class,
          .flow_label = inner.flow_label,
          .dont_fragment = inner.dont_fragment && (params.flags & kSaNoPmtuDiscovery) == 0,
          .identification = identification};
}

std::size_t outer_size(const SaConfig& params) {
  return outer_header_size(params.family()) + (params.encapsulation ? kUdpHeaderSize : 0);
}

void write_outer_headers(const SaConfig& params, const OuterHeader& outer, std::size_t payload_size,
                         std::byte* at) {
  if (!params.encapsulation) return write_outer_header(outer, payload_size, at);
  write_outer_header(outer, kUdpHeaderSize + payload_size, at);
  std::byte* const udp = at + outer_header_size(params.family());
  store_be16(udp, params.encapsulation->source_port);
  store_be16(udp + 2, params.encapsulation->destination_port);
  store_be16(udp + 4, static_cast<std::uint16_t>(kUdpHeaderSize + payload_size));
  store_be16(udp + 6, 0);
}

Protocol protocol_of(Family family) {
  return family == Family::kIpv4 ? Protocol::kIpip : Protocol::kIpv6;
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
  if (payload.size() < fixed_header_size(family)) return std::unexpected(Mib::kInStateModeError);

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
