// SPDX-License-Identifier: Apache-2.0
// Appending numbers and columns to a text that grows: exact, and quick enough for long listings.

#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>

namespace xfrmfs::fs {

/// Decimal, with a minus sign if negative.
template <std::integral T>
void append_decimal(std::string& out, T value) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

/// Lower-case hexadecimal without leading zeros or "0x".
inline void append_hex(std::string& out, std::uint64_t value) {
  char digits[16];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value, 16).ptr);
}

/// Blanks, until what was appended since `start` fills `width`; none if it is wider.
inline void pad_from(std::string& out, std::size_t start, std::size_t width) {
  const std::size_t used = out.size() - start;
  if (used < width) out.append(width - used, ' ');
}

}  // namespace xfrmfs::fs
