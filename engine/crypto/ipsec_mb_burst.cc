// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/ipsec_mb_burst.h"

#include <cstring>
#include <new>

namespace xfrmfs::engine::ipsec_mb {
namespace {

// clang-format off
constexpr Hash kHashes[] = {
    // name          library's number        block digest functions
    {"hmac(sha1)",   IMB_AUTH_HMAC_SHA_1,    64,   20, &IMB_MGR::sha1_one_block,   &IMB_MGR::sha1},
    {"hmac(sha256)", IMB_AUTH_HMAC_SHA_256,  64,   32, &IMB_MGR::sha256_one_block, &IMB_MGR::sha256},
    {"hmac(sha384)", IMB_AUTH_HMAC_SHA_384,  128,  48, &IMB_MGR::sha384_one_block, &IMB_MGR::sha384},
    {"hmac(sha512)", IMB_AUTH_HMAC_SHA_512,  128,  64, &IMB_MGR::sha512_one_block, &IMB_MGR::sha512},
};
// clang-format on

}  // namespace

static_assert(std::size(kHashes) == std::tuple_size_v<CbcWidths>);

std::span<const Hash> hashes() {
  return kHashes;
}

std::unique_ptr<CbcLane> make_burst_lane() {
  Manager wide = make_manager(Width::kWide);
  Manager narrow = make_manager(Width::kNarrow);
  if (wide == nullptr || narrow == nullptr) throw std::bad_alloc();
  return std::make_unique<CbcLane>(std::move(wide), std::move(narrow));
}

CbcKeys::CbcKeys(const IMB_MGR& manager, const Hash& hash, const WideFrom& wide_from,
                 Bytes cipher_key, Bytes mac_key)
    : hash_(hash),
      key_size_(static_cast<IMB_KEY_SIZE_BYTES>(cipher_key.size())),
      wide_from_(wide_from) {
  const auto expand = key_size_ == IMB_KEY_128_BYTES   ? manager.keyexp_128
                      : key_size_ == IMB_KEY_192_BYTES ? manager.keyexp_192
                                                       : manager.keyexp_256;
  expand(cipher_key.data(), encrypt_.data(), decrypt_.data());

  std::array<std::byte, kMaxHashBlock> block{};
  if (mac_key.size() > hash.block) {
    (manager.*hash.whole)(mac_key.data(), mac_key.size(), block.data());
  } else if (!mac_key.empty()) {
    std::memcpy(block.data(), mac_key.data(), mac_key.size());
  }
  absorb(manager, block, std::byte{0x36}, inner_);
  absorb(manager, block, std::byte{0x36 ^ 0x5c}, outer_);
  explicit_bzero(block.data(), block.size());
}

CbcKeys::~CbcKeys() {
  explicit_bzero(encrypt_.data(), encrypt_.size());
  explicit_bzero(decrypt_.data(), decrypt_.size());
  explicit_bzero(inner_.data(), inner_.size());
  explicit_bzero(outer_.data(), outer_.size());
}

void CbcKeys::absorb(const IMB_MGR& manager, std::array<std::byte, kMaxHashBlock>& block,
                     std::byte pad, State& state) const {
  for (std::byte& octet : block) octet ^= pad;
  (manager.*hash_.one_block)(block.data(), state.data());
}

}  // namespace xfrmfs::engine::ipsec_mb
