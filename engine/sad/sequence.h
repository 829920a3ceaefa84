// SPDX-License-Identifier: Apache-2.0
// Outbound sequence numbers of one SA: handed out in runs, never twice (RFC 4303 §3.3.3).

#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>

#include "engine/base/types.h"

namespace xfrmfs::engine {

class Sequence {
 public:
  /// `last`: the last number that was sent. `limit`: the last number that may be, all ones.
  Sequence(SeqNo last, SeqNo limit)
      : last_(last), limit_shift_(static_cast<std::uint8_t>(std::countl_zero(limit))) {}

  struct Run {
    SeqNo first = 0;
    std::uint64_t count = 0;
  };

  /// Up to `count` numbers in a row; fewer, down to none, at the end of numbers. Any worker.
  Run reserve(std::uint64_t count) {
    const SeqNo limit = std::numeric_limits<SeqNo>::max() >> limit_shift_;
    SeqNo last = last_.load(std::memory_order_relaxed);
    for (;;) {
      const std::uint64_t take = std::min(count, limit - last);
      if (take == 0) return {};
      if (last_.compare_exchange_weak(last, last + take, std::memory_order_relaxed)) {
        return {last + 1, take};
      }
    }
  }

  SeqNo last() const { return last_.load(std::memory_order_relaxed); }

 private:
  std::atomic<SeqNo> last_;
  const std::uint8_t limit_shift_;  // of all ones; small, so that others fit behind it
};

}  // namespace xfrmfs::engine
