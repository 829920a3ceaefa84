// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/ccm_sealer.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/crypto/cbc_mac.h"
#include "engine/crypto/constant_time.h"
#include "engine/crypto/openssl.h"

namespace xfrmfs::engine {
namespace {

using openssl::octets;

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kSaltSize = 3;
constexpr std::size_t kIvSize = 8;
constexpr std::size_t kLengthSize = 4;  // of the text; and of a block number
constexpr std::uint8_t kCounterFlags = kLengthSize - 1;
static_assert(1 + kSaltSize + kIvSize + kLengthSize == kAesBlock);

/// RFC 3610 §2.2: there is associated data, the size of the ICV, the size of the length.
constexpr std::uint8_t mac_flags(std::size_t icv_size) {
  return static_cast<std::uint8_t>(0x40 | (icv_size - 2) / 2 << 3 | (kLengthSize - 1));
}

class CcmSealer final : public Sealer {
 public:
  CcmSealer(openssl::CipherContext counter, Bytes key, Bytes salt, std::size_t icv_size,
            bool extended)
      : counter_(std::move(counter)), mac_(key), icv_size_(icv_size), extended_(extended) {
    std::memcpy(salt_.data(), salt.data(), kSaltSize);
  }
  ~CcmSealer() override { OPENSSL_cleanse(salt_.data(), salt_.size()); }
  CcmSealer(const CcmSealer&) = delete;
  CcmSealer& operator=(const CcmSealer&) = delete;

  bool usable() const { return mac_.usable(); }

  void seal(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      std::byte* const text = text_of(box);
      const std::byte* const from = box.source != nullptr ? box.source : text;
      AesBlock icv;
      const bool done = authenticate(box, from) && begin(box, mac_.value(), icv) &&
                        cipher(from, text, box.text_size);
      if (done) std::memcpy(text + box.text_size, icv.data(), icv_size_);
      judge(box, done ? BoxResult::kDone : BoxResult::kFailed);
    }
  }

  void open(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      std::byte* const text = text_of(box);
      AesBlock mask;
      if (!begin(box, AesBlock{}, mask) || !cipher(text, text, box.text_size) ||
          !authenticate(box, text)) {
        judge(box, BoxResult::kFailed);
        continue;
      }
      for (std::size_t i = 0; i < kAesBlock; ++i) mask[i] ^= mac_.value()[i];
      const bool right = equal_in_constant_time(mask.data(), text + box.text_size, icv_size_);
      judge(box, right ? BoxResult::kDone : BoxResult::kIcvWrong);
    }
  }

 private:
  static std::byte* text_of(const Box& box) { return box.packet + kHeaderSize + kIvSize; }

  static void judge(Box& box, BoxResult result) {
    box.result = result;
    if (result == BoxResult::kFailed) ERR_clear_error();
  }

  AesBlock block_of(std::uint8_t flags, const Box& box, std::uint32_t number) const {
    AesBlock block;
    block[0] = std::byte{flags};
    std::memcpy(&block[1], salt_.data(), kSaltSize);
    std::memcpy(&block[1 + kSaltSize], box.packet + kHeaderSize, kIvSize);
    store_be32(&block[kAesBlock - kLengthSize], number);
    return block;
  }

  /// Starts the key stream; its first block goes over `in`.
  bool begin(const Box& box, const AesBlock& in, AesBlock& out) {
    const AesBlock first = block_of(kCounterFlags, box, 0);
    return EVP_CipherInit_ex2(counter_.get(), nullptr, nullptr, octets(first.data()), -1,
                              nullptr) == 1 &&
           cipher(in.data(), out.data(), kAesBlock);
  }

  bool cipher(const std::byte* from, std::byte* to, std::size_t size) {
    int written = 0;
    return size == 0 || EVP_EncryptUpdate(counter_.get(), octets(to), &written, octets(from),
                                          static_cast<int>(size)) == 1;
  }

  bool authenticate(const Box& box, const std::byte* text) {
    std::array<std::byte, 2 * kAesBlock> front{};
    const AesBlock first = block_of(mac_flags(icv_size_), box, box.text_size);
    std::memcpy(front.data(), first.data(), kAesBlock);
    std::byte* const header = &front[kAesBlock + 2];
    std::memcpy(header, box.packet, 4);
    std::memcpy(header + (extended_ ? 8 : 4), box.packet + 4, 4);
    if (extended_) store_be32(header + 4, static_cast<std::uint32_t>(box.sequence >> 32));
    front[kAesBlock + 1] = static_cast<std::byte>(kHeaderSize + (extended_ ? 4 : 0));

    const std::size_t whole = box.text_size / kAesBlock * kAesBlock;
    if (!mac_.restart() || !mac_.absorb(front) || !mac_.absorb({text, whole})) return false;
    if (whole == box.text_size) return true;
    AesBlock last{};
    std::memcpy(last.data(), text + whole, box.text_size - whole);
    return mac_.absorb(last);
  }

  const openssl::CipherContext counter_;
  CbcMac mac_;
  std::array<std::byte, kSaltSize> salt_;
  const std::size_t icv_size_;
  const bool extended_;
};

class CcmFactory final : public SealerFactory {
 public:
  CcmFactory(openssl::Cipher counter, const AeadAlgorithm& algorithm, const AeadParams& params)
      : counter_(std::move(counter)),
        shape_(shape_of(algorithm, params)),
        key_(params.key.bytes().first(params.key.size() - kSaltSize)),
        salt_(params.key.bytes().last(kSaltSize)) {}

  BoxShape shape() const override { return shape_; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override {
    openssl::CipherContext counter(EVP_CIPHER_CTX_new());
    if (counter == nullptr || EVP_CipherInit_ex2(counter.get(), counter_.get(), octets(key_.data()),
                                                 nullptr, 1, nullptr) != 1) {
      ERR_clear_error();
      return nullptr;
    }
    auto sealer =
        std::make_unique<CcmSealer>(std::move(counter), key_, salt_, shape_.icv_size, extended);
    if (!sealer->usable()) return nullptr;
    return sealer;
  }
  std::unique_ptr<Sealer> make_opener(bool extended) const override {
    return make_sealer(extended);
  }

 private:
  const openssl::Cipher counter_;
  const BoxShape shape_;
  const Bytes key_;   // in the params, which outlive us
  const Bytes salt_;  // likewise
};

}  // namespace

std::unique_ptr<SealerFactory> make_ccm_factory(const AeadAlgorithm& algorithm,
                                                const AeadParams& params) {
  auto counter = openssl::fetch_cipher(
      fmt::format(fmt::runtime(algorithm.library_name), (params.key.size() - kSaltSize) * 8));
  if (counter == nullptr) return nullptr;
  return std::make_unique<CcmFactory>(std::move(counter), algorithm, params);
}

}  // namespace xfrmfs::engine
