// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/etm_sealer.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/crypto/mac.h"
#include "engine/crypto/openssl.h"

namespace xfrmfs::engine {
namespace {

using openssl::octets;

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kMaxIcv = 64;

constexpr std::size_t kNonceSize = 4;
constexpr std::size_t kCounterIvSize = 8;
using CounterBlock = std::array<std::byte, 16>;

class EtmSealer final : public Sealer {
 public:
  /// `context` is null, and `nonce` means nothing, where the mode has none.
  EtmSealer(const CipherAlgorithm& cipher, openssl::CipherContext context, Bytes nonce,
            std::unique_ptr<Mac> mac, const BoxShape& shape, bool extended)
      : mode_(cipher.mode),
        context_(std::move(context)),
        mac_(std::move(mac)),
        shape_(shape),
        block_size_(cipher.block_size),
        extended_(extended) {
    if (mode_ != CipherMode::kCtr) return;
    std::memcpy(counter_.data(), nonce.data(), kNonceSize);
    store_be32(counter_.data() + kNonceSize + kCounterIvSize, 1);
  }
  ~EtmSealer() override { OPENSSL_cleanse(counter_.data(), counter_.size()); }
  EtmSealer(const EtmSealer&) = delete;
  EtmSealer& operator=(const EtmSealer&) = delete;

  void seal(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      const std::byte* const from = box.source != nullptr ? box.source : text_of(box);
      if (cipher(box, from) && authenticate(box, {text_of(box) + box.text_size, shape_.icv_size})) {
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
      if (box.result == BoxResult::kFailed) ERR_clear_error();
    }
  }

 private:
  std::byte* text_of(const Box& box) const { return box.packet + kHeaderSize + shape_.iv_size; }

  bool set_iv(const Box& box) {
    const std::byte* iv = box.packet + kHeaderSize;
    if (mode_ == CipherMode::kCtr) {
      std::memcpy(counter_.data() + kNonceSize, iv, kCounterIvSize);
      iv = counter_.data();
    }
    return EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, octets(iv), -1, nullptr) == 1;
  }

  /// In the direction of the context.
  bool cipher(const Box& box, const std::byte* from) {
    std::byte* const text = text_of(box);
    if (box.text_size % block_size_ != 0) return false;
    if (mode_ == CipherMode::kNull) {
      if (from != text) std::memcpy(text, from, box.text_size);
      return true;
    }
    if (box.text_size == 0) return true;
    int written = 0;
    return set_iv(box) && EVP_CipherUpdate(context_.get(), octets(text), &written, octets(from),
                                           static_cast<int>(box.text_size)) == 1;
  }

  bool authenticate(const Box& box, MutableBytes icv) {
    const Bytes covered(box.packet, kHeaderSize + shape_.iv_size + box.text_size);
    if (!extended_) return mac_->compute(covered, {}, icv);
    std::array<std::byte, 4> high;
    store_be32(high.data(), static_cast<std::uint32_t>(box.sequence >> 32));
    return mac_->compute(covered, high, icv);
  }

  BoxResult open_one(const Box& box) {
    std::array<std::byte, kMaxIcv> wanted;
    if (!authenticate(box, {wanted.data(), shape_.icv_size})) return BoxResult::kFailed;
    if (CRYPTO_memcmp(wanted.data(), text_of(box) + box.text_size, shape_.icv_size) != 0) {
      return BoxResult::kIcvWrong;
    }
    return cipher(box, text_of(box)) ? BoxResult::kDone : BoxResult::kFailed;
  }

  const CipherMode mode_;
  const openssl::CipherContext context_;
  const std::unique_ptr<Mac> mac_;
  const BoxShape shape_;
  const std::size_t block_size_;
  const bool extended_;
  CounterBlock counter_{};
};

class EtmFactory final : public SealerFactory {
 public:
  /// `library_cipher` is null for no cipher at all.
  EtmFactory(openssl::Cipher library_cipher, const CipherAlgorithm& cipher,
             const CipherParams& cipher_params, const MacAlgorithm& mac,
             const MacParams& mac_params)
      : library_cipher_(std::move(library_cipher)),
        cipher_(cipher),
        mac_(mac),
        shape_(shape_of(cipher, mac_params)),
        cipher_key_(key_of(cipher, cipher_params)),
        nonce_(cipher_params.key.bytes().subspan(cipher_key_.size())),
        mac_key_(mac_params.key.bytes()) {}

  BoxShape shape() const override { return shape_; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override { return make(1, extended); }
  std::unique_ptr<Sealer> make_opener(bool extended) const override { return make(0, extended); }

  static Bytes key_of(const CipherAlgorithm& cipher, const CipherParams& params) {
    const std::size_t nonce = cipher.mode == CipherMode::kCtr ? kNonceSize : 0;
    return params.key.bytes().first(params.key.size() - nonce);
  }

 private:
  std::unique_ptr<Sealer> make(int encrypt, bool extended) const {
    openssl::CipherContext context;
    if (library_cipher_ != nullptr && (context = make_context(encrypt)) == nullptr) return nullptr;
    auto mac = mac_.make(mac_key_);
    if (mac == nullptr) return nullptr;
    return std::make_unique<EtmSealer>(cipher_, std::move(context), nonce_, std::move(mac), shape_,
                                       extended);
  }

  openssl::CipherContext make_context(int encrypt) const {
    openssl::CipherContext context(EVP_CIPHER_CTX_new());
    if (context == nullptr || !start(context.get(), encrypt) ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1) {  // ESP pads in its own way
      ERR_clear_error();
      return nullptr;
    }
    return context;
  }

  bool start(EVP_CIPHER_CTX* context, int encrypt) const {
    const auto init = [&](const EVP_CIPHER* cipher, const unsigned char* key, int direction) {
      return EVP_CipherInit_ex2(context, cipher, key, nullptr, direction, nullptr) == 1;
    };
    const EVP_CIPHER* const cipher = library_cipher_.get();
    const unsigned char* const key = octets(cipher_key_.data());
    const int size = static_cast<int>(cipher_key_.size());
    if (EVP_CIPHER_get_key_length(cipher) == size) return init(cipher, key, encrypt);
    return init(cipher, nullptr, encrypt) && EVP_CIPHER_CTX_set_key_length(context, size) == 1 &&
           init(nullptr, key, -1);
  }

  const openssl::Cipher library_cipher_;
  const CipherAlgorithm& cipher_;
  const MacAlgorithm& mac_;
  const BoxShape shape_;
  const Bytes cipher_key_;  // in the params, which outlive us
  const Bytes nonce_;       // likewise
  const Bytes mac_key_;     // likewise
};

}  // namespace

std::unique_ptr<SealerFactory> make_etm_factory(const CipherAlgorithm& cipher,
                                                const CipherParams& cipher_params,
                                                const MacAlgorithm& mac,
                                                const MacParams& mac_params) {
  openssl::Cipher library_cipher;
  if (cipher.mode != CipherMode::kNull) {
    const std::string name = fmt::format(fmt::runtime(cipher.library_name),
                                         EtmFactory::key_of(cipher, cipher_params).size() * 8);
    library_cipher = cipher.standing == CipherStanding::kCurrent
                         ? openssl::fetch_cipher(name)
                         : openssl::fetch_legacy_cipher(name);
    if (library_cipher == nullptr) return nullptr;
  }
  return std::make_unique<EtmFactory>(std::move(library_cipher), cipher, cipher_params, mac,
                                      mac_params);
}

}  // namespace xfrmfs::engine
