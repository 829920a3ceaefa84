// SPDX-License-Identifier: Apache-2.0
#include "engine/path/joiner.h"

#include <cstring>

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kMaxTotal = 65535;

std::uint8_t octet(const std::byte* at) {
  return std::to_integer<std::uint8_t>(*at);
}

template <class Word>
Word load(const std::byte* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

template <class Word>
bool same(const std::byte* a, const std::byte* b) {
  return load<Word>(a) == load<Word>(b);
}

/// A few words of 4 bytes.
bool same_words(const std::byte* a, const std::byte* b, std::size_t size) {
  std::uint32_t difference = 0;
  for (std::size_t at = 0; at < size; at += 4) {
    difference |= load<std::uint32_t>(a + at) ^ load<std::uint32_t>(b + at);
  }
  return difference == 0;
}

/// Of addresses, protocol and length of the transport part, as checksum_words().
std::uint64_t pseudo_header(const std::byte* packet, bool ipv6, Protocol protocol,
                            std::size_t size) {
  std::uint64_t sum = std::uint64_t{to_be16(static_cast<std::uint16_t>(protocol))} +
                      to_be16(static_cast<std::uint16_t>(size));
  if (!ipv6) return sum + load<std::uint32_t>(packet + 12) + load<std::uint32_t>(packet + 16);
  for (std::size_t at = 8; at < 40; at += 4) sum += load<std::uint32_t>(packet + at);
  return sum;
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
    transport_size = (octet(at + kTcpDataOffset) >> 4) * std::size_t{4};
    const std::uint8_t flags = octet(at + kTcpFlags);
    if (transport_size < kTcpHeaderSize || transport_size >= upper) return one;
    if ((flags & kTcpAck) == 0 || (flags & ~(kTcpAck | kTcpPush | kTcpEce)) != 0) return one;
    one.sequence = load_be32(at + kTcpSequence);
    one.closes = (flags & kTcpPush) != 0;
  } else if (header.protocol == Protocol::kUdp && takes_.udp && upper > kUdpHeaderSize) {
    transport_size = kUdpHeaderSize;
    if (load_be16(at + kUdpLength) != upper || load_be16(at + kUdpChecksum) == 0) return one;
  } else {
    return one;
  }
  const std::uint64_t sum = pseudo_header(packet.data(), one.ipv6, header.protocol, upper);
  if (checksum_fold(checksum_words({at, upper}) + sum) != 0xffff) return one;
  one.cut = header.protocol == Protocol::kTcp ? Cut::kTcp : Cut::kUdp;
  one.transport = static_cast<std::uint16_t>(header.header_size);
  one.header = static_cast<std::uint16_t>(header.header_size + transport_size);
  one.data = static_cast<std::uint16_t>(upper - transport_size);
  one.shape =
      static_cast<std::uint32_t>(one.cut) << 24 | std::uint32_t{one.ipv6} << 16 | one.header;
  return one;
}

bool Joiner::continues(const Candidate& next) const {
  if (count_ == 0 || closed_ || count_ == Joins::kMostPieces || next.shape == 0 ||
      next.shape != first_.shape || next.data > first_.data || size_ + next.data > kMaxTotal) {
    return false;
  }
  const std::byte* const ta = first_.packet + first_.transport;
  const std::byte* const tb = next.packet + first_.transport;
  if (!same_ip(first_.packet, next.packet)) return false;
  if (first_.cut == Cut::kUdp) return same<std::uint32_t>(ta, tb);  // ports
  const auto expected = static_cast<std::uint32_t>(first_.sequence + (size_ - first_.header));
  return next.sequence == expected && same_tcp(ta, tb);
}

/// All but lengths, identification and checksum.
inline bool Joiner::same_ip(const std::byte* a, const std::byte* b) const {
  if (first_.ipv6) {
    return same<std::uint32_t>(a, b) && same<std::uint16_t>(a + 6, b + 6) &&
           same_words(a + 8, b + 8, 32);
  }
  constexpr std::uint16_t kDontFragment = 0x4000;
  return same<std::uint16_t>(a, b) && same<std::uint32_t>(a + 6, b + 6) &&
         same<std::uint64_t>(a + 12, b + 12) &&
         ((load_be16(a + 6) & kDontFragment) != 0 ||
          load_be16(b + 4) == static_cast<std::uint16_t>(number_ + 1));
}

/// Ports; acknowledgement; data offset; flags but PSH; window; urgent pointer; options.
inline bool Joiner::same_tcp(const std::byte* a, const std::byte* b) const {
  return same<std::uint32_t>(a, b) && same<std::uint32_t>(a + 8, b + 8) &&
         a[kTcpDataOffset] == b[kTcpDataOffset] &&
         ((octet(a + kTcpFlags) ^ octet(b + kTcpFlags)) & ~kTcpPush) == 0 &&
         same<std::uint16_t>(a + 14, b + 14) && same<std::uint16_t>(a + 18, b + 18) &&
         same_words(a + kTcpHeaderSize, b + kTcpHeaderSize,
                    std::size_t{first_.header} - first_.transport - kTcpHeaderSize);
}

/// A shortcut to what judge() and continues() would say of a segment that has the size of the first
/// and its headers, but for numbers and checksums. True: it is in.
bool Joiner::join_alike(MutableBytes packet) {
  if (count_ == 0 || closed_ || count_ == Joins::kMostPieces || first_.cut != Cut::kTcp ||
      packet.size() != std::size_t{first_.header} + first_.data ||
      size_ + first_.data > kMaxTotal) {
    return false;
  }
  const std::byte* const a = first_.packet;
  const std::byte* const b = packet.data();
  const std::byte* const ta = a + first_.transport;
  const std::byte* const tb = b + first_.transport;
  const std::size_t upper = packet.size() - first_.transport;
  const auto expected = static_cast<std::uint32_t>(first_.sequence + (size_ - first_.header));
  if (!same_ip(a, b) || load_be32(tb + kTcpSequence) != expected || !same_tcp(ta, tb) ||
      tb[kTcpFlags] != ta[kTcpFlags]) {
    return false;
  }
  const std::uint64_t sum = pseudo_header(b, first_.ipv6, Protocol::kTcp, upper);
  if (checksum_fold(checksum_words({tb, upper}) + sum) != 0xffff) return false;
  pieces_[count_++] = {b + first_.header, first_.data};
  size_ += first_.data;
  if (!first_.ipv6) number_ = load_be16(b + 4);
  return true;
}

Joiner::Refused Joiner::add(const IpHeader& header, MutableBytes packet) {
  if (join_alike(packet)) return 0;
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
  if (next.cut == Cut::kTcp) flags_ = octet(next.packet + next.transport + kTcpFlags);
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
  const auto store_pseudo = [&](std::byte* place, Protocol protocol) {
    const std::uint16_t sum = checksum_fold(pseudo_header(ip, first_.ipv6, protocol, upper));
    std::memcpy(place, &sum, sizeof sum);
  };
  if (first_.cut == Cut::kTcp) {
    at[kTcpFlags] |= std::byte{flags_} & std::byte{kTcpPush};
    store_pseudo(at + kTcpChecksum, Protocol::kTcp);
  } else {
    store_be16(at + kUdpLength, static_cast<std::uint16_t>(upper));
    store_pseudo(at + kUdpChecksum, Protocol::kUdp);
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
