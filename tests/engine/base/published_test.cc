// SPDX-License-Identifier: Apache-2.0
#include "engine/base/published.h"

#include <atomic>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

namespace xfrmfs::engine {
namespace {

struct Tracked {
  int value;
  std::thread::id* destroyed_on;
  ~Tracked() { *destroyed_on = std::this_thread::get_id(); }
};

TEST(PublishedTest, ReplacedValuesDieOnTheWritersThread) {
  std::thread::id where;
  std::thread::id other;
  Published<Tracked> published(std::make_shared<const Tracked>(Tracked{1, &other}));
  published.replace(std::make_shared<const Tracked>(Tracked{2, &where}));
  std::atomic<bool> holding{false};
  std::atomic<bool> let_go{false};
  std::jthread reader([&] {
    auto held = published.get();
    EXPECT_EQ(held->value, 2);
    holding = true;
    holding.notify_one();
    let_go.wait(false);
  });
  holding.wait(false);
  where = {};
  published.replace(std::make_shared<const Tracked>(Tracked{3, &other}));
  EXPECT_FALSE(published.reclaim());
  EXPECT_EQ(where, std::thread::id{});
  let_go = true;
  let_go.notify_one();
  reader.join();
  EXPECT_EQ(where, std::thread::id{});
  EXPECT_TRUE(published.reclaim());
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(PublishedTest, ValuesGoInOrderAndGarbageWithThem) {
  Published<int> published(std::make_shared<const int>(1));
  const auto garbage = [] { return std::make_shared<const int>(0); };
  const std::shared_ptr<const int> first = garbage();
  const std::shared_ptr<const int> second = garbage();
  auto held = published.get();
  published.replace(std::make_shared<const int>(2), {first});
  published.replace(std::make_shared<const int>(3), {second});
  EXPECT_FALSE(published.reclaim());
  EXPECT_EQ(published.oldest(), 1);
  EXPECT_EQ(first.use_count(), 2);
  EXPECT_EQ(second.use_count(), 2);  // nobody holds 2, but 1 is older
  held = published.get();
  EXPECT_TRUE(published.reclaim());
  EXPECT_EQ(published.oldest(), 3);
  EXPECT_EQ(first.use_count(), 1);
  EXPECT_EQ(second.use_count(), 1);
}

TEST(PublishedTest, GenerationMovesWithEachReplacement) {
  Published<int> published(std::make_shared<const int>(1));
  const auto before = published.generation();
  published.replace(std::make_shared<const int>(2));
  EXPECT_EQ(published.generation(), before + 1);
  EXPECT_EQ(*published.get(), 2);
}

}  // namespace
}  // namespace xfrmfs::engine
