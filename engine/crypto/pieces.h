// SPDX-License-Identifier: Apache-2.0
// Pieces: the clear text of a box to be sealed, in the order in which to cipher it.
//
// A segment of a train has its headers and its padding in the box and its data elsewhere. Where
// they meet, the bytes of the shared cipher block are copied, so that each piece but the last is
// whole blocks and the library need not keep half a block back. At most 2 * 15 bytes move.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/crypto/sealer.h"

namespace xfrmfs::engine {

struct Piece {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::uint32_t size = 0;
};

/// `text` is the place of the box's text. Pieces may be empty.
inline std::array<Piece, 3> pieces_of(const Box& box, std::byte* text) {
  constexpr std::uint32_t kBlock = 16;
  if (box.source == nullptr || box.source_size == 0) return {{{text, text, box.text_size}}};
  const std::uint32_t begin = box.source_offset;
  const std::uint32_t end = begin + box.source_size;
  const std::uint32_t first_whole = (begin + kBlock - 1) / kBlock * kBlock;
  const std::uint32_t last_whole = end / kBlock * kBlock;
  if (first_whole >= last_whole) {
    std::memcpy(text + begin, box.source, box.source_size);
    return {{{text, text, box.text_size}}};
  }
  const std::byte* const middle = box.source + (first_whole - begin);
  std::memcpy(text + begin, box.source, first_whole - begin);
  std::memcpy(text + last_whole, box.source + (last_whole - begin), end - last_whole);
  return {{{text, text, first_whole},
           {middle, text + first_whole, last_whole - first_whole},
           {text + last_whole, text + last_whole, box.text_size - last_whole}}};
}

}  // namespace xfrmfs::engine
