// SPDX-License-Identifier: Apache-2.0
// What does the header in front of a packet of a TUN device say? (struct virtio_net_hdr: virtio 1.2
// §5.1.6; its use at a TUN device: Linux, Documentation/networking/tuntap, <linux/if_tun.h>)
//
// It describes what segmentation offload has left undone: checksums, and cutting. Pure functions.

#pragma once

#include <cstdint>

#include "engine/packet/packet.h"

namespace xfrmfs::netio {

/// struct virtio_net_hdr, whose own header file is not C++. In the machine's byte order, which is
/// what a TUN device speaks unless told otherwise.
struct VirtioHeader {
  static constexpr std::uint8_t kPartialChecksum = 1;  // of `flags`: NEEDS_CSUM

  /// Values of `gso_type`.
  enum Gso : std::uint8_t { kNone = 0, kTcp4 = 1, kTcp6 = 4, kUdp = 5 };
  static constexpr std::uint8_t kEcn = 0x80;  // with TCP: CWR, in the first segment only

  std::uint8_t flags;
  std::uint8_t gso_type;
  std::uint16_t header_size;  // IP and transport; only a hint
  std::uint16_t segment_size;
  std::uint16_t checksum_start;   // from here on the checksum covers the packet
  std::uint16_t checksum_offset;  // of its field, from there
};
static_assert(sizeof(VirtioHeader) == 10);

/// The packet behind `header`, as the engine wants it: trains of two segments or more, whose
/// fields are where `header` says; single packets with their checksum completed. What makes no
/// sense becomes a single packet as it is, for the engine to judge.
engine::ClearPacket read_train(const VirtioHeader& header, engine::PacketBytes bytes);

/// The header in front of `train`.
VirtioHeader header_for(const engine::ClearTrain& train);

}  // namespace xfrmfs::netio
