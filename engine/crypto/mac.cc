// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/mac.h"

// The plain hash functions are deprecated in favour of EVP, which cannot copy a hash state without
// an allocation. They run the same assembly.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <cstring>

namespace xfrmfs::engine {
namespace {

struct Sha1 {
  using State = SHA_CTX;
  static constexpr std::size_t kBlock = SHA_CBLOCK;
  static constexpr std::size_t kDigest = SHA_DIGEST_LENGTH;
  static constexpr auto init = SHA1_Init;
  static constexpr auto update = SHA1_Update;
  static constexpr auto final = SHA1_Final;
};

struct Sha256 {
  using State = SHA256_CTX;
  static constexpr std::size_t kBlock = SHA256_CBLOCK;
  static constexpr std::size_t kDigest = SHA256_DIGEST_LENGTH;
  static constexpr auto init = SHA256_Init;
  static constexpr auto update = SHA256_Update;
  static constexpr auto final = SHA256_Final;
};

struct Sha384 {
  using State = SHA512_CTX;
  static constexpr std::size_t kBlock = SHA512_CBLOCK;
  static constexpr std::size_t kDigest = SHA384_DIGEST_LENGTH;
  static constexpr auto init = SHA384_Init;
  static constexpr auto update = SHA384_Update;
  static constexpr auto final = SHA384_Final;
};

struct Sha512 {
  using State = SHA512_CTX;
  static constexpr std::size_t kBlock = SHA512_CBLOCK;
  static constexpr std::size_t kDigest = SHA512_DIGEST_LENGTH;
  static constexpr auto init = SHA512_Init;
  static constexpr auto update = SHA512_Update;
  static constexpr auto final = SHA512_Final;
};

template <class Hash>
class Hmac final : public Mac {
 public:
  explicit Hmac(Bytes key) {
    std::array<unsigned char, Hash::kBlock> block{};
    if (key.size() > block.size()) {
      usable_ = Hash::init(&work_) == 1 && Hash::update(&work_, key.data(), key.size()) == 1 &&
                Hash::final(block.data(), &work_) == 1;
    } else if (!key.empty()) {
      std::memcpy(block.data(), key.data(), key.size());
    }
    usable_ = absorb(block, 0x36, inner_) && absorb(block, 0x5c, outer_) && usable_;
    OPENSSL_cleanse(block.data(), block.size());
  }
  ~Hmac() override {
    OPENSSL_cleanse(&inner_, sizeof inner_);
    OPENSSL_cleanse(&outer_, sizeof outer_);
    OPENSSL_cleanse(&work_, sizeof work_);
    OPENSSL_cleanse(digest_.data(), digest_.size());
  }
  Hmac(const Hmac&) = delete;
  Hmac& operator=(const Hmac&) = delete;

  bool usable() const { return usable_; }

  bool compute(Bytes first, Bytes second, MutableBytes out) noexcept override {
    if (out.size() > Hash::kDigest) return false;
    work_ = inner_;
    if (Hash::update(&work_, first.data(), first.size()) != 1 ||
        Hash::update(&work_, second.data(), second.size()) != 1 ||
        Hash::final(digest_.data(), &work_) != 1) {
      return false;
    }
    work_ = outer_;
    if (Hash::update(&work_, digest_.data(), Hash::kDigest) != 1 ||
        Hash::final(digest_.data(), &work_) != 1) {
      return false;
    }
    std::memcpy(out.data(), digest_.data(), out.size());
    return true;
  }

 private:
  using State = typename Hash::State;

  static bool absorb(std::array<unsigned char, Hash::kBlock>& block, unsigned char pad,
                     State& state) {
    for (auto& octet : block) octet ^= pad;
    const bool done =
        Hash::init(&state) == 1 && Hash::update(&state, block.data(), block.size()) == 1;
    for (auto& octet : block) octet ^= pad;
    return done;
  }

  State inner_;
  State outer_;
  State work_;
  std::array<unsigned char, Hash::kDigest> digest_;
  bool usable_ = true;
};

template <class Hash>
std::unique_ptr<Mac> make_hmac(Bytes key) {
  auto mac = std::make_unique<Hmac<Hash>>(key);
  if (!mac->usable()) return nullptr;
  return mac;
}

}  // namespace

std::unique_ptr<Mac> make_hmac_sha1(Bytes key) {
  return make_hmac<Sha1>(key);
}
std::unique_ptr<Mac> make_hmac_sha256(Bytes key) {
  return make_hmac<Sha256>(key);
}
std::unique_ptr<Mac> make_hmac_sha384(Bytes key) {
  return make_hmac<Sha384>(key);
}
std::unique_ptr<Mac> make_hmac_sha512(Bytes key) {
  return make_hmac<Sha512>(key);
}

}  // namespace xfrmfs::engine
