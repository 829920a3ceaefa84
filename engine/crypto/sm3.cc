// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/sm3.h"

#include <strings.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {
namespace {

using std::rotl;

/// GB/T 32905 §5.3: one block.
void compress(std::array<std::uint32_t, 8>& chain, const std::byte* block) {
  std::array<std::uint32_t, 68> w;
  for (std::size_t j = 0; j < 16; ++j) w[j] = load_be32(block + 4 * j);
  for (std::size_t j = 16; j < w.size(); ++j) {
    const std::uint32_t x = w[j - 16] ^ w[j - 9] ^ rotl(w[j - 3], 15);
    w[j] = x ^ rotl(x, 15) ^ rotl(x, 23) ^ rotl(w[j - 13], 7) ^ w[j - 6];
  }
  auto [a, b, c, d, e, f, g, h] = chain;
  for (std::size_t j = 0; j < 64; ++j) {
    const bool early = j < 16;
    const std::uint32_t constant =
        rotl(early ? 0x79cc4519U : 0x7a879d8aU, static_cast<int>(j % 32));
    const std::uint32_t ss1 = rotl(rotl(a, 12) + e + constant, 7);
    const std::uint32_t ss2 = ss1 ^ rotl(a, 12);
    const std::uint32_t ff = early ? a ^ b ^ c : (a & b) | (a & c) | (b & c);
    const std::uint32_t gg = early ? e ^ f ^ g : (e & f) | (~e & g);
    const std::uint32_t tt1 = ff + d + ss2 + (w[j] ^ w[j + 4]);
    const std::uint32_t tt2 = gg + h + ss1 + w[j];
    d = c;
    c = rotl(b, 9);
    b = a;
    a = tt1;
    h = g;
    g = rotl(f, 19);
    f = e;
    e = tt2 ^ rotl(tt2, 9) ^ rotl(tt2, 17);
  }
  const std::array<std::uint32_t, 8> change = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < chain.size(); ++i) chain[i] ^= change[i];
}

}  // namespace

int sm3_init(Sm3State* state) {
  state->chain = {0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600,
                  0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e};
  state->size = 0;
  return 1;
}

int sm3_update(Sm3State* state, const void* data, std::size_t size) {
  const std::byte* at = static_cast<const std::byte*>(data);
  while (size > 0) {
    const std::size_t held = state->size % kSm3Block;
    const std::size_t taken = std::min(size, kSm3Block - held);
    if (taken == kSm3Block) {
      compress(state->chain, at);
    } else {
      std::memcpy(state->block.data() + held, at, taken);
      if (held + taken == kSm3Block) compress(state->chain, state->block.data());
    }
    state->size += taken;
    at += taken;
    size -= taken;
  }
  return 1;
}

int sm3_final(unsigned char* digest, Sm3State* state) {
  constexpr std::size_t kLengthAt = kSm3Block - 8;
  const std::uint64_t bits = state->size * 8;
  std::size_t held = state->size % kSm3Block;
  state->block[held++] = std::byte{0x80};
  if (held > kLengthAt) {
    std::memset(state->block.data() + held, 0, kSm3Block - held);
    compress(state->chain, state->block.data());
    held = 0;
  }
  std::memset(state->block.data() + held, 0, kLengthAt - held);
  store_be64(state->block.data() + kLengthAt, bits);
  compress(state->chain, state->block.data());
  for (std::size_t i = 0; i < state->chain.size(); ++i) {
    store_be32(reinterpret_cast<std::byte*>(digest) + 4 * i, state->chain[i]);
  }
  explicit_bzero(state, sizeof *state);
  return 1;
}

}  // namespace xfrmfs::engine
