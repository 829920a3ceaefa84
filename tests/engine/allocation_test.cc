// SPDX-License-Identifier: Apache-2.0
// Does the packet path allocate?  It must not: neither through operator new nor inside libcrypto.

#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

#include "engine/crypto/random_pool.h"
#include "engine/transform/esp.h"
#include "tests/support/esp_suites.h"

namespace {

long g_allocations = 0;

void* counted_malloc(std::size_t size, const char*, int) {
  ++g_allocations;
  return std::malloc(size);
}
void* counted_realloc(void* old, std::size_t size, const char*, int) {
  ++g_allocations;
  return std::realloc(old, size);
}
void counted_free(void* memory, const char*, int) {
  std::free(memory);
}

// Before main, because libcrypto takes other allocators only before its first allocation.
const bool g_hooked = CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free) == 1;

}  // namespace

void* operator new(std::size_t size) {
  ++g_allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kPackets = 5;
constexpr std::size_t kRoom = 128;
constexpr std::size_t kPayload = 1400;

struct Traffic {
  std::array<std::array<std::byte, kRoom + kPayload + kRoom>, kPackets> memory{};
  std::array<SealItem, kPackets> sealed;
  std::array<OpenItem, kPackets> opened;

  void run(Esp& esp, const Lane& lane, bool damage) {
    for (std::size_t i = 0; i < kPackets; ++i) {
      sealed[i] = {.data = memory[i].data() + kRoom,
                   .size = kPayload,
                   .headroom = kRoom,
                   .tailroom = kRoom,
                   .next_header = Protocol::kIpip,
                   .sequence = i + 1};
    }
    esp.seal(lane, sealed);
    for (std::size_t i = 0; i < kPackets; ++i) {
      opened[i] = {.data = sealed[i].data, .size = sealed[i].size, .sequence = sealed[i].sequence};
      if (damage) sealed[i].data[20] ^= std::byte{1};
    }
    esp.open(lane, opened);
  }
};

TEST(AllocationTest, HooksCount) {
  ASSERT_TRUE(g_hooked);
  const long before = g_allocations;
  CRYPTO_free(CRYPTO_malloc(1, "", 0), "", 0);
  delete new int;
  EXPECT_EQ(g_allocations, before + 2);
}

TEST(AllocationTest, EspAllocatesNothingPerPacket) {
  for (const auto& suite : testing::esp_suites()) {
    for (const bool extended : {false, true}) {
      SCOPED_TRACE(suite.name + (extended ? " with ESN" : ""));
      const auto esp = Esp::create(Spi{0x100}, extended, suite.params, 1);
      ASSERT_TRUE(esp);
      RandomPool ivs;
      const Lane lane{.index = 0, .ivs = &ivs};
      auto traffic = std::make_unique<Traffic>();
      for (const bool damage : {false, true}) traffic->run(**esp, lane, damage);  // warm up

      const long before = g_allocations;
      for (int round = 0; round < 10; ++round) {
        for (const bool damage : {false, true}) {
          traffic->run(**esp, lane, damage);
          for (const auto& item : traffic->opened) {
            if (item.result != (damage ? OpenResult::kIntegrityFailed : OpenResult::kOpened)) {
              FAIL() << "unexpected result";
            }
          }
        }
      }
      EXPECT_EQ(g_allocations, before);
    }
  }
}

}  // namespace
}  // namespace xfrmfs::engine
