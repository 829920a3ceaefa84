// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/replay_window.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace xfrmfs::engine {
namespace {

ReplayParams legacy(std::uint32_t window, SeqNo top = 0, std::uint32_t bitmap = 0) {
  ReplayParams params;
  params.window = window;
  params.in_sequence = top;
  params.bitmap = {bitmap};
  return params;
}

ReplayParams ring(ReplayKind kind, std::uint32_t window, std::uint32_t words, SeqNo top = 0) {
  ReplayParams params;
  params.kind = kind;
  params.window = window;
  params.bitmap_words = words;
  params.in_sequence = top;
  return params;
}

bool accept(ReplayWindow& window, std::uint32_t low) {
  const auto number = window.check(low);
  return number && window.commit(*number);
}

/// As it goes for a packet: a number that was inferred wrongly fails its ICV.
bool accept_authentic(ReplayWindow& window, SeqNo number) {
  const auto inferred = window.check(static_cast<std::uint32_t>(number));
  return inferred && *inferred == number && window.commit(number);
}

TEST(ReplayWindowTest, WindowZeroAcceptsEverythingAndRecordsNothing) {
  ReplayWindow window(legacy(0));
  EXPECT_TRUE(accept(window, 0));
  EXPECT_TRUE(accept(window, 9));
  EXPECT_TRUE(accept(window, 9));
  EXPECT_EQ(window.state().in_sequence, 0u);
}

TEST(ReplayWindowTest, NamesWhyANumberIsRefused) {
  ReplayWindow window(legacy(32));
  EXPECT_EQ(window.check(0).error(), ReplayFailure::kZero);
  EXPECT_TRUE(accept(window, 40));
  EXPECT_EQ(window.check(40).error(), ReplayFailure::kSeen);
  EXPECT_EQ(window.check(8).error(), ReplayFailure::kLeftOfWindow);
  EXPECT_TRUE(accept(window, 9));
  EXPECT_EQ(window.check(9).error(), ReplayFailure::kSeen);
}

TEST(ReplayWindowTest, CheckMovesNothing) {
  ReplayWindow window(legacy(32));
  EXPECT_TRUE(window.check(0xffffffff));
  EXPECT_EQ(window.state().in_sequence, 0u);
  EXPECT_TRUE(accept(window, 1));
}

TEST(ReplayWindowTest, CommitLooksAgain) {
  ReplayWindow window(legacy(32));
  const auto number = window.check(5);
  EXPECT_TRUE(accept(window, 5));
  EXPECT_EQ(window.commit(*number).error(), ReplayFailure::kSeen);
}

TEST(ReplayWindowTest, LegacyBitmapHasTheNewestInBitZero) {
  ReplayWindow window(legacy(32));
  for (const std::uint32_t n : {1u, 2u, 4u}) EXPECT_TRUE(accept(window, n));
  EXPECT_EQ(window.state().bitmap, std::vector<std::uint32_t>{0b1101});
  EXPECT_TRUE(accept(window, 100));
  EXPECT_EQ(window.state().bitmap, std::vector<std::uint32_t>{1});
}

TEST(ReplayWindowTest, NumbersWithoutEsnDoNotWrap) {
  ReplayWindow window(legacy(32, 0xfffffffe));
  EXPECT_TRUE(accept(window, 0xffffffff));
  EXPECT_FALSE(accept(window, 0));
  EXPECT_FALSE(accept(window, 1));
}

TEST(ReplayWindowTest, EsnInfersTheHighHalf) {
  struct Case {
    SeqNo top;
    std::uint32_t low;
    SeqNo expected;
  };
  constexpr SeqNo kEpoch = SeqNo{1} << 32;
  const Case cases[] = {
      {100, 101, 101},                          // case A, right of the window
      {100, 69, 69},                            // its left edge with W = 32
      {100, 68, kEpoch + 68},                   // left of it: the next epoch
      {kEpoch + 5, 6, kEpoch + 6},              // case B, same epoch
      {kEpoch + 5, 0xffffffff, 0xffffffff},     // case B, the older epoch
      {kEpoch + 5, 5u - 31u, kEpoch - 26},      // its left edge
      {kEpoch + 5, 5u - 32u, 2 * kEpoch - 27},  // left of it: far ahead in this epoch
      {0xffffffff, 0, kEpoch},                  // the first of the next epoch
      {31, 0, 0},                               // 0 is ordinary once top >= W - 1
  };
  for (const Case& c : cases) {
    const ReplayWindow window(ring(ReplayKind::kEsn, 32, 1, c.top));
    const auto number = window.check(c.low);
    ASSERT_TRUE(number) << c.top << " " << c.low;
    EXPECT_EQ(*number, c.expected) << c.top << " " << c.low;
  }
  const ReplayWindow fresh(ring(ReplayKind::kEsn, 32, 1, 30));
  EXPECT_EQ(fresh.check(0).error(), ReplayFailure::kZero);
}

TEST(ReplayWindowTest, EsnWindowSlidesAcrossTheEpoch) {
  ReplayWindow window(ring(ReplayKind::kEsn, 64, 2, 0xfffffff0));
  for (std::uint32_t low = 0xfffffff1; low != 20; ++low) {
    EXPECT_TRUE(accept(window, low)) << low;
    EXPECT_FALSE(accept(window, low)) << low;
  }
  EXPECT_EQ(window.state().in_sequence, (SeqNo{1} << 32) + 19);
  EXPECT_FALSE(accept(window, 0xfffffff5));
}

/// What RFC 4303 §3.4.3 says, with a set.
class Model {
 public:
  explicit Model(std::uint32_t window) : window_(window) {}
  bool accept(SeqNo n) {
    if (n == 0 || (n <= top_ && top_ - n >= window_) || seen_.contains(n)) return false;
    seen_.insert(n);
    top_ = std::max(top_, n);
    return true;
  }

 private:
  std::uint32_t window_;
  SeqNo top_ = 0;
  std::set<SeqNo> seen_;
};

TEST(ReplayWindowTest, AgreesWithASet) {
  std::mt19937 generator(7);
  const auto random = [&] { return static_cast<std::uint32_t>(generator()); };
  const auto run = [&](const ReplayParams& params) {
    ReplayWindow window(params);
    Model model(params.window);
    std::uint32_t around = 1;
    for (int i = 0; i < 20000; ++i) {
      const std::uint32_t spread = params.window * 2 + 3;
      const std::uint32_t low = around + random() % spread;
      const std::uint32_t number = low > params.window ? low - params.window : low;
      ASSERT_EQ(accept_authentic(window, number), model.accept(number)) << number;
      around += random() % 3;
      if (random() % 500 == 0) around += params.window * (random() % 3);
    }
  };
  for (const std::uint32_t w : {1u, 2u, 31u, 32u}) run(legacy(w));
  for (const std::uint32_t w : {1u, 31u, 32u, 33u, 64u, 100u, 4096u}) {
    run(ring(ReplayKind::kBitmap, w, (w + 31) / 32));
    run(ring(ReplayKind::kEsn, w, (w + 31) / 32));
  }
}

TEST(ReplayWindowTest, StateMovesToAnotherWindow) {
  ReplayWindow first(ring(ReplayKind::kBitmap, 100, 4));
  for (const std::uint32_t n : {1u, 50u, 120u, 119u}) EXPECT_TRUE(accept(first, n));
  ReplayWindow second(first.state());
  for (const std::uint32_t n : {50u, 119u, 120u, 20u}) EXPECT_FALSE(accept(second, n)) << n;
  EXPECT_TRUE(accept(second, 118));
}

}  // namespace
}  // namespace xfrmfs::engine
