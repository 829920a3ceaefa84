// SPDX-License-Identifier: Apache-2.0
// Door 3: to look at the engine, and to tune it. Any thread; nothing here waits for a packet, and
// no packet waits for it.

#pragma once

#include <memory>

#include "engine/base/clock.h"
#include "engine/base/counters.h"
#include "engine/base/published.h"
#include "engine/base/settings.h"
#include "engine/snapshot.h"

namespace xfrmfs::engine {

/// A cheap handle. The engine outlives it.
class View {
 public:
  View(const Published<Snapshot>& published, const Counters& counters, Settings& settings,
       const Clock& clock)
      : published_(&published), counters_(&counters), settings_(&settings), clock_(&clock) {}

  /// SAD, SPD and defaults of one moment; stays valid while it is held.
  std::shared_ptr<const Snapshot> snapshot() const { return published_->get(); }
  /// Sums over all threads, now. Not one moment across lines, as in a kernel.
  CounterSums counters() const { return counters_->sum(); }
  Settings& settings() const { return *settings_; }
  BootTime now() const { return clock_->boot_now(); }
  WallTime wall_now() const { return clock_->wall_now(); }

 private:
  const Published<Snapshot>* published_;
  const Counters* counters_;
  Settings* settings_;
  const Clock* clock_;
};

}  // namespace xfrmfs::engine
