// SPDX-License-Identifier: Apache-2.0
// Published ESP packets through the whole transform, both ways.

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/esp.h"
#include "tests/support/esp_suites.h"
#include "tests/support/hex.h"
#include "tests/support/vector_file.h"

namespace xfrmfs::engine {
namespace {

using testing::EspBackend;
using testing::FixedIvs;
using testing::to_hex;
using testing::VectorRecord;

Protocol next_header_of(const VectorRecord& vector) {
  return Protocol{static_cast<std::uint8_t>(vector.decimal("next_header"))};
}

/// The packet that ESP makes of the vector's payload.
std::vector<std::byte> seal(Esp& esp, const Lane& lane, const VectorRecord& vector,
                            SeqNo sequence) {
  const auto payload = vector.bytes("payload");
  std::vector<std::byte> memory(esp.sealed_size(payload.size()));
  std::byte* const place = memory.data() + esp.head_size();
  std::copy(payload.begin(), payload.end(), place);
  SealItem item{.packet = memory.data(),
                .room = memory.size(),
                .payload = place,
                .size = payload.size(),
                .next_header = next_header_of(vector),
                .sequence = sequence};
  esp.seal(lane, {&item, 1});
  EXPECT_TRUE(item.ok);
  EXPECT_EQ(item.size, memory.size());
  return memory;
}

OpenItem open(Esp& esp, const Lane& lane, std::vector<std::byte>& packet, SeqNo sequence) {
  OpenItem item{.data = packet.data(), .size = packet.size(), .sequence = sequence};
  esp.open(lane, {&item, 1});
  return item;
}

class EspVectorsTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  const EspBackend& backend() const { return testing::esp_backends()[GetParam()]; }
};

TEST_P(EspVectorsTest, Aead) {
  std::vector<VectorRecord> vectors;
  for (const char* const file :
       {"vectors/mcgrew_gcm_esp.txt", "vectors/rfc7634_chacha20_poly1305.txt"}) {
    for (VectorRecord& vector : testing::read_vectors(file)) vectors.push_back(std::move(vector));
  }
  EXPECT_EQ(vectors.size(), 14U + 1U);
  for (const auto& vector : vectors) {
    SCOPED_TRACE(vector.text("algorithm") + " case " + vector.text("case"));
    const bool extended = vector.decimal("esn") == 1;
    const SeqNo sequence = vector.hex_number("sequence");
    auto key = vector.bytes("key");
    for (const std::byte b : vector.bytes("salt")) key.push_back(b);
    CryptoParams params;
    const auto icv_bits = static_cast<std::uint32_t>(vector.bytes("icv").size() * 8);
    params.aead = AeadParams{vector.text("algorithm"), Secret(key), icv_bits};
    const auto esp =
        Esp::create(Spi{static_cast<std::uint32_t>(vector.hex_number("spi"))}, extended, params, 1,
                    IvOffset{vector.hex_number("iv") ^ sequence}, backend().backends);
    ASSERT_TRUE(esp);

    const Lane lane{.crypto = backend().lane.get()};
    auto packet = seal(**esp, lane, vector, sequence);
    EXPECT_EQ(to_hex(Bytes(packet).first(4)), vector.text("spi"));
    EXPECT_EQ(load_be32(&packet[4]), static_cast<std::uint32_t>(sequence));
    EXPECT_EQ(to_hex(Bytes(packet).subspan(8)),
              vector.text("iv") + vector.text("ciphertext") + vector.text("icv"));

    const OpenItem item = open(**esp, lane, packet, sequence);
    if (vector.text("payload").empty()) {  // case 12 protects nothing, which is refused
      EXPECT_EQ(item.result, OpenResult::kMalformed);
      continue;
    }
    EXPECT_EQ(item.result, OpenResult::kOpened);
    EXPECT_EQ(to_hex({item.data, item.size}), vector.text("payload"));
    EXPECT_EQ(item.next_header, next_header_of(vector));
  }
}

/// The RFC's packets have no ICV, so one is added and everything in front of it compared.
TEST_P(EspVectorsTest, AesCbc) {
  std::size_t packets = 0;
  for (const auto& vector : testing::read_vectors("vectors/rfc3602_aes_cbc.txt")) {
    if (!vector.has("spi")) continue;
    SCOPED_TRACE("case " + vector.text("case"));
    const SeqNo sequence = vector.hex_number("sequence");
    CryptoParams params;
    params.cipher = CipherParams{"cbc(aes)", Secret(vector.bytes("key"))};
    params.mac = MacParams{"hmac(sha1)", Secret(vector.bytes("key")), 96};
    const auto esp = Esp::create(Spi{static_cast<std::uint32_t>(vector.hex_number("spi"))}, false,
                                 params, 1, std::nullopt, backend().backends);
    ASSERT_TRUE(esp);

    FixedIvs ivs(vector.bytes("iv"));
    const Lane lane{.ivs = &ivs, .crypto = backend().lane.get()};
    auto packet = seal(**esp, lane, vector, sequence);
    EXPECT_EQ(to_hex(Bytes(packet).first(packet.size() - 12)),
              vector.text("spi") + vector.text("sequence") + vector.text("iv") +
                  vector.text("ciphertext"));

    const OpenItem item = open(**esp, lane, packet, sequence);
    EXPECT_EQ(item.result, OpenResult::kOpened);
    EXPECT_EQ(to_hex({item.data, item.size}), vector.text("payload"));
    EXPECT_EQ(item.next_header, next_header_of(vector));
    ++packets;
  }
  EXPECT_EQ(packets, 4U);
}

/// Every algorithm, as another implementation seals it.
TEST_P(EspVectorsTest, Libgcrypt) {
  std::size_t packets = 0;
  for (const auto& vector : testing::read_vectors("vectors/libgcrypt_esp.txt")) {
    SCOPED_TRACE("case " + vector.text("case"));
    const bool extended = vector.decimal("esn") == 1;
    const SeqNo sequence = vector.hex_number("sequence");
    const auto iv = vector.bytes("iv");
    const auto icv_bits = static_cast<std::uint32_t>(vector.bytes("icv").size() * 8);
    CryptoParams params;
    if (vector.has("aead")) {
      params.aead = AeadParams{vector.text("aead"), Secret(vector.bytes("key")), icv_bits};
    } else {
      params.cipher = CipherParams{vector.text("cipher"), Secret(vector.bytes("key"))};
      params.mac = MacParams{vector.text("mac"), Secret(vector.bytes("mac_key")), icv_bits};
    }
    const IvOffset offset{iv.size() == 8 ? vector.hex_number("iv") ^ sequence : 0};
    const auto esp = Esp::create(Spi{static_cast<std::uint32_t>(vector.hex_number("spi"))},
                                 extended, params, 1, offset, backend().backends);
    if (!esp) {  // libcrypto without its provider "legacy"
      EXPECT_NE(find_cipher(vector.text("cipher"))->standing, CipherStanding::kCurrent);
      continue;
    }
    FixedIvs ivs(iv);
    const Lane lane{.ivs = &ivs, .crypto = backend().lane.get()};
    auto packet = seal(**esp, lane, vector, sequence);
    EXPECT_EQ(to_hex(Bytes(packet).first(4)), vector.text("spi"));
    EXPECT_EQ(load_be32(&packet[4]), static_cast<std::uint32_t>(sequence));
    EXPECT_EQ(to_hex(Bytes(packet).subspan(8)),
              vector.text("iv") + vector.text("ciphertext") + vector.text("icv"));
    const OpenItem item = open(**esp, lane, packet, sequence);
    EXPECT_EQ(item.result, OpenResult::kOpened);
    EXPECT_EQ(to_hex({item.data, item.size}), vector.text("payload"));
    EXPECT_EQ(item.next_header, next_header_of(vector));
    ++packets;
  }
  EXPECT_GE(packets, 104U - 3 * 2);
}

INSTANTIATE_TEST_SUITE_P(Backends, EspVectorsTest,
                         ::testing::Range(std::size_t{0}, testing::esp_backends().size()),
                         [](const auto& case_info) {
                           return testing::esp_backends()[case_info.param].name;
                         });

}  // namespace
}  // namespace xfrmfs::engine
