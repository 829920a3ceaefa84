// SPDX-License-Identifier: Apache-2.0
#include "engine/base/counters.h"

namespace xfrmfs::engine {
namespace {

// clang-format off
constexpr std::array<std::string_view, kMibCount> kNames{
    "XfrmInError",          "XfrmInBufferError",     "XfrmInHdrError",
    "XfrmInNoStates",       "XfrmInStateProtoError", "XfrmInStateModeError",
    "XfrmInStateSeqError",  "XfrmInStateExpired",    "XfrmInStateMismatch",
    "XfrmInStateInvalid",   "XfrmInTmplMismatch",    "XfrmInNoPols",
    "XfrmInPolBlock",       "XfrmInPolError",        "XfrmOutError",
    "XfrmOutBundleGenError", "XfrmOutBundleCheckError", "XfrmOutNoStates",
    "XfrmOutStateProtoError", "XfrmOutStateModeError", "XfrmOutStateSeqError",
    "XfrmOutStateExpired",  "XfrmOutPolBlock",       "XfrmOutPolDead",
    "XfrmOutPolError",      "XfrmFwdHdrError",       "XfrmOutStateInvalid",
    "XfrmAcquireError",     "XfrmOutStateDirError",  "XfrmInStateDirError",
    "XfrmInIptfsError",     "XfrmOutNoQueueSpace",
    "OutDefaultBlock",      "OutClearRefused",       "OutTooBig",
};
// clang-format on

}  // namespace

std::string_view name(Mib mib) {
  return kNames[static_cast<std::size_t>(mib)];
}

void CounterBlock::add_to(CounterSums& sums) const {
  for (std::size_t i = 0; i < kMibCount; ++i) {
    sums[i] += counters_[i].load(std::memory_order_relaxed);
  }
}

CounterSums Counters::sum() const {
  CounterSums sums{};
  for (const CounterBlock& block : blocks_) block.add_to(sums);
  return sums;
}

}  // namespace xfrmfs::engine
