// SPDX-License-Identifier: Apache-2.0
// AH packets of others: a Linux kernel's, and scapy's. We open them, and seal them again byte for
// byte.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/ah.h"
#include "tests/support/golden_files.h"
#include "tests/support/hex.h"
#include "tests/support/vector_file.h"

namespace xfrmfs::engine {
namespace {

using testing::from_hex;
using testing::Row;
using testing::to_hex;

struct Known {
  SeqNo sequence = 0;
  Protocol next_header{};
  std::vector<std::byte> ip_header;
  std::vector<std::byte> payload;
  std::vector<std::byte> packet;  // from the AH header on
};

struct Opened {
  OpenResult result;
  Protocol next_header;
  std::vector<std::byte> payload;
};

Opened open(Ah& ah, const Known& known, std::vector<std::byte> packet) {
  OpenItem item{.data = packet.data(),
                .size = packet.size(),
                .sequence = known.sequence,
                .ip_header_size = static_cast<std::uint32_t>(known.ip_header.size()),
                .ip_header = known.ip_header.data()};
  ah.open({}, {&item, 1});
  return {item.result, item.next_header, {item.data, item.data + item.size}};
}

std::vector<std::byte> seal(Ah& ah, const Known& known) {
  std::vector<std::byte> packet(ah.sealed_size(known.payload.size()), std::byte{0x99});
  std::ranges::copy(known.payload, packet.begin() + static_cast<std::ptrdiff_t>(ah.head_size()));
  SealItem item{.packet = packet.data(),
                .room = packet.size(),
                .payload = packet.data() + ah.head_size(),
                .size = known.payload.size(),
                .next_header = known.next_header,
                .sequence = known.sequence,
                .ip_header_size = static_cast<std::uint32_t>(known.ip_header.size()),
                .ip_header = known.ip_header.data()};
  ah.seal({}, {&item, 1});
  EXPECT_TRUE(item.ok);
  EXPECT_FALSE(item.bare);
  EXPECT_EQ(item.size, packet.size());
  return packet;
}

void expect_opens(Ah& ah, const Known& known, const std::vector<std::byte>& packet) {
  const Opened opened = open(ah, known, packet);
  ASSERT_EQ(opened.result, OpenResult::kOpened);
  EXPECT_EQ(to_hex(opened.payload), to_hex(known.payload));
  EXPECT_EQ(opened.next_header, known.next_header);
  for (std::size_t i = 0; i < packet.size(); ++i) {
    auto damaged = packet;
    damaged[i] ^= std::byte{0x10};
    ASSERT_NE(open(ah, known, damaged).result, OpenResult::kOpened) << i;
  }
}

Spi spi_of(const std::string& text, int base) {
  return Spi{static_cast<std::uint32_t>(std::stoul(text, nullptr, base))};
}

TEST(AhGoldenTest, LinuxPackets) {
  std::size_t packets = 0;
  for (const Row& key : testing::read_tsv("golden/ah/keys.tsv")) {
    const MacParams params{.name = key[8],
                           .key = Secret(from_hex(key[9])),
                           .truncation_bits = static_cast<std::uint32_t>(std::stoul(key[10]))};
    const auto ah = Ah::create(spi_of(key[4], 0), key[11] == "1", params,
                               ah_alignment(Family::kIpv4, false), 1);
    ASSERT_TRUE(ah);
    const auto frames = testing::read_pcap("golden/ah/" + key[0] + ".pcap");
    for (const Row& row : testing::read_tsv("golden/ah/" + key[0] + ".plain.tsv")) {
      if (row[3] != key[4]) continue;
      SCOPED_TRACE(key[0] + " frame " + row[0]);
      const auto& frame = frames.at(std::stoul(row[0]) - 1);
      const Known known{.sequence = std::stoull(row[4]),
                        .next_header = Protocol{static_cast<std::uint8_t>(std::stoul(row[5]))},
                        .ip_header = {frame.begin(), frame.begin() + 20},
                        .payload = from_hex(row[7]),
                        .packet = {frame.begin() + 20, frame.end()}};
      expect_opens(**ah, known, known.packet);

      // The kernel's padding is what it had there, and counts; ours is zero.
      auto sealed = seal(**ah, known);
      ASSERT_EQ(sealed.size(), known.packet.size());
      const std::size_t icv_end = kAhFixedSize + (*ah)->icv_size();
      const std::size_t padding = (*ah)->head_size() - icv_end;
      EXPECT_EQ(padding, std::stoul(row[6]));
      if (padding == 0) {
        EXPECT_EQ(to_hex(sealed), to_hex(known.packet));
      } else {
        EXPECT_EQ(to_hex(Bytes(sealed).subspan(icv_end, padding)), "00000000");
        expect_opens(**ah, known, sealed);
        std::ranges::copy_n(known.packet.begin() + kAhFixedSize,
                            static_cast<std::ptrdiff_t>(icv_end + padding - kAhFixedSize),
                            sealed.begin() + kAhFixedSize);
        EXPECT_EQ(to_hex(sealed), to_hex(known.packet));
      }
      ++packets;
    }
  }
  EXPECT_EQ(packets, 24U);
}

/// Options, extension headers, extended sequence numbers.
TEST(AhGoldenTest, ScapyPackets) {
  std::size_t packets = 0;
  for (const auto& vector : testing::read_vectors("vectors/scapy_ah.txt")) {
    SCOPED_TRACE("case " + vector.text("case"));
    const MacParams params{.name = vector.text("algorithm"),
                           .key = Secret(vector.bytes("key")),
                           .truncation_bits = vector.decimal("truncation")};
    const Known known{
        .sequence = vector.hex_number("sequence"),
        .next_header = Protocol{static_cast<std::uint8_t>(vector.decimal("next_header"))},
        .ip_header = vector.bytes("ip_header"),
        .payload = vector.bytes("payload"),
        .packet = vector.bytes("packet")};
    const Family family = (known.ip_header[0] >> 4) == std::byte{4} ? Family::kIpv4 : Family::kIpv6;
    const auto ah = Ah::create(spi_of(vector.text("spi"), 16), vector.decimal("esn") == 1, params,
                               ah_alignment(family, true), 1);
    ASSERT_TRUE(ah);
    EXPECT_EQ(to_hex(seal(**ah, known)), to_hex(known.packet));
    expect_opens(**ah, known, known.packet);
    ++packets;
  }
  EXPECT_EQ(packets, 10U);
}

}  // namespace
}  // namespace xfrmfs::engine
