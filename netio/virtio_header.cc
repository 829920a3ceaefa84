// SPDX-License-Identifier: Apache-2.0
#include "netio/virtio_header.h"

#include <cstddef>
#include <optional>
#include <utility>

#include "engine/packet/checksum.h"
#include "engine/packet/ip_header.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::ClearPacket;
using engine::ClearTrain;
using engine::Cut;
using engine::kTcpChecksum;
using engine::kTcpDataOffset;
using engine::kTcpHeaderSize;
using engine::kUdpChecksum;
using engine::kUdpHeaderSize;
using engine::MutableBytes;
using engine::PacketBytes;

/// NEEDS_CSUM: the field holds the sum of the pseudo header, what it covers comes
/// behind `start`. Nothing happens if the field is not in the packet.
void complete_checksum(MutableBytes packet, std::size_t start, std::size_t offset) {
  if (start + offset + sizeof(std::uint16_t) > packet.size()) return;
  const MutableBytes covered = packet.subspan(start);
  const auto sum = static_cast<std::uint16_t>(~engine::checksum_add(covered));
  constexpr std::uint16_t kZero = 0xffff;  // in UDP 0 means that there is none
  engine::store_be16(&covered[offset], sum == 0 ? kZero : sum);
}

struct Kind {
  Cut cut;
  unsigned ip_version;  // 0: any
  std::size_t checksum_offset;
};

std::optional<Kind> kind_of(std::uint8_t gso_type) {
  switch (gso_type & ~VirtioHeader::kEcn) {
    case VirtioHeader::kTcp4:
      return Kind{Cut::kTcp, 4, kTcpChecksum};
    case VirtioHeader::kTcp6:
      return Kind{Cut::kTcp, 6, kTcpChecksum};
    case VirtioHeader::kUdp:
      return Kind{Cut::kUdp, 0, kUdpChecksum};
    default:
      return std::nullopt;
  }
}

/// IP and transport header together; nothing if they are not in the packet.
std::optional<std::size_t> headers_of(Bytes packet, Cut cut, std::size_t transport_offset) {
  if (cut == Cut::kUdp) {
    const std::size_t size = transport_offset + kUdpHeaderSize;
    return size <= packet.size() ? std::optional(size) : std::nullopt;
  }
  if (transport_offset + kTcpHeaderSize > packet.size()) return std::nullopt;
  const auto words = std::to_integer<std::size_t>(packet[transport_offset + kTcpDataOffset] >> 4);
  const std::size_t tcp_size = words * 4;
  if (tcp_size < kTcpHeaderSize || transport_offset + tcp_size > packet.size()) return std::nullopt;
  return transport_offset + tcp_size;
}

}  // namespace

ClearPacket read_train(const VirtioHeader& header, PacketBytes bytes) {
  const MutableBytes packet = bytes.bytes();
  const bool partial = (header.flags & VirtioHeader::kPartialChecksum) != 0;
  const std::size_t start = header.checksum_start;
  if (header.gso_type != VirtioHeader::kNone) {
    const auto kind = kind_of(header.gso_type);
    const bool plausible =
        kind && partial && header.segment_size != 0 &&
        header.checksum_offset == kind->checksum_offset && !packet.empty() &&
        (kind->ip_version == 0 || kind->ip_version == std::to_integer<unsigned>(packet[0] >> 4));
    if (!plausible) return ClearPacket(std::move(bytes));
    const auto headers = headers_of(packet, kind->cut, start);
    if (!headers) return ClearPacket(std::move(bytes));
    if (packet.size() - *headers > header.segment_size) {
      return ClearPacket(std::move(bytes), kind->cut, header.segment_size);
    }  // else there is one segment
  }
  if (partial) complete_checksum(packet, start, header.checksum_offset);
  return ClearPacket(std::move(bytes));
}

VirtioHeader header_for(const ClearTrain& train) {
  VirtioHeader header{};
  if (train.cut == Cut::kWhole) return header;
  header.flags = VirtioHeader::kPartialChecksum;
  header.checksum_start = train.transport_offset;
  header.header_size = train.header_size;
  header.segment_size = train.segment_size;
  if (train.cut == Cut::kUdp) {
    header.checksum_offset = kUdpChecksum;
    header.gso_type = VirtioHeader::kUdp;
    return header;
  }
  header.checksum_offset = kTcpChecksum;
  header.gso_type = train.ipv6 ? VirtioHeader::kTcp6 : VirtioHeader::kTcp4;
  return header;
}

}  // namespace xfrmfs::netio
