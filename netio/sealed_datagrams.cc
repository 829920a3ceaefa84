// SPDX-License-Identifier: Apache-2.0
#include "netio/sealed_datagrams.h"

#include <algorithm>
#include <cstring>

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::Family;
using engine::load_be16;
using engine::store_be16;

constexpr std::size_t kLengthAt = 2;  // IPv4
constexpr std::size_t kIdentificationAt = 4;
constexpr std::size_t kChecksumAt = 10;
constexpr std::size_t kPayloadLengthAt = 4;  // IPv6

std::uint16_t fold(std::uint32_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

std::uint16_t inverted(std::uint16_t value) {
  return static_cast<std::uint16_t>(~value);
}

}  // namespace

std::optional<TrainCut> TrainCut::of(Bytes train, std::uint16_t segment_size) {
  const auto header = engine::parse_ip_header(train);
  if (!header) return std::nullopt;
  if (segment_size != 0 && (header->protocol != engine::Protocol::kEsp || header->is_fragment)) {
    return std::nullopt;
  }
  return TrainCut(train.first(header->total_size), *header, segment_size);
}

TrainCut::TrainCut(Bytes train, const engine::IpHeader& header, std::size_t segment_size)
    : train_(train), header_(header) {
  const std::size_t data_size = header.total_size - header.header_size;
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
  return header_.header_size + std::min(segment_size_, train_.size() - header_.header_size);
}

Bytes TrainCut::data(std::size_t i) const {
  const Bytes rest = train_.subspan(header_.header_size + i * segment_size_);
  return rest.first(std::min(segment_size_, rest.size()));
}

void TrainCut::write_header(std::size_t i, std::byte* at) const {
  std::memcpy(at, train_.data(), header_.header_size);
  if (count_ == 1) return;
  const std::size_t size = header_.header_size + data(i).size();
  if (header_.family == Family::kIpv6) {
    store_be16(at + kPayloadLengthAt, static_cast<std::uint16_t>(size - engine::kIpv6HeaderSize));
    return;
  }
  const auto length = static_cast<std::uint16_t>(size);
  const auto identification = static_cast<std::uint16_t>(identification_ + i);
  store_be16(at + kLengthAt, length);
  store_be16(at + kIdentificationAt, identification);
  store_be16(at + kChecksumAt, inverted(fold(fixed_sum_ + length + identification)));
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
  header_bytes_ += cut.header().header_size;
  const Bytes data = cut.data(i);
  pieces_[count_][0] = {header, cut.header().header_size};
  pieces_[count_][1] = {const_cast<std::byte*>(data.data()), data.size()};  // only read
  ++count_;
}

}  // namespace xfrmfs::netio
