// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sinks.h"

#include <algorithm>
#include <stdexcept>

#include "engine/base/bytes.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

constexpr std::size_t kUdpHeader = 8;

unsigned octet(const PacketData& packet, std::size_t at) {
  return std::to_integer<unsigned>(packet.at(at));
}

/// RFC 1071, a word at a time.
std::uint32_t word_sum(Bytes bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto value = std::to_integer<std::uint32_t>(bytes[i]);
    sum += i % 2 == 0 ? value << 8 : value;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

std::uint16_t complement(std::uint32_t sum) {
  return static_cast<std::uint16_t>(~((sum & 0xffff) + (sum >> 16)));
}

/// Length and header checksum of the IP header in front, `number` added to the identification.
void finish_ip(PacketData& packet, bool ipv6, std::size_t number) {
  if (ipv6) {
    store_be16(&packet[4], static_cast<std::uint16_t>(packet.size() - 40));
    return;
  }
  store_be16(&packet[2], static_cast<std::uint16_t>(packet.size()));
  store_be16(&packet[4], static_cast<std::uint16_t>(load_be16(&packet[4]) + number));
  store_be16(&packet[10], 0);
  const std::size_t size = (octet(packet, 0) & 15) * 4;
  store_be16(&packet[10], complement(word_sum(Bytes(packet).first(size))));
}

std::size_t ip_header_size(const PacketData& packet) {
  return octet(packet, 0) >> 4 == 6 ? 40 : (octet(packet, 0) & 15) * 4;
}

/// Of a TCP or UDP packet whose checksum field is 0.
std::uint16_t transport_checksum(const PacketData& packet, std::size_t at) {
  const bool ipv6 = octet(packet, 0) >> 4 == 6;
  const Bytes all(packet);
  const Bytes addresses = ipv6 ? all.subspan(8, 32) : all.subspan(12, 8);
  std::uint32_t sum = word_sum(addresses) + octet(packet, ipv6 ? 6 : 9) +
                      static_cast<std::uint32_t>(packet.size() - at);
  sum = (sum & 0xffff) + (sum >> 16);
  return complement(sum + word_sum(all.subspan(at)));
}

}  // namespace

void fill_checksum(PacketData& packet) {
  const std::size_t at = ip_header_size(packet);
  const bool tcp = octet(packet, octet(packet, 0) >> 4 == 6 ? 6 : 9) == 6;
  const std::size_t checksum_at = at + (tcp ? 16 : 6);
  store_be16(&packet[checksum_at], 0);
  const std::uint16_t checksum = transport_checksum(packet, at);
  store_be16(&packet[checksum_at], !tcp && checksum == 0 ? 0xffff : checksum);
}

std::vector<PacketData> split(const SealedPacket& train) {
  const Bytes bytes = train.bytes();
  PacketData whole(bytes.begin(), bytes.end());
  if (train.segment_size() == 0) return {whole};
  const bool ipv6 = octet(whole, 0) >> 4 == 6;
  const std::size_t ip_size = ip_header_size(whole);
  const bool udp = octet(whole, ipv6 ? 6 : 9) == 17;
  const std::size_t head = ip_size + (udp ? kUdpHeader : 0);
  std::vector<PacketData> packets;
  for (std::size_t at = head; at < whole.size(); at += train.segment_size()) {
    const std::size_t size = std::min<std::size_t>(train.segment_size(), whole.size() - at);
    PacketData packet(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(head));
    packet.insert(packet.end(), whole.begin() + static_cast<std::ptrdiff_t>(at),
                  whole.begin() + static_cast<std::ptrdiff_t>(at + size));
    finish_ip(packet, ipv6, packets.size());
    if (udp) {
      store_be16(&packet[ip_size + 4], static_cast<std::uint16_t>(kUdpHeader + size));
    }
    packets.push_back(std::move(packet));
  }
  return packets;
}

std::vector<PacketData> split(const ClearTrain& train) {
  const Bytes first = train.pieces.front();
  if (train.cut == Cut::kWhole) {
    if (train.pieces.size() != 1) throw std::logic_error("a single packet in pieces");
    return {PacketData(first.begin(), first.end())};
  }
  const bool tcp = train.cut == Cut::kTcp;
  const PacketData head(first.begin(), first.begin() + train.header_size);
  std::vector<PacketData> packets;
  std::uint32_t sequence = tcp ? load_be32(&head[train.transport_offset + 4u]) : 0;
  for (std::size_t i = 0; i < train.pieces.size(); ++i) {
    const Bytes data = i == 0 ? first.subspan(train.header_size) : train.pieces[i];
    const bool last = i + 1 == train.pieces.size();
    if (data.size() > train.segment_size || (!last && data.size() != train.segment_size)) {
      throw std::logic_error("a segment of another size");
    }
    PacketData packet = head;
    packet.insert(packet.end(), data.begin(), data.end());
    finish_ip(packet, train.ipv6, i);
    const std::size_t at = train.transport_offset;
    if (tcp) {
      store_be32(&packet[at + 4], sequence);
      sequence += static_cast<std::uint32_t>(data.size());
      if (!last) packet[at + 13] &= ~std::byte{0x09};  // FIN and PSH: the last only
    } else {
      store_be16(&packet[at + 4], static_cast<std::uint16_t>(packet.size() - at));
    }
    fill_checksum(packet);
    packets.push_back(std::move(packet));
  }
  return packets;
}

}  // namespace xfrmfs::testing
