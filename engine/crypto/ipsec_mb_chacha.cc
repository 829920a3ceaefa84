// SPDX-License-Identifier: Apache-2.0
// ChaCha20-Poly1305 in ESP (RFC 7634) by libipsec-mb: one packet after another, wide inside the
// packet. As with AES-GCM, one object serves all threads in both directions.

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/slab.h"
#include "engine/crypto/constant_time.h"
#include "engine/crypto/ipsec_mb_manager.h"

namespace xfrmfs::engine::ipsec_mb {
namespace {

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kKeySize = 32;
constexpr std::size_t kSaltSize = 4;
constexpr std::size_t kIvSize = 8;
constexpr std::size_t kTagSize = 16;

struct Functions {
  chacha_poly_init_t begin;
  chacha_poly_enc_dec_update_t encrypt;
  chacha_poly_enc_dec_update_t decrypt;
  chacha_poly_finalize_t end;
};

/// About one packet, wiped behind a run: it holds a key that authenticates that packet.
struct Context : chacha20_poly1305_context_data {
  Context() : chacha20_poly1305_context_data{} {}
  ~Context() { explicit_bzero(static_cast<chacha20_poly1305_context_data*>(this), sizeof *this); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

class ChaChaSealer final : public Sealer {
 public:
  ChaChaSealer(const Functions& functions, Bytes key, Bytes salt, bool extended)
      : functions_(functions), extended_(extended) {
    std::ranges::copy(key, key_.begin());
    std::ranges::copy(salt, salt_.begin());
  }
  ~ChaChaSealer() override {
    explicit_bzero(key_.data(), key_.size());
    explicit_bzero(salt_.data(), salt_.size());
  }
  ChaChaSealer(const ChaChaSealer&) = delete;
  ChaChaSealer& operator=(const ChaChaSealer&) = delete;

  void seal(std::span<Box> run, CryptoLane*) noexcept override {
    Context context;
    for (Box& box : run) {
      std::byte* const text = box.packet + kHeaderSize + kIvSize;
      transform(context, functions_.encrypt, box, box.source != nullptr ? box.source : text,
                text + box.text_size);
      box.result = BoxResult::kDone;
    }
  }

  void open(std::span<Box> run, CryptoLane*) noexcept override {
    Context context;
    for (Box& box : run) {
      std::byte* const text = box.packet + kHeaderSize + kIvSize;
      std::array<std::byte, kTagSize> wanted;
      transform(context, functions_.decrypt, box, text, wanted.data());
      const bool right = equal_in_constant_time(wanted.data(), text + box.text_size, kTagSize);
      box.result = right ? BoxResult::kDone : BoxResult::kIcvWrong;
    }
  }

  Prefetch prefetcher() const noexcept override {
    return [](const Sealer& sealer, std::size_t, FetchList& list) noexcept {
      list.add(&sealer, sizeof(ChaChaSealer));
    };
  }

  /// Many of them are used in random order.
  static void* operator new(std::size_t size) { return slab_allocate(size); }
  static void operator delete(void* memory, std::size_t size) { slab_free(memory, size); }

 private:
  void transform(Context& context, chacha_poly_enc_dec_update_t function, const Box& box,
                 const std::byte* from, std::byte* icv) const {
    std::array<std::byte, kSaltSize + kIvSize> nonce;
    std::memcpy(nonce.data(), salt_.data(), kSaltSize);
    std::memcpy(nonce.data() + kSaltSize, box.packet + kHeaderSize, kIvSize);
    std::array<std::byte, 12> with_high;  // SPI, high, low
    const std::byte* associated = box.packet;
    std::size_t associated_size = kHeaderSize;
    if (extended_) {
      std::memcpy(with_high.data(), box.packet, 4);
      store_be32(with_high.data() + 4, static_cast<std::uint32_t>(box.sequence >> 32));
      std::memcpy(with_high.data() + 8, box.packet + 4, 4);
      associated = with_high.data();
      associated_size = with_high.size();
    }
    functions_.begin(key_.data(), &context, nonce.data(), associated, associated_size);
    function(key_.data(), &context, box.packet + kHeaderSize + kIvSize, from, box.text_size);
    functions_.end(&context, icv, kTagSize);
  }

  std::array<std::byte, kKeySize> key_;
  std::array<std::byte, kSaltSize> salt_;
  const Functions functions_;
  const bool extended_;
};

class ChaChaFactory final : public SealerFactory {
 public:
  ChaChaFactory(const Functions& functions, const AeadAlgorithm& algorithm,
                const AeadParams& params)
      : functions_(functions), shape_(shape_of(algorithm, params)), key_(params.key.bytes()) {}

  BoxShape shape() const override { return shape_; }
  bool stateless() const override { return true; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override {
    return std::make_unique<ChaChaSealer>(functions_, key_.first(kKeySize), key_.last(kSaltSize),
                                          extended);
  }
  std::unique_ptr<Sealer> make_opener(bool extended) const override {
    return make_sealer(extended);
  }

 private:
  const Functions functions_;
  const BoxShape shape_;
  const Bytes key_;  // salt included; in the params, which outlive us
};

}  // namespace

std::unique_ptr<SealerFactory> make_chacha_factory(const IMB_MGR& manager,
                                                   const AeadAlgorithm& algorithm,
                                                   const AeadParams& params) {
  const Functions functions{manager.chacha20_poly1305_init, manager.chacha20_poly1305_enc_update,
                            manager.chacha20_poly1305_dec_update,
                            manager.chacha20_poly1305_finalize};
  return std::make_unique<ChaChaFactory>(functions, algorithm, params);
}

}  // namespace xfrmfs::engine::ipsec_mb
