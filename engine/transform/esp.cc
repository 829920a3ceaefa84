// SPDX-License-Identifier: Apache-2.0
// A sealer that works on many packets at a time gets a run in chunks of boxes on the stack; any
// other gets packet after packet, each while its header is in the cache.

#include "engine/transform/esp.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/crypto/wide_store.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kMaxPacket = 0xffff;  // no IP datagram holds more
constexpr std::size_t kChunk = 64;

}  // namespace

std::expected<std::unique_ptr<Esp>, ControlError> Esp::create(Spi spi, bool extended,
                                                              const CryptoParams& params,
                                                              unsigned lanes,
                                                              std::optional<IvOffset> iv_offset,
                                                              const CryptoBackends& backends) {
  const auto factory = make_sealer_factory(params, backends);
  if (!factory) return std::unexpected(factory.error());
  if (!iv_offset) {
    std::array<std::byte, 8> random;
    random_bytes(random);
    iv_offset = IvOffset{load_be64(random.data())};
  }
  std::unique_ptr<Esp> esp(new Esp(spi, **factory, *iv_offset));
  const Sealer* last = nullptr;
  bool made = true;
  const auto keep = [&](std::unique_ptr<Sealer>& place, std::unique_ptr<Sealer> sealer) {
    place = std::move(sealer);
    last = place.get();
    made = made && last != nullptr;
  };
  if ((*factory)->stateless()) {
    keep(esp->shared_, (*factory)->make_sealer(extended));
  } else {
    esp->sealers_ = std::make_unique<std::unique_ptr<Sealer>[]>(std::size_t{2} * lanes);
    for (std::size_t i = 0; i < std::size_t{2} * lanes && made; i += 2) {
      keep(esp->sealers_[i], (*factory)->make_sealer(extended));
      keep(esp->sealers_[i + 1], (*factory)->make_opener(extended));
    }
  }
  if (!made) {
    return std::unexpected(
        ControlError(EINVAL, fmt::format("esp {:#010x}: the cryptographic library refuses the key",
                                         static_cast<std::uint32_t>(spi))));
  }
  if (last != nullptr) esp->prefetch_ = last->prefetcher();
  return esp;
}

std::size_t Esp::sealed_size(std::size_t payload_size) const {
  return head_size() + text_size(payload_size) + shape_.icv_size;
}

std::size_t Esp::largest_payload(std::size_t size) const {
  const std::size_t fixed = head_size() + shape_.icv_size;
  if (size < fixed + shape_.alignment) return 0;
  return (size - fixed) / shape_.alignment * shape_.alignment - kTrailerSize;
}

void Esp::seal(const Lane& lane, std::span<SealItem> run) noexcept {
  if (interleaves_) return seal_together(lane, run);
  Sealer& sealer = this->sealer(lane);
  for (SealItem& item : run) {
    Box box;
    item.ok = false;
    if (!frame(lane, item, box)) continue;
    sealer.seal({&box, 1}, lane.crypto);
    finish(box, item);
  }
}

void Esp::seal_together(const Lane& lane, std::span<SealItem> run) const noexcept {
  std::array<Box, kChunk> boxes;
  std::array<SealItem*, kChunk> items;
  while (!run.empty()) {
    const auto chunk = run.first(std::min(run.size(), kChunk));
    run = run.subspan(chunk.size());
    std::size_t used = 0;
    for (SealItem& item : chunk) {
      item.ok = false;
      if (frame(lane, item, boxes[used])) items[used++] = &item;
    }
    sealer(lane).seal({boxes.data(), used}, lane.crypto);
    for (std::size_t i = 0; i < used; ++i) finish(boxes[i], *items[i]);
  }
}

/// Header, IV, padding and trailer around the payload: RFC 4303 §2. All sizes come first; a packet
/// that does not fit its room is left untouched (CVE-2022-27666).
[[gnu::always_inline]] inline bool Esp::frame(const Lane& lane, const SealItem& item,
                                              Box& box) const {
  if (item.size > kMaxPacket) return false;
  const std::size_t text = text_size(item.size);
  if (head_size() + text + shape_.icv_size > item.room) return false;

  box = {.packet = item.packet,
         .text_size = static_cast<std::uint32_t>(text),
         .sequence = item.sequence,
         .source = item.payload == item.packet + head_size() ? nullptr : item.payload};
  write_trailer(text - item.size - kTrailerSize, item.next_header, item.payload + item.size);
  write_head(lane, item.sequence, box.packet);
  return true;
}

/// Mostly by one store, which may reach into the place of the ICV, or of the tail that may be
/// written.
[[gnu::always_inline]] inline void Esp::write_trailer(std::size_t pad, Protocol next_header,
                                                      std::byte* at) const {
  constexpr std::uint64_t kPadding = 0x0807060504030201;
  const std::uint64_t end = pad | std::uint64_t{static_cast<std::uint8_t>(next_header)} << 8;
  if (pad + kTrailerSize <= sizeof kPadding && shape_.icv_size >= sizeof kPadding - kTrailerSize) {
    const std::uint64_t trailer = (kPadding & ((std::uint64_t{1} << 8 * pad) - 1)) | end << 8 * pad;
    std::memcpy(at, &trailer, sizeof trailer);
    return;
  }
  for (std::size_t i = 1; i <= pad; ++i) *at++ = static_cast<std::byte>(i);
  std::memcpy(at, &end, kTrailerSize);
}

[[gnu::always_inline]] inline void Esp::write_head(const Lane& lane, SeqNo sequence,
                                                   std::byte* packet) const {
  const std::uint64_t header =
      std::uint64_t{static_cast<std::uint32_t>(spi_)} << 32 | static_cast<std::uint32_t>(sequence);
  switch (shape_.iv_rule) {
    case IvRule::kNone:
      store_be64(packet, header);
      break;
    case IvRule::kUnique:
      store_wide(packet, __builtin_bswap64(header), __builtin_bswap64(sequence ^ iv_offset_));
      break;
    case IvRule::kUnpredictable:
      store_be64(packet, header);
      lane.ivs->fill({packet + kEspHeaderSize, shape_.iv_size});
      break;
  }
}

inline void Esp::finish(const Box& box, SealItem& item) const {
  if (box.result != BoxResult::kDone) return;
  item.size = head_size() + box.text_size + shape_.icv_size;
  item.ok = true;
}

void Esp::open(const Lane& lane, std::span<OpenItem> run) noexcept {
  if (interleaves_) return open_together(lane, run);
  Sealer& opener = this->opener(lane);
  for (OpenItem& item : run) {
    Box box;
    item.result = OpenResult::kMalformed;
    if (!unframe(item, box)) continue;
    opener.open({&box, 1}, lane.crypto);
    judge(box, item);
  }
}

void Esp::open_together(const Lane& lane, std::span<OpenItem> run) const noexcept {
  std::array<Box, kChunk> boxes;
  std::array<OpenItem*, kChunk> items;
  while (!run.empty()) {
    const auto chunk = run.first(std::min(run.size(), kChunk));
    run = run.subspan(chunk.size());
    std::size_t used = 0;
    for (OpenItem& item : chunk) {
      item.result = OpenResult::kMalformed;
      if (unframe(item, boxes[used])) items[used++] = &item;
    }
    opener(lane).open({boxes.data(), used}, lane.crypto);
    for (std::size_t i = 0; i < used; ++i) judge(boxes[i], *items[i]);
  }
}

inline bool Esp::unframe(const OpenItem& item, Box& box) const {
  const std::size_t fixed = head_size() + shape_.icv_size;
  if (item.size < fixed || item.size > kMaxPacket) return false;
  box = {.packet = item.data,
         .text_size = static_cast<std::uint32_t>(item.size - fixed),
         .sequence = item.sequence};
  return true;
}

/// What the trailer says, after it was authenticated: its sender may be hostile all the same
/// (RFC 4303 §3.4.4.1). An empty payload is refused and so is a dummy packet, as Linux does; what
/// the padding holds is not looked at.
inline void Esp::judge(const Box& box, OpenItem& item) const {
  if (box.result == BoxResult::kIcvWrong) item.result = OpenResult::kIntegrityFailed;
  if (box.result != BoxResult::kDone || box.text_size < kTrailerSize) return;
  std::byte* const payload = box.packet + head_size();
  const std::size_t pad = std::to_integer<std::size_t>(payload[box.text_size - 2]);
  const Protocol next_header{std::to_integer<std::uint8_t>(payload[box.text_size - 1])};
  if (pad + kTrailerSize >= box.text_size || next_header == Protocol::kNoNext) return;
  item.data = payload;
  item.size = box.text_size - kTrailerSize - pad;
  item.next_header = next_header;
  item.result = OpenResult::kOpened;
}

}  // namespace xfrmfs::engine
