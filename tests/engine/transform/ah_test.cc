// SPDX-License-Identifier: Apache-2.0
// What AH protects, what it lets pass, and what it refuses.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/ah.h"
#include "engine/transform/immutable_header.h"
#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::from_hex;
using testing::to_hex;

constexpr Spi kSpi{0x00c0ffee};
constexpr SeqNo kSequence = 0x500000007;

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  return bytes;
}

const std::vector<std::byte>& ipv4() {
  static const auto header = from_hex("4500 0064 1234 4000 40 33 0000 c0000201 c6336409");
  return header;
}
const std::vector<std::byte>& ipv6() {
  static const auto header = from_hex(
      "60000000 0100 33 40 20010db8000000000000000000000001"
      "20010db8000100000000000000000009");
  return header;
}

std::expected<std::unique_ptr<Ah>, ControlError> create(std::string_view name, std::uint32_t bits,
                                                        bool extended = false,
                                                        AhAlignment alignment = AhAlignment::k8,
                                                        unsigned lanes = 1) {
  return Ah::create(kSpi, extended,
                    {.name = name, .key = Secret(pattern(32)), .truncation_bits = bits}, alignment,
                    lanes);
}

SealItem seal_in(Ah& ah, const std::vector<std::byte>& ip_header, std::vector<std::byte>& memory,
                 std::size_t size, std::size_t room, SeqNo sequence = kSequence,
                 unsigned lane = 0) {
  SealItem item{.packet = memory.data(),
                .room = room,
                .payload = memory.data() + ah.head_size(),
                .size = size,
                .next_header = Protocol::kUdp,
                .sequence = sequence,
                .ip_header_size = static_cast<std::uint32_t>(ip_header.size()),
                .ip_header = ip_header.data()};
  ah.seal({.index = lane}, {&item, 1});
  return item;
}

/// The packet, from its AH header on.
std::vector<std::byte> seal(Ah& ah, const std::vector<std::byte>& ip_header,
                            const std::vector<std::byte>& payload, SeqNo sequence = kSequence,
                            unsigned lane = 0) {
  std::vector<std::byte> memory(ah.sealed_size(payload.size()));
  std::ranges::copy(payload, memory.begin() + static_cast<std::ptrdiff_t>(ah.head_size()));
  const SealItem item =
      seal_in(ah, ip_header, memory, payload.size(), memory.size(), sequence, lane);
  EXPECT_TRUE(item.ok);
  EXPECT_EQ(item.size, memory.size());
  return memory;
}

OpenItem open(Ah& ah, const std::vector<std::byte>& ip_header, std::vector<std::byte>& packet,
              SeqNo sequence = kSequence, unsigned lane = 0) {
  OpenItem item{.data = packet.data(),
                .size = packet.size(),
                .sequence = sequence,
                .ip_header_size = static_cast<std::uint32_t>(ip_header.size()),
                .ip_header = ip_header.data()};
  ah.open({.index = lane}, {&item, 1});
  return item;
}

TEST(AhTest, LaysTheHeaderOut) {
  const auto ah = create("hmac(sha256)", 128);
  ASSERT_TRUE(ah);
  const auto packet = seal(**ah, ipv4(), pattern(10));
  EXPECT_EQ(to_hex(Bytes(packet).first(12)), "1106000000c0ffee00000007");
  EXPECT_EQ(to_hex(Bytes(packet).subspan(28, 4)), "00000000");
  EXPECT_EQ(to_hex(Bytes(packet).subspan(32)), to_hex(pattern(10)));
  EXPECT_TRUE((*ah)->covers_ip_header());
  EXPECT_TRUE((*ah)->exact_size());
}

struct SizeCase {
  const char* name;
  std::uint32_t bits;
  std::size_t size_by_8, size_by_4;
};

TEST(AhTest, SizesAreThoseOfLinux) {
  for (const auto& [name, bits, by_8, by_4] : {SizeCase{"hmac(sha1)", 96, 24, 24},
                                               {"hmac(sha1)", 160, 32, 32},
                                               {"hmac(sha256)", 0, 24, 24},
                                               {"hmac(sha256)", 128, 32, 28},
                                               {"hmac(sha256)", 256, 48, 44},
                                               {"hmac(sha384)", 192, 40, 36},
                                               {"hmac(sha512)", 256, 48, 44},
                                               {"hmac(sha512)", 512, 80, 76}}) {
    SCOPED_TRACE(std::string(name) + "-" + std::to_string(bits));
    for (const bool by_8_bytes : {true, false}) {
      const auto ah = create(name, bits, false, by_8_bytes ? AhAlignment::k8 : AhAlignment::k4);
      ASSERT_TRUE(ah);
      const std::size_t head = by_8_bytes ? by_8 : by_4;
      EXPECT_EQ((*ah)->head_size(), head);
      EXPECT_EQ((*ah)->sealed_size(100), head + 100);
      EXPECT_EQ((*ah)->largest_payload(head + 100), 100U);
      EXPECT_EQ((*ah)->largest_payload(head), 0U);
      EXPECT_EQ((*ah)->largest_payload(3), 0U);
      auto packet = seal(**ah, ipv4(), pattern(100));
      EXPECT_EQ(std::to_integer<std::size_t>(packet[1]), head / 4 - 2);
      EXPECT_EQ(open(**ah, ipv4(), packet).result, OpenResult::kOpened);
    }
  }
  EXPECT_EQ(ah_alignment(Family::kIpv4, true), AhAlignment::k4);
  EXPECT_EQ(ah_alignment(Family::kIpv4, false), AhAlignment::k8);
  EXPECT_EQ(ah_alignment(Family::kIpv6, true), AhAlignment::k8);
}

TEST(AhTest, RefusesBadParameters) {
  EXPECT_EQ(create("hmac(none)", 96).error().error, ENOSYS);
  EXPECT_EQ(create("hmac(sha1)", 168).error().error, EINVAL);
  EXPECT_EQ(create("hmac(sha1)", 7).error().error, EINVAL);
  EXPECT_EQ(create("hmac(sha1)", 97).error().error, EINVAL);
}

/// Whatever the payload, it comes out again, and nothing around it was touched.
TEST(AhTest, OpensWhatItSealed) {
  for (const bool extended : {false, true}) {
    for (const auto* header : {&ipv4(), &ipv6()}) {
      const auto ah = create("hmac(sha256)", 128, extended);
      for (const std::size_t size : {0U, 1U, 3U, 4U, 5U, 63U, 64U, 1400U, 65000U}) {
        SCOPED_TRACE(size);
        const auto payload = pattern(size);
        auto packet = seal(**ah, *header, payload);
        const OpenItem item = open(**ah, *header, packet);
        ASSERT_EQ(item.result, OpenResult::kOpened);
        EXPECT_EQ(item.next_header, Protocol::kUdp);
        EXPECT_EQ(item.data, packet.data() + (*ah)->head_size());
        EXPECT_EQ(to_hex({item.data, item.size}), to_hex(payload));
      }
    }
  }
}

/// What routers may change does not matter, every other bit does.
TEST(AhTest, ProtectsTheIpHeader) {
  for (const auto* header : {&ipv4(), &ipv6()}) {
    const auto ah = create("hmac(sha1)", 96);
    const auto sealed = seal(**ah, *header, pattern(40));
    const auto covered = [](const std::vector<std::byte>& bytes) {
      std::vector<std::byte> out(bytes.size());
      return write_immutable_header(bytes, out) ? to_hex(out) : "";
    };
    std::size_t mutable_bits = 0;
    for (std::size_t bit = 0; bit < header->size() * 8; ++bit) {
      auto changed = *header;
      changed[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      auto packet = sealed;
      const OpenItem item = open(**ah, changed, packet);
      const std::string seen = covered(changed);
      if (seen.empty()) {
        EXPECT_EQ(item.result, OpenResult::kMalformed) << bit;
      } else if (seen == covered(*header)) {
        EXPECT_EQ(item.result, OpenResult::kOpened) << bit;
        ++mutable_bits;
      } else {
        EXPECT_EQ(item.result, OpenResult::kIntegrityFailed) << bit;
      }
    }
    EXPECT_EQ(mutable_bits, header == &ipv4() ? 6 * 8U : 28 + 8U);
  }
}

TEST(AhTest, ExtendedNumbersCountWithoutBeingSent) {
  const auto extended = create("hmac(sha256)", 128, true);
  const auto plain = create("hmac(sha256)", 128, false);
  auto packet = seal(**extended, ipv4(), pattern(50));
  EXPECT_NE(to_hex(packet), to_hex(seal(**plain, ipv4(), pattern(50))));
  auto copy = packet;
  EXPECT_EQ(open(**extended, ipv4(), copy, kSequence + (SeqNo{1} << 32)).result,
            OpenResult::kIntegrityFailed);
  copy = packet;
  EXPECT_EQ(open(**plain, ipv4(), copy).result, OpenResult::kIntegrityFailed);
  copy = packet;
  EXPECT_EQ(open(**extended, ipv4(), copy).result, OpenResult::kOpened);

  // As if the high half had been sent: the MAC of a payload with it at its end.
  auto payload = pattern(50);
  for (const std::byte b : from_hex("00000005")) payload.push_back(b);
  const auto with_half = seal(**plain, ipv4(), payload);
  EXPECT_EQ(to_hex(Bytes(packet).first(32)), to_hex(Bytes(with_half).first(32)));
}

TEST(AhTest, RefusesWrongLengths) {
  const auto ah = create("hmac(sha256)", 128);
  const auto sealed = seal(**ah, ipv4(), pattern(40));
  for (std::size_t size = 0; size < sealed.size(); ++size) {
    auto cut = std::vector(sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(size));
    const OpenItem item = open(**ah, ipv4(), cut);
    EXPECT_EQ(item.result,
              size < (*ah)->head_size() ? OpenResult::kMalformed : OpenResult::kIntegrityFailed);
    EXPECT_EQ(item.data, cut.data());
    EXPECT_EQ(item.size, size);
  }
  for (unsigned length = 0; length < 256; ++length) {
    auto packet = sealed;
    packet[1] = static_cast<std::byte>(length);
    const OpenResult wanted = length == 6    ? OpenResult::kOpened
                              : length == 10 ? OpenResult::kIntegrityFailed  // all 32 bytes
                                             : OpenResult::kMalformed;
    EXPECT_EQ(open(**ah, ipv4(), packet).result, wanted) << length;
  }
  std::vector<std::byte> large(0x10000);
  std::ranges::copy(sealed, large.begin());
  EXPECT_EQ(open(**ah, ipv4(), large).result, OpenResult::kMalformed);
  large.pop_back();
  EXPECT_EQ(open(**ah, ipv4(), large).result, OpenResult::kIntegrityFailed);
}

/// Linux: a header with room for the whole digest may hold a truncated one.
TEST(AhTest, TakesAHeaderWithRoomForTheWholeDigest) {
  const auto whole = create("hmac(sha256)", 256);
  const auto truncated = create("hmac(sha256)", 128);
  auto packet = seal(**whole, ipv4(), pattern(40));
  ASSERT_EQ((*whole)->head_size(), 48U);
  EXPECT_EQ(open(**truncated, ipv4(), packet).result, OpenResult::kIntegrityFailed)
      << "the second half counts, and was zero for the sender";
  std::fill(packet.begin() + 28, packet.begin() + 44, std::byte{0});
  EXPECT_EQ(open(**truncated, ipv4(), packet).result, OpenResult::kOpened);
}

TEST(AhTest, RefusesBadHeadersInFront) {
  const auto ah = create("hmac(sha1)", 96);
  const auto sealed = seal(**ah, ipv4(), pattern(40));
  const std::vector<std::vector<std::byte>> headers = {
      {},
      {ipv4().begin(), ipv4().end() - 1},
      from_hex("4600 0064 1234 4000 40 33 0000 c0000201 c6336409 07050000"),
      from_hex("60000000 0100 2c 40 20010db8000000000000000000000001"
               "20010db8000100000000000000000009 3300000100000000"),
      std::vector<std::byte>(kLongestImmutableHeader + 8, std::byte{0x60})};
  for (const auto& header : headers) {
    auto packet = sealed;
    EXPECT_EQ(open(**ah, header, packet).result, OpenResult::kMalformed);
    std::vector<std::byte> memory(100);
    const SealItem item = seal_in(**ah, header, memory, 40, memory.size());
    EXPECT_FALSE(item.ok);
    EXPECT_EQ(item.size, 40U);
  }
}

TEST(AhTest, StaysInItsRoom) {
  for (const bool extended : {false, true}) {
    const auto ah = create("hmac(sha1)", 96, extended);
    std::vector<std::byte> memory(200, std::byte{0x77});
    const std::size_t whole = (*ah)->sealed_size(100);
    EXPECT_FALSE(seal_in(**ah, ipv4(), memory, 100, whole - 1).ok);
    EXPECT_TRUE(std::ranges::all_of(memory, [](std::byte b) { return b == std::byte{0x77}; }));
    EXPECT_TRUE(seal_in(**ah, ipv4(), memory, 100, whole).ok);
    EXPECT_TRUE(std::all_of(memory.begin() + static_cast<std::ptrdiff_t>(whole), memory.end(),
                            [](std::byte b) { return b == std::byte{0x77}; }));
  }
}

TEST(AhTest, SealsFromElsewhere) {
  for (const bool extended : {false, true}) {
    const auto ah = create("hmac(sha256)", 128, extended);
    for (const std::size_t size : {0U, 1U, 100U, 1400U}) {
      const auto wanted = seal(**ah, ipv4(), pattern(size));
      auto clear = pattern(size);
      std::vector<std::byte> memory(wanted.size());
      SealItem item{.packet = memory.data(),
                    .room = memory.size(),
                    .payload = clear.data(),
                    .size = size,
                    .next_header = Protocol::kUdp,
                    .sequence = kSequence,
                    .ip_header_size = 20,
                    .ip_header = ipv4().data()};
      (*ah)->seal({}, {&item, 1});
      ASSERT_TRUE(item.ok);
      EXPECT_EQ(to_hex(memory), to_hex(wanted));
      EXPECT_EQ(to_hex(clear), to_hex(pattern(size)));
    }
  }
}

TEST(AhTest, LanesAreEqual) {
  const auto ah = create("hmac(sha256)", 128, true, AhAlignment::k8, 3);
  const auto wanted = seal(**ah, ipv6(), pattern(30));
  for (const unsigned lane : {0U, 1U, 2U}) {
    auto packet = seal(**ah, ipv6(), pattern(30), kSequence, lane);
    EXPECT_EQ(to_hex(packet), to_hex(wanted));
    EXPECT_EQ(open(**ah, ipv6(), packet, kSequence, 2 - lane).result, OpenResult::kOpened);
  }
}

TEST(AhTest, JudgesEachOfARunByItself) {
  const auto ah = create("hmac(sha1)", 96);
  std::vector<std::vector<std::byte>> packets;
  std::vector<OpenItem> items;
  for (std::size_t i = 0; i < 9; ++i) packets.push_back(seal(**ah, ipv4(), pattern(i + 1)));
  for (std::size_t i = 0; i < packets.size(); ++i) {
    if (i % 3 == 1) packets[i][15] ^= std::byte{1};
    items.push_back({.data = packets[i].data(),
                     .size = i % 3 == 2 ? 11 : packets[i].size(),
                     .sequence = kSequence,
                     .ip_header_size = 20,
                     .ip_header = ipv4().data()});
  }
  (*ah)->open({}, items);
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(items[i].result, i % 3 == 0   ? OpenResult::kOpened
                               : i % 3 == 1 ? OpenResult::kIntegrityFailed
                                            : OpenResult::kMalformed);
  }
}

}  // namespace
}  // namespace xfrmfs::engine
