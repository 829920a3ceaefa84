// SPDX-License-Identifier: Apache-2.0
#include "tests/support/hex.h"

#include <stdexcept>

namespace xfrmfs::testing {

std::vector<std::byte> from_hex(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::vector<std::byte> bytes;
  unsigned value = 0;
  bool half = false;
  for (const char c : text) {
    if (c == ' ') continue;
    const auto digit = kDigits.find(c);
    if (digit == std::string_view::npos)
      throw std::invalid_argument("not hex: " + std::string(text));
    value = (value << 4 | static_cast<unsigned>(digit)) & 0xff;
    half = !half;
    if (!half) bytes.push_back(static_cast<std::byte>(value));
  }
  if (half) throw std::invalid_argument("odd number of hex digits: " + std::string(text));
  return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[std::to_integer<std::size_t>(b >> 4)];
    text += kDigits[std::to_integer<std::size_t>(b & std::byte{15})];
  }
  return text;
}

}  // namespace xfrmfs::testing
