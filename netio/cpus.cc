// SPDX-License-Identifier: Apache-2.0
#include "netio/cpus.h"

#include <algorithm>
#include <cerrno>

#include <fmt/core.h>

#include <pthread.h>
#include <sched.h>

#include "netio/file_descriptor.h"

namespace xfrmfs::netio {

std::vector<int> allowed_cpus() {
  // The kernel refuses a set that is smaller than its own.
  for (int room = CPU_SETSIZE; room <= 64 * CPU_SETSIZE; room *= 2) {
    const std::size_t size = CPU_ALLOC_SIZE(room);
    std::vector<cpu_set_t> sets(size / sizeof(cpu_set_t) + 1);
    if (::sched_getaffinity(0, size, sets.data()) != 0) {
      if (errno == EINVAL) continue;
      break;
    }
    std::vector<int> cpus;
    for (int cpu = 0; cpu < room; ++cpu) {
      if (CPU_ISSET_S(cpu, size, sets.data())) cpus.push_back(cpu);
    }
    return cpus;
  }
  throw_errno("CPU affinity mask");
}

unsigned suggested_lanes(std::size_t cpus) {
  constexpr std::size_t kMost = 8;
  return static_cast<unsigned>(std::clamp<std::size_t>(cpus / 2, 1, kMost));
}

CpuPair cpus_of_lane(unsigned lane, std::span<const int> cpus) {
  const std::size_t first = std::size_t{2} * lane;
  return {.outbound = cpus[first % cpus.size()], .inbound = cpus[(first + 1) % cpus.size()]};
}

void pin_thread(unsigned long thread, int cpu, const std::string& name) {
  const std::size_t size = CPU_ALLOC_SIZE(cpu + 1);
  std::vector<cpu_set_t> sets(size / sizeof(cpu_set_t) + 1);
  CPU_SET_S(cpu, size, sets.data());
  errno = ::pthread_setaffinity_np(thread, size, sets.data());
  if (errno != 0) throw_errno(fmt::format("CPU {} for the thread {}", cpu, name));
}

}  // namespace xfrmfs::netio
