// SPDX-License-Identifier: Apache-2.0
// Sealers below ESP: text of any content, in place and from elsewhere.

#include "engine/crypto/sealer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/crypto/algorithm.h"
#include "tests/support/esp_suites.h"
#include "tests/support/hex.h"
#include "tests/support/vector_file.h"

namespace xfrmfs::engine {
namespace {

using testing::esp_backends;
using testing::esp_suites;
using testing::EspBackend;
using testing::to_hex;

std::vector<std::byte> joined(std::initializer_list<Bytes> parts) {
  std::vector<std::byte> all;
  for (const Bytes part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::unique_ptr<SealerFactory> factory_of(const CryptoParams& params,
                                          const CryptoBackends& backends) {
  auto factory = make_sealer_factory(params, backends);
  if (!factory) throw std::runtime_error(factory.error().message);
  return std::move(*factory);
}

class SealerTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  const EspBackend& backend() const { return esp_backends()[GetParam()]; }
  std::unique_ptr<SealerFactory> factory_of(const CryptoParams& params) const {
    return engine::factory_of(params, backend().backends);
  }
  CryptoLane* lane() const { return backend().lane.get(); }
};

TEST_P(SealerTest, GcmGivesPublishedPackets) {
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
    factory->make_sealer(extended)->seal({&box, 1}, lane());
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(packet), to_hex(sealed));
    factory->make_opener(extended)->open({&box, 1}, lane());
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(Bytes(packet).subspan(16, text.size())), vector.text("text"));
  }
}

TEST_P(SealerTest, CbcGivesPublishedCiphertext) {
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
    factory->make_sealer(false)->seal({&box, 1}, lane());
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(Bytes(packet).subspan(24, text.size())), vector.text("ciphertext"));
    factory->make_opener(false)->open({&box, 1}, lane());
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(to_hex(Bytes(packet).subspan(24, text.size())), vector.text("text"));
  }
}

/// Counter mode, and other block ciphers than AES.
TEST_P(SealerTest, OtherCiphersGivePublishedCiphertext) {
  std::size_t cases = 0;
  for (const char* const file : {"vectors/rfc3686_aes_ctr.txt", "vectors/block_ciphers_cbc.txt"}) {
    for (const auto& vector : testing::read_vectors(file)) {
      SCOPED_TRACE(std::string(file) + " case " + vector.text("case"));
      const std::string name =
          vector.has("algorithm") ? vector.text("algorithm") : "rfc3686(ctr(aes))";
      CryptoParams params;
      params.cipher = CipherParams{name, Secret(vector.bytes("key"))};
      params.mac = MacParams{"hmac(sha1)", Secret(vector.bytes("key")), 96};
      const auto factory = make_sealer_factory(params, backend().backends);
      if (!factory) {  // libcrypto without its provider "legacy"
        EXPECT_NE(find_cipher(name)->standing, CipherStanding::kCurrent);
        continue;
      }
      const auto iv = vector.bytes("iv");
      const auto text = vector.bytes("text");
      auto packet = joined({std::vector<std::byte>(8), iv, text, std::vector<std::byte>(12)});
      const auto sealed_text = [&] {
        return to_hex(Bytes(packet).subspan(8 + iv.size(), text.size()));
      };
      Box box{.packet = packet.data(), .text_size = static_cast<std::uint32_t>(text.size())};
      (*factory)->make_sealer(false)->seal({&box, 1}, lane());
      EXPECT_EQ(box.result, BoxResult::kDone);
      EXPECT_EQ(sealed_text(), vector.text("ciphertext"));
      (*factory)->make_opener(false)->open({&box, 1}, lane());
      EXPECT_EQ(box.result, BoxResult::kDone);
      EXPECT_EQ(sealed_text(), vector.text("text"));
      ++cases;
    }
  }
  EXPECT_GE(cases, 9U + 7U);
}

/// RFC 2410: the text is sent as it is. RFC 4543: likewise.
TEST_P(SealerTest, LeavesTextClearOnlyWhereItShould) {
  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    testing::EspForger forger(suite.params, false);
    const std::vector<std::byte> text(32, std::byte{0x42});
    const auto packet = forger.forge(Spi{1}, 7, text);
    const std::size_t head = std::size_t{8} + forger.shape().iv_size;
    const bool clear = std::equal(text.begin(), text.end(), &packet[head]);
    const std::string_view name =
        suite.params.aead ? suite.params.aead->name : suite.params.cipher->name;
    EXPECT_EQ(clear, name == "rfc4543(gcm(aes))" || name == "ecb(cipher_null)");
  }
}

TEST_P(SealerTest, RefusesAPacketWithoutItsEnd) {
  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    testing::EspForger forger(suite.params, true);
    auto packet = forger.forge(Spi{3}, 0x100000007, std::vector<std::byte>(64));
    Box box{.packet = packet.data(), .text_size = 64U - 16, .sequence = 0x100000007};
    factory_of(suite.params)->make_opener(true)->open({&box, 1}, lane());
    EXPECT_EQ(box.result, BoxResult::kIcvWrong);
  }
}

/// Clear text that lies elsewhere gives the same packet, and is read to its end and no further;
/// what is around packet and source stays as it was.
TEST_P(SealerTest, SealsFromElsewhereAsInPlace) {
  constexpr std::size_t kFence = 64;
  const auto fence = std::byte{0x77};
  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    const auto factory = factory_of(suite.params);
    const BoxShape shape = factory->shape();
    const std::size_t head = std::size_t{8} + shape.iv_size;
    const auto sealer = factory->make_sealer(true);
    const std::uint32_t unit = shape.alignment == 4 ? 1 : shape.alignment;
    for (std::uint32_t size = unit; size <= 600; size += unit) {
      std::vector<std::byte> clear(size);
      for (std::size_t i = 0; i < clear.size(); ++i) clear[i] = static_cast<std::byte>(i * 13 + 1);
      const auto seal = [&](bool elsewhere) {
        const auto source = std::make_unique<std::byte[]>(size);  // a sanitizer sees its end
        std::memcpy(source.get(), clear.data(), size);
        std::vector<std::byte> memory(kFence + head + size + shape.icv_size + kFence, fence);
        std::byte* const packet = memory.data() + kFence;
        if (!elsewhere) std::memcpy(packet + head, clear.data(), size);
        Box box{.packet = packet,
                .text_size = size,
                .sequence = 0x100000002,
                .source = elsewhere ? source.get() : nullptr};
        sealer->seal({&box, 1}, lane());
        EXPECT_EQ(box.result, BoxResult::kDone);
        EXPECT_TRUE(std::equal(clear.begin(), clear.end(), source.get()));
        for (std::size_t i = 0; i < kFence; ++i) {
          EXPECT_EQ(memory[i], fence);
          EXPECT_EQ(memory[memory.size() - 1 - i], fence);
        }
        return memory;
      };
      ASSERT_EQ(seal(true), seal(false)) << size;
    }
  }
}

/// Opening stays in the packet too.
TEST_P(SealerTest, OpensWithinThePacket) {
  constexpr std::size_t kFence = 64;
  const auto fence = std::byte{0x77};
  for (const auto& suite : esp_suites()) {
    SCOPED_TRACE(suite.name);
    testing::EspForger forger(suite.params, true);
    const auto opener = factory_of(suite.params)->make_opener(true);
    const std::uint32_t unit = forger.shape().alignment == 4 ? 1 : forger.shape().alignment;
    for (std::uint32_t size = 0; size <= 600; size += unit) {
      const std::vector<std::byte> text(size, std::byte{0x5a});
      const auto packet = forger.forge(Spi{1}, 0x100000001, text);
      std::vector<std::byte> memory(kFence + packet.size() + kFence, fence);
      std::copy(packet.begin(), packet.end(), memory.begin() + kFence);
      Box box{.packet = memory.data() + kFence, .text_size = size, .sequence = 0x100000001};
      opener->open({&box, 1}, lane());
      ASSERT_EQ(box.result, BoxResult::kDone) << size;
      const std::byte* const opened = box.packet + 8 + forger.shape().iv_size;
      ASSERT_TRUE(std::equal(text.begin(), text.end(), opened)) << size;
      for (std::size_t i = 0; i < kFence; ++i) {
        ASSERT_EQ(memory[i], fence);
        ASSERT_EQ(memory[memory.size() - 1 - i], fence);
      }
    }
  }
}

TEST_P(SealerTest, NoticesEveryChangedBit) {
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
      opener->open({&box, 1}, lane());
      ASSERT_EQ(box.result, changed ? BoxResult::kIcvWrong : BoxResult::kDone) << "bit " << bit;
    }
  }
}

TEST_P(SealerTest, AuthenticatesTheHighHalfOnlyWithEsn) {
  for (const auto& suite : esp_suites()) {
    for (const bool extended : {false, true}) {
      SCOPED_TRACE(suite.name + (extended ? " with ESN" : ""));
      testing::EspForger forger(suite.params, extended);
      const std::vector<std::byte> text(16);
      auto packet = forger.forge(Spi{1}, 0x500000001, text);
      const auto opener = factory_of(suite.params)->make_opener(extended);
      Box box{.packet = packet.data(), .text_size = 16, .sequence = 0x600000001};
      opener->open({&box, 1}, lane());
      EXPECT_EQ(box.result, extended ? BoxResult::kIcvWrong : BoxResult::kDone);
    }
  }
}

/// One bad box in a run does not touch its neighbours.
TEST_P(SealerTest, JudgesEachBoxOfARunAlone) {
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
    factory_of(suite.params)->make_opener(false)->open(run, lane());
    for (std::size_t i = 0; i < run.size(); ++i) {
      EXPECT_EQ(run[i].result, i == 2 ? BoxResult::kIcvWrong : BoxResult::kDone) << i;
    }
  }
}

/// ICVs that are shorter than the high half of a sequence number, that are no whole word, and keys
/// around the hash's block: as OpenSSL does them, and opened again.
TEST_P(SealerTest, AgreesOnUnusualMacs) {
  for (const char* const mac : {"hmac(sha1)", "hmac(sha256)", "hmac(sha384)", "hmac(sha512)",
                                "hmac(rmd160)", "hmac(sm3)"}) {
    for (const std::uint32_t bits : {8U, 24U, 31U, 32U, 40U, 100U, 160U}) {
      for (const std::size_t key_size : {0U, 1U, 63U, 64U, 65U, 127U, 128U, 129U, 200U}) {
        SCOPED_TRACE(std::string(mac) + " " + std::to_string(bits) + " bits, key " +
                     std::to_string(key_size));
        CryptoParams params;
        params.cipher =
            CipherParams{"cbc(aes)", Secret(std::vector<std::byte>(24, std::byte{0x17}))};
        params.mac =
            MacParams{mac, Secret(std::vector<std::byte>(key_size, std::byte{0x33})), bits};
        for (const bool extended : {false, true}) {
          testing::EspForger forger(params, extended);
          const std::vector<std::byte> text(48, std::byte{0x5a});
          const auto wanted = forger.forge(Spi{7}, 0x300000001, text);
          std::vector<std::byte> packet(wanted.begin(), wanted.end());
          std::copy(text.begin(), text.end(), packet.begin() + 24);
          std::fill(packet.begin() + 72, packet.end(), std::byte{0xee});
          Box box{.packet = packet.data(), .text_size = 48, .sequence = 0x300000001};
          const auto factory = factory_of(params);
          factory->make_sealer(extended)->seal({&box, 1}, lane());
          ASSERT_EQ(box.result, BoxResult::kDone);
          ASSERT_EQ(to_hex(packet), to_hex(wanted));
          factory->make_opener(extended)->open({&box, 1}, lane());
          ASSERT_EQ(box.result, BoxResult::kDone);
          ASSERT_TRUE(std::equal(text.begin(), text.end(), packet.begin() + 24));
        }
      }
    }
  }
}

TEST_P(SealerTest, RefusesBrokenBlocks) {
  for (const auto& suite : esp_suites()) {
    const auto factory = factory_of(suite.params);
    if (factory->shape().alignment == 4) continue;
    SCOPED_TRACE(suite.name);
    std::vector<std::byte> packet(200);
    Box box{.packet = packet.data(), .text_size = 17};
    factory->make_sealer(false)->seal({&box, 1}, lane());
    EXPECT_EQ(box.result, BoxResult::kFailed);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, SealerTest,
                         ::testing::Range(std::size_t{0}, esp_backends().size()),
                         [](const auto& case_info) {
                           return esp_backends()[case_info.param].name;
                         });

}  // namespace
}  // namespace xfrmfs::engine
