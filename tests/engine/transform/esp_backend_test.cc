// SPDX-License-Identifier: Apache-2.0
// Whichever library works, ESP's packets are the same; and its threads do not meet.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/crypto/random_pool.h"
#include "engine/transform/esp.h"
#include "tests/support/esp_suites.h"

namespace xfrmfs::engine {
namespace {

using testing::esp_backends;
using testing::esp_suites;
using testing::EspBackend;
using testing::EspSuite;

constexpr Spi kSpi{0x11223344};
constexpr std::size_t kSlot = 2048;

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + 7);
  return bytes;
}

/// A run of packets of all sizes.
class PacketRun {
 public:
  explicit PacketRun(std::size_t length) : memory_(length * kSlot) {}

  std::size_t length() const { return memory_.size() / kSlot; }
  std::size_t payload_size(std::size_t i) const { return 1 + (i * 97 + length() * 131) % 1500; }
  SeqNo sequence(std::size_t i) const { return (SeqNo{i} << 32) + length(); }
  const std::vector<std::byte>& memory() const { return memory_; }

  void seal(Esp& esp, CryptoLane* crypto) {
    std::vector<SealItem> items;
    for (std::size_t i = 0; i < length(); ++i) {
      std::byte* const packet = memory_.data() + i * kSlot;
      const auto payload = pattern(payload_size(i));
      std::memcpy(packet + esp.head_size(), payload.data(), payload.size());
      items.push_back({.packet = packet,
                       .room = kSlot,
                       .payload = packet + esp.head_size(),
                       .size = payload.size(),
                       .next_header = Protocol::kTcp,
                       .sequence = sequence(i)});
    }
    testing::FixedIvs ivs(pattern(16));
    esp.seal({.ivs = &ivs, .crypto = crypto}, items);
    for (const SealItem& item : items) EXPECT_TRUE(item.ok);
  }

  void expect_opens(Esp& esp, CryptoLane* crypto) {
    std::vector<OpenItem> items;
    for (std::size_t i = 0; i < length(); ++i) {
      items.push_back({.data = memory_.data() + i * kSlot,
                       .size = esp.sealed_size(payload_size(i)),
                       .sequence = sequence(i)});
    }
    esp.open({.crypto = crypto}, items);
    for (std::size_t i = 0; i < length(); ++i) {
      ASSERT_EQ(items[i].result, OpenResult::kOpened);
      ASSERT_TRUE(
          std::ranges::equal(Bytes(items[i].data, items[i].size), pattern(payload_size(i))));
    }
  }

 private:
  std::vector<std::byte> memory_;
};

class EspBackendTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  std::unique_ptr<Esp> make(const CryptoBackends& backends) const {
    return Esp::create(kSpi, true, esp_suites()[GetParam()].params, 1, IvOffset{0x2222}, backends)
        .value();
  }
};

/// Runs of every length, because a library may do a few packets otherwise than many. The last two
/// are as selected at start, with a thread's work space and without.
TEST_P(EspBackendTest, EveryLibraryMakesAndOpensTheSamePackets) {
  const auto judge = make(esp_backends().front().backends);
  const auto selected = CryptoBackends::select(BackendPreference::kAuto, testing::kLegacyPermitted);
  const auto lane = selected.make_lane();
  struct Case {
    std::string name;
    std::unique_ptr<Esp> esp;
    CryptoLane* crypto;
  };
  std::vector<Case> cases;
  for (const EspBackend& backend : esp_backends()) {
    cases.push_back({backend.name, make(backend.backends), backend.lane.get()});
  }
  cases.push_back({"selected", make(selected), lane.get()});
  cases.push_back({"selected, no lane", make(selected), nullptr});

  std::vector<std::size_t> lengths = {31, 32, 33, 63, 64, 65, 130};
  for (std::size_t length = 1; length <= 18; ++length) lengths.push_back(length);
  for (const std::size_t length : lengths) {
    PacketRun wanted(length);
    wanted.seal(*judge, nullptr);
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name + ", run of " + std::to_string(length));
      PacketRun run(length);
      run.seal(*c.esp, c.crypto);
      ASSERT_TRUE(run.memory() == wanted.memory());
      run.expect_opens(*c.esp, c.crypto);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Suites, EspBackendTest,
                         ::testing::Range(std::size_t{0}, esp_suites().size()),
                         [](const auto& case_info) { return esp_suites()[case_info.param].name; });

/// All threads in both directions at once, with one object.
TEST(EspThreadsTest, LanesWorkAtTheSameTime) {
  constexpr unsigned kLanes = 3;
  for (const EspBackend& backend : esp_backends()) {
    for (const char* name : {"gcm_128_icv16", "cbc_128_sha256_128"}) {
      SCOPED_TRACE(std::string(name) + " by " + backend.name);
      const auto& suite = *std::ranges::find(esp_suites(), name, &EspSuite::name);
      const auto esp =
          Esp::create(kSpi, false, suite.params, kLanes, std::nullopt, backend.backends).value();
      std::vector<std::thread> threads;
      std::atomic<unsigned> wrong = 0;
      for (unsigned lane = 0; lane < kLanes; ++lane) {
        threads.emplace_back([&, lane] {
          RandomPool ivs;
          const auto crypto = backend.backends.make_lane();
          const Lane own{.index = lane, .ivs = &ivs, .crypto = crypto.get()};
          const auto payload = pattern(300 + lane);
          std::vector<std::byte> packet(esp->sealed_size(payload.size()));
          for (SeqNo sequence = 1; sequence <= 200; ++sequence) {
            std::byte* const place = packet.data() + esp->head_size();
            std::memcpy(place, payload.data(), payload.size());
            SealItem sealed{.packet = packet.data(),
                            .room = packet.size(),
                            .payload = place,
                            .size = payload.size(),
                            .next_header = Protocol::kUdp,
                            .sequence = sequence};
            esp->seal(own, {&sealed, 1});
            OpenItem opened{.data = packet.data(), .size = packet.size(), .sequence = sequence};
            esp->open(own, {&opened, 1});
            if (opened.result != OpenResult::kOpened ||
                !std::ranges::equal(Bytes(opened.data, opened.size), payload)) {
              ++wrong;
            }
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      EXPECT_EQ(wrong, 0U);
    }
  }
}

}  // namespace
}  // namespace xfrmfs::engine
