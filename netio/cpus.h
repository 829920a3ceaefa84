// SPDX-License-Identifier: Apache-2.0
// Which processors may this program use, and how many lanes are good for them (sched(7), "CPU
// affinity")?

#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace xfrmfs::netio {

/// Where the threads of a lane run.
struct CpuPair {
  int outbound = 0;
  int inbound = 0;
  bool operator==(const CpuPair&) const = default;
};

/// The processors of the calling thread's affinity mask, in ascending order.
std::vector<int> allowed_cpus();

/// A lane has two threads, so there is a processor for each of them. With one or two processors a
/// second lane would only share them; and beyond 8 lanes the host's own part of the work, which is
/// not spread by lanes, sets the pace.
unsigned suggested_lanes(std::size_t cpus);

/// One processor after the other, and from the front again when there are too few.
CpuPair cpus_of_lane(unsigned lane, std::span<const int> cpus);

/// Binds a thread to one processor; `name` is for the error, which is thrown.
void pin_thread(unsigned long thread, int cpu, const std::string& name);

}  // namespace xfrmfs::netio
