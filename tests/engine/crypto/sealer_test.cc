// SPDX-License-Identifier: Apache-2.0
// Sealers below ESP: text of any content, in place and from elsewhere.

#include "engine/crypto/sealer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/crypto/algorithm.h"
#include "tests/support/esp_suites.h"
#include "tests/support/hex.h"
#include "tests/support/vector_file.h"

namespace xfrmfs::engine {
namespace {

using testing::esp_suites;
using testing::to_hex;

std::vector<std::byte> joined(std::initializer_list<Bytes> parts) {
  std::vector<std::byte> all;
  for (const Bytes part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::unique_ptr<SealerFactory> factory_of(const CryptoParams& params) {
  auto factory = make_sealer_factory(params);
  if (!factory) throw std::runtime_error(factory.error().message);
  return std::move(*factory);
}

TEST(SealerTest, GcmGivesPublishedPackets) {
  const auto vectors = testing::read_vectors("vectors/mcgrew_gcm_esp.txt");
  EXPECT_EQ(vectors.size(), 14U);
  for (const auto& vector : vectors) {
    SCOPED_TRACE("case " + vector.text("case"));
    CryptoParams params;
    params.aead = AeadParams{"rfc4106(gcm(aes))",
                             Secret(joined({vector.bytes("key"), vector.bytes("salt")})), 128};
    const auto factory = factory_of(params);
    const bool extended = vector.decimal("esn") == 1;
    const SeqNo sequence = vector.hex_number("sequence");
    const auto text = vector.bytes("text");
    std::vector<std::byte> low(4);
    store_be32(low.data(), static_cast<std::uint32_t>(sequence));
    auto packet =
        joined({vector.bytes("spi"), low, vector.bytes("iv"), text, std::vector<std::byte>(16)});
    const auto sealed = joined({vector.bytes("spi"), low, vector.bytes("iv"),
                                vector.bytes("ciphertext"), vector.bytes("icv")});

    Box box{.packet = packet.data(),
            .text_size = static_cast<std::uint32_t>(text.size()),
            .sequence = sequence};
    factory->make_sealer(extended)->seal({&box, 1});
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(packet), to_hex(sealed));
    factory->make_opener(extended)->open({&box, 1});
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(Bytes(packet).subspan(16, text.size())), vector.text("text"));
  }
}

TEST(SealerTest, CbcGivesPublishedCiphertext) {
  for (const auto& vector : testing::read_vectors("vectors/rfc3602_aes_cbc.txt")) {
    SCOPED_TRACE("case " + vector.text("case"));
    CryptoParams params;
    params.cipher = CipherParams{"cbc(aes)", Secret(vector.bytes("key"))};
    params.mac = MacParams{"hmac(sha256)", Secret(vector.bytes("key")), 128};
    const auto factory = factory_of(params);
    const auto text = vector.bytes("text");
    auto packet =
        joined({std::vector<std::byte>(8), vector.bytes("iv"), text, std::vector<std::byte>(16)});
    Box box{.packet = packet.data(), .text_size = static_cast<std::uint32_t>(text.size())};
    factory->make_sealer(false)->seal({&box, 1});
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(Bytes(packet).subspan(24, text.size())), vector.text("ciphertext"));
    factory->make_opener(false)->open({&box, 1});
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(Bytes(packet).subspan(24, text.size())), vector.text("text"));
  }
}

/// Clear text that lies elsewhere gives the same packet, wherever its borders are.
TEST(SealerTest, SealsFromElsewhereAsInPlace) {
  constexpr std::uint32_t kText = 96;
  std::vector<std::byte> clear(kText);
  for (std::size_t i = 0; i < clear.size(); ++i) clear[i] = static_cast<std::byte>(i * 13 + 1);

  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    const auto factory = factory_of(suite.params);
    const BoxShape shape = factory->shape();
    const std::size_t head = std::size_t{8} + shape.iv_size;
    const auto sealer = factory->make_sealer(true);
    const auto seal = [&](const std::byte* source, std::uint32_t offset, std::uint32_t size) {
      std::vector<std::byte> packet(head + kText + shape.icv_size, std::byte{0x77});
      std::memcpy(packet.data() + head, clear.data(), clear.size());
      if (source != nullptr) std::memset(packet.data() + head + offset, 0xee, size);
      Box box{.packet = packet.data(),
              .text_size = kText,
              .sequence = 0x100000002,
              .source = source == nullptr ? nullptr : source + offset,
              .source_offset = offset,
              .source_size = size};
      sealer->seal({&box, 1});
      EXPECT_EQ(box.result, BoxResult::kDone);
      return packet;
    };
    const auto wanted = seal(nullptr, 0, 0);
    const std::vector<std::byte> source = clear;
    for (std::uint32_t offset = 0; offset <= kText; ++offset) {
      for (std::uint32_t size = 0; offset + size <= kText; ++size) {
        ASSERT_EQ(seal(source.data(), offset, size), wanted) << offset << " " << size;
      }
    }
    EXPECT_EQ(source, clear);
  }
}

TEST(SealerTest, NoticesEveryChangedBit) {
  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    testing::EspForger forger(suite.params, false);
    const std::vector<std::byte> text(16, std::byte{0x42});
    const auto packet = forger.forge(Spi{0x1234}, 7, text);
    const auto opener = factory_of(suite.params)->make_opener(false);
    for (std::size_t bit = 0; bit <= packet.size() * 8; ++bit) {
      auto copy = packet;
      const bool changed = bit < packet.size() * 8;  // the last round is the packet as it was
      if (changed) copy[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      Box box{.packet = copy.data(), .text_size = 16, .sequence = 7};
      opener->open({&box, 1});
      ASSERT_EQ(box.result, changed ? BoxResult::kIcvWrong : BoxResult::kDone) << "bit " << bit;
    }
  }
}

TEST(SealerTest, AuthenticatesTheHighHalfOnlyWithEsn) {
  for (const auto& suite : esp_suites()) {
    for (const bool extended : {false, true}) {
      SCOPED_TRACE(suite.name + (extended ? " with ESN" : ""));
      testing::EspForger forger(suite.params, extended);
      const std::vector<std::byte> text(16);
      auto packet = forger.forge(Spi{1}, 0x500000001, text);
      const auto opener = factory_of(suite.params)->make_opener(extended);
      Box box{.packet = packet.data(), .text_size = 16, .sequence = 0x600000001};
      opener->open({&box, 1});
      EXPECT_EQ(box.result, extended ? BoxResult::kIcvWrong : BoxResult::kDone);
    }
  }
}

/// One bad box in a run does not touch its neighbours.
TEST(SealerTest, JudgesEachBoxOfARunAlone) {
  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    testing::EspForger forger(suite.params, false);
    std::vector<std::vector<std::byte>> packets;
    std::vector<Box> run;
    for (SeqNo sequence = 1; sequence <= 5; ++sequence) {
      packets.push_back(forger.forge(Spi{9}, sequence, std::vector<std::byte>(32)));
      run.push_back({.packet = packets.back().data(), .text_size = 32, .sequence = sequence});
    }
    packets[2].back() ^= std::byte{1};
    factory_of(suite.params)->make_opener(false)->open(run);
    for (std::size_t i = 0; i < run.size(); ++i) {
      EXPECT_EQ(run[i].result, i == 2 ? BoxResult::kIcvWrong : BoxResult::kDone) << i;
    }
  }
}

TEST(SealerTest, RefusesBrokenBlocks) {
  for (const auto& suite : esp_suites()) {
    const auto factory = factory_of(suite.params);
    if (factory->shape().alignment == 4) continue;
    SCOPED_TRACE(suite.name);
    std::vector<std::byte> packet(200);
    Box box{.packet = packet.data(), .text_size = 17};
    factory->make_sealer(false)->seal({&box, 1});
    EXPECT_EQ(box.result, BoxResult::kFailed);
  }
}

}  // namespace
}  // namespace xfrmfs::engine
