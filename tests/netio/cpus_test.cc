// SPDX-License-Identifier: Apache-2.0
#include "netio/cpus.h"

#include <system_error>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <pthread.h>

namespace xfrmfs::netio {
namespace {

TEST(CpusTest, SuggestsLaneForTwoCpus) {
  EXPECT_EQ(suggested_lanes(0), 1u);
  EXPECT_EQ(suggested_lanes(1), 1u);
  EXPECT_EQ(suggested_lanes(2), 1u);
  EXPECT_EQ(suggested_lanes(3), 1u);
  EXPECT_EQ(suggested_lanes(4), 2u);
  EXPECT_EQ(suggested_lanes(16), 8u);
  EXPECT_EQ(suggested_lanes(128), 8u);
}

TEST(CpusTest, DealsCpusToLanes) {
  const std::vector<int> cpus{2, 3, 8, 9, 10};
  EXPECT_EQ(cpus_of_lane(0, cpus), (CpuPair{2, 3}));
  EXPECT_EQ(cpus_of_lane(1, cpus), (CpuPair{8, 9}));
  EXPECT_EQ(cpus_of_lane(2, cpus), (CpuPair{10, 2}));
  EXPECT_EQ(cpus_of_lane(0, std::vector<int>{7}), (CpuPair{7, 7}));
}

TEST(CpusTest, PinsThreadToOneCpu) {
  const std::vector<int> before = allowed_cpus();
  ASSERT_FALSE(before.empty());
  std::vector<int> pinned;
  std::jthread([&] {
    pin_thread(::pthread_self(), before.back(), "test");
    pinned = allowed_cpus();
  }).join();
  EXPECT_EQ(pinned, std::vector<int>{before.back()});
  EXPECT_EQ(allowed_cpus(), before);
}

TEST(CpusTest, NamesCpuThatIsNotThere) {
  try {
    pin_thread(::pthread_self(), 8191, "xfrmfs/out0");
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_TRUE(std::string_view(error.what()).starts_with("CPU 8191 for the thread xfrmfs/out0"));
  }
}

}  // namespace
}  // namespace xfrmfs::netio
