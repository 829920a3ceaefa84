// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/lifetime.h"

#include <gtest/gtest.h>

namespace xfrmfs::engine {
namespace {

using std::chrono::seconds;
using Verdict = Lifetime::Verdict;

constexpr BootTime kStart = seconds(1000);
constexpr WallTime kWall = seconds(1'700'000'000);

TEST(LifetimeTest, HardPacketLimitLetsThatManyThrough) {
  Lifetime lifetime(LifetimeLimits{.hard_packets = 3}, {}, kStart, kWall);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(lifetime.check(kStart), Verdict::kWithin) << i;
    lifetime.charge(10, 1, kStart);
  }
  EXPECT_EQ(lifetime.check(kStart), Verdict::kHardReached);
}

TEST(LifetimeTest, ThePacketThatCrossesAByteLimitPasses) {
  Lifetime lifetime(LifetimeLimits{.soft_bytes = 50, .hard_bytes = 100}, {}, kStart, kWall);
  EXPECT_EQ(lifetime.check(kStart), Verdict::kWithin);
  lifetime.charge(99, 1, kStart);
  EXPECT_EQ(lifetime.check(kStart), Verdict::kSoftReached);
  lifetime.charge(1, 1, kStart);
  EXPECT_EQ(lifetime.check(kStart), Verdict::kHardReached);
}

TEST(LifetimeTest, UseLimitsRunFromTheFirstPacket) {
  Lifetime lifetime(LifetimeLimits{.hard_use_seconds = 5}, {}, kStart, kWall);
  EXPECT_EQ(lifetime.check_time(kStart + seconds(100)), Verdict::kWithin);
  EXPECT_EQ(lifetime.next_deadline(kStart + seconds(100)), kStart + seconds(105));
  EXPECT_EQ(lifetime.check(kStart + seconds(100)), Verdict::kWithin);
  EXPECT_EQ(lifetime.next_deadline(kStart + seconds(101)), kStart + seconds(105));
  EXPECT_EQ(lifetime.check_time(kStart + seconds(104)), Verdict::kWithin);
  EXPECT_EQ(lifetime.check_time(kStart + seconds(105)), Verdict::kHardReached);
}

TEST(LifetimeTest, HardIsTestedBeforeSoft) {
  Lifetime lifetime(LifetimeLimits{.soft_add_seconds = 4, .hard_add_seconds = 4}, {}, kStart,
                    kWall);
  EXPECT_EQ(lifetime.check_time(kStart + seconds(3)), Verdict::kWithin);
  EXPECT_EQ(lifetime.check_time(kStart + seconds(4)), Verdict::kHardReached);
}

TEST(LifetimeTest, SoftIsToldOnceUntilLimitsChange) {
  Lifetime lifetime(LifetimeLimits{.soft_packets = 1}, {}, kStart, kWall);
  EXPECT_TRUE(lifetime.tell_soft());
  EXPECT_FALSE(lifetime.tell_soft());
  lifetime.set_limits(LifetimeLimits{.soft_packets = 2});
  EXPECT_TRUE(lifetime.tell_soft());
}

TEST(LifetimeTest, EndlessTimeLimitsDoNotOverflow) {
  Lifetime lifetime(LifetimeLimits{.hard_add_seconds = kUnlimited}, {}, kStart, kWall);
  EXPECT_EQ(lifetime.check_time(kStart + std::chrono::hours(24 * 365)), Verdict::kWithin);
}

TEST(LifetimeTest, UsageOfAMovedAssociationGoesOn) {
  const LifetimeUsage moved{
      .bytes = 7, .packets = 8, .added = kWall - seconds(50), .first_used = kWall - seconds(20)};
  Lifetime lifetime(LifetimeLimits{.hard_add_seconds = 60}, moved, kStart, kWall);
  EXPECT_EQ(lifetime.usage().bytes, 7u);
  EXPECT_EQ(lifetime.usage().first_used, kWall - seconds(20));
  EXPECT_EQ(lifetime.added_at(), kStart - seconds(50));
  EXPECT_EQ(lifetime.check_time(kStart + seconds(9)), Verdict::kWithin);
  EXPECT_EQ(lifetime.check_time(kStart + seconds(10)), Verdict::kHardReached);
}

}  // namespace
}  // namespace xfrmfs::engine
