// SPDX-License-Identifier: Apache-2.0
#include "engine/base/sharded_index.h"

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace xfrmfs::engine {
namespace {

using Index = ShardedIndex<std::uint64_t>;

std::multiset<std::uint64_t> values_under(const Index& index, std::uint64_t hash) {
  std::multiset<std::uint64_t> found;
  index.visit(hash, [&](std::uint64_t value) {
    found.insert(value);
    return true;
  });
  return found;
}

/// Few shards, and in them few places where searches begin; 0 among them.
std::uint64_t crowded_hash(std::mt19937_64& random) {
  return (random() % 3) << 61 | random() % 48;
}

TEST(ShardedIndexTest, BehavesLikeAMultimap) {
  std::mt19937_64 random(1);
  Index index;
  Garbage garbage;
  std::map<std::uint64_t, std::multiset<std::uint64_t>> model;
  std::size_t size = 0;
  for (std::uint64_t step = 1; step < 20000; ++step) {
    const std::uint64_t hash = crowded_hash(random);
    auto& there = model[hash];
    // Waves, so that shards grow, shrink and fill with places that were used before.
    const bool grow = random() % 8 < (step / 2000 % 2 == 0 ? 5u : 3u);
    if (grow) {
      index.insert(hash, step, garbage);
      there.insert(step);
      ++size;
    } else if (!there.empty() && random() % 4 == 0) {
      index.replace(hash, *there.begin(), step);
      there.erase(there.begin());
      there.insert(step);
    } else if (!there.empty()) {
      index.erase(hash, *there.begin(), garbage);
      there.erase(there.begin());
      --size;
    }
    ASSERT_EQ(index.size(), size);
    const std::uint64_t probe = crowded_hash(random);
    if (probe > 1 || model[0].empty() || model[1].empty()) {  // 0 and 1 share a key
      ASSERT_EQ(values_under(index, probe <= 1 && model[probe].empty() ? probe ^ 1 : probe),
                model[probe <= 1 && model[probe].empty() ? probe ^ 1 : probe]);
    }
  }
  EXPECT_FALSE(garbage.empty());
}

TEST(ShardedIndexTest, WhatStaysIsAlwaysFound) {
  Index index;
  Garbage garbage;
  std::mt19937_64 random(2);
  std::vector<std::uint64_t> stay(200);
  for (auto& hash : stay) {
    hash = random() >> 10;  // one shard
    index.insert(hash, hash, garbage);
  }
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> missed{0};
  std::vector<std::jthread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
        for (const auto hash : stay) {
          bool seen = false;
          index.visit(hash, [&](std::uint64_t value) {
            seen = seen || value == hash;
            return !seen;
          });
          if (!seen) missed.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  for (int round = 0; round < 100; ++round) {
    std::vector<std::uint64_t> come(500);
    for (auto& hash : come) {
      hash = random() >> 10;
      index.insert(hash, hash, garbage);
    }
    for (const auto hash : come) index.erase(hash, hash, garbage);
  }
  done = true;
  readers.clear();
  EXPECT_EQ(missed.load(), 0u);
}

}  // namespace
}  // namespace xfrmfs::engine
