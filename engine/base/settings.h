// SPDX-License-Identifier: Apache-2.0
// The values that users tune while the engine runs (sys/net/core/xfrm_*), and the link's size.
//
// Any thread reads, any thread stores; each is one relaxed atomic, because none guards another.

#pragma once

#include <atomic>
#include <cstdint>

namespace xfrmfs::engine {

struct Settings {
  /// Interval of the aevent timer, in units of 100 ms. Copied into an SA when it is made.
  std::atomic<std::uint32_t> aevent_etime_100ms{10};
  /// Packets between two aevents. Copied into an SA when it is made.
  std::atomic<std::uint32_t> aevent_rseqth_packets{2};
  /// Non-zero: a packet that waits for a missing SA is dropped; zero: it is queued.
  std::atomic<std::int32_t> larval_drop{1};
  /// Seconds that a larval SA lives. Copied into it when it is made.
  std::atomic<std::int32_t> acq_expires_s{30};
  /// Largest sealed IP datagram that the underlay carries, in bytes.
  std::atomic<std::uint32_t> underlay_mtu{1500};
};

}  // namespace xfrmfs::engine
