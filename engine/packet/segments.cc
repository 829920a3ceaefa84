// SPDX-License-Identifier: Apache-2.0
#include "engine/packet/segments.h"

#include <cstring>

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kTcpHeaderSize = 20;
constexpr std::size_t kTcpSequence = 4;
constexpr std::size_t kTcpFlags = 13;
constexpr std::size_t kTcpChecksum = 16;
constexpr std::size_t kUdpLength = 4;
constexpr std::size_t kUdpChecksum = 6;
constexpr std::uint8_t kFin = 0x01;
constexpr std::uint8_t kPush = 0x08;
constexpr std::uint8_t kWindowReduced = 0x80;

}  // namespace

std::optional<Segments> Segments::of(ClearPacket& train, const IpHeader& header) {
  const Bytes upper =
      std::as_const(train).bytes().first(header.total_size).subspan(header.header_size);
  if (header.is_fragment) return std::nullopt;
  Kind kind = Kind::kUdp;
  std::size_t transport_size = kUdpHeaderSize;
  if (train.cut() == Cut::kTcp) {
    if (header.protocol != Protocol::kTcp || upper.size() < kTcpHeaderSize) return std::nullopt;
    transport_size = (std::to_integer<std::size_t>(upper[12]) >> 4) * 4;
    if (transport_size < kTcpHeaderSize) return std::nullopt;
    kind = Kind::kTcp;
  } else if (header.protocol != Protocol::kUdp || train.cut() != Cut::kUdp) {
    return std::nullopt;
  }
  Segments segments;
  if (!segments.begin(train.bytes().first(header.total_size), header.header_size,
                      header.header_size + transport_size, train.segment_size(), kind)) {
    return std::nullopt;
  }
  return segments;
}

std::optional<Segments> Segments::of_sealed(MutableBytes train, std::size_t header_size,
                                            std::uint16_t segment_size) {
  const bool ipv6 = std::to_integer<unsigned>(train[0]) >> 4 == 6;
  const std::size_t ip_size = outer_header_size(ipv6 ? Family::kIpv6 : Family::kIpv4);
  Kind kind = Kind::kPlain;
  if (header_size > ip_size) kind = ipv6 ? Kind::kUdp : Kind::kUdpWithoutChecksum;
  Segments segments;
  if (!segments.begin(train, ip_size, header_size, segment_size, kind)) return std::nullopt;
  return segments;
}

bool Segments::begin(MutableBytes train, std::size_t transport, std::size_t header_size,
                     std::size_t segment_size, Kind kind) {
  if (header_size >= train.size() || header_size > kMaxHeader || segment_size == 0) return false;
  kind_ = kind;
  ipv6_ = std::to_integer<unsigned>(train[0]) >> 4 == 6;
  transport_ = transport;
  header_size_ = header_size;
  segment_size_ = segment_size;
  data_ = train.subspan(header_size);
  count_ = (data_.size() + segment_size - 1) / segment_size;
  std::memcpy(header_.data(), train.data(), header_size);

  std::byte* const ip = header_.data();
  if (ipv6_) {
    store_be16(ip + 4, 0);
  } else {
    identification_ = load_be16(ip + 4);
    store_be16(ip + 2, 0);
    store_be16(ip + 4, 0);
    store_be16(ip + 10, 0);
    ip_sum_ = checksum_add({ip, transport});
  }
  if (kind == Kind::kPlain) return true;

  std::byte* const upper = ip + transport;
  if (kind == Kind::kTcp) {
    tcp_sequence_ = load_be32(upper + kTcpSequence);
    tcp_flags_ = std::to_integer<std::uint8_t>(upper[kTcpFlags]);
    store_be32(upper + kTcpSequence, 0);
    upper[kTcpFlags] = std::byte{0};
    store_be16(upper + kTcpChecksum, 0);
  } else {
    store_be16(upper + kUdpLength, 0);
    store_be16(upper + kUdpChecksum, 0);
  }
  const Protocol protocol = kind == Kind::kTcp ? Protocol::kTcp : Protocol::kUdp;
  const Bytes addresses = ipv6_ ? Bytes(ip + 8, 32) : Bytes(ip + 12, 8);
  transport_sum_ = checksum_add({upper, header_size - transport},
                                checksum_add(addresses, static_cast<std::uint32_t>(protocol)));
  return true;
}

std::size_t Segments::sizes(std::size_t k, std::size_t end) const {
  if (k >= end) return 0;
  return (end - 1 - k) * (header_size_ + segment_size_) + size(end - 1);
}

void Segments::write_header(std::size_t k, std::byte* at) const {
  const std::size_t whole = size(k);
  const bool last = k + 1 == count_;
  const Bytes data(data_.data() + k * segment_size_, data_size(k));
  std::uint32_t sum = transport_sum_;
  const auto upper_size = static_cast<std::uint16_t>(whole - transport_);
  const bool summed = kind_ == Kind::kTcp || kind_ == Kind::kUdp;
  // The data is read before anything is written: `at` may lie over what is in front of it.
  if (summed) sum = checksum_add(data, sum);

  std::memcpy(at, header_.data(), header_size_);
  if (ipv6_) {
    store_be16(at + 4, static_cast<std::uint16_t>(whole - kIpv6HeaderSize));
  } else {
    const auto number = static_cast<std::uint16_t>(identification_ + k);
    store_be16(at + 2, static_cast<std::uint16_t>(whole));
    store_be16(at + 4, number);
    store_be16(at + 10,
               static_cast<std::uint16_t>(~checksum_fold(std::uint64_t{ip_sum_} + whole + number)));
  }

  std::byte* const upper = at + transport_;
  if (kind_ == Kind::kTcp) {
    const auto sequence = static_cast<std::uint32_t>(tcp_sequence_ + k * segment_size_);
    std::uint8_t flags = tcp_flags_;
    if (!last) flags &= static_cast<std::uint8_t>(~(kFin | kPush));
    if (k != 0) flags &= static_cast<std::uint8_t>(~kWindowReduced);
    store_be32(upper + kTcpSequence, sequence);
    upper[kTcpFlags] = std::byte{flags};
    const std::uint16_t folded = checksum_fold(std::uint64_t{sum} + upper_size + (sequence >> 16) +
                                               (sequence & 0xffff) + flags);
    store_be16(upper + kTcpChecksum, static_cast<std::uint16_t>(~folded));
  } else if (kind_ != Kind::kPlain) {
    store_be16(upper + kUdpLength, upper_size);
    if (!summed) return;
    const auto folded = checksum_fold(std::uint64_t{sum} + 2u * upper_size);
    // 0 would mean "no checksum" (RFC 768).
    store_be16(upper + kUdpChecksum,
               folded == 0xffff ? folded : static_cast<std::uint16_t>(~folded));
  }
}

}  // namespace xfrmfs::engine
