// SPDX-License-Identifier: Apache-2.0
// The hash of the tables: one round per word, seeded, so that keys cannot be chosen to collide.

#pragma once

#include <cstdint>

namespace xfrmfs::engine {

/// One round of a multiply-and-fold hash (the product's halves xor'ed).
inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xd1b54a32d192ed03u);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace xfrmfs::engine
