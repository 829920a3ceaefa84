// SPDX-License-Identifier: Apache-2.0
// An engine whose clock the test moves, and a housekeeping whose timer runs in real time.
#include "netio/housekeeping.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "netio/system_clock.h"
#include "tests/support/manual_clock.h"

namespace xfrmfs::netio {
namespace {

using engine::IpAddress;
using engine::SaParams;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto kPatience = seconds(20);

SaParams larval_sa() {
  SaParams params;
  params.id.destination = *IpAddress::parse("192.0.2.1");
  params.id.protocol = engine::Protocol::kEsp;
  params.source = *IpAddress::parse("192.0.2.2");
  return params;
}

class HousekeepingTest : public ::testing::Test {
 protected:
  /// Runs the control thread until `happened`; false if it does not.
  template <class Condition>
  bool run_until(const Condition& happened) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!happened() && std::chrono::steady_clock::now() < deadline) {
      io_.run_one_for(milliseconds(100));
    }
    return happened();
  }

  void add_larval_sa() {
    ASSERT_TRUE(engine_.allocate_spi(larval_sa(), 0x1000, 0x1000));
    engine_.publish();
  }
  std::size_t published_sas() const { return engine_.view().snapshot()->sad.size(); }

  xfrmfs::testing::ManualClock clock_;
  engine::Engine engine_{1, clock_};
  asio::io_context io_;
  std::size_t nudges_ = 0;
  Housekeeping housekeeping_{io_, engine_, [this] { ++nudges_; }};
};

TEST_F(HousekeepingTest, LetsTheEngineAdvanceAtItsDeadline) {
  // The larval SA ends 100 ms from now, by the clock on the wall and by the engine's.
  constexpr milliseconds kDelay(100);
  const auto lifetime = seconds(engine_.settings().acq_expires_s.load());
  const auto begin = SystemClock().boot_now();
  clock_.set(begin - lifetime + kDelay, seconds(0));
  add_larval_sa();
  housekeeping_.engine_changed();
  ASSERT_EQ(io_.run_one_for(kPatience), 1u);  // the doorbell: now the deadline is known
  ASSERT_EQ(published_sas(), 1u);

  clock_.advance(2 * lifetime);
  EXPECT_TRUE(run_until([this] { return published_sas() == 0; }));
  EXPECT_GE(SystemClock().boot_now(), begin + kDelay);
}

TEST_F(HousekeepingTest, LetsTheEngineAdvanceWhenAWorkerCalls) {
  clock_.set(SystemClock().boot_now(), seconds(0));
  add_larval_sa();
  clock_.advance(std::chrono::hours(1));
  std::thread worker([this] { housekeeping_.engine_needs_attention(); });
  worker.join();
  EXPECT_TRUE(run_until([this] { return published_sas() == 0; }));
}

TEST_F(HousekeepingTest, NudgesUntilNobodyHoldsAnOldSnapshot) {
  clock_.set(SystemClock().boot_now(), seconds(0));
  auto reader = engine_.view().snapshot();
  const std::weak_ptr<const engine::Snapshot> old = reader;
  add_larval_sa();
  housekeeping_.engine_changed();
  ASSERT_TRUE(run_until([this] { return nudges_ >= 3; }));
  EXPECT_FALSE(old.expired());

  reader.reset();
  EXPECT_TRUE(run_until([&old] { return old.expired(); }));
  const std::size_t nudges = nudges_;
  io_.run_for(milliseconds(120));  // two more intervals
  EXPECT_EQ(nudges_, nudges);
}

TEST_F(HousekeepingTest, NudgesNobodyWithoutNeed) {
  housekeeping_.engine_changed();
  housekeeping_.engine_changed();
  ASSERT_EQ(io_.run_one_for(kPatience), 1u);
  EXPECT_EQ(nudges_, 0u);
}

}  // namespace
}  // namespace xfrmfs::netio
