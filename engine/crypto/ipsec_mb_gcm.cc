// SPDX-License-Identifier: Apache-2.0
// AES-GCM in ESP (RFC 4106) by libipsec-mb: one call per packet, wide inside the packet.
//
// The library keeps everything about a packet in a context of the caller, so that key and sealer
// never change after set-up: one object for all threads in both directions.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/base/prefetch.h"
#include "engine/base/slab.h"
#include "engine/crypto/constant_time.h"
#include "engine/crypto/ipsec_mb_manager.h"
#include "engine/crypto/wide_store.h"

namespace xfrmfs::engine::ipsec_mb {
namespace {

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kSaltSize = 4;
constexpr std::size_t kIvSize = 8;
constexpr std::size_t kHighSize = 4;  // half of an extended sequence number
constexpr std::size_t kBlock = 16;

/// The functions for one size of key.
struct Functions {
  aes_gcm_pre_t expand;
  aes_gcm_enc_dec_t encrypt;
  aes_gcm_enc_dec_t decrypt;
};

struct GcmKey {
  Functions functions;
  std::uint32_t salt;  // as it lies in memory
  std::uint8_t icv_size;
  bool extended;
};

class GcmSealer final : public Sealer {
 public:
  GcmSealer(const GcmKey& key, Bytes bytes) : key_(key) {
    key_.functions.expand(bytes.data(), &expanded_);
  }
  ~GcmSealer() override {
    explicit_bzero(&expanded_, sizeof expanded_);
    explicit_bzero(&key_.salt, sizeof key_.salt);
  }
  GcmSealer(const GcmSealer&) = delete;
  GcmSealer& operator=(const GcmSealer&) = delete;

  void seal(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      std::byte* const text = box.packet + kHeaderSize + kIvSize;
      transform(key_.functions.encrypt, box, box.source != nullptr ? box.source : text,
                text + box.text_size, key_.icv_size);
      box.result = BoxResult::kDone;
    }
  }

  void open(std::span<Box> run, CryptoLane*) noexcept override {
    for (Box& box : run) {
      std::byte* const text = box.packet + kHeaderSize + kIvSize;
      std::array<std::byte, IMB_MAX_TAG_LEN> wanted;
      transform(key_.functions.decrypt, box, text, wanted.data(), wanted.size());
      const bool right = equal_in_constant_time(wanted.data(), text + box.text_size, key_.icv_size);
      box.result = right ? BoxResult::kDone : BoxResult::kIcvWrong;
    }
  }

  /// The round keys, in front, and a power of the hash key for each block of text, the lowest
  /// behind: all 48 from 768 bytes on.
  static void prefetch(const Sealer& sealer, std::size_t size, FetchList& list) noexcept {
    constexpr std::size_t kFront = kCacheLine + 11 * kBlock;  // the rest of longer keys is near
    constexpr std::size_t kPowers = sizeof(gcm_key_data) - offsetof(gcm_key_data, ghash_keys);
    const auto& self = static_cast<const GcmSealer&>(sealer);
    const auto* const begin = reinterpret_cast<const char*>(&self);
    const auto* const end = reinterpret_cast<const char*>(&self.expanded_ + 1);
    const std::size_t powers = std::min(kPowers, (size + kBlock) / kBlock * kBlock);
    list.add(begin, kFront);
    list.add(end - powers, powers);
  }

  Prefetch prefetcher() const noexcept override { return prefetch; }

  /// Many of them are used in random order.
  static void* operator new(std::size_t size, std::align_val_t) { return slab_allocate(size); }
  static void operator delete(void* memory, std::size_t size, std::align_val_t) {
    slab_free(memory, size);
  }

 private:
  /// The context is not wiped: it holds the hash and the last counter block's key stream of a
  /// packet whose clear text lies in this thread's memory too, and the next packet overwrites it.
  void transform(aes_gcm_enc_dec_t function, const Box& box, const std::byte* from, std::byte* icv,
                 std::size_t icv_size) const {
    std::array<std::byte, 16> nonce;  // salt, IV, nothing
    std::uint64_t iv;
    std::memcpy(&iv, box.packet + kHeaderSize, kIvSize);
    store_wide(nonce.data(), iv << 32 | key_.salt, iv >> 32);
    std::array<std::byte, 16> with_high;  // SPI, high, low, nothing
    const std::byte* associated = box.packet;
    std::size_t associated_size = kHeaderSize;
    if (key_.extended) {
      std::uint64_t header;
      std::memcpy(&header, box.packet, kHeaderSize);
      const std::uint64_t high = __builtin_bswap32(static_cast<std::uint32_t>(box.sequence >> 32));
      store_wide(with_high.data(), (header & 0xffffffff) | high << 32, header >> 32);
      associated = with_high.data();
      associated_size = kHeaderSize + kHighSize;
    }
    gcm_context_data context;
    function(&expanded_, &context, octets(box.packet + kHeaderSize + kIvSize), octets(from),
             box.text_size, octets(nonce.data()), octets(associated), associated_size, octets(icv),
             icv_size);
  }

  GcmKey key_;
  alignas(kCacheLine) gcm_key_data expanded_;
};

class GcmFactory final : public SealerFactory {
 public:
  GcmFactory(const Functions& functions, const AeadAlgorithm& algorithm, const AeadParams& params)
      : functions_(functions),
        shape_(shape_of(algorithm, params)),
        key_(params.key.bytes().first(params.key.size() - algorithm.salt_size)),
        salt_(params.key.bytes().last(algorithm.salt_size)) {}

  BoxShape shape() const override { return shape_; }
  bool stateless() const override { return true; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override {
    GcmKey key{
        .functions = functions_, .salt = 0, .icv_size = shape_.icv_size, .extended = extended};
    std::memcpy(&key.salt, salt_.data(), sizeof key.salt);
    auto sealer = std::make_unique<GcmSealer>(key, key_);
    explicit_bzero(&key.salt, sizeof key.salt);
    return sealer;
  }
  std::unique_ptr<Sealer> make_opener(bool extended) const override {
    return make_sealer(extended);
  }

 private:
  const Functions functions_;
  const BoxShape shape_;
  const Bytes key_;   // in the params, which outlive us
  const Bytes salt_;  // likewise
};

}  // namespace

std::unique_ptr<SealerFactory> make_gcm_factory(const IMB_MGR& manager,
                                                const AeadAlgorithm& algorithm,
                                                const AeadParams& params) {
  const auto with = [&](const Functions& functions) {
    return std::make_unique<GcmFactory>(functions, algorithm, params);
  };
  switch (params.key.size() - kSaltSize) {
    case IMB_KEY_128_BYTES:
      return with({manager.gcm128_pre, manager.gcm128_enc, manager.gcm128_dec});
    case IMB_KEY_192_BYTES:
      return with({manager.gcm192_pre, manager.gcm192_enc, manager.gcm192_dec});
    case IMB_KEY_256_BYTES:
      return with({manager.gcm256_pre, manager.gcm256_enc, manager.gcm256_dec});
    default:
      return nullptr;
  }
}

}  // namespace xfrmfs::engine::ipsec_mb
