// SPDX-License-Identifier: Apache-2.0
// Bursts of AES-CBC and HMAC jobs: the keys of an SA and the work space of a thread.
//
// Encryption in CBC and hashing are chains of steps that wait for each other, so that one packet
// alone is no faster, often slower, than with OpenSSL, but with the widest vectors sixteen take as
// long as one. The library has code of several widths, and the widest loses where runs are short or
// the processor has instructions for a hash; two are kept and the better one for the length of a
// run is known from a measurement.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/crypto/ipsec_mb_manager.h"
#include "engine/crypto/sealer.h"

namespace xfrmfs::engine::ipsec_mb {

inline constexpr std::size_t kHeaderSize = 8;  // SPI, low sequence number
inline constexpr std::size_t kBlock = 16;      // and IV
inline constexpr std::size_t kBurst = 64;
inline constexpr std::size_t kMaxDigest = 64;
inline constexpr std::size_t kMaxHashBlock = 128;
inline constexpr std::size_t kMaxRoundKeys = std::size_t{15} * 16;

/// An HMAC and the library's functions for its two key blocks.
struct Hash {
  std::string_view name;
  IMB_HASH_ALG algorithm;
  std::size_t block;   // bytes
  std::size_t digest;  // bytes
  hash_one_block_t IMB_MGR::* one_block;
  hash_fn_t IMB_MGR::* whole;
};
/// All of them, in the order of CbcWidths.
std::span<const Hash> hashes();

/// One thread's in one direction.
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

/// Throws if memory is short.
std::unique_ptr<CbcLane> make_burst_lane();

/// What an SA's sealers share: round keys and the hash states behind the HMAC's two key blocks
/// (RFC 2104 §4).
class CbcKeys {
 public:
  CbcKeys(const IMB_MGR& manager, const Hash& hash, const WideFrom& wide_from, Bytes cipher_key,
          Bytes mac_key);
  ~CbcKeys();
  CbcKeys(const CbcKeys&) = delete;
  CbcKeys& operator=(const CbcKeys&) = delete;

  /// False: the library failed. The first `count` jobs of the lane, filled by cipher_job().
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
              State& state) const;

  const Hash& hash_;
  const IMB_KEY_SIZE_BYTES key_size_;
  const WideFrom wide_from_;
  alignas(64) std::array<std::byte, kMaxRoundKeys> encrypt_{};
  alignas(16) std::array<std::byte, kMaxRoundKeys> decrypt_{};
  alignas(16) State inner_{};
  alignas(16) State outer_{};
};

}  // namespace xfrmfs::engine::ipsec_mb
