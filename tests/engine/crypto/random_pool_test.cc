// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/random_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

TEST(RandomPoolTest, NeverRepeatsAcrossRefills) {
  RandomPool pool;
  std::set<std::string> seen;
  std::vector<std::byte> iv(16);
  const std::size_t count = 3 * RandomPool::kSize / iv.size() + 5;
  for (std::size_t i = 0; i < count; ++i) {
    pool.fill(iv);
    seen.insert(testing::to_hex(iv));
  }
  EXPECT_EQ(seen.size(), count);
}

TEST(RandomPoolTest, FillsAnySize) {
  RandomPool pool;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, RandomPool::kSize - 1,
                                 RandomPool::kSize, RandomPool::kSize + 1}) {
    SCOPED_TRACE(size);
    // One byte more than asked for, which must stay as it is; and no long run of zeros, which a
    // wiped pool would give.
    std::vector<std::byte> bytes(size + 1, std::byte{0x5a});
    pool.fill(MutableBytes(bytes).first(size));
    EXPECT_EQ(bytes.back(), std::byte{0x5a});
    const auto zeros = std::ranges::search_n(bytes, 8, std::byte{0});
    EXPECT_TRUE(zeros.empty());
  }
}

}  // namespace
}  // namespace xfrmfs::engine
