// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/etm_sealer.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/crypto/mac.h"
#include "engine/crypto/openssl.h"

namespace xfrmfs::engine {
namespace {

using openssl::octets;

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kMaxIcv = 64;

class EtmSealer final : public Sealer {
 public:
  EtmSealer(openssl::CipherContext context, std::unique_ptr<Mac> mac, const BoxShape& shape,
            std::size_t block_size, bool extended)
      : context_(std::move(context)),
        mac_(std::move(mac)),
        shape_(shape),
        block_size_(block_size),
        extended_(extended) {}

  void seal(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      if (encrypt(box) && authenticate(box, {text_of(box) + box.text_size, shape_.icv_size})) {
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
    return EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, octets(box.packet + kHeaderSize),
                              -1, nullptr) == 1;
  }

  bool encrypt(const Box& box) {
    if (box.text_size % block_size_ != 0 || !set_iv(box)) return false;
    if (box.text_size == 0) return true;
    std::byte* const text = text_of(box);
    const std::byte* const from = box.source != nullptr ? box.source : text;
    int written = 0;
    return EVP_EncryptUpdate(context_.get(), octets(text), &written, octets(from),
                             static_cast<int>(box.text_size)) == 1;
  }

  bool decrypt(const Box& box) {
    if (box.text_size % block_size_ != 0) return false;
    if (box.text_size == 0) return true;
    std::byte* const text = text_of(box);
    int written = 0;
    return set_iv(box) && EVP_DecryptUpdate(context_.get(), octets(text), &written, octets(text),
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
    return decrypt(box) ? BoxResult::kDone : BoxResult::kFailed;
  }

  const openssl::CipherContext context_;
  const std::unique_ptr<Mac> mac_;
  const BoxShape shape_;
  const std::size_t block_size_;
  const bool extended_;
};

class EtmFactory final : public SealerFactory {
 public:
  EtmFactory(openssl::Cipher cipher, const CipherAlgorithm& cipher_row,
             const CipherParams& cipher_params, const MacAlgorithm& mac_row,
             const MacParams& mac_params)
      : cipher_(std::move(cipher)),
        cipher_row_(cipher_row),
        mac_row_(mac_row),
        shape_{.iv_size = cipher_row.iv_size,
               .icv_size = static_cast<std::uint8_t>(mac_params.truncation_bits / 8),
               .alignment = std::max<std::uint8_t>(4, cipher_row.block_size),
               .iv_rule = IvRule::kUnpredictable},
        cipher_key_(cipher_params.key.bytes()),
        mac_key_(mac_params.key.bytes()) {}

  BoxShape shape() const override { return shape_; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override { return make(1, extended); }
  std::unique_ptr<Sealer> make_opener(bool extended) const override { return make(0, extended); }

 private:
  std::unique_ptr<Sealer> make(int encrypt, bool extended) const {
    openssl::CipherContext context(EVP_CIPHER_CTX_new());
    auto mac = mac_row_.make(mac_key_);
    if (context == nullptr || mac == nullptr ||
        EVP_CipherInit_ex2(context.get(), cipher_.get(), octets(cipher_key_.data()), nullptr,
                           encrypt, nullptr) != 1 ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1) {  // ESP pads in its own way
      ERR_clear_error();
      return nullptr;
    }
    return std::make_unique<EtmSealer>(std::move(context), std::move(mac), shape_,
                                       cipher_row_.block_size, extended);
  }

  const openssl::Cipher cipher_;
  const CipherAlgorithm& cipher_row_;
  const MacAlgorithm& mac_row_;
  const BoxShape shape_;
  const Bytes cipher_key_;  // in the params, which outlive us
  const Bytes mac_key_;     // likewise
};

}  // namespace

std::unique_ptr<SealerFactory> make_etm_factory(const CipherAlgorithm& cipher,
                                                const CipherParams& cipher_params,
                                                const MacAlgorithm& mac,
                                                const MacParams& mac_params) {
  auto library_cipher = openssl::fetch_cipher(
      fmt::format("AES-{}-{}", cipher_params.key.size() * 8, cipher.library_mode));
  if (library_cipher == nullptr) return nullptr;
  return std::make_unique<EtmFactory>(std::move(library_cipher), cipher, cipher_params, mac,
                                      mac_params);
}

}  // namespace xfrmfs::engine
