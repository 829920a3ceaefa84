// SPDX-License-Identifier: Apache-2.0
// Comparing integrity check values without telling, by the time it takes, where they differ.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace xfrmfs::engine {

/// Depends on `size` alone, which is no secret.
inline bool equal_in_constant_time(const std::byte* a, const std::byte* b, std::size_t size) {
  std::uint64_t difference = 0;
  std::size_t at = 0;
  const auto word = [](const std::byte* p) {
    std::uint64_t value;
    std::memcpy(&value, p, sizeof value);
    return value;
  };
  for (; at + 8 <= size; at += 8) difference |= word(a + at) ^ word(b + at);
  for (; at < size; ++at) difference |= std::to_integer<std::uint64_t>(a[at] ^ b[at]);
  // The compiler must not see that only zero matters, or it might leave the loops early.
  asm("" : "+r"(difference));
  return difference == 0;
}

}  // namespace xfrmfs::engine
