// SPDX-License-Identifier: Apache-2.0
#include "engine/path/joiner.h"

#include <cstring>

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kTcpHeaderSize = 20;
constexpr std::uint8_t kPush = 0x08;
constexpr std::uint8_t kAck = 0x10;
constexpr std::uint8_t kEce = 0x40;
constexpr std::size_t kMaxTotal = 65535;

std::uint8_t octet(const std::byte* at) {
  return std::to_integer<std::uint8_t>(*at);
}

bool same(const std::byte* a, const std::byte* b, std::size_t size) {
  return std::memcmp(a, b, size) == 0;
}

/// Of addresses, protocol and length of the transport part.
std::uint32_t pseudo_header(const std::byte* packet, bool ipv6, Protocol protocol,
                            std::size_t size) {
  const Bytes addresses = ipv6 ? Bytes(packet + 8, 32) : Bytes(packet + 12, 8);
  return checksum_add(addresses,
                      static_cast<std::uint32_t>(protocol) + static_cast<std::uint32_t>(size));
}

}  // namespace

/// Only the plainest packets: no IP options or extensions, no fragments, no flags but ACK, PSH and
/// ECE. The checksum is looked at last, because it costs the most.
Joiner::Candidate Joiner::judge(const IpHeader& header, MutableBytes packet) const {
  Candidate one{.packet = packet.data(), .ipv6 = header.family == Family::kIpv6};
  if (header.is_fragment || header.header_size != outer_header_size(header.family)) return one;
  const std::size_t upper = packet.size() - header.header_size;
  const std::byte* const at = packet.data() + header.header_size;
  std::size_t transport_size = 0;
  if (header.protocol == Protocol::kTcp && takes_.tcp && upper > kTcpHeaderSize) {
    transport_size = (octet(at + 12) >> 4) * std::size_t{4};
    const std::uint8_t flags = octet(at + 13);
    if (transport_size < kTcpHeaderSize || transport_size >= upper) return one;
    if ((flags & kAck) == 0 || (flags & ~(kAck | kPush | kEce)) != 0) return one;
    one.sequence = load_be32(at + 4);
    one.closes = (flags & kPush) != 0;
  } else if (header.protocol == Protocol::kUdp && takes_.udp && upper > kUdpHeaderSize) {
    transport_size = kUdpHeaderSize;
    if (load_be16(at + 4) != upper || load_be16(at + 6) == 0) return one;
  } else {
    return one;
  }
  const std::uint32_t sum = pseudo_header(packet.data(), one.ipv6, header.protocol, upper);
  if (checksum_add({at, upper}, sum) != 0xffff) return one;
  one.cut = header.protocol == Protocol::kTcp ? Cut::kTcp : Cut::kUdp;
  one.transport = static_cast<std::uint16_t>(header.header_size);
  one.header = static_cast<std::uint16_t>(header.header_size + transport_size);
  one.data = static_cast<std::uint16_t>(upper - transport_size);
  return one;
}

bool Joiner::continues(const Candidate& next) const {
  if (count_ == 0 || closed_ || count_ == Joins::kMostPieces || next.cut == Cut::kWhole ||
      next.cut != first_.cut || next.ipv6 != first_.ipv6 || next.header != first_.header ||
      next.data > first_.data || size_ + next.data > kMaxTotal) {
    return false;
  }
  const std::byte* const a = first_.packet;
  const std::byte* const b = next.packet;
  if (first_.ipv6) {
    // All but the payload length.
    if (!same(a, b, 4) || !same(a + 6, b + 6, 34)) return false;
  } else {
    constexpr std::uint16_t kDontFragment = 0x4000;
    // All but length, identification and checksum.
    if (!same(a, b, 2) || !same(a + 6, b + 6, 4) || !same(a + 12, b + 12, 8)) return false;
    if ((load_be16(a + 6) & kDontFragment) == 0 &&
        load_be16(b + 4) != static_cast<std::uint16_t>(number_ + 1)) {
      return false;
    }
  }
  const std::byte* const ta = a + first_.transport;
  const std::byte* const tb = b + first_.transport;
  if (first_.cut == Cut::kUdp) return same(ta, tb, 4);  // ports
  const auto expected = static_cast<std::uint32_t>(first_.sequence + (size_ - first_.header));
  // Ports; acknowledgement, data offset; flags but PSH; window; urgent pointer and options.
  return next.sequence == expected && same(ta, tb, 4) && same(ta + 8, tb + 8, 5) &&
         ((octet(ta + 13) ^ octet(tb + 13)) & ~kPush) == 0 && same(ta + 14, tb + 14, 2) &&
         same(ta + 18, tb + 18, first_.header - first_.transport - 18u);
}

Joiner::Refused Joiner::add(const IpHeader& header, MutableBytes packet) {
  const Candidate next = judge(header, packet);
  Refused refused = 0;
  if (!continues(next)) {
    refused = flush();
    first_ = next;
    size_ = packet.size();
    pieces_[0] = packet;
    count_ = 1;
  } else {
    pieces_[count_++] = {next.packet + next.header, next.data};
    size_ += next.data;
  }
  closed_ = next.cut == Cut::kWhole || next.closes || next.data < first_.data;
  if (!next.ipv6) number_ = load_be16(next.packet + 4);
  if (next.cut == Cut::kTcp) flags_ = octet(next.packet + next.transport + 13);
  return refused;
}

/// The first packet's headers become those of the train.
void Joiner::write_headers() {
  std::byte* const ip = first_.packet;
  const std::size_t upper = size_ - first_.transport;
  if (first_.ipv6) {
    store_be16(ip + 4, static_cast<std::uint16_t>(upper));
  } else {
    store_be16(ip + 2, static_cast<std::uint16_t>(size_));
    store_be16(ip + 10, 0);
    store_be16(ip + 10, static_cast<std::uint16_t>(~checksum_add({ip, first_.transport})));
  }
  std::byte* const at = ip + first_.transport;
  if (first_.cut == Cut::kTcp) {
    at[13] |= std::byte{flags_} & std::byte{kPush};
    store_be16(at + 16,
               static_cast<std::uint16_t>(pseudo_header(ip, first_.ipv6, Protocol::kTcp, upper)));
  } else {
    store_be16(at + 4, static_cast<std::uint16_t>(upper));
    store_be16(at + 6,
               static_cast<std::uint16_t>(pseudo_header(ip, first_.ipv6, Protocol::kUdp, upper)));
  }
}

Joiner::Refused Joiner::flush() {
  if (count_ == 0) return 0;
  ClearTrain train{.pieces = std::span(pieces_).first(count_)};
  if (count_ > 1) {
    write_headers();
    train.cut = first_.cut;
    train.ipv6 = first_.ipv6;
    train.transport_offset = first_.transport;
    train.header_size = first_.header;
    train.segment_size = first_.data;
  }
  const std::size_t packets = count_;
  count_ = 0;
  return sink_->deliver(train) ? 0 : packets;
}

}  // namespace xfrmfs::engine
