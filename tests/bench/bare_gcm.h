// SPDX-License-Identifier: Apache-2.0
// What the engine is compared with: libipsec-mb's AES-GCM on the bytes of a train and nothing else.
//
// Packet after packet as ESP has them, 8 bytes of associated data in front and a nonce for each,
// 16 bytes of tag behind; no padding, no checksums, no headers, no bookkeeping.

#pragma once

#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/crypto/wide_store.h"

namespace xfrmfs::testing {

class BareGcm {
 public:
  explicit BareGcm(std::size_t key_bits) : wide_key_(key_bits == 256) {
    init_mb_mgr_auto(manager_.get(), nullptr);
    const std::vector<std::uint8_t> bytes(key_bits / 8, 3);
    if (wide_key_) {
      IMB_AES256_GCM_PRE(manager_.get(), bytes.data(), &key_);
    } else {
      IMB_AES128_GCM_PRE(manager_.get(), bytes.data(), &key_);
    }
  }

  /// From `clear`, `size` bytes each, into sealed packets that lie `stride` apart.
  void seal(std::size_t count, const std::byte* clear, std::size_t size, std::byte* sealed,
            std::size_t stride) {
    const auto function = wide_key_ ? manager_->gcm256_enc : manager_->gcm128_enc;
    for (std::size_t i = 0; i < count; ++i, clear += size, sealed += stride) {
      std::byte* const text = sealed + kHead;
      call(function, i, clear, size, sealed, text + size);
    }
  }
  /// In place. True if all tags are right.
  bool open(std::size_t count, std::byte* sealed, std::size_t size, std::size_t stride) {
    const auto function = wide_key_ ? manager_->gcm256_dec : manager_->gcm128_dec;
    std::uint64_t difference = 0;
    for (std::size_t i = 0; i < count; ++i, sealed += stride) {
      std::byte* const text = sealed + kHead;
      std::array<std::byte, kTag> tag;
      call(function, i, text, size, sealed, tag.data());
      std::array<std::uint64_t, 2> wanted;
      std::array<std::uint64_t, 2> found;
      std::memcpy(wanted.data(), text + size, kTag);
      std::memcpy(found.data(), tag.data(), kTag);
      difference |= (wanted[0] ^ found[0]) | (wanted[1] ^ found[1]);
    }
    return difference == 0;
  }

 private:
  static constexpr std::size_t kHead = 16;  // SPI, sequence number, IV
  static constexpr std::size_t kTag = 16;

  void call(aes_gcm_enc_dec_t function, std::uint64_t number, const std::byte* from,
            std::size_t size, std::byte* packet, std::byte* tag) {
    std::array<std::byte, 16> nonce;
    engine::store_wide(nonce.data(), number, 1);
    gcm_context_data context;
    function(&key_, &context, reinterpret_cast<std::uint8_t*>(packet + kHead),
             reinterpret_cast<const std::uint8_t*>(from), size,
             reinterpret_cast<const std::uint8_t*>(nonce.data()),
             reinterpret_cast<const std::uint8_t*>(packet), 8, reinterpret_cast<std::uint8_t*>(tag),
             kTag);
  }

  const bool wide_key_;
  const std::unique_ptr<IMB_MGR, decltype(&free_mb_mgr)> manager_{alloc_mb_mgr(0), &free_mb_mgr};
  alignas(64) gcm_key_data key_;
};

}  // namespace xfrmfs::testing
