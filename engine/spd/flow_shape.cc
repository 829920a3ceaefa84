// SPDX-License-Identifier: Apache-2.0
#include "engine/spd/flow_shape.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "engine/base/mix.h"

namespace xfrmfs::engine {
namespace {

std::uint8_t width_or(const Prefix& prefix, Family family) {
  return static_cast<std::uint8_t>(std::min<std::size_t>(prefix.length, address_size(family) * 8));
}

void fill_mask(std::uint64_t (&mask)[2], unsigned length) {
  std::array<std::byte, 16> bytes{};
  for (unsigned bit = 0; bit < length; ++bit) {
    bytes[bit / 8] |= static_cast<std::byte>(0x80u >> (bit % 8));
  }
  std::memcpy(mask, bytes.data(), sizeof mask);
}

}  // namespace

FlowShape::FlowShape(const Selector& selector, const Mark& mark)
    : family_(selector.family), mark_mask_(mark.mask) {
  if (family_ == Family::kNone) return;  // matches every flow, whatever else it says
  protocol_ = selector.protocol != Protocol{};
  source_length_ = width_or(selector.source, family_);
  destination_length_ = width_or(selector.destination, family_);
  source_port_mask_ = selector.source_port.mask;
  destination_port_mask_ = selector.destination_port.mask;
  fill_mask(source_mask_, source_length_);
  fill_mask(destination_mask_, destination_length_);
}

std::uint64_t FlowShape::seed_for(std::uint64_t seed) const {
  const std::uint64_t lengths = std::uint64_t{source_length_} << 24 |
                                std::uint64_t{destination_length_} << 16 |
                                std::uint64_t{protocol_} << 8 | std::to_underlying(family_);
  const std::uint64_t ports = std::uint64_t{source_port_mask_} << 16 | destination_port_mask_;
  return mix(mix(seed, lengths << 32 | ports), mark_mask_);
}

std::uint64_t FlowShape::hash(std::uint64_t seed, const Flow& flow, std::uint32_t mark,
                              std::uint32_t if_id) const {
  return hash(seed, flow.source, flow.destination, flow.protocol, flow.source_port,
              flow.destination_port, mark & mark_mask_, if_id);
}

std::uint64_t FlowShape::hash(std::uint64_t seed, const Selector& selector, const Mark& mark,
                              std::uint32_t if_id) const {
  return hash(seed, selector.source.address, selector.destination.address, selector.protocol,
              selector.source_port.port, selector.destination_port.port, mark.value, if_id);
}

std::uint64_t FlowShape::hash(std::uint64_t seed, const IpAddress& source,
                              const IpAddress& destination, Protocol protocol,
                              std::uint16_t source_port, std::uint16_t destination_port,
                              std::uint32_t mark_value, std::uint32_t if_id) const {
  std::uint64_t from[2];
  std::uint64_t to[2];
  std::memcpy(from, source.storage().data(), sizeof from);
  std::memcpy(to, destination.storage().data(), sizeof to);
  std::uint64_t sum = mix(seed ^ (from[0] & source_mask_[0]), to[0] & destination_mask_[0]);
  if (family_ == Family::kIpv6) {
    sum = mix(sum ^ (from[1] & source_mask_[1]), to[1] & destination_mask_[1]);
  }
  const std::uint64_t rest =
      std::uint64_t{protocol_ ? std::to_underlying(protocol) : std::uint8_t{0}} << 32 |
      static_cast<std::uint64_t>(source_port & source_port_mask_) << 16 |
      static_cast<std::uint64_t>(destination_port & destination_port_mask_);
  return mix(sum ^ rest, std::uint64_t{mark_value} << 32 | if_id);
}

}  // namespace xfrmfs::engine
