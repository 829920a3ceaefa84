// SPDX-License-Identifier: Apache-2.0
#include "netio/sealed_datagrams.h"

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/packet/checksum.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::Family;
using engine::kUdpHeaderSize;
using engine::load_be16;
using engine::store_be16;

constexpr std::size_t kLengthAt = 2;  // IPv4
constexpr std::size_t kIdentificationAt = 4;
constexpr std::size_t kChecksumAt = 10;
constexpr std::size_t kAddressesAt = 8;  // IPv6
constexpr std::size_t kUdpLengthAt = 4;
constexpr std::size_t kUdpChecksumAt = 6;
constexpr std::size_t kPayloadLengthAt = 4;  // IPv6

std::uint16_t inverted(std::uint16_t value) {
  return static_cast<std::uint16_t>(~value);
}

}  // namespace

std::optional<TrainCut> TrainCut::of(Bytes train, std::uint16_t segment_size) {
  const auto header = engine::parse_ip_header(train);
  if (!header) return std::nullopt;
  const bool udp = header->protocol == engine::Protocol::kUdp && !header->is_fragment &&
                   header->total_size > header->header_size + kUdpHeaderSize;
  const bool esp = header->protocol == engine::Protocol::kEsp && !header->is_fragment;
  if (segment_size != 0 && !udp && !esp) return std::nullopt;
  return TrainCut(train.first(header->total_size), *header, udp, segment_size);
}

TrainCut::TrainCut(Bytes train, const engine::IpHeader& header, bool udp, std::size_t segment_size)
    : train_(train),
      header_(header),
      udp_(udp),
      head_size_(header.header_size + (udp ? kUdpHeaderSize : 0)) {
  const std::size_t data_size = header.total_size - head_size_;
  segment_size_ = segment_size == 0 ? data_size : segment_size;
  count_ = data_size <= segment_size_ ? 1 : (data_size + segment_size_ - 1) / segment_size_;
  if (header.family == Family::kIpv4 && count_ > 1) {
    // RFC 1624, eqn. 3: taking a word out is adding its inverse.
    identification_ = load_be16(&train[kIdentificationAt]);
    fixed_sum_ = std::uint32_t{inverted(load_be16(&train[kChecksumAt]))} +
                 inverted(load_be16(&train[kLengthAt])) + inverted(identification_);
  }
}

std::size_t TrainCut::largest() const {
  return head_size_ + std::min(segment_size_, train_.size() - head_size_);
}

Bytes TrainCut::data(std::size_t i) const {
  const Bytes rest = train_.subspan(head_size_ + i * segment_size_);
  return rest.first(std::min(segment_size_, rest.size()));
}

void TrainCut::write_header(std::size_t i, std::byte* at) const {
  std::memcpy(at, train_.data(), head_size_);
  const Bytes rest = data(i);
  const std::size_t size = head_size_ + rest.size();
  if (count_ > 1 && header_.family == Family::kIpv6) {
    store_be16(at + kPayloadLengthAt, static_cast<std::uint16_t>(size - engine::kIpv6HeaderSize));
  } else if (count_ > 1) {
    const auto length = static_cast<std::uint16_t>(size);
    const auto identification = static_cast<std::uint16_t>(identification_ + i);
    store_be16(at + kLengthAt, length);
    store_be16(at + kIdentificationAt, identification);
    store_be16(at + kChecksumAt, inverted(engine::checksum_fold(std::uint64_t{fixed_sum_} + length +
                                                                identification)));
  }
  if (udp_) write_udp(rest, at);
}

/// Over IPv4 the checksum stays 0 (RFC 3948 §2.1), over IPv6 there must be one (RFC 8200 §8.1).
void TrainCut::write_udp(Bytes data, std::byte* at) const {
  std::byte* const udp = at + header_.header_size;
  const auto length = static_cast<std::uint16_t>(kUdpHeaderSize + data.size());
  store_be16(udp + kUdpLengthAt, length);
  if (header_.family == Family::kIpv4) return;
  store_be16(udp + kUdpChecksumAt, 0);
  std::uint32_t sum = std::uint32_t{length} + static_cast<std::uint32_t>(engine::Protocol::kUdp);
  sum = engine::checksum_add({at + kAddressesAt, 32}, sum);
  sum = engine::checksum_add({udp, kUdpHeaderSize}, sum);
  const std::uint16_t whole = engine::checksum_add(data, sum);
  store_be16(udp + kUdpChecksumAt, whole == 0xffff ? whole : inverted(whole));
}

DatagramQueue::DatagramQueue() {
  for (std::size_t i = 0; i < kMost; ++i) {
    msghdr& head = heads_[i].msg_hdr;
    head.msg_name = names_[i].bytes.data();
    head.msg_iov = pieces_[i].data();
    head.msg_iovlen = pieces_[i].size();
  }
}

void DatagramQueue::add(Bytes to, const TrainCut& cut, std::size_t i) {
  std::memcpy(names_[count_].bytes.data(), to.data(), to.size());
  heads_[count_].msg_hdr.msg_namelen = static_cast<socklen_t>(to.size());

  std::byte* const header = headers_.data() + header_bytes_;
  cut.write_header(i, header);
  header_bytes_ += cut.head_size();
  const Bytes data = cut.data(i);
  pieces_[count_][0] = {header, cut.head_size()};
  pieces_[count_][1] = {const_cast<std::byte*>(data.data()), data.size()};  // only read
  ++count_;
}

}  // namespace xfrmfs::netio
