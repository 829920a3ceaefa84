// SPDX-License-Identifier: Apache-2.0
// Any bytes as an IP packet: what the classifier says of them must hold together.

#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>

#include "engine/packet/checksum.h"
#include "engine/packet/flow.h"
#include "engine/packet/ip_header.h"
#include "tests/fuzz/require.h"

using namespace xfrmfs::engine;
using xfrmfs::testing::require;

namespace {

void check_header(const IpHeader& header, std::size_t size) {
  const bool v4 = header.family == Family::kIpv4;
  require(v4 || header.family == Family::kIpv6);
  require(header.total_size <= size);
  require(header.header_size <= header.total_size);
  require(header.header_size >= (v4 ? kIpv4HeaderSize : kIpv6HeaderSize));
  require(header.header_size <= (v4 ? std::size_t{60} : kIpv6HeaderSize + 1024));
  require(header.header_size % 4 == 0);
  require(header.source.family() == header.family);
  require(header.destination.family() == header.family);
  require(!header.is_later_fragment || header.is_fragment);
  require(v4 || header.dont_fragment);
}

void check_flow(const Flow& flow, const IpHeader& header) {
  require(flow.source == header.source && flow.destination == header.destination);
  require(flow.protocol == header.protocol);
  if (header.is_later_fragment) require(!flow.ports_known);
  if (header.total_size < header.header_size + 2) require(!flow.ports_known);
  if (!flow.ports_known) require(flow.source_port == 0 && flow.destination_port == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Memory of exactly this size, so that a sanitizer sees one byte too many.
  const auto memory = std::make_unique<std::byte[]>(size);
  if (size > 0) std::memcpy(memory.get(), data, size);
  const MutableBytes packet(memory.get(), size);

  const auto header = parse_ip_header(packet);
  if (!header) return 0;
  check_header(*header, size);
  const Flow flow = flow_of(*header, packet);
  check_flow(flow, *header);

  // What follows the packet plays no part, and less than the packet is no packet.
  require(flow_of(*header, packet.first(header->total_size)) == flow);
  require(!parse_ip_header(packet.first(header->total_size - 1)));
  std::ignore = flow_of(*header, packet.first(header->total_size / 2));

  const auto checksum_before = checksum_add(packet.first(header->header_size));
  set_traffic_class(packet, static_cast<std::uint8_t>(~header->traffic_class));
  auto changed = parse_ip_header(packet);
  require(changed.has_value());
  require(changed->traffic_class == static_cast<std::uint8_t>(~header->traffic_class));
  require(flow_of(*changed, packet) == flow);
  if (header->family == Family::kIpv4 && checksum_before == 0xffff) {
    require(checksum_add(packet.first(header->header_size)) == 0xffff);
  }
  return 0;
}
