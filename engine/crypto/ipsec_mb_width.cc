// SPDX-License-Identifier: Apache-2.0
// From how many packets on is the library's wide code the faster one on this processor?

#include <algorithm>
#include <chrono>
#include <tuple>
#include <vector>

#include "engine/crypto/ipsec_mb_burst.h"

namespace xfrmfs::engine::ipsec_mb {
namespace {

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

CbcWidths measure_cbc_widths(const IMB_MGR& manager) {
  const auto lane = make_burst_lane();
  CbcWidths widths;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    widths[i] = WidthTest(manager, hashes()[i], *lane).measure();
  }
  return widths;
}

}  // namespace xfrmfs::engine::ipsec_mb
