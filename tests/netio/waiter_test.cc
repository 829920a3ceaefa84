// SPDX-License-Identifier: Apache-2.0
#include "netio/waiter.h"

#include <array>
#include <chrono>

#include <gtest/gtest.h>

namespace xfrmfs::netio {
namespace {

using std::chrono::milliseconds;

class WaiterTest : public testing::Test {
 protected:
  EventFd doorbell_, first_, second_;
  const std::array<int, 1> firsts_{first_.descriptor()};
  const std::array<int, 1> seconds_{second_.descriptor()};
  Waiter waiter_{doorbell_, firsts_, seconds_};
};

TEST_F(WaiterTest, TellsWhichGroupIsReady) {
  second_.ring();
  const auto ready = waiter_.wait(2);
  EXPECT_FALSE(ready.rang);
  EXPECT_FALSE(ready.groups[Waiter::kFirst]);
  EXPECT_TRUE(ready.groups[Waiter::kSecond]);
}

TEST_F(WaiterTest, SleepsThroughGroupsItWasNotAskedFor) {
  second_.ring();
  const auto ready = waiter_.wait(1, milliseconds(1));
  EXPECT_FALSE(ready.groups[Waiter::kFirst]);
  EXPECT_FALSE(ready.groups[Waiter::kSecond]);
  first_.ring();
  EXPECT_FALSE(waiter_.wait(0, milliseconds(1)).groups[Waiter::kFirst]);
}

TEST_F(WaiterTest, TheDoorbellIsHeardOnce) {
  doorbell_.ring();
  doorbell_.ring();
  EXPECT_TRUE(waiter_.wait(0).rang);
  EXPECT_FALSE(waiter_.wait(0, milliseconds(1)).rang);
}

TEST_F(WaiterTest, LooksAwayFromAGroupThatWokeItTwiceInVain) {
  first_.ring();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(waiter_.wait(2).groups[Waiter::kFirst]);
    waiter_.served(Waiter::kFirst, false);
  }
  second_.ring();  // the other group is heard all the same
  const auto ready = waiter_.wait(2);
  EXPECT_FALSE(ready.groups[Waiter::kFirst]);
  EXPECT_TRUE(ready.groups[Waiter::kSecond]);
  second_.quiet();
  EXPECT_TRUE(waiter_.wait(2).groups[Waiter::kFirst]);  // and the pause is over
}

TEST_F(WaiterTest, APauseEnds) {
  first_.ring();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(waiter_.wait(1).groups[Waiter::kFirst]);
    waiter_.served(Waiter::kFirst, false);
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(waiter_.wait(1).groups[Waiter::kFirst]);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(9));
  EXPECT_TRUE(waiter_.wait(1).groups[Waiter::kFirst]);
}

TEST_F(WaiterTest, APacketInBetweenForgivesTheFirstTime) {
  first_.ring();
  for (const bool brought : {false, true, false}) {
    ASSERT_TRUE(waiter_.wait(1).groups[Waiter::kFirst]);
    waiter_.served(Waiter::kFirst, brought);
  }
  EXPECT_TRUE(waiter_.wait(1).groups[Waiter::kFirst]);
}

}  // namespace
}  // namespace xfrmfs::netio
