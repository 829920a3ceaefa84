// SPDX-License-Identifier: Apache-2.0
#include "netio/busy_meter.h"

#include <gtest/gtest.h>

namespace xfrmfs::netio {
namespace {

using std::chrono::milliseconds;
using Time = BusyMeter::Clock::time_point;

TEST(LoadWindowTest, TellsTheShareWhenTheWindowIsOver) {
  LoadWindow window(milliseconds(10));
  const Time begin{milliseconds(1000)};
  window.begin(begin, milliseconds(70));
  EXPECT_EQ(window.end(begin + milliseconds(9), milliseconds(79)), std::nullopt);
  EXPECT_EQ(window.end(begin + milliseconds(10), milliseconds(73)), 30);
}

TEST(LoadWindowTest, TheNextWindowBeginsWhereOneEnds) {
  LoadWindow window(milliseconds(10));
  const Time begin{milliseconds(1000)};
  window.begin(begin, milliseconds(0));
  EXPECT_EQ(window.end(begin + milliseconds(40), milliseconds(10)), 25);
  EXPECT_EQ(window.end(begin + milliseconds(49), milliseconds(19)), std::nullopt);
  EXPECT_EQ(window.end(begin + milliseconds(50), milliseconds(20)), 100);
}

TEST(BusyMeterTest, CountsTimeAwakeOnly) {
  BusyMeter meter;
  meter.tick();
  const auto before = meter.total();
  const auto slept_from = meter.now();
  while (BusyMeter::Clock::now() < slept_from + milliseconds(2)) {
  }
  meter.woke();  // all of that was sleep
  EXPECT_EQ(meter.total(), before);
  const auto woke = meter.now();
  while (BusyMeter::Clock::now() < woke + milliseconds(2)) {
  }
  meter.tick();
  EXPECT_GE(meter.total(), before + milliseconds(2));
}

}  // namespace
}  // namespace xfrmfs::netio
