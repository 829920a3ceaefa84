// SPDX-License-Identifier: Apache-2.0
// AES-XCBC-MAC (RFC 3566) and AES-CMAC (RFC 4493): a chain of ciphered blocks, before the last of
// which a mask is added, another one if it had to be padded. They differ in keys and masks.

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/crypto/cbc_mac.h"
#include "engine/crypto/mac.h"

namespace xfrmfs::engine {
namespace {

/// One block, ciphered.
bool cipher(CbcMac& chain, const AesBlock& in, AesBlock& out) {
  if (!chain.usable() || !chain.restart() || !chain.absorb(in)) return false;
  out = chain.value();
  return true;
}

void add(AesBlock& block, const AesBlock& mask) {
  for (std::size_t i = 0; i < kAesBlock; ++i) block[i] ^= mask[i];
}

/// RFC 4493 §2.3: times x in GF(2^128), in a time that does not depend on the value.
AesBlock doubled(const AesBlock& value) {
  AesBlock result;
  unsigned carry = 0;
  for (std::size_t i = kAesBlock; i-- > 0;) {
    const unsigned octet = std::to_integer<unsigned>(value[i]);
    result[i] = static_cast<std::byte>(octet << 1 | carry);
    carry = octet >> 7;
  }
  result[kAesBlock - 1] ^= static_cast<std::byte>(0x87 & (0U - carry));
  return result;
}

class BlockMac final : public Mac {
 public:
  BlockMac(Bytes key, const AesBlock& whole_mask, const AesBlock& padded_mask)
      : chain_(key), whole_mask_(whole_mask), padded_mask_(padded_mask) {}
  ~BlockMac() override {
    OPENSSL_cleanse(whole_mask_.data(), kAesBlock);
    OPENSSL_cleanse(padded_mask_.data(), kAesBlock);
    OPENSSL_cleanse(pending_.data(), kAesBlock);
  }
  BlockMac(const BlockMac&) = delete;
  BlockMac& operator=(const BlockMac&) = delete;

  bool usable() const { return chain_.usable(); }

  bool compute(Bytes first, Bytes second, MutableBytes out) noexcept override {
    if (out.size() > kAesBlock) return false;
    pending_size_ = 0;
    if (!chain_.restart() || !absorb(first) || !absorb(second)) return false;
    if (pending_size_ == kAesBlock) {
      add(pending_, whole_mask_);
    } else {
      std::fill(pending_.begin() + static_cast<std::ptrdiff_t>(pending_size_), pending_.end(),
                std::byte{0});
      pending_[pending_size_] = std::byte{0x80};
      add(pending_, padded_mask_);
    }
    if (!chain_.absorb(pending_)) return false;
    std::memcpy(out.data(), chain_.value().data(), out.size());
    return true;
  }

 private:
  /// All but the last block, or a piece of one, which waits for what comes.
  bool absorb(Bytes data) {
    while (!data.empty()) {
      if (pending_size_ == kAesBlock) {
        if (!chain_.absorb(pending_)) return false;
        pending_size_ = 0;
      }
      if (pending_size_ == 0 && data.size() > kAesBlock) {
        const Bytes whole = data.first((data.size() - 1) / kAesBlock * kAesBlock);
        if (!chain_.absorb(whole)) return false;
        data = data.subspan(whole.size());
      }
      const std::size_t taken = std::min(data.size(), kAesBlock - pending_size_);
      std::memcpy(pending_.data() + pending_size_, data.data(), taken);
      pending_size_ += taken;
      data = data.subspan(taken);
    }
    return true;
  }

  CbcMac chain_;
  AesBlock whole_mask_;
  AesBlock padded_mask_;
  AesBlock pending_{};
  std::size_t pending_size_ = 0;
};

/// Three blocks made from a key, wiped when they go.
struct Derived {
  ~Derived() { OPENSSL_cleanse(blocks.data(), sizeof blocks); }

  std::array<AesBlock, 3> blocks{};
};

std::unique_ptr<Mac> make(Bytes key, const AesBlock& whole_mask, const AesBlock& padded_mask) {
  auto mac = std::make_unique<BlockMac>(key, whole_mask, padded_mask);
  if (!mac->usable()) return nullptr;
  return mac;
}

}  // namespace

std::unique_ptr<Mac> make_xcbc_aes(Bytes key) {
  CbcMac chain(key);
  Derived keys;  // RFC 3566 §4.1: K1, K2, K3
  for (std::size_t i = 0; i < keys.blocks.size(); ++i) {
    AesBlock number;
    number.fill(static_cast<std::byte>(i + 1));
    if (!cipher(chain, number, keys.blocks[i])) return nullptr;
  }
  return make(keys.blocks[0], keys.blocks[1], keys.blocks[2]);
}

std::unique_ptr<Mac> make_cmac_aes(Bytes key) {
  CbcMac chain(key);
  Derived masks;  // RFC 4493 §2.3: L, K1, K2
  if (!cipher(chain, AesBlock{}, masks.blocks[0])) return nullptr;
  masks.blocks[1] = doubled(masks.blocks[0]);
  masks.blocks[2] = doubled(masks.blocks[1]);
  return make(key, masks.blocks[1], masks.blocks[2]);
}

}  // namespace xfrmfs::engine
