// SPDX-License-Identifier: Apache-2.0
// AES-CBC with HMAC by libipsec-mb: a run of packets at a time, one in each lane of the vectors.
//
// Encryption in CBC and hashing are chains of steps that wait for each other, so that one packet
// alone is no faster, often slower, than with OpenSSL, but with the widest vectors sixteen take as
// long as one. The library has code of several widths, and the widest loses where runs are short or
// the processor has instructions for a hash; two are kept and the better one for the length of a
// run is known from a measurement. Ciphering and hashing are two bursts: opening hashes first and
// deciphers what was found genuine.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <new>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/crypto/constant_time.h"
#include "engine/crypto/ipsec_mb_manager.h"

namespace xfrmfs::engine::ipsec_mb {
namespace {

constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
constexpr std::size_t kBlock = 16;      // and IV
constexpr std::size_t kBurst = 64;
constexpr std::size_t kMaxDigest = 64;
constexpr std::size_t kMaxHashBlock = 128;
constexpr std::size_t kMaxRoundKeys = std::size_t{15} * 16;
/// The library counts a job's bytes in 16 bits.
constexpr std::uint32_t kLongestText = 0xff00;
/// High half of an extended sequence number, hashed behind the text.
constexpr std::size_t kHighSize = 4;

struct Hash {
  std::string_view name;
  IMB_HASH_ALG algorithm;
  std::size_t block;
  std::size_t digest;
  hash_one_block_t IMB_MGR::* one_block;
  hash_fn_t IMB_MGR::* whole;
};

// clang-format off
constexpr Hash kHashes[] = {
    // name          library's number        block digest functions
    {"hmac(sha1)",   IMB_AUTH_HMAC_SHA_1,    64,   20, &IMB_MGR::sha1_one_block,   &IMB_MGR::sha1},
    {"hmac(sha256)", IMB_AUTH_HMAC_SHA_256,  64,   32, &IMB_MGR::sha256_one_block, &IMB_MGR::sha256},
    {"hmac(sha384)", IMB_AUTH_HMAC_SHA_384,  128,  48, &IMB_MGR::sha384_one_block, &IMB_MGR::sha384},
    {"hmac(sha512)", IMB_AUTH_HMAC_SHA_512,  128,  64, &IMB_MGR::sha512_one_block, &IMB_MGR::sha512},
};
// clang-format on

class CbcLane final : public CryptoLane {
 public:
  CbcLane(Manager wide, Manager narrow) : wide_(std::move(wide)), narrow_(std::move(narrow)) {}

  /// For a run of `count`, if the wide code is better from `wide_from` on.
  IMB_MGR* manager(std::size_t count, std::size_t wide_from) {
    return count < wide_from ? narrow_.get() : wide_.get();
  }
  IMB_JOB& job(std::size_t i) { return jobs_[i]; }
  IMB_JOB* jobs() { return jobs_.data(); }
  std::byte* digest(std::size_t i) { return digests_[i].data(); }
  Box*& box(std::size_t i) { return boxes_[i]; }

 private:
  const Manager wide_;
  const Manager narrow_;
  std::array<IMB_JOB, kBurst> jobs_{};
  std::array<std::array<std::byte, kMaxDigest>, kBurst> digests_{};
  std::array<Box*, kBurst> boxes_{};
};

/// What an SA's sealers share: round keys and the hash states behind the HMAC's two key blocks
/// (RFC 2104 §4).
class CbcKeys {
 public:
  CbcKeys(const IMB_MGR& manager, const Hash& hash, const WideFrom& wide_from, Bytes cipher_key,
          Bytes mac_key)
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
  ~CbcKeys() {
    explicit_bzero(encrypt_.data(), encrypt_.size());
    explicit_bzero(decrypt_.data(), decrypt_.size());
    explicit_bzero(inner_.data(), inner_.size());
    explicit_bzero(outer_.data(), outer_.size());
  }
  CbcKeys(const CbcKeys&) = delete;
  CbcKeys& operator=(const CbcKeys&) = delete;

  /// The first `count` jobs of the lane, filled by cipher_job().
  bool cipher(CbcLane& lane, std::size_t count, IMB_CIPHER_DIRECTION direction) const {
    const std::size_t wide_from =
        direction == IMB_DIR_ENCRYPT ? wide_from_.encrypt : wide_from_.decrypt;
    return IMB_SUBMIT_CIPHER_BURST_NOCHECK(lane.manager(count, wide_from), lane.jobs(),
                                           static_cast<std::uint32_t>(count), IMB_CIPHER_CBC,
                                           direction, key_size_) == count;
  }
  /// Likewise, filled by hash_job().
  bool hash(CbcLane& lane, std::size_t count) const {
    return IMB_SUBMIT_HASH_BURST_NOCHECK(lane.manager(count, wide_from_.hash), lane.jobs(),
                                         static_cast<std::uint32_t>(count),
                                         hash_.algorithm) == count;
  }
  void cipher_job(IMB_JOB& job, const Box& box) const {
    std::byte* const iv = box.packet + kHeaderSize;
    job.enc_keys = encrypt_.data();
    job.dec_keys = decrypt_.data();
    job.key_len_in_bytes = key_size_;
    job.dst = octets(iv + kBlock);
    job.src = box.source != nullptr ? octets(box.source) : job.dst;
    job.cipher_start_src_offset_in_bytes = 0;
    job.msg_len_to_cipher_in_bytes = box.text_size;
    job.iv = octets(iv);
    job.iv_len_in_bytes = kBlock;
  }
  /// The whole digest is asked for, because the library knows few truncations.
  void hash_job(IMB_JOB& job, const Box& box, std::size_t size, std::byte* digest) const {
    job.src = octets(box.packet);
    job.hash_start_src_offset_in_bytes = 0;
    job.msg_len_to_hash_in_bytes = size;
    job.auth_tag_output = octets(digest);
    job.auth_tag_output_len_in_bytes = hash_.digest;
    job.u.HMAC._hashed_auth_key_xor_ipad = octets(inner_.data());
    job.u.HMAC._hashed_auth_key_xor_opad = octets(outer_.data());
  }

 private:
  using State = std::array<std::byte, kMaxDigest>;

  void absorb(const IMB_MGR& manager, std::array<std::byte, kMaxHashBlock>& block, std::byte pad,
              State& state) const {
    for (std::byte& octet : block) octet ^= pad;
    (manager.*hash_.one_block)(block.data(), state.data());
  }

  const Hash& hash_;
  const IMB_KEY_SIZE_BYTES key_size_;
  const WideFrom wide_from_;
  alignas(64) std::array<std::byte, kMaxRoundKeys> encrypt_{};
  alignas(16) std::array<std::byte, kMaxRoundKeys> decrypt_{};
  alignas(16) State inner_{};
  alignas(16) State outer_{};
};

class CbcSealer final : public Sealer {
 public:
  CbcSealer(std::shared_ptr<const CbcKeys> keys, std::unique_ptr<Sealer> single,
            SealAndOpen<std::size_t> shortest_run, std::size_t icv_size, bool extended)
      : keys_(std::move(keys)),
        single_(std::move(single)),
        shortest_run_(shortest_run),
        icv_size_(icv_size),
        extended_(extended) {}

  void seal(std::span<Box> run, CryptoLane* lane) noexcept override {
    if (lane == nullptr) return single_->seal(run, nullptr);
    while (!run.empty()) {
      const auto chunk = run.first(std::min(run.size(), kBurst));
      run = run.subspan(chunk.size());
      if (chunk.size() < shortest_run_.seal) {
        single_->seal(chunk, nullptr);
      } else {
        seal_chunk(chunk, static_cast<CbcLane&>(*lane));
      }
    }
  }

  void open(std::span<Box> run, CryptoLane* lane) noexcept override {
    if (lane == nullptr) return single_->open(run, nullptr);
    while (!run.empty()) {
      const auto chunk = run.first(std::min(run.size(), kBurst));
      run = run.subspan(chunk.size());
      if (chunk.size() < shortest_run_.open) {
        single_->open(chunk, nullptr);
      } else {
        open_chunk(chunk, static_cast<CbcLane&>(*lane));
      }
    }
  }

  void prefetch() const noexcept override {
    __builtin_prefetch(keys_.get());
    single_->prefetch();
  }

 private:
  /// The library does not look at its arguments, so nothing else may reach it.
  static bool fits(const Box& box) { return box.text_size > 0 && box.text_size <= kLongestText; }
  static bool whole_blocks(const Box& box) { return box.text_size % kBlock == 0; }
  static std::byte* icv_of(const Box& box) {
    return box.packet + kHeaderSize + kBlock + box.text_size;
  }

  void seal_chunk(std::span<Box> chunk, CbcLane& lane) const {
    std::size_t used = 0;
    for (Box& box : chunk) {
      box.result = BoxResult::kFailed;
      if (!fits(box)) {
        single_->seal({&box, 1}, nullptr);
      } else if (whole_blocks(box)) {
        keys_->cipher_job(lane.job(used), box);
        lane.box(used++) = &box;
      }
    }
    if (used == 0 || !keys_->cipher(lane, used, IMB_DIR_ENCRYPT)) return;
    for (std::size_t i = 0; i < used; ++i) {
      const Box& box = *lane.box(i);
      if (extended_) write_high(box);  // where the ICV comes to lie
      keys_->hash_job(lane.job(i), box, covered(box), lane.digest(i));
    }
    if (!keys_->hash(lane, used)) return;
    for (std::size_t i = 0; i < used; ++i) {
      Box& box = *lane.box(i);
      std::memcpy(icv_of(box), lane.digest(i), icv_size_);
      box.result = BoxResult::kDone;
    }
  }

  void open_chunk(std::span<Box> chunk, CbcLane& lane) const {
    std::array<std::array<std::byte, kHighSize>, kBurst> displaced;
    std::size_t used = 0;
    for (Box& box : chunk) {
      box.result = BoxResult::kFailed;
      if (!fits(box)) {
        single_->open({&box, 1}, nullptr);
        continue;
      }
      if (extended_) {  // lies for a while where the ICV begins
        std::memcpy(displaced[used].data(), icv_of(box), kHighSize);
        write_high(box);
      }
      keys_->hash_job(lane.job(used), box, covered(box), lane.digest(used));
      lane.box(used++) = &box;
    }
    if (used == 0) return;
    const bool hashed = keys_->hash(lane, used);
    std::size_t genuine = 0;
    for (std::size_t i = 0; i < used; ++i) {
      Box& box = *lane.box(i);
      if (extended_) std::memcpy(icv_of(box), displaced[i].data(), kHighSize);
      if (!hashed) continue;
      if (!equal_in_constant_time(lane.digest(i), icv_of(box), icv_size_)) {
        box.result = BoxResult::kIcvWrong;
      } else if (whole_blocks(box)) {
        keys_->cipher_job(lane.job(genuine), box);
        lane.box(genuine++) = &box;
      }
    }
    if (genuine == 0 || !keys_->cipher(lane, genuine, IMB_DIR_DECRYPT)) return;
    for (std::size_t i = 0; i < genuine; ++i) lane.box(i)->result = BoxResult::kDone;
  }

  std::size_t covered(const Box& box) const {
    return kHeaderSize + kBlock + box.text_size + (extended_ ? kHighSize : 0);
  }
  static void write_high(const Box& box) {
    store_be32(icv_of(box), static_cast<std::uint32_t>(box.sequence >> 32));
  }

  const std::shared_ptr<const CbcKeys> keys_;
  const std::unique_ptr<Sealer> single_;
  const SealAndOpen<std::size_t> shortest_run_;
  const std::size_t icv_size_;
  const bool extended_;
};

class CbcFactory final : public SealerFactory {
 public:
  CbcFactory(std::shared_ptr<const CbcKeys> keys, std::unique_ptr<SealerFactory> single,
             SealAndOpen<std::size_t> shortest_run)
      : keys_(std::move(keys)), single_(std::move(single)), shortest_run_(shortest_run) {}

  BoxShape shape() const override { return single_->shape(); }
  bool interleaves() const override { return true; }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override {
    return make(single_->make_sealer(extended), extended);
  }
  std::unique_ptr<Sealer> make_opener(bool extended) const override {
    return make(single_->make_opener(extended), extended);
  }

 private:
  std::unique_ptr<Sealer> make(std::unique_ptr<Sealer> single, bool extended) const {
    if (single == nullptr) return nullptr;
    const std::size_t icv_size = shape().icv_size;
    if (extended && icv_size < kHighSize) return single;  // no room for the high half
    return std::make_unique<CbcSealer>(keys_, std::move(single), shortest_run_, icv_size, extended);
  }

  const std::shared_ptr<const CbcKeys> keys_;
  const std::unique_ptr<SealerFactory> single_;
  const SealAndOpen<std::size_t> shortest_run_;
};

std::unique_ptr<CbcLane> make_lane() {
  Manager wide = make_manager(Width::kWide);
  Manager narrow = make_manager(Width::kNarrow);
  if (wide == nullptr || narrow == nullptr) throw std::bad_alloc();
  return std::make_unique<CbcLane>(std::move(wide), std::move(narrow));
}

/// One hash and AES of 128 bits on packets that mean nothing. All that is measured of the other key
/// sizes is close enough.
class WidthTest {
 public:
  WidthTest(const IMB_MGR& manager, const Hash& hash, CbcLane& lane)
      : lane_(lane),
        wide_(manager, hash, {1, 1, 1}, Bytes(packets_).first(kBlock), {}),
        narrow_(manager, hash, {kNever, kNever, kNever}, Bytes(packets_).first(kBlock), {}) {}

  WideFrom measure() {
    return {
        .encrypt = first([&](const CbcKeys& keys, std::size_t run) {
          return keys.cipher(lane_, run, IMB_DIR_ENCRYPT);
        }),
        .decrypt = first([&](const CbcKeys& keys, std::size_t run) {
          return keys.cipher(lane_, run, IMB_DIR_DECRYPT);
        }),
        .hash = first([&](const CbcKeys& keys, std::size_t run) { return keys.hash(lane_, run); })};
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kNever = kBurst + 1;
  static constexpr std::size_t kRuns[] = {1, 2, 3, 4, 6, 8, 10, 12, 16};
  static constexpr std::size_t kLongest = 16;
  static constexpr int kRounds = 8;
  static constexpr std::uint32_t kText = 704;
  static constexpr std::size_t kSlot = 1024;

  /// The shortest run from which on the wide code is never the slower one.
  template <class Burst>
  std::size_t first(Burst burst) {
    std::size_t found = kNever;
    for (const std::size_t run : kRuns) {
      const bool better = time(wide_, run, burst) < time(narrow_, run, burst);
      if (!better) {
        found = kNever;
      } else if (found == kNever) {
        found = run;
      }
    }
    return found;
  }

  template <class Burst>
  Clock::duration time(const CbcKeys& keys, std::size_t run, Burst burst) {
    for (std::size_t i = 0; i < run; ++i) {
      const Box box{.packet = packets_.data() + i * kSlot, .text_size = kText};
      keys.cipher_job(lane_.job(i), box);
      keys.hash_job(lane_.job(i), box, kHeaderSize + kBlock + kText, lane_.digest(i));
      lane_.job(i).src = octets(box.packet + kHeaderSize + kBlock);
    }
    Clock::duration best = Clock::duration::max();
    for (int round = 0; round < kRounds; ++round) {
      const auto before = Clock::now();
      std::ignore = burst(keys, run);
      best = std::min(best, Clock::now() - before);
    }
    return best;
  }

  std::vector<std::byte> packets_ = std::vector<std::byte>((kLongest + 1) * kSlot);
  CbcLane& lane_;
  const CbcKeys wide_;
  const CbcKeys narrow_;
};

}  // namespace

std::unique_ptr<SealerFactory> make_cbc_factory(
    const IMB_MGR& manager, const CipherAlgorithm& cipher, const CipherParams& cipher_params,
    const MacAlgorithm& mac, const MacParams& mac_params, const CbcWidths& widths,
    std::unique_ptr<SealerFactory> single, SealAndOpen<std::size_t> shortest_run) {
  const auto* const hash = std::ranges::find(kHashes, mac.name, &Hash::name);
  if (cipher.library_mode != "CBC" || hash == std::end(kHashes)) return nullptr;
  return std::make_unique<CbcFactory>(
      std::make_shared<const CbcKeys>(manager, *hash,
                                      widths[static_cast<std::size_t>(hash - std::begin(kHashes))],
                                      cipher_params.key.bytes(), mac_params.key.bytes()),
      std::move(single), shortest_run);
}

std::unique_ptr<CryptoLane> make_cbc_lane() {
  return make_lane();
}

CbcWidths measure_cbc_widths(const IMB_MGR& manager) {
  const auto lane = make_lane();
  CbcWidths widths;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    widths[i] = WidthTest(manager, kHashes[i], *lane).measure();
  }
  return widths;
}

}  // namespace xfrmfs::engine::ipsec_mb
