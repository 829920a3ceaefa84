// SPDX-License-Identifier: Apache-2.0
#include "engine/base/slab.h"

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace xfrmfs::engine {
namespace {

struct Block {
  unsigned char* memory;
  std::size_t size;
  unsigned char fill;
};

bool intact(const Block& block) {
  for (std::size_t i = 0; i < block.size; ++i) {
    if (block.memory[i] != block.fill) return false;
  }
  return true;
}

TEST(SlabTest, ObjectsAreAlignedAndDoNotOverlap) {
  std::mt19937 random(1);
  std::vector<Block> blocks;
  const std::size_t sizes[] = {1, 64, 640, 1000, 100'000, 400'000};
  for (int step = 0; step < 20000; ++step) {
    const bool grow = random() % 8 < (step / 3000 % 2 == 0 ? 6u : 2u);
    if (grow) {
      const std::size_t size = sizes[random() % (step % 100 == 0 ? 6 : 4)];
      Block block{static_cast<unsigned char*>(slab_allocate(size)), size,
                  static_cast<unsigned char>(random())};
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block.memory) % 64, 0u);
      std::memset(block.memory, block.fill, size);
      blocks.push_back(block);
    } else if (!blocks.empty()) {
      const std::size_t at = random() % blocks.size();
      ASSERT_TRUE(intact(blocks[at]));
      slab_free(blocks[at].memory, blocks[at].size);
      blocks[at] = blocks.back();
      blocks.pop_back();
    }
  }
  for (const Block& block : blocks) {
    ASSERT_TRUE(intact(block));
    slab_free(block.memory, block.size);
  }
}

TEST(SlabTest, SharedObjectsAreDestroyed) {
  auto counted = std::make_shared<int>(1);
  auto holder = make_shared_in_slab<std::pair<std::shared_ptr<int>, int>>(counted, 2);
  EXPECT_EQ(counted.use_count(), 2);
  holder.reset();
  EXPECT_EQ(counted.use_count(), 1);
}

}  // namespace
}  // namespace xfrmfs::engine
