// SPDX-License-Identifier: Apache-2.0
// Both ways go through the lane's own memory: a payload that does not shrink is still there, and
// one that grows may overwrite the packet it came from.

#include "engine/transform/ipcomp.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

std::expected<std::unique_ptr<Ipcomp>, ControlError> Ipcomp::create(
    Spi cpi, std::shared_ptr<DeflateLanes> lanes) {
  const auto number = static_cast<std::uint32_t>(cpi);
  if (number > 0xffff) {
    return std::unexpected(
        ControlError(EINVAL, fmt::format("ipcomp {:#010x}: a CPI has 16 bits", number)));
  }
  return std::unique_ptr<Ipcomp>(new Ipcomp(static_cast<std::uint16_t>(number), std::move(lanes)));
}

void Ipcomp::seal(const Lane& lane, std::span<SealItem> run) noexcept {
  DeflateLanes::Outbound& own = lanes_->outbound(lane.index);
  for (SealItem& item : run) item.ok = seal_one(own, item);
}

void Ipcomp::open(const Lane& lane, std::span<OpenItem> run) noexcept {
  DeflateLanes::Inbound& own = lanes_->inbound(lane.index);
  for (OpenItem& item : run) item.result = open_one(own, item);
}

bool Ipcomp::seal_one(DeflateLanes::Outbound& lane, SealItem& item) const {
  if (item.size > kLongestClearText || item.size > item.room) return false;
  if (item.size >= kIpcompThreshold) {
    // The text leaves a byte of this memory free, so that the packet is smaller than the payload.
    const MutableBytes text(lane.text.get(), item.size - kIpcompHeaderSize);
    if (const auto size = lane.deflater.deflate({item.payload, item.size}, text)) {
      item.packet[0] = static_cast<std::byte>(item.next_header);
      item.packet[1] = std::byte{0};
      store_be16(item.packet + 2, cpi_);
      std::memcpy(item.packet + kIpcompHeaderSize, text.data(), *size);
      item.size = kIpcompHeaderSize + *size;
      item.bare = false;
      return true;
    }
  }
  if (item.size != 0) std::memmove(item.packet, item.payload, item.size);
  item.bare = true;
  return true;
}

/// The text has no more than its bounds: small packets become large ones at the sender's will. Like
/// Linux, refuses what no sender should have compressed because it did not become smaller.
OpenResult Ipcomp::open_one(DeflateLanes::Inbound& lane, OpenItem& item) {
  if (item.size < kIpcompHeaderSize) return OpenResult::kMalformed;
  const MutableBytes text(lane.text.get(), std::min(item.room, kLongestClearText));
  const auto size =
      lane.inflater.inflate(Bytes(item.data, item.size).subspan(kIpcompHeaderSize), text);
  if (!size || *size < item.size) return OpenResult::kMalformed;
  item.next_header = Protocol{std::to_integer<std::uint8_t>(item.data[0])};
  std::memcpy(item.place, text.data(), *size);
  item.data = item.place;
  item.size = *size;
  return OpenResult::kOpened;
}

}  // namespace xfrmfs::engine
