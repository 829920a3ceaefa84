// SPDX-License-Identifier: Apache-2.0
#include "engine/packet/segments.h"

#include <cstring>

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

/// A word that is in the order of memory already.
template <class Word>
void store(std::byte* at, Word word) {
  std::memcpy(at, &word, sizeof word);
}

std::uint16_t inverted(std::uint64_t words) {
  return static_cast<std::uint16_t>(~checksum_fold(words));
}

/// For sizes from kPiece to twice that.
template <std::size_t kPiece>
void copy_in_two(std::byte* to, const std::byte* from, std::size_t size) {
  std::array<std::byte, kPiece> front;
  std::array<std::byte, kPiece> back;
  std::memcpy(front.data(), from, kPiece);
  std::memcpy(back.data(), from + size - kPiece, kPiece);
  std::memcpy(to, front.data(), kPiece);
  std::memcpy(to + size - kPiece, back.data(), kPiece);
}

}  // namespace

std::optional<Segments> Segments::of(ClearPacket& train, const IpHeader& header) {
  const Bytes upper =
      std::as_const(train).bytes().first(header.total_size).subspan(header.header_size);
  if (header.is_fragment) return std::nullopt;
  Kind kind = Kind::kUdp;
  std::size_t transport_size = kUdpHeaderSize;
  if (train.cut() == Cut::kTcp) {
    if (header.protocol != Protocol::kTcp || upper.size() < kTcpHeaderSize) return std::nullopt;
    transport_size = (std::to_integer<std::size_t>(upper[kTcpDataOffset]) >> 4) * 4;
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

std::optional<Segments> Segments::of_sealed(MutableBytes train, std::size_t ip_size,
                                            std::size_t header_size, std::uint16_t segment_size) {
  const bool ipv6 = std::to_integer<unsigned>(train[0]) >> 4 == 6;
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
  last_size_ = data_.size() - (count_ - 1) * segment_size;
  std::memcpy(header_.data(), train.data(), header_size);

  const std::size_t whole = header_size + segment_size;
  const auto upper_size = static_cast<std::uint16_t>(whole - transport);
  std::byte* const ip = header_.data();
  if (ipv6_) {
    store_be16(ip + 4, static_cast<std::uint16_t>(whole - kIpv6HeaderSize));
  } else {
    identification_ = load_be16(ip + 4);
    store_be16(ip + 2, static_cast<std::uint16_t>(whole));
    store_be16(ip + 4, 0);
    store_be16(ip + 10, 0);
    ip_sum_ = checksum_words({ip, transport});
  }
  if (kind == Kind::kPlain) return true;

  std::byte* const upper = ip + transport;
  if (kind == Kind::kTcp) {
    tcp_sequence_ = load_be32(upper + kTcpSequence);
    tcp_flags_ = std::to_integer<std::uint8_t>(upper[kTcpFlags]);
    upper[kTcpFlags] = std::byte{flags_of(false, false)};
    store_be32(upper + kTcpSequence, 0);
    store_be16(upper + kTcpChecksum, 0);
  } else {
    store_be16(upper + kUdpLength, upper_size);
    store_be16(upper + kUdpChecksum, 0);
  }
  const Protocol protocol = kind == Kind::kTcp ? Protocol::kTcp : Protocol::kUdp;
  const Bytes addresses = ipv6_ ? Bytes(ip + 8, 32) : Bytes(ip + 12, 8);
  transport_sum_ = checksum_words({upper, header_size - transport}) + checksum_words(addresses) +
                   to_be16(static_cast<std::uint16_t>(protocol)) + to_be16(upper_size);
  return true;
}

std::uint8_t Segments::flags_of(bool first, bool last) const {
  unsigned flags = tcp_flags_;
  if (!last) flags &= ~unsigned{kTcpFin | kTcpPush};
  if (!first) flags &= ~unsigned{kTcpCwr};
  return static_cast<std::uint8_t>(flags);
}

std::size_t Segments::sizes(std::size_t k, std::size_t end) const {
  if (k >= end) return 0;
  return (end - 1 - k) * (header_size_ + segment_size_) + size(end - 1);
}

std::uint64_t Segments::data_sum(std::size_t k) const {
  if (kind_ != Kind::kTcp && kind_ != Kind::kUdp) return 0;
  return checksum_words({data(k), data_size(k)});
}

std::uint16_t Segments::copy_front(std::size_t k, std::size_t size, std::byte* at) const {
  std::memcpy(at, header_.data(), size);
  if (ipv6_) return 0;
  const auto number = static_cast<std::uint16_t>(identification_ + k);
  store_be16(at + 4, number);
  return number;
}

void Segments::write_header(std::size_t k, std::uint64_t sum, std::byte* at) const {
  // Pieces that overlap take less than a loop over a length.
  if (header_size_ > 64) {
    copy_in_two<64>(at, header_.data(), header_size_);
  } else if (header_size_ > 32) {
    copy_in_two<32>(at, header_.data(), header_size_);
  } else {
    copy_in_two<16>(at, header_.data(), header_size_);
  }
  std::uint64_t ip_sum = ip_sum_;
  sum += transport_sum_;
  if (k == 0 || k + 1 == count_) adapt(k, at, ip_sum, sum);
  if (!ipv6_) {
    const std::uint16_t number = to_be16(static_cast<std::uint16_t>(identification_ + k));
    store(at + 4, number);
    store(at + 10, inverted(ip_sum + number));
  }
  std::byte* const upper = at + transport_;
  if (kind_ == Kind::kTcp) {
    const std::uint32_t sequence =
        to_be32(static_cast<std::uint32_t>(tcp_sequence_ + k * segment_size_));
    store(upper + kTcpSequence, sequence);
    store(upper + kTcpChecksum, inverted(sum + sequence));
  } else if (kind_ == Kind::kUdp) {
    const std::uint16_t checksum = inverted(sum);
    // 0 would mean "no checksum" (RFC 768).
    store(upper + kUdpChecksum, checksum == 0 ? std::uint16_t{0xffff} : checksum);
  }
}

/// What the first and the last have of their own: flags, and the length of a shorter one.
void Segments::adapt(std::size_t k, std::byte* at, std::uint64_t& ip_sum,
                     std::uint64_t& transport_sum) const {
  const auto replace = [](std::byte* place, std::uint16_t word) -> std::uint64_t {
    std::uint16_t before;
    std::memcpy(&before, place, sizeof before);
    store(place, word);
    return std::uint64_t{word} + static_cast<std::uint16_t>(~before);
  };
  const bool last = k + 1 == count_;
  std::byte* const upper = at + transport_;
  const auto upper_size = static_cast<std::uint16_t>(size(k) - transport_);
  const auto full = static_cast<std::uint16_t>(header_size_ + segment_size_ - transport_);
  if (ipv6_) {
    store_be16(at + 4, static_cast<std::uint16_t>(size(k) - kIpv6HeaderSize));
  } else {
    ip_sum += replace(at + 2, to_be16(static_cast<std::uint16_t>(size(k))));
  }
  if (kind_ == Kind::kPlain) return;
  transport_sum += std::uint64_t{to_be16(upper_size)} + to_be16(static_cast<std::uint16_t>(~full));
  if (kind_ == Kind::kTcp) {
    const auto offset = static_cast<std::uint16_t>(load_be16(upper + kTcpFlags - 1) & 0xff00);
    transport_sum += replace(upper + kTcpFlags - 1,
                             to_be16(static_cast<std::uint16_t>(offset | flags_of(k == 0, last))));
  } else {
    transport_sum += replace(upper + kUdpLength, to_be16(upper_size));
  }
}

}  // namespace xfrmfs::engine
