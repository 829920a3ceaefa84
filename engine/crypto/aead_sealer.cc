// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/aead_sealer.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <array>
#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/crypto/openssl.h"

namespace xfrmfs::engine {
namespace {

using openssl::octets;

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kSaltSize = 4;
constexpr std::size_t kIvSize = 8;

/// `kSealsText`: or its text is associated data (AeadMode::kGmac).
template <bool kSealsText>
class AeadSealer final : public Sealer {
 public:
  AeadSealer(openssl::CipherContext context, Bytes salt, std::size_t icv_size, bool extended)
      : context_(std::move(context)),
        tag_{OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, nullptr, icv_size),
             OSSL_PARAM_construct_end()},
        extended_(extended) {
    std::memcpy(nonce_.data(), salt.data(), kSaltSize);
  }
  ~AeadSealer() override { OPENSSL_cleanse(nonce_.data(), nonce_.size()); }
  AeadSealer(const AeadSealer&) = delete;
  AeadSealer& operator=(const AeadSealer&) = delete;

  void seal(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      if (seal_one(box)) {
        box.result = BoxResult::kDone;
      } else {
        box.result = BoxResult::kFailed;
        ERR_clear_error();
      }
    }
  }

  void open(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      box.result = open_one(box);
      if (box.result != BoxResult::kDone) ERR_clear_error();
    }
  }

 private:
  static std::byte* text_of(const Box& box) { return box.packet + kHeaderSize + kIvSize; }

  bool associate(const std::byte* data, std::size_t size) {
    int written = 0;
    return EVP_CipherUpdate(context_.get(), nullptr, &written, octets(data),
                            static_cast<int>(size)) == 1;
  }

  /// IV and associated data go in. The key schedule is the one of construction.
  bool begin(const Box& box) {
    std::memcpy(nonce_.data() + kSaltSize, box.packet + kHeaderSize, kIvSize);
    if (EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, octets(nonce_.data()), -1, nullptr) !=
        1) {
      return false;
    }
    const std::size_t more = kSealsText ? 0 : kIvSize + box.text_size;
    if (!extended_) return associate(box.packet, kHeaderSize + more);
    std::array<std::byte, 12> header;
    std::memcpy(header.data(), box.packet, 4);
    store_be32(header.data() + 4, static_cast<std::uint32_t>(box.sequence >> 32));
    std::memcpy(header.data() + 8, box.packet + 4, 4);
    return associate(header.data(), header.size()) &&
           (more == 0 || associate(box.packet + kHeaderSize, more));
  }

  bool seal_one(const Box& box) {
    std::byte* const text = text_of(box);
    std::byte* const icv = text + box.text_size;
    if constexpr (!kSealsText) {
      if (box.source != nullptr) std::memcpy(text, box.source, box.text_size);
    }
    if (!begin(box)) return false;
    int written = 0;
    if constexpr (kSealsText) {
      const std::byte* const from = box.source != nullptr ? box.source : text;
      if (box.text_size > 0 &&
          EVP_EncryptUpdate(context_.get(), octets(text), &written, octets(from),
                            static_cast<int>(box.text_size)) != 1) {
        return false;
      }
    }
    return EVP_EncryptFinal_ex(context_.get(), octets(icv), &written) == 1 &&
           EVP_CIPHER_CTX_get_params(context_.get(), tag_at(icv)) == 1;
  }

  /// EVP_CIPHER_CTX_ctrl() would build the same list anew each time: a tenth of a small packet.
  OSSL_PARAM* tag_at(std::byte* icv) {
    tag_[0].data = icv;
    return tag_.data();
  }

  BoxResult open_one(const Box& box) {
    std::byte* const text = text_of(box);
    std::byte* const icv = text + box.text_size;
    if (EVP_CIPHER_CTX_set_params(context_.get(), tag_at(icv)) != 1 || !begin(box)) {
      return BoxResult::kFailed;
    }
    int written = 0;
    if constexpr (kSealsText) {
      if (box.text_size > 0 &&
          EVP_DecryptUpdate(context_.get(), octets(text), &written, octets(text),
                            static_cast<int>(box.text_size)) != 1) {
        return BoxResult::kFailed;
      }
    }
    // The library compares in constant time.
    const bool right = EVP_DecryptFinal_ex(context_.get(), octets(icv), &written) == 1;
    return right ? BoxResult::kDone : BoxResult::kIcvWrong;
  }

  const openssl::CipherContext context_;
  std::array<std::byte, kSaltSize + kIvSize> nonce_{};
  std::array<OSSL_PARAM, 2> tag_;
  const bool extended_;
};

class AeadFactory final : public SealerFactory {
 public:
  AeadFactory(openssl::Cipher cipher, const AeadAlgorithm& algorithm, const AeadParams& params)
      : cipher_(std::move(cipher)),
        mode_(algorithm.mode),
        shape_(shape_of(algorithm, params)),
        key_(params.key.bytes().first(params.key.size() - algorithm.salt_size)),
        salt_(params.key.bytes().last(algorithm.salt_size)) {}

  BoxShape shape() const override { return shape_; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override { return make(1, extended); }
  std::unique_ptr<Sealer> make_opener(bool extended) const override { return make(0, extended); }

 private:
  std::unique_ptr<Sealer> make(int encrypt, bool extended) const {
    openssl::CipherContext context(EVP_CIPHER_CTX_new());
    if (context == nullptr || EVP_CipherInit_ex2(context.get(), cipher_.get(), octets(key_.data()),
                                                 nullptr, encrypt, nullptr) != 1) {
      ERR_clear_error();
      return nullptr;
    }
    if (mode_ == AeadMode::kGmac) {
      return std::make_unique<AeadSealer<false>>(std::move(context), salt_, shape_.icv_size,
                                                 extended);
    }
    return std::make_unique<AeadSealer<true>>(std::move(context), salt_, shape_.icv_size, extended);
  }

  const openssl::Cipher cipher_;
  const AeadMode mode_;
  const BoxShape shape_;
  const Bytes key_;   // in the params, which outlive us
  const Bytes salt_;  // likewise
};

}  // namespace

std::unique_ptr<SealerFactory> make_aead_factory(const AeadAlgorithm& algorithm,
                                                 const AeadParams& params) {
  auto cipher = openssl::fetch_cipher(fmt::format(fmt::runtime(algorithm.library_name),
                                                  (params.key.size() - algorithm.salt_size) * 8));
  if (cipher == nullptr) return nullptr;
  return std::make_unique<AeadFactory>(std::move(cipher), algorithm, params);
}

}  // namespace xfrmfs::engine
