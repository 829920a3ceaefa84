// SPDX-License-Identifier: Apache-2.0
// SM3 (GB/T 32905, ISO/IEC 10118-3): libcrypto has it only behind EVP, which allocates for every
// message (OpenSSL 3.0). It has no tables, so that its time depends on nothing but the length.
//
// The functions are shaped like libcrypto's plain ones; all return 1.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace xfrmfs::engine {

struct Sm3State {
  std::array<std::uint32_t, 8> chain;
  std::array<std::byte, 64> block;  // its first `size % 64` bytes wait for the rest
  std::uint64_t size;               // bytes so far
};

inline constexpr std::size_t kSm3Block = 64;
inline constexpr std::size_t kSm3Digest = 32;

int sm3_init(Sm3State* state);
int sm3_update(Sm3State* state, const void* data, std::size_t size);
int sm3_final(unsigned char* digest, Sm3State* state);

}  // namespace xfrmfs::engine
