// SPDX-License-Identifier: Apache-2.0
// ESP at its edges: every size, every pad length, every room, for every suite.

#include "engine/transform/esp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/crypto/random_pool.h"
#include "tests/support/esp_suites.h"
#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::esp_suites;
using testing::EspForger;
using testing::EspSuite;
using testing::to_hex;

constexpr Spi kSpi{0x11223344};

std::unique_ptr<Esp> make_esp(const CryptoParams& params, bool extended = false,
                              unsigned lanes = 1) {
  auto esp = Esp::create(kSpi, extended, params, lanes);
  if (!esp) throw std::runtime_error(esp.error().message);
  return std::move(*esp);
}

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + 7);
  return bytes;
}

OpenItem open(Esp& esp, std::vector<std::byte>& packet, SeqNo sequence = 1) {
  OpenItem item{.data = packet.data(), .size = packet.size(), .sequence = sequence};
  esp.open({}, {&item, 1});
  return item;
}

/// Seals `payload` with exactly this much room. Memory outside the room must stay as it was.
std::optional<std::vector<std::byte>> seal(Esp& esp, const std::vector<std::byte>& payload,
                                           std::size_t headroom, std::size_t tailroom,
                                           SeqNo sequence = 1) {
  constexpr std::size_t kFence = 64;
  const auto fence = static_cast<std::byte>(0xab);
  std::vector<std::byte> memory(kFence + headroom + payload.size() + tailroom + kFence, fence);
  std::byte* const data = memory.data() + kFence + headroom;
  if (!payload.empty()) std::memcpy(data, payload.data(), payload.size());
  RandomPool ivs;
  SealItem item{.data = data,
                .size = payload.size(),
                .headroom = headroom,
                .tailroom = tailroom,
                .next_header = Protocol::kUdp,
                .sequence = sequence};
  esp.seal({.index = 0, .ivs = &ivs}, {&item, 1});
  for (std::size_t i = 0; i < kFence; ++i) {
    EXPECT_EQ(memory[i], fence);
    EXPECT_EQ(memory[memory.size() - 1 - i], fence);
  }
  if (!item.ok) {
    EXPECT_EQ(item.data, data);
    EXPECT_EQ(item.size, payload.size());
    return std::nullopt;
  }
  return std::vector<std::byte>(item.data, item.data + item.size);
}

class EspTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  const EspSuite& suite() const { return esp_suites()[GetParam()]; }
  std::size_t head(const Esp& esp) const { return kEspHeaderSize + esp.shape().iv_size; }
};

TEST_P(EspTest, OpensWhatItSealed) {
  for (const bool extended : {false, true}) {
    const auto esp = make_esp(suite().params, extended);
    for (std::size_t size = 1; size <= 80; ++size) {
      const SeqNo sequence = (extended ? 0x700000000ULL : 0) + size;
      const auto payload = pattern(size);
      auto packet = seal(*esp, payload, 100, 100, sequence);
      ASSERT_TRUE(packet);
      EXPECT_EQ(packet->size(), esp->sealed_size(size));
      EXPECT_EQ(load_be32(packet->data()), static_cast<std::uint32_t>(kSpi));
      EXPECT_EQ(load_be32(packet->data() + 4), size);
      const OpenItem item = open(*esp, *packet, sequence);
      ASSERT_EQ(item.result, OpenResult::kOpened) << size;
      EXPECT_EQ(to_hex({item.data, item.size}), to_hex(payload));
      EXPECT_EQ(item.next_header, Protocol::kUdp);
    }
  }
}

/// A1: every size from nothing to a little above the smallest packet, of garbage and of a real
/// packet cut off. Below header, IV and ICV nothing can be judged; above it, the ICV decides.
TEST_P(EspTest, SurvivesEverySize) {
  const auto esp = make_esp(suite().params);
  const std::size_t fixed = head(*esp) + esp->shape().icv_size;
  auto whole = seal(*esp, pattern(120), 100, 100);
  ASSERT_TRUE(whole);
  for (std::size_t size = 0; size <= fixed + 64; ++size) {
    SCOPED_TRACE(size);
    const auto wanted = size < fixed ? OpenResult::kMalformed : OpenResult::kIntegrityFailed;
    auto garbage = pattern(size);
    EXPECT_EQ(open(*esp, garbage).result, wanted);
    std::vector<std::byte> cut(whole->begin(), whole->begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(open(*esp, cut).result, wanted);
  }
}

/// Text of each size under a right ICV. Fewer than two bytes hold no trailer, two hold no payload.
TEST_P(EspTest, NeedsTrailerAndPayload) {
  const auto esp = make_esp(suite().params);
  EspForger forger(suite().params, false);
  const std::size_t block = esp->shape().alignment == 4 ? 1 : esp->shape().alignment;
  for (std::size_t size = 0; size <= 48; size += block) {
    SCOPED_TRACE(size);
    std::vector<std::byte> text(size, std::byte{0});  // pad length 0
    if (size > 0) text.back() = std::byte{17};
    auto packet = forger.forge(kSpi, 1, text);
    const OpenItem item = open(*esp, packet);
    EXPECT_EQ(item.result, size < 3 ? OpenResult::kMalformed : OpenResult::kOpened);
    if (size >= 3) {
      EXPECT_EQ(item.size, size - 2);
    }
  }
}

/// A2: a peer with the right keys claims more padding than there is text.
TEST_P(EspTest, RefusesPadLengthsThatReachBeyondTheText) {
  const auto esp = make_esp(suite().params);
  EspForger forger(suite().params, false);
  for (const std::size_t size : {16U, 32U, 256U, 272U}) {
    for (std::size_t pad = 0; pad <= 255; ++pad) {
      SCOPED_TRACE(std::to_string(size) + " bytes, pad " + std::to_string(pad));
      auto text = pattern(size);
      text[size - 2] = static_cast<std::byte>(pad);
      text[size - 1] = std::byte{4};
      auto packet = forger.forge(kSpi, 1, text);
      const OpenItem item = open(*esp, packet);
      if (pad + 2 < size) {
        ASSERT_EQ(item.result, OpenResult::kOpened);
        ASSERT_EQ(item.size, size - 2 - pad);
        ASSERT_EQ(item.data, packet.data() + head(*esp));
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
  const auto esp = make_esp(suite().params);
  EspForger forger(suite().params, false);
  std::vector<std::byte> text(16);
  text.back() = std::byte{59};
  auto packet = forger.forge(kSpi, 1, text);
  EXPECT_EQ(open(*esp, packet).result, OpenResult::kMalformed);
}

/// A broken number of cipher blocks is a matter for the ICV first, as in a kernel.
TEST_P(EspTest, JudgesTheIcvBeforeTheBlocks) {
  const auto esp = make_esp(suite().params);
  auto packet = seal(*esp, pattern(40), 100, 100);
  ASSERT_TRUE(packet);
  packet->insert(packet->end(), std::byte{0});
  EXPECT_EQ(open(*esp, *packet).result, OpenResult::kIntegrityFailed);
}

/// A8: exactly enough room on both sides is enough, one byte less is not.
TEST_P(EspTest, StaysInItsRoom) {
  const auto esp = make_esp(suite().params);
  for (const std::size_t size : {0U, 1U, 2U, 13U, 14U, 15U, 16U, 17U, 1399U, 1400U, 1401U}) {
    SCOPED_TRACE(size);
    const auto payload = pattern(size);
    const std::size_t front = head(*esp);
    const std::size_t back = esp->sealed_size(size) - front - size;
    EXPECT_TRUE(seal(*esp, payload, front, back));
    EXPECT_TRUE(seal(*esp, payload, front + 1, back + 1));
    EXPECT_FALSE(seal(*esp, payload, front - 1, back));
    EXPECT_FALSE(seal(*esp, payload, front, back - 1));
    EXPECT_FALSE(seal(*esp, payload, 0, 0));
  }
}

TEST_P(EspTest, RefusesMoreThanADatagram) {
  const auto esp = make_esp(suite().params);
  EXPECT_TRUE(seal(*esp, pattern(0xffff), 100, 100));
  EXPECT_FALSE(seal(*esp, pattern(0x10000), 100, 100));
  auto large = pattern(0x10000);
  EXPECT_EQ(open(*esp, large).result, OpenResult::kMalformed);
  large.resize(0xffff);
  EXPECT_EQ(open(*esp, large).result, OpenResult::kIntegrityFailed);
}

TEST_P(EspTest, SizesAreInverse) {
  const auto esp = make_esp(suite().params);
  const BoxShape shape = esp->shape();
  for (std::size_t payload = 0; payload <= 3000; ++payload) {
    const std::size_t size = esp->sealed_size(payload);
    EXPECT_EQ((size - head(*esp) - shape.icv_size) % shape.alignment, 0U);
    EXPECT_LT(size, payload + head(*esp) + 2 + shape.icv_size + shape.alignment);
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

/// A payload whose tail lies elsewhere gives the packet of one that is all in place.
TEST_P(EspTest, SealsFromElsewhere) {
  const IvOffset offset{0x1111};
  const auto esp = Esp::create(kSpi, true, suite().params, 1, offset);
  ASSERT_TRUE(esp);
  const auto payload = pattern(150);
  const auto run = [&](std::size_t split, bool elsewhere) {
    std::vector<std::byte> memory(100 + payload.size() + 100, std::byte{0x99});
    const auto middle = payload.begin() + static_cast<std::ptrdiff_t>(split);
    std::copy(payload.begin(), elsewhere ? middle : payload.end(), memory.begin() + 100);
    const std::vector<std::byte> rest(middle, payload.end());
    testing::FixedIvs ivs(pattern(16));
    SealItem item{.data = memory.data() + 100,
                  .size = payload.size(),
                  .headroom = 100,
                  .tailroom = 100,
                  .next_header = Protocol::kIpip,
                  .sequence = 0x200000003};
    if (elsewhere) {
      item.source = rest.data();
      item.source_at = split;
    }
    (*esp)->seal({.index = 0, .ivs = &ivs}, {&item, 1});
    EXPECT_TRUE(item.ok);
    return to_hex({item.data, item.size});
  };
  const std::string wanted = run(0, false);
  for (std::size_t split = 0; split <= payload.size(); ++split) {
    ASSERT_EQ(run(split, true), wanted) << split;
  }
}

/// Runs longer than the chunk that goes to the sealer at once, with failures in between.
TEST_P(EspTest, KeepsOrderInLongRuns) {
  const auto esp = make_esp(suite().params);
  constexpr std::size_t kRun = 100;
  constexpr std::size_t kSlot = 256;
  std::vector<std::byte> memory(kRun * kSlot);
  std::vector<SealItem> sealed(kRun);
  for (std::size_t i = 0; i < kRun; ++i) {
    std::byte* const data = memory.data() + i * kSlot + 64;
    data[0] = static_cast<std::byte>(i);
    sealed[i] = {.data = data,
                 .size = 1 + i % 50,
                 .headroom = i % 7 == 3 ? std::size_t{1} : std::size_t{64},
                 .tailroom = 120,
                 .next_header = Protocol::kTcp,
                 .sequence = i + 1};
  }
  RandomPool ivs;
  esp->seal({.index = 0, .ivs = &ivs}, sealed);
  std::vector<OpenItem> opened;
  for (std::size_t i = 0; i < kRun; ++i) {
    ASSERT_EQ(sealed[i].ok, i % 7 != 3) << i;
    if (i % 5 == 4) sealed[i].data[sealed[i].size - 1] ^= std::byte{1};
    const std::size_t size = sealed[i].ok ? sealed[i].size : 3;
    opened.push_back({.data = sealed[i].data, .size = size, .sequence = i + 1});
  }
  esp->open({}, opened);
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
  const auto esp = make_esp(suite().params, false, 3);
  RandomPool ivs;
  for (const unsigned lane : {0U, 1U, 2U}) {
    std::vector<std::byte> memory(300, std::byte{0x31});
    SealItem sealed{.data = memory.data() + 100,
                    .size = 100,
                    .headroom = 100,
                    .tailroom = 100,
                    .next_header = Protocol::kUdp,
                    .sequence = lane + 1};
    esp->seal({.index = lane, .ivs = &ivs}, {&sealed, 1});
    ASSERT_TRUE(sealed.ok);
    OpenItem opened{.data = sealed.data, .size = sealed.size, .sequence = lane + 1};
    esp->open({.index = 2 - lane, .ivs = nullptr}, {&opened, 1});
    EXPECT_EQ(opened.result, OpenResult::kOpened);
  }
}

INSTANTIATE_TEST_SUITE_P(Suites, EspTest, ::testing::Range(std::size_t{0}, esp_suites().size()),
                         [](const auto& case_info) { return esp_suites()[case_info.param].name; });

/// B5: the same key in another SA object must not meet the same IVs again.
TEST(EspIvTest, UniqueIvsStartAnywhereAndNeverRepeat) {
  const auto& suite = *std::ranges::find(esp_suites(), "gcm_128_icv16", &EspSuite::name);
  std::set<std::uint64_t> offsets;
  for (int instance = 0; instance < 20; ++instance) {
    const auto esp = make_esp(suite.params);
    std::set<std::uint64_t> seen;
    for (SeqNo sequence = 1; sequence <= 300; ++sequence) {
      const auto packet = seal(*esp, pattern(1), 100, 100, sequence);
      const std::uint64_t iv = load_be64(packet->data() + 8);
      EXPECT_TRUE(seen.insert(iv).second);
      offsets.insert(iv ^ sequence);
    }
  }
  EXPECT_EQ(offsets.size(), 20U);
}

TEST(EspIvTest, UnpredictableIvsComeFromTheLane) {
  const auto& suite = *std::ranges::find(esp_suites(), "cbc_128_sha256_128", &EspSuite::name);
  const auto esp = make_esp(suite.params);
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const auto packet = seal(*esp, pattern(1), 100, 100);
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
