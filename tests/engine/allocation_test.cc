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
#include "engine/engine.h"
#include "engine/transform/ah.h"
#include "engine/transform/esp.h"
#include "engine/transform/ipcomp.h"
#include "tests/support/esp_suites.h"
#include "tests/support/gateway.h"
#include "tests/support/hex.h"

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

constexpr std::size_t kPackets = 20;
constexpr std::size_t kRoom = 128;
constexpr std::size_t kPayload = 1400;

struct Traffic {
  std::array<std::array<std::byte, kPayload + kRoom>, kPackets> memory{};
  std::array<SealItem, kPackets> sealed;
  std::array<OpenItem, kPackets> opened;

  void run(Esp& esp, const Lane& lane, bool damage) {
    for (std::size_t i = 0; i < kPackets; ++i) {
      sealed[i] = {.packet = memory[i].data(),
                   .room = memory[i].size(),
                   .payload = memory[i].data() + esp.head_size(),
                   .size = kPayload,
                   .next_header = Protocol::kIpip,
                   .sequence = i + 1};
    }
    esp.seal(lane, sealed);
    for (std::size_t i = 0; i < kPackets; ++i) {
      opened[i] = {
          .data = sealed[i].packet, .size = sealed[i].size, .sequence = sealed[i].sequence};
      if (damage) sealed[i].packet[20] ^= std::byte{1};
    }
    esp.open(lane, opened);
  }
};

TEST(AllocationTest, HooksCount) {
  ASSERT_TRUE(g_hooked);
  const long before = g_allocations;
  CRYPTO_free(CRYPTO_malloc(1, "", 0), "", 0);
  ::operator delete(::operator new(1));  // a call, which the compiler may not leave out
  EXPECT_EQ(g_allocations, before + 2);
}

void expect_no_allocation(const testing::EspSuite& suite, const testing::EspBackend& backend,
                          bool extended) {
  const auto esp =
      Esp::create(Spi{0x100}, extended, suite.params, 1, std::nullopt, backend.backends);
  ASSERT_TRUE(esp);
  RandomPool ivs;
  const Lane lane{.index = 0, .ivs = &ivs, .crypto = backend.lane.get()};
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

TEST(AllocationTest, EspAllocatesNothingPerPacket) {
  for (const auto& suite : testing::esp_suites()) {
    for (const auto& backend : testing::esp_backends()) {
      for (const bool extended : {false, true}) {
        SCOPED_TRACE(suite.name + " by " + backend.name + (extended ? " with ESN" : ""));
        expect_no_allocation(suite, backend, extended);
      }
    }
  }
}

TEST(AllocationTest, AhAllocatesNothingPerPacket) {
  for (const bool extended : {false, true}) {
    const std::array<std::byte, 32> key{};
    const auto ah = Ah::create(Spi{0x100}, extended, {.name = "hmac(sha256)", .key = Secret(key)},
                               AhAlignment::k8, 1);
    ASSERT_TRUE(ah);
    const auto header = testing::from_hex("45000064 12344000 40330000 c0000201 c6336409");
    std::array<std::byte, kPayload + kRoom> memory{};
    const auto round = [&](bool damage) {
      SealItem sealed{.packet = memory.data(),
                      .room = memory.size(),
                      .payload = memory.data() + (*ah)->head_size(),
                      .size = kPayload,
                      .sequence = 7,
                      .ip_header_size = 20,
                      .ip_header = header.data()};
      (*ah)->seal({}, {&sealed, 1});
      if (damage) memory[100] ^= std::byte{1};
      OpenItem opened{.data = memory.data(),
                      .size = sealed.size,
                      .sequence = 7,
                      .ip_header_size = 20,
                      .ip_header = header.data()};
      (*ah)->open({}, {&opened, 1});
      return opened.result;
    };
    const long before = g_allocations;
    for (int i = 0; i < 10; ++i) {
      if (round(false) != OpenResult::kOpened || round(true) != OpenResult::kIntegrityFailed) {
        FAIL() << "unexpected result";
      }
    }
    EXPECT_EQ(g_allocations, before);
  }
}

/// What shrinks, what does not, and what would not fit: zlib asks for memory in the last case.
TEST(AllocationTest, IpcompAllocatesNothingPerPacket) {
  const auto ipcomp = Ipcomp::create(Spi{0x100}, std::make_shared<DeflateLanes>(1));
  ASSERT_TRUE(ipcomp);
  std::array<std::byte, kPayload + kRoom> memory;
  std::array<std::byte, kPayload> place;
  const auto round = [&](bool noisy, std::size_t room) {
    std::uint32_t state = 1;
    for (auto& b : memory) {
      state = state * 1103515245 + 12345;
      b = static_cast<std::byte>(noisy ? state >> 16 : state >> 30);
    }
    SealItem sealed{.packet = memory.data(),
                    .room = memory.size(),
                    .payload = memory.data() + kIpcompHeaderSize,
                    .size = kPayload};
    (*ipcomp)->seal({}, {&sealed, 1});
    OpenItem opened{
        .data = memory.data(), .size = sealed.size, .place = place.data(), .room = room};
    (*ipcomp)->open({}, {&opened, 1});
    return sealed.ok && sealed.bare == noisy ? opened.result : OpenResult::kIntegrityFailed;
  };
  const long before = g_allocations;
  for (int i = 0; i < 10; ++i) {
    if (round(false, kPayload) != OpenResult::kOpened ||
        round(false, kPayload - 1) != OpenResult::kMalformed ||
        round(true, kPayload) != OpenResult::kMalformed) {
      FAIL() << "unexpected result";
    }
  }
  EXPECT_EQ(g_allocations, before);
}

/// Passes on what the paths make, a bit of every eighth single packet turned.
class Passer final : public WireSink, public ClearSink {
 public:
  void transmit(SealedPacket train) noexcept override {
    if (train.segment_size() == 0 && arrived.size() % 8 == 0) {
      train.data()[train.size() - 1] ^= std::byte{1};
    }
    arrived.push(std::move(train));
  }
  Joins joins() const noexcept override { return {.tcp = true, .udp = true}; }
  bool deliver(const ClearTrain&) noexcept override { return true; }

  Batch<SealedPacket> arrived;
};

/// Packets and trains through both paths, ten batches after the first.
TEST(AllocationTest, PathsAllocateNothingPerPacket) {
  using namespace testing;
  for (const auto& backend : testing::esp_backends()) {
    for (const bool cbc : {false, true}) {
      SCOPED_TRACE(backend.name + (cbc ? " cbc" : " gcm"));
      ManualClock clock;
      Engine engine(1, clock, backend.backends);
      const char* west = "192.1.2.45";
      const char* east = "192.1.2.23";
      ASSERT_TRUE(engine.add_sa(make(TunnelSa{.source = west, .destination = east, .cbc = cbc})));
      for (const Direction direction : {Direction::kOut, Direction::kIn}) {
        ASSERT_TRUE(engine.add_policy(make(TunnelPolicy{.direction = direction,
                                                        .source = "192.0.1.0/24",
                                                        .destination = "192.0.2.0/24",
                                                        .tunnel_source = west,
                                                        .tunnel_destination = east})));
      }
      engine.set_local_addresses({address(east), address("192.0.2.1")});
      engine.publish();
      const auto outbound = engine.make_outbound(0);
      const auto inbound = engine.make_inbound(0);
      PacketPool pool(4 * kBatch);
      const PacketData packet = make(UdpPacket{.source = "192.0.1.1", .destination = "192.0.2.1"});
      const PacketData stranger = make(UdpPacket{.source = "10.0.0.1", .destination = "10.0.0.2"});
      const Super train = Super::of(
          TcpPacket{.source = "192.0.1.1", .destination = "192.0.2.1", .payload_size = 40000},
          1000);
      auto clear = std::make_unique<Batch<ClearPacket>>();
      auto sink = std::make_unique<Passer>();

      const auto round = [&] {
        for (std::size_t i = 0; i < 32; ++i) {
          clear->push(ClearPacket(in_buffer(pool, i % 8 == 7 ? stranger : packet)));
        }
        clear->push(ClearPacket(in_buffer(pool, train.bytes), train.cut, train.segment_size));
        outbound->process(*clear, pool, *sink, *sink);
        inbound->process(sink->arrived, *sink);
      };
      round();
      const long before = g_allocations;
      for (int i = 0; i < 10; ++i) round();
      EXPECT_EQ(g_allocations, before);
      const CounterSums counted = engine.view().counters();
      EXPECT_EQ(counted[static_cast<std::size_t>(Mib::kOutDefaultBlock)], 11u * 4);
      EXPECT_EQ(counted[static_cast<std::size_t>(Mib::kInStateProtoError)], 11u * 4);
      EXPECT_EQ(
          engine.current().sad.by_serial().first_from(0)->second->get()->lifetime().usage().packets,
          11u * (28 + 40 + 24 + 40));
    }
  }
}

}  // namespace
}  // namespace xfrmfs::engine
