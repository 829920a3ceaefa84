// SPDX-License-Identifier: Apache-2.0
// Why a packet was dropped: the closed list of reasons, and their counters.
//
// The first 32 are the lines of net/xfrm_stat, in its order. A kernel drops some packets without
// any of those counters moving, and a TUN engine has a few reasons of its own; those follow, so
// that every drop has a name, and are not shown in net/xfrm_stat.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>

namespace xfrmfs::engine {

// clang-format off
enum class Mib : std::uint8_t {
  kInError, kInBufferError, kInHdrError, kInNoStates, kInStateProtoError, kInStateModeError,
  kInStateSeqError, kInStateExpired, kInStateMismatch, kInStateInvalid, kInTmplMismatch,
  kInNoPols, kInPolBlock, kInPolError, kOutError, kOutBundleGenError, kOutBundleCheckError,
  kOutNoStates, kOutStateProtoError, kOutStateModeError, kOutStateSeqError, kOutStateExpired,
  kOutPolBlock, kOutPolDead, kOutPolError, kFwdHdrError, kOutStateInvalid, kAcquireError,
  kOutStateDirError, kInStateDirError, kInIptfsError, kOutNoQueueSpace,
  // Outside net/xfrm_stat:
  kOutDefaultBlock,  // no policy, default of direction out is block (a kernel counts nothing)
  kOutClearRefused,  // policy or default says "in clear", but a TUN has no road for that
  kOutTooBig,        // answered with ICMP too big (a kernel counts nothing)
};
// clang-format on

inline constexpr std::size_t kXfrmStatLines = 32;
inline constexpr std::size_t kMibCount = static_cast<std::size_t>(Mib::kOutTooBig) + 1;

/// As net/xfrm_stat prints it, e.g. "XfrmInError"; the others are named in the same manner.
std::string_view name(Mib mib);

using CounterSums = std::array<std::uint64_t, kMibCount>;

/// The counters of one thread. bump(): its owner only. Reading: any thread.
class alignas(64) CounterBlock {
 public:
  void bump(Mib mib, std::uint64_t by = 1) {
    auto& counter = counters_[static_cast<std::size_t>(mib)];
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  void add_to(CounterSums& sums) const;

 private:
  std::array<std::atomic<std::uint64_t>, kMibCount> counters_{};
};

/// One block per thread that drops packets. add_block() before any reader runs; sum() any thread.
class Counters {
 public:
  CounterBlock& add_block() { return blocks_.emplace_back(); }
  CounterSums sum() const;

 private:
  std::deque<CounterBlock> blocks_;
};

}  // namespace xfrmfs::engine
