// SPDX-License-Identifier: Apache-2.0
#include "fs/xfrm_stat.h"

#include <gtest/gtest.h>

#include "engine/base/counters.h"
#include "tests/fs/golden.h"
#include "tests/fs/scenario.h"

namespace xfrmfs::fs {
namespace {

using engine::Mib;

struct Counting {
  engine::Published<engine::Snapshot> published{std::make_shared<const engine::Snapshot>()};
  engine::Counters counters;
  engine::Settings settings;
  testing::ManualClock clock;
  engine::View view{published, counters, settings, clock};
};

TEST(XfrmStatTest, AllZeroIsTheFileOfAFreshNamespace) {
  Counting engine;
  const std::string text = XfrmStat().render(engine.view);
  EXPECT_EQ(text.size(), 864u);  // 32 lines of 24 + TAB + digit + newline
  EXPECT_EQ(text, golden("files/xfrm_stat.zero"));
}

TEST(XfrmStatTest, RendersTheGolden) {
  Scenario scenario;
  EXPECT_EQ(XfrmStat().render(scenario.view()), golden("files/xfrm_stat"));
}

TEST(XfrmStatTest, SumsItsThreadsWithoutASign) {
  Counting engine;
  engine.counters.add_block().bump(Mib::kInError, 40);
  engine.counters.add_block().bump(Mib::kInError, 2);
  engine.counters.add_block().bump(Mib::kOutNoQueueSpace, ~0ull);
  engine.counters.add_block().bump(Mib::kOutDefaultBlock, 7);  // has no line
  const auto lines = lines_of(XfrmStat().render(engine.view));
  ASSERT_EQ(lines.size(), 32u);
  EXPECT_EQ(lines.front(), "XfrmInError             \t42");
  EXPECT_EQ(lines.back(), "XfrmOutNoQueueSpace     \t18446744073709551615");
}

TEST(XfrmStatTest, EveryLineShowsItsOwnCounter) {
  Counting engine;
  engine::CounterBlock& block = engine.counters.add_block();
  for (std::size_t i = 0; i < engine::kXfrmStatLines; ++i) block.bump(static_cast<Mib>(i), 100 + i);
  const auto lines = lines_of(XfrmStat().render(engine.view));
  const auto zero_lines = lines_of(golden("files/xfrm_stat.zero"));
  ASSERT_EQ(lines.size(), zero_lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i], zero_lines[i].substr(0, 25) + std::to_string(100 + i));
  }
}

}  // namespace
}  // namespace xfrmfs::fs
