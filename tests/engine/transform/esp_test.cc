// SPDX-License-Identifier: Apache-2.0
// ESP at its edges: every size, every pad length, every room, for every suite.

#include "engine/transform/esp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/crypto/random_pool.h"
#include "tests/support/esp_suites.h"
#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::esp_backends;
using testing::esp_suites;
using testing::EspBackend;
using testing::EspForger;
using testing::EspSuite;
using testing::to_hex;

constexpr Spi kSpi{0x11223344};

/// An ESP with a thread to call it.
struct Subject {
  std::unique_ptr<Esp> esp;
  CryptoLane* crypto = nullptr;

  Esp* operator->() const { return esp.get(); }
  Lane lane(IvSource* ivs = nullptr, unsigned index = 0) const {
    return {.index = index, .ivs = ivs, .crypto = crypto};
  }
};

Subject make_esp(const CryptoParams& params, const EspBackend& backend, bool extended = false,
                 unsigned lanes = 1, std::optional<IvOffset> offset = std::nullopt) {
  auto esp = Esp::create(kSpi, extended, params, lanes, offset, backend.backends);
  if (!esp) throw std::runtime_error(esp.error().message);
  return {std::move(*esp), backend.lane.get()};
}

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + 7);
  return bytes;
}

OpenItem open(const Subject& esp, std::vector<std::byte>& packet, SeqNo sequence = 1) {
  OpenItem item{.data = packet.data(), .size = packet.size(), .sequence = sequence};
  esp->open(esp.lane(), {&item, 1});
  return item;
}

constexpr std::size_t kAmple = 0x11000;  // room for anything

/// Seals `payload` in place with exactly this much room. Memory outside it must stay as it was.
std::optional<std::vector<std::byte>> seal(const Subject& esp,
                                           const std::vector<std::byte>& payload,
                                           SeqNo sequence = 1, std::size_t room = kAmple) {
  constexpr std::size_t kFence = 64;
  const auto fence = static_cast<std::byte>(0xab);
  const std::size_t whole = std::max(room, esp->head_size() + payload.size());
  std::vector<std::byte> memory(kFence + whole + kFence, fence);
  std::byte* const packet = memory.data() + kFence;
  std::byte* const place = packet + esp->head_size();
  if (!payload.empty()) std::memcpy(place, payload.data(), payload.size());
  RandomPool ivs;
  SealItem item{.packet = packet,
                .room = room,
                .payload = place,
                .size = payload.size(),
                .next_header = Protocol::kUdp,
                .sequence = sequence};
  esp->seal(esp.lane(&ivs), {&item, 1});
  EXPECT_EQ(item.packet, packet);
  for (std::size_t i = 0; i < kFence; ++i) {
    EXPECT_EQ(memory[i], fence);
    EXPECT_EQ(memory[memory.size() - 1 - i], fence);
  }
  if (!item.ok) {
    EXPECT_EQ(item.size, payload.size());
    return std::nullopt;
  }
  for (std::size_t i = item.size; i < room; ++i) {
    if (packet[i] != fence) ADD_FAILURE() << "byte " << i << " behind the packet";
  }
  return std::vector<std::byte>(packet, packet + item.size);
}

class EspTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  const EspSuite& suite() const { return esp_suites()[GetParam() % esp_suites().size()]; }
  const EspBackend& backend() const { return esp_backends()[GetParam() / esp_suites().size()]; }
  Subject subject(bool extended = false) const {
    return make_esp(suite().params, backend(), extended);
  }
};

TEST_P(EspTest, OpensWhatItSealed) {
  for (const bool extended : {false, true}) {
    const auto esp = subject(extended);
    for (std::size_t size = 1; size <= 80; ++size) {
      const SeqNo sequence = (extended ? 0x700000000ULL : 0) + size;
      const auto payload = pattern(size);
      auto packet = seal(esp, payload, sequence);
      ASSERT_TRUE(packet);
      EXPECT_EQ(packet->size(), esp->sealed_size(size));
      EXPECT_EQ(load_be32(packet->data()), static_cast<std::uint32_t>(kSpi));
      EXPECT_EQ(load_be32(packet->data() + 4), size);
      const OpenItem item = open(esp, *packet, sequence);
      ASSERT_EQ(item.result, OpenResult::kOpened) << size;
      EXPECT_EQ(to_hex({item.data, item.size}), to_hex(payload));
      EXPECT_EQ(item.next_header, Protocol::kUdp);
    }
  }
}

/// A1: every size from nothing to a little above the smallest packet, of garbage and of a real
/// packet cut off. Below header, IV and ICV nothing can be judged; above it, the ICV decides.
TEST_P(EspTest, SurvivesEverySize) {
  const auto esp = subject();
  const std::size_t fixed = esp->head_size() + esp->shape().icv_size;
  auto whole = seal(esp, pattern(120));
  ASSERT_TRUE(whole);
  for (std::size_t size = 0; size <= fixed + 64; ++size) {
    SCOPED_TRACE(size);
    const auto wanted = size < fixed ? OpenResult::kMalformed : OpenResult::kIntegrityFailed;
    auto garbage = pattern(size);
    EXPECT_EQ(open(esp, garbage).result, wanted);
    std::vector<std::byte> cut(whole->begin(), whole->begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(open(esp, cut).result, wanted);
  }
}

/// Text of each size under a right ICV. Fewer than two bytes hold no trailer, two hold no payload.
TEST_P(EspTest, NeedsTrailerAndPayload) {
  const auto esp = subject();
  EspForger forger(suite().params, false);
  const std::size_t block = esp->shape().alignment == 4 ? 1 : esp->shape().alignment;
  for (std::size_t size = 0; size <= 48; size += block) {
    SCOPED_TRACE(size);
    std::vector<std::byte> text(size, std::byte{0});  // pad length 0
    if (size > 0) text.back() = std::byte{17};
    auto packet = forger.forge(kSpi, 1, text);
    const OpenItem item = open(esp, packet);
    EXPECT_EQ(item.result, size < 3 ? OpenResult::kMalformed : OpenResult::kOpened);
    if (size >= 3) {
      EXPECT_EQ(item.size, size - 2);
    }
  }
}

/// A2: a peer with the right keys claims more padding than there is text.
TEST_P(EspTest, RefusesPadLengthsThatReachBeyondTheText) {
  const auto esp = subject();
  EspForger forger(suite().params, false);
  for (const std::size_t size : {16U, 32U, 256U, 272U}) {
    for (std::size_t pad = 0; pad <= 255; ++pad) {
      SCOPED_TRACE(std::to_string(size) + " bytes, pad " + std::to_string(pad));
      auto text = pattern(size);
      text[size - 2] = static_cast<std::byte>(pad);
      text[size - 1] = std::byte{4};
      auto packet = forger.forge(kSpi, 1, text);
      const OpenItem item = open(esp, packet);
      if (pad + 2 < size) {
        ASSERT_EQ(item.result, OpenResult::kOpened);
        ASSERT_EQ(item.size, size - 2 - pad);
        ASSERT_EQ(item.data, packet.data() + esp->head_size());
        ASSERT_EQ(to_hex({item.data, item.size}), to_hex(Bytes(text).first(item.size)));
      } else {
        ASSERT_EQ(item.result, OpenResult::kMalformed);
        ASSERT_EQ(item.data, packet.data());
        ASSERT_EQ(item.size, packet.size());
      }
    }
  }
}

TEST_P(EspTest, DropsDummyPackets) {
  const auto esp = subject();
  EspForger forger(suite().params, false);
  std::vector<std::byte> text(16);
  text.back() = std::byte{59};
  auto packet = forger.forge(kSpi, 1, text);
  EXPECT_EQ(open(esp, packet).result, OpenResult::kMalformed);
}

/// A broken number of cipher blocks is a matter for the ICV first, as in a kernel.
TEST_P(EspTest, JudgesTheIcvBeforeTheBlocks) {
  const auto esp = subject();
  auto packet = seal(esp, pattern(40));
  ASSERT_TRUE(packet);
  packet->insert(packet->end(), std::byte{0});
  EXPECT_EQ(open(esp, *packet).result, OpenResult::kIntegrityFailed);
}

/// A8: exactly enough room is enough, one byte less is not.
TEST_P(EspTest, StaysInItsRoom) {
  for (const bool extended : {false, true}) {
    const auto esp = subject(extended);
    for (const std::size_t size : {0U, 1U, 2U, 13U, 14U, 15U, 16U, 17U, 1399U, 1400U, 1401U}) {
      SCOPED_TRACE(size);
      const auto payload = pattern(size);
      const std::size_t room = esp->sealed_size(size);
      EXPECT_TRUE(seal(esp, payload, 1, room));
      EXPECT_TRUE(seal(esp, payload, 1, room + 1));
      EXPECT_FALSE(seal(esp, payload, 1, room - 1));
      EXPECT_FALSE(seal(esp, payload, 1, 0));
    }
  }
}

TEST_P(EspTest, RefusesMoreThanADatagram) {
  const auto esp = subject();
  EXPECT_TRUE(seal(esp, pattern(0xffff)));
  EXPECT_FALSE(seal(esp, pattern(0x10000)));
  auto large = pattern(0x10000);
  EXPECT_EQ(open(esp, large).result, OpenResult::kMalformed);
  large.resize(0xffff);
  EXPECT_EQ(open(esp, large).result, OpenResult::kIntegrityFailed);
}

TEST_P(EspTest, SizesAreInverse) {
  const auto esp = subject();
  const BoxShape shape = esp->shape();
  for (std::size_t payload = 0; payload <= 3000; ++payload) {
    const std::size_t size = esp->sealed_size(payload);
    EXPECT_EQ((size - esp->head_size() - shape.icv_size) % shape.alignment, 0U);
    EXPECT_LT(size, payload + esp->head_size() + 2 + shape.icv_size + shape.alignment);
    ASSERT_GE(esp->largest_payload(size), payload);
    ASSERT_LT(esp->largest_payload(size - 1), std::max<std::size_t>(payload, 1));
  }
  for (std::size_t size = 0; size <= 3000; ++size) {
    const std::size_t payload = esp->largest_payload(size);
    if (payload == 0) {
      ASSERT_GT(esp->sealed_size(1), size);
    } else {
      ASSERT_LE(esp->sealed_size(payload), size);
      ASSERT_GT(esp->sealed_size(payload + 1), size);
    }
  }
}

/// A payload that lies elsewhere gives the packet of one in place, whatever its size; only the
/// bytes of the trailer behind it change.
TEST_P(EspTest, SealsFromElsewhere) {
  const auto esp = make_esp(suite().params, backend(), true, 1, IvOffset{0x1111});
  for (std::size_t size = 1; size <= 300; ++size) {
    const auto payload = pattern(size);
    const auto run = [&](bool elsewhere) {
      std::vector<std::byte> packet(esp->sealed_size(size), std::byte{0x99});
      std::vector<std::byte> clear = payload;
      clear.resize(size + kSealTail + 16, std::byte{0x77});
      std::byte* const place = packet.data() + esp->head_size();
      if (!elsewhere) std::memcpy(place, payload.data(), size);
      testing::FixedIvs ivs(pattern(16));
      SealItem item{.packet = packet.data(),
                    .room = packet.size(),
                    .payload = elsewhere ? clear.data() : place,
                    .size = size,
                    .next_header = Protocol::kIpip,
                    .sequence = 0x200000003};
      esp->seal(esp.lane(&ivs), {&item, 1});
      EXPECT_TRUE(item.ok);
      EXPECT_TRUE(std::equal(payload.begin(), payload.end(), clear.begin()));
      for (std::size_t i = size + kSealTail; i < clear.size(); ++i) {
        EXPECT_EQ(clear[i], std::byte{0x77});
      }
      return packet;
    };
    ASSERT_EQ(to_hex(run(true)), to_hex(run(false))) << size;
  }
}

/// Runs longer than the chunk that goes to the sealer at once, with failures in between.
TEST_P(EspTest, KeepsOrderInLongRuns) {
  const auto esp = subject();
  constexpr std::size_t kRun = 100;
  constexpr std::size_t kSlot = 256;
  std::vector<std::byte> memory(kRun * kSlot);
  std::vector<SealItem> sealed(kRun);
  for (std::size_t i = 0; i < kRun; ++i) {
    std::byte* const packet = memory.data() + i * kSlot;
    std::byte* const payload = packet + esp->head_size();
    payload[0] = static_cast<std::byte>(i);
    sealed[i] = {.packet = packet,
                 .room = i % 7 == 3 ? std::size_t{20} : kSlot,
                 .payload = payload,
                 .size = 1 + i % 50,
                 .next_header = Protocol::kTcp,
                 .sequence = i + 1};
  }
  RandomPool ivs;
  esp->seal(esp.lane(&ivs), sealed);
  std::vector<OpenItem> opened;
  for (std::size_t i = 0; i < kRun; ++i) {
    ASSERT_EQ(sealed[i].ok, i % 7 != 3) << i;
    if (i % 5 == 4) sealed[i].packet[sealed[i].size - 1] ^= std::byte{1};
    const std::size_t size = sealed[i].ok ? sealed[i].size : 3;
    opened.push_back({.data = sealed[i].packet, .size = size, .sequence = i + 1});
  }
  esp->open(esp.lane(), opened);
  for (std::size_t i = 0; i < kRun; ++i) {
    if (i % 7 == 3) {
      EXPECT_EQ(opened[i].result, OpenResult::kMalformed) << i;
    } else if (i % 5 == 4) {
      EXPECT_EQ(opened[i].result, OpenResult::kIntegrityFailed) << i;
    } else {
      ASSERT_EQ(opened[i].result, OpenResult::kOpened) << i;
      EXPECT_EQ(opened[i].size, 1 + i % 50);
      EXPECT_EQ(opened[i].data[0], static_cast<std::byte>(i));
    }
  }
}

TEST_P(EspTest, LanesAreEqual) {
  const auto esp = make_esp(suite().params, backend(), false, 3);
  RandomPool ivs;
  for (const unsigned lane : {0U, 1U, 2U}) {
    std::vector<std::byte> memory(300, std::byte{0x31});
    SealItem sealed{.packet = memory.data(),
                    .room = memory.size(),
                    .payload = memory.data() + esp->head_size(),
                    .size = 100,
                    .next_header = Protocol::kUdp,
                    .sequence = lane + 1};
    esp->seal(esp.lane(&ivs, lane), {&sealed, 1});
    ASSERT_TRUE(sealed.ok);
    OpenItem opened{.data = sealed.packet, .size = sealed.size, .sequence = lane + 1};
    esp->open(esp.lane(nullptr, 2 - lane), {&opened, 1});
    EXPECT_EQ(opened.result, OpenResult::kOpened);
  }
}

INSTANTIATE_TEST_SUITE_P(Suites, EspTest,
                         ::testing::Range(std::size_t{0},
                                          esp_suites().size() * esp_backends().size()),
                         [](const auto& case_info) {
                           return esp_suites()[case_info.param % esp_suites().size()].name + "_" +
                                  esp_backends()[case_info.param / esp_suites().size()].name;
                         });

/// B5: the same key in another SA object must not meet the same IVs again.
TEST(EspIvTest, UniqueIvsStartAnywhereAndNeverRepeat) {
  const auto& suite = *std::ranges::find(esp_suites(), "gcm_128_icv16", &EspSuite::name);
  std::set<std::uint64_t> offsets;
  for (int instance = 0; instance < 20; ++instance) {
    const auto esp = make_esp(suite.params, esp_backends()[0]);
    std::set<std::uint64_t> seen;
    for (SeqNo sequence = 1; sequence <= 300; ++sequence) {
      const auto packet = seal(esp, pattern(1), sequence);
      const std::uint64_t iv = load_be64(packet->data() + 8);
      EXPECT_TRUE(seen.insert(iv).second);
      offsets.insert(iv ^ sequence);
    }
  }
  EXPECT_EQ(offsets.size(), 20U);
}

TEST(EspIvTest, UnpredictableIvsComeFromTheLane) {
  const auto& suite = *std::ranges::find(esp_suites(), "cbc_128_sha256_128", &EspSuite::name);
  const auto esp = make_esp(suite.params, esp_backends()[0]);
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const auto packet = seal(esp, pattern(1));
    seen.insert(to_hex(Bytes(*packet).subspan(8, 16)));
  }
  EXPECT_EQ(seen.size(), 100U);
}

TEST(EspCreateTest, RefusesBadParameters) {
  CryptoParams params;
  params.cipher = CipherParams{"cbc(aes)", Secret(pattern(16))};
  const auto esp = Esp::create(kSpi, false, params, 1);
  ASSERT_FALSE(esp);
  EXPECT_EQ(esp.error().error, EINVAL);
  EXPECT_NE(esp.error().message.find("without integrity"), std::string::npos);
}

}  // namespace
}  // namespace xfrmfs::engine
