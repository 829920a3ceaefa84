// SPDX-License-Identifier: Apache-2.0
// AES-CBC with HMAC by libipsec-mb: a run of packets at a time, one in each lane of the vectors.
//
// Ciphering and hashing are two bursts: opening hashes first and deciphers what was found genuine.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/base/prefetch.h"
#include "engine/crypto/constant_time.h"
#include "engine/crypto/ipsec_mb_burst.h"

namespace xfrmfs::engine::ipsec_mb {
namespace {

/// The library counts a job's bytes in 16 bits.
constexpr std::uint32_t kLongestText = 0xff00;
/// High half of an extended sequence number, hashed behind the text.
constexpr std::size_t kHighSize = 4;

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

  Prefetch prefetcher() const noexcept override {
    return [](const Sealer& sealer, std::size_t, FetchList& list) noexcept { list.add(&sealer); };
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

}  // namespace

std::unique_ptr<SealerFactory> make_cbc_factory(
    const IMB_MGR& manager, const CipherAlgorithm& cipher, const CipherParams& cipher_params,
    const MacAlgorithm& mac, const MacParams& mac_params, const CbcWidths& widths,
    std::unique_ptr<SealerFactory> single, SealAndOpen<std::size_t> shortest_run) {
  const auto hash = std::ranges::find(hashes(), mac.name, &Hash::name);
  if (cipher.name != "cbc(aes)" || hash == hashes().end()) return nullptr;
  return std::make_unique<CbcFactory>(
      std::make_shared<const CbcKeys>(manager, *hash,
                                      widths[static_cast<std::size_t>(hash - hashes().begin())],
                                      cipher_params.key.bytes(), mac_params.key.bytes()),
      std::move(single), shortest_run);
}

std::unique_ptr<CryptoLane> make_cbc_lane() {
  return make_burst_lane();
}

}  // namespace xfrmfs::engine::ipsec_mb
