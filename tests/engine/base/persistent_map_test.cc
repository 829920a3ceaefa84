// SPDX-License-Identifier: Apache-2.0
#include "engine/base/persistent_map.h"

#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace xfrmfs::engine {
namespace {

using Map = PersistentMap<int>;

std::vector<std::pair<std::uint64_t, int>> content(const Map& map) {
  std::vector<std::pair<std::uint64_t, int>> all;
  map.ascending([&](std::uint64_t key, int value) {
    all.emplace_back(key, value);
    return true;
  });
  return all;
}

TEST(PersistentMapTest, OldVersionsStayAsTheyWere) {
  Map map;
  map.insert(5, 50);
  const Map one = map;
  map.insert(~0ull, 1);
  map.insert(5, 51);
  const Map two = map;
  map.erase(5);
  const Map three = map;
  map.erase(7);
  EXPECT_EQ(map.size(), 1u);
  EXPECT_EQ(*one.find(5), 50);
  EXPECT_EQ(one.size(), 1u);
  EXPECT_EQ(*two.find(5), 51);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_EQ(three.find(5), nullptr);
  EXPECT_EQ(three.size(), 1u);
}

TEST(PersistentMapTest, VisitsStopWhenTold) {
  Map map;
  for (int i = 0; i < 100; ++i) map.insert(static_cast<std::uint64_t>(i), i);
  int visited = 0;
  map.descending([&](std::uint64_t key, int) {
    ++visited;
    return key > 90;
  });
  EXPECT_EQ(visited, 10);
}

TEST(PersistentMapTest, CopiesAreReadWhileOneChanges) {
  Map map;
  for (std::uint64_t key = 0; key < 1000; ++key) map.insert(key, 1);
  std::vector<std::jthread> readers;
  std::atomic<std::uint64_t> wrong{0};
  for (int i = 0; i < 20; ++i) {
    readers.emplace_back([copy = map, &wrong, i]() mutable {
      int seen = 0;
      copy.ascending([&](std::uint64_t, int value) {
        seen += value;
        return true;
      });
      if (seen != 1000 - i) wrong.fetch_add(1);
      copy = Map();
    });
    map.erase(static_cast<std::uint64_t>(i) * 37);
  }
  readers.clear();
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_EQ(map.size(), 980u);
}

struct Counted {
  explicit Counted(int* c) : count(c) { ++*count; }
  Counted(const Counted& other) : count(other.count) { ++*count; }
  Counted& operator=(const Counted&) = default;
  ~Counted() { --*count; }
  int* count;
};

TEST(PersistentMapTest, ValuesAreDestroyedOnce) {
  int alive = 0;
  {
    PersistentMap<Counted> map;
    PersistentMap<Counted> kept;
    for (std::uint64_t key = 0; key < 300; ++key) {
      map.insert(key * 5, Counted(&alive));
      if (key == 150) kept = map;
    }
    for (std::uint64_t key = 0; key < 300; key += 2) map.erase(key * 5);
    EXPECT_EQ(kept.size(), 151u);
    kept = {};
    EXPECT_EQ(alive, 150);
  }
  EXPECT_EQ(alive, 0);
}

/// Keys near each other, far from each other, and at both ends.
std::uint64_t random_key(std::mt19937_64& random) {
  switch (random() % 4) {
    case 0:
      return random() % 64;
    case 1:
      return random();
    case 2:
      return ~std::uint64_t{0} - random() % 64;
    default:
      return (random() % 8) << 32 | random() % 16;
  }
}

TEST(PersistentMapTest, BehavesLikeAnOrderedMap) {
  std::mt19937_64 random(1);
  std::map<std::uint64_t, int> model;
  Map map;
  Map kept;
  std::map<std::uint64_t, int> kept_model;
  for (int step = 0; step < 20000; ++step) {
    const std::uint64_t key = random_key(random);
    if (random() % 3 != 0) {
      model[key] = step;
      map.insert(key, step);
    } else {
      model.erase(key);
      map.erase(key);
    }
    ASSERT_EQ(map.size(), model.size());

    const std::uint64_t probe = random_key(random);
    const auto at = model.find(probe);
    const int* found = map.find(probe);
    ASSERT_EQ(found != nullptr, at != model.end());
    if (found != nullptr) {
      ASSERT_EQ(*found, at->second);
    }

    const auto above = model.lower_bound(probe);
    const auto first = map.first_from(probe);
    ASSERT_EQ(first.has_value(), above != model.end()) << probe;
    if (first) {
      ASSERT_EQ(first->first, above->first);
    }

    const auto beyond = model.upper_bound(probe);
    const auto last = map.last_to(probe);
    ASSERT_EQ(last.has_value(), beyond != model.begin()) << probe;
    if (last) {
      ASSERT_EQ(last->first, std::prev(beyond)->first);
    }

    if (step % 500 == 0) {
      const std::vector<std::pair<std::uint64_t, int>> expected(model.begin(), model.end());
      ASSERT_EQ(content(map), expected);
      const std::vector<std::pair<std::uint64_t, int>> then(kept_model.begin(), kept_model.end());
      ASSERT_EQ(content(kept), then);
      kept = map;
      kept_model = model;
    }
  }
}

}  // namespace
}  // namespace xfrmfs::engine
