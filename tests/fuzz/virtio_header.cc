// SPDX-License-Identifier: Apache-2.0
// Any header in front of any packet from a TUN device: a train only if it has two segments, and
// nothing but the checksum is written.
#include "netio/virtio_header.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace xfrmfs;
  using engine::Cut;
  using testing::require;

  netio::VirtioHeader header;
  if (size < sizeof header || size - sizeof header > engine::kMaxTrain) return 0;
  std::memcpy(&header, data, sizeof header);
  const auto original = std::as_bytes(std::span(data, size)).subspan(sizeof header);

  engine::PacketPool pool(1);
  engine::Buffer buffer = pool.take();
  std::byte* const before = buffer.data();
  std::fill_n(before, engine::kBufferSize, std::byte{0xa5});
  std::ranges::copy(original, before + engine::kHeadroom);
  const engine::ClearPacket packet = netio::read_train(
      header, engine::PacketBytes(std::move(buffer), engine::kHeadroom, original.size()));

  require(packet.size() == original.size() && packet.headroom() == engine::kHeadroom);
  std::vector<std::byte> expected(original.begin(), original.end());
  if (packet.cut() == Cut::kWhole) {
    const std::size_t checksum = std::size_t{header.checksum_start} + header.checksum_offset;
    if ((header.flags & netio::VirtioHeader::kPartialChecksum) != 0 &&
        checksum + 2 <= expected.size()) {
      std::memcpy(&expected[checksum], packet.data() + checksum, 2);
    }
  } else {
    require(packet.segment_size() != 0 && packet.segment_size() == header.segment_size);
    const std::size_t least = packet.cut() == Cut::kTcp ? 20 : 8;
    require(header.checksum_start + least + packet.segment_size() < packet.size());
  }
  require(std::ranges::equal(packet.bytes(), expected));
  require(std::ranges::all_of(std::span(before, engine::kHeadroom),
                              [](std::byte b) { return b == std::byte{0xa5}; }));
  require(std::all_of(before + engine::kHeadroom + packet.size(), before + engine::kBufferSize,
                      [](std::byte b) { return b == std::byte{0xa5}; }));
  return 0;
}
