// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/mac.h"

// The plain hash functions are deprecated in favour of EVP, which cannot copy a hash state without
// an allocation. They run the same assembly.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <openssl/ripemd.h>
#include <openssl/sha.h>

#include <array>
#include <cstring>

#include "engine/crypto/sm3.h"

namespace xfrmfs::engine {
namespace {

struct Md5 {
  using State = MD5_CTX;
  static constexpr std::size_t kBlock = MD5_CBLOCK;
  static constexpr std::size_t kDigest = MD5_DIGEST_LENGTH;
  static constexpr auto init = MD5_Init;
  static constexpr auto update = MD5_Update;
  static constexpr auto final = MD5_Final;
};

struct Ripemd160 {
  using State = RIPEMD160_CTX;
  static constexpr std::size_t kBlock = RIPEMD160_CBLOCK;
  static constexpr std::size_t kDigest = RIPEMD160_DIGEST_LENGTH;
  static constexpr auto init = RIPEMD160_Init;
  static constexpr auto update = RIPEMD160_Update;
  static constexpr auto final = RIPEMD160_Final;
};

struct Sm3 {
  using State = Sm3State;
  static constexpr std::size_t kBlock = kSm3Block;
  static constexpr std::size_t kDigest = kSm3Digest;
  static constexpr auto init = sm3_init;
  static constexpr auto update = sm3_update;
  static constexpr auto final = sm3_final;
};

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

class NoMac final : public Mac {
 public:
  bool compute(Bytes, Bytes, MutableBytes out) noexcept override { return out.empty(); }
};

template <class Hash>
std::unique_ptr<Mac> make_hmac(Bytes key) {
  auto mac = std::make_unique<Hmac<Hash>>(key);
  if (!mac->usable()) return nullptr;
  return mac;
}

}  // namespace

std::unique_ptr<Mac> make_hmac_md5(Bytes key) {
  return make_hmac<Md5>(key);
}
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
std::unique_ptr<Mac> make_hmac_rmd160(Bytes key) {
  return make_hmac<Ripemd160>(key);
}
std::unique_ptr<Mac> make_hmac_sm3(Bytes key) {
  return make_hmac<Sm3>(key);
}
std::unique_ptr<Mac> make_no_mac(Bytes) {
  return std::make_unique<NoMac>();
}

}  // namespace xfrmfs::engine
