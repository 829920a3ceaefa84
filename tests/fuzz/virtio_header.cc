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
  // Neighbours that must stay as they are: writes are of two bytes at offsets that are checked.
  constexpr std::size_t kMargin = 64;
  constexpr std::byte kUntouched{0xa5};
  std::byte* const begin = buffer.data() + engine::kHeadroom;
  std::byte* const end = begin + original.size();
  std::fill(begin - kMargin, end + kMargin, kUntouched);
  std::ranges::copy(original, begin);
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
  require(std::count(begin - kMargin, begin, kUntouched) == kMargin);
  require(std::count(end, end + kMargin, kUntouched) == kMargin);
  return 0;
}
