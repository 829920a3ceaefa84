// SPDX-License-Identifier: Apache-2.0
#include "engine/packet/checksum.h"
#include "engine/packet/ip_header.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::from_hex;
using testing::to_hex;

std::vector<std::byte> ipv4(std::size_t header_size, std::size_t total_size,
                            std::uint16_t fragment = 0, std::uint8_t protocol = 17) {
  std::vector<std::byte> packet(total_size);
  packet.resize(std::max<std::size_t>(total_size, 20));
  packet[0] = static_cast<std::byte>(0x40 | header_size / 4);
  packet[1] = std::byte{0xb9};
  store_be16(&packet[2], static_cast<std::uint16_t>(total_size));
  store_be16(&packet[6], fragment);
  packet[8] = std::byte{63};
  packet[9] = std::byte{protocol};
  store_be32(&packet[12], 0xc0000201);
  store_be32(&packet[16], 0xcb007102);
  return packet;
}

/// `chain` is what follows the fixed header, extension headers included.
std::vector<std::byte> ipv6(std::uint8_t next_header, const std::vector<std::byte>& chain) {
  auto packet = from_hex(
      "6ab12345 0000 00 40"
      "20010db8000000000000000000000001 20010db8000000000000000000000002");
  packet[6] = std::byte{next_header};
  store_be16(&packet[4], static_cast<std::uint16_t>(chain.size()));
  packet.insert(packet.end(), chain.begin(), chain.end());
  return packet;
}

/// An extension header of 8 * units bytes.
std::vector<std::byte> extension(std::uint8_t next_header, std::size_t units) {
  std::vector<std::byte> header(units * 8);
  header[0] = std::byte{next_header};
  header[1] = static_cast<std::byte>(units - 1);
  return header;
}

std::vector<std::byte> fragment_header(std::uint8_t next_header, unsigned offset, bool more) {
  std::vector<std::byte> header(8);
  header[0] = std::byte{next_header};
  header[1] = std::byte{0xff};  // reserved: not a length
  store_be16(&header[2], static_cast<std::uint16_t>(offset << 3 | (more ? 1 : 0)));
  return header;
}

std::vector<std::byte> operator+(std::vector<std::byte> a, const std::vector<std::byte>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(IpHeaderTest, ReadsIpv4) {
  const auto packet = ipv4(24, 100, 0x4000);
  const auto header = parse_ip_header(packet);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->family, Family::kIpv4);
  EXPECT_EQ(header->header_size, 24U);
  EXPECT_EQ(header->total_size, 100U);
  EXPECT_EQ(header->protocol, Protocol::kUdp);
  EXPECT_EQ(header->source.text(), "192.0.2.1");
  EXPECT_EQ(header->destination.text(), "203.0.113.2");
  EXPECT_EQ(header->traffic_class, 0xb9);
  EXPECT_EQ(header->hop_limit, 63);
  EXPECT_TRUE(header->dont_fragment);
  EXPECT_FALSE(header->is_fragment);
}

TEST(IpHeaderTest, ReadsIpv6) {
  const auto header = parse_ip_header(ipv6(6, std::vector<std::byte>(20)));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->family, Family::kIpv6);
  EXPECT_EQ(header->header_size, 40U);
  EXPECT_EQ(header->total_size, 60U);
  EXPECT_EQ(header->protocol, Protocol::kTcp);
  EXPECT_EQ(header->source.text(), "2001:db8::1");
  EXPECT_EQ(header->destination.text(), "2001:db8::2");
  EXPECT_EQ(header->traffic_class, 0xab);
  EXPECT_EQ(header->flow_label, 0x12345U);
  EXPECT_EQ(header->hop_limit, 64);
  EXPECT_TRUE(header->dont_fragment);
  EXPECT_FALSE(header->is_fragment);
}

/// A1, A4: header <= total <= what is there, at min-1, min, max, max+1 of each.
TEST(IpHeaderTest, ChecksIpv4LengthsAgainstEachOther) {
  struct Case {
    std::size_t header_size, total_size, given;
    bool good;
  };
  for (const Case& c : std::vector<Case>{{20, 20, 20, true},
                                         {20, 20, 19, false},
                                         {20, 20, 21, true},
                                         {20, 19, 20, false},
                                         {20, 0, 20, false},
                                         {20, 21, 20, false},
                                         {16, 40, 40, false},
                                         {0, 40, 40, false},
                                         {24, 24, 24, true},
                                         {24, 23, 24, false},
                                         {60, 60, 60, true},
                                         {60, 59, 60, false},
                                         {60, 60, 59, false},
                                         {20, 65535, 65535, true},
                                         {20, 65535, 65534, false}}) {
    SCOPED_TRACE(std::to_string(c.header_size) + " " + std::to_string(c.total_size) + " " +
                 std::to_string(c.given));
    auto packet = ipv4(c.header_size, c.total_size);
    packet.resize(c.given);
    EXPECT_EQ(parse_ip_header(packet).has_value(), c.good);
  }
}

TEST(IpHeaderTest, RefusesEveryCutOfBothVersions) {
  for (const auto& packet : {ipv4(20, 60), ipv6(17, std::vector<std::byte>(20))}) {
    for (std::size_t size = 0; size < packet.size(); ++size) {
      EXPECT_FALSE(parse_ip_header(Bytes(packet).first(size))) << size;
    }
    EXPECT_TRUE(parse_ip_header(packet));
  }
}

TEST(IpHeaderTest, RefusesOtherVersions) {
  for (unsigned version = 0; version < 16; ++version) {
    std::vector<std::byte> packet = ipv4(20, 60);
    packet[0] = static_cast<std::byte>(version << 4 | 5);
    packet[6] = std::byte{17};  // as IPv6: empty, next header UDP; as IPv4: some later fragment
    EXPECT_EQ(parse_ip_header(packet).has_value(), version == 4 || version == 6) << version;
  }
}

TEST(IpHeaderTest, IgnoresWhatFollowsThePacket) {
  auto packet = ipv6(17, std::vector<std::byte>(8));
  packet.resize(packet.size() + 100);
  const auto header = parse_ip_header(packet);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->total_size, 48U);
}

/// A3: first, middle and last fragments of IPv4.
TEST(IpHeaderTest, TellsIpv4FragmentsApart) {
  struct Case {
    std::uint16_t field;
    bool fragment, later;
  };
  for (const Case& c :
       {Case{0x0000, false, false}, Case{0x4000, false, false}, Case{0x2000, true, false},
        Case{0x2001, true, true}, Case{0x0001, true, true}, Case{0x1fff, true, true},
        Case{0x8000, false, false}}) {
    const auto header = parse_ip_header(ipv4(20, 40, c.field));
    ASSERT_TRUE(header);
    EXPECT_EQ(header->is_fragment, c.fragment) << c.field;
    EXPECT_EQ(header->is_later_fragment, c.later) << c.field;
  }
}

TEST(IpHeaderTest, TellsIpv6FragmentsApart) {
  struct Case {
    unsigned offset;
    bool more, fragment, later;
  };
  for (const Case& c :
       {Case{0, false, false, false},  // an atomic fragment, RFC 6946
        Case{0, true, true, false}, Case{1, true, true, true}, Case{0x1fff, false, true, true}}) {
    const auto header = parse_ip_header(
        ipv6(44, fragment_header(17, c.offset, c.more) + std::vector<std::byte>(16)));
    ASSERT_TRUE(header);
    EXPECT_EQ(header->protocol, Protocol::kUdp);
    EXPECT_EQ(header->header_size, 48U);
    EXPECT_EQ(header->is_fragment, c.fragment);
    EXPECT_EQ(header->is_later_fragment, c.later);
  }
}

TEST(IpHeaderTest, WalksExtensionHeaders) {
  const auto header = parse_ip_header(
      ipv6(0, extension(43, 1) + extension(60, 3) + extension(6, 2) + std::vector<std::byte>(20)));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->protocol, Protocol::kTcp);
  EXPECT_EQ(header->header_size, 40U + 48U);
}

TEST(IpHeaderTest, TreatsAhAndEspAsUpperLayers) {
  for (const std::uint8_t protocol : std::vector<std::uint8_t>{50, 51, 59, 135}) {
    const auto header =
        parse_ip_header(ipv6(60, extension(protocol, 1) + std::vector<std::byte>(24)));
    ASSERT_TRUE(header);
    EXPECT_EQ(static_cast<std::uint8_t>(header->protocol), protocol);
    EXPECT_EQ(header->header_size, 48U);
  }
}

/// What lies behind a later fragment's header is the middle of something, not a header.
TEST(IpHeaderTest, StopsAtALaterFragment) {
  const auto header =
      parse_ip_header(ipv6(44, fragment_header(60, 5, true) + std::vector<std::byte>(4)));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->protocol, Protocol::kDestinationOptions);
  EXPECT_EQ(header->header_size, 48U);
}

TEST(IpHeaderTest, RefusesExtensionsBeyondThePacket) {
  const auto chain = extension(60, 2) + extension(17, 2);
  for (std::size_t size = 0; size <= chain.size(); ++size) {
    std::vector<std::byte> cut(chain.begin(), chain.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(parse_ip_header(ipv6(0, cut)).has_value(), size == chain.size()) << size;
    // Nor may it look at link padding for the rest.
    auto padded = ipv6(0, cut);
    padded.resize(padded.size() + 64);
    EXPECT_EQ(parse_ip_header(padded).has_value(), size == chain.size()) << size;
  }
}

/// A11: 8 headers and 1 KiB of them, not one more.
TEST(IpHeaderTest, LimitsTheChain) {
  const auto chain_of = [](std::size_t count, std::size_t units) {
    std::vector<std::byte> chain;
    for (std::size_t i = 0; i < count; ++i) {
      chain = chain + extension(i + 1 == count ? std::uint8_t{17} : std::uint8_t{60}, units);
    }
    return chain;
  };
  EXPECT_TRUE(parse_ip_header(ipv6(60, chain_of(7, 1))));
  EXPECT_TRUE(parse_ip_header(ipv6(60, chain_of(8, 1))));
  EXPECT_FALSE(parse_ip_header(ipv6(60, chain_of(9, 1))));
  EXPECT_FALSE(parse_ip_header(ipv6(60, chain_of(100, 1))));
  EXPECT_TRUE(parse_ip_header(ipv6(60, chain_of(8, 16))));  // 1024 bytes
  EXPECT_FALSE(parse_ip_header(ipv6(60, chain_of(8, 17))));
  EXPECT_TRUE(parse_ip_header(ipv6(60, chain_of(1, 128))));  // 1024 bytes
  EXPECT_FALSE(parse_ip_header(ipv6(60, chain_of(1, 129))));
}

/// A12
TEST(IpHeaderTest, RefusesTwoFragmentHeaders) {
  EXPECT_FALSE(parse_ip_header(
      ipv6(44, fragment_header(44, 0, true) + fragment_header(17, 0, true) + extension(0, 1))));
  EXPECT_FALSE(parse_ip_header(ipv6(44, fragment_header(60, 0, true) + extension(44, 1) +
                                            fragment_header(17, 1, true) + extension(0, 1))));
}

TEST(IpHeaderTest, WritesIpv4OuterHeader) {
  std::vector<std::byte> at(20);
  write_outer_header({.source = *IpAddress::parse("192.0.2.1"),
                      .destination = *IpAddress::parse("198.51.100.7"),
                      .protocol = Protocol::kEsp,
                      .traffic_class = 0xb8,
                      .hop_limit = 64,
                      .dont_fragment = true,
                      .identification = 0x1234},
                     100, at.data());
  EXPECT_EQ(to_hex(Bytes(at).first(10)),
            "45b800781234400040"
            "32");
  EXPECT_EQ(to_hex(Bytes(at).subspan(12)), "c0000201c6336407");
  EXPECT_EQ(checksum_add(at), 0xffff);
  EXPECT_EQ(outer_header_size(Family::kIpv4), 20U);

  write_outer_header(
      {.source = *IpAddress::parse("192.0.2.1"), .destination = *IpAddress::parse("198.51.100.7")},
      65515, at.data());
  EXPECT_EQ(load_be16(&at[2]), 65535);
  EXPECT_EQ(load_be16(&at[6]), 0);
  EXPECT_EQ(checksum_add(at), 0xffff);
}

TEST(IpHeaderTest, WritesIpv6OuterHeader) {
  std::vector<std::byte> at(40);
  write_outer_header({.source = *IpAddress::parse("2001:db8::1"),
                      .destination = *IpAddress::parse("2001:db8::2"),
                      .protocol = Protocol::kUdp,
                      .traffic_class = 0xab,
                      .hop_limit = 3,
                      .flow_label = 0xfff12345},
                     0x102, at.data());
  EXPECT_EQ(to_hex(at),
            "6ab12345010211"
            "0320010db8000000000000000000000001"
            "20010db8000000000000000000000002");
  EXPECT_EQ(outer_header_size(Family::kIpv6), 40U);
}

TEST(IpHeaderTest, AddsChecksumsAsRfc1071) {
  // The example of RFC 1071 §3.
  EXPECT_EQ(checksum_add(from_hex("0001f203f4f5f6f7")), 0xddf2);
  EXPECT_EQ(checksum_add({}), 0);
  EXPECT_EQ(checksum_add({}, 0x1ffff), 1);
  EXPECT_EQ(checksum_add(from_hex("ab")), 0xab00);
  EXPECT_EQ(checksum_add(from_hex("abcdef")), 0x9ace);
  // Against the obvious sum, at every length and start.
  std::vector<std::byte> bytes(70000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i + 200);
  for (std::size_t size : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 63U, 64U, 65U, 1499U, 1500U, 70000U}) {
    for (const std::uint32_t start : {0U, 1U, 0xffffU, 0xffffffffU}) {
      std::uint64_t sum = start;
      for (std::size_t i = 0; i < size; ++i) {
        sum += std::to_integer<std::uint64_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
      }
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
      EXPECT_EQ(checksum_add(Bytes(bytes).first(size), start), sum) << size;
    }
  }
}

TEST(IpHeaderTest, SetsTrafficClassAndChecksum) {
  for (unsigned from = 0; from < 256; ++from) {
    for (unsigned to = 0; to < 256; ++to) {
      auto packet = ipv4(20, 40);
      packet[1] = static_cast<std::byte>(from);
      store_be16(&packet[10], static_cast<std::uint16_t>(~checksum_add(Bytes(packet).first(20))));
      set_traffic_class(packet, static_cast<std::uint8_t>(to));
      ASSERT_EQ(parse_ip_header(packet)->traffic_class, to);
      ASSERT_EQ(checksum_add(Bytes(packet).first(20)), 0xffff);
    }
  }
  auto packet = ipv6(17, {});
  set_traffic_class(packet, 0x5c);
  EXPECT_EQ(parse_ip_header(packet)->traffic_class, 0x5c);
  EXPECT_EQ(parse_ip_header(packet)->flow_label, 0x12345U);
  EXPECT_EQ(packet[0] >> 4, std::byte{6});
}

/// RFC 6040, figure 4.
TEST(IpHeaderTest, CarriesEcnOutOfATunnel) {
  constexpr int kDrop = -1;
  struct Case {
    std::uint8_t inner, outer;
    int result;
  };
  for (const Case& c :
       {Case{kEcnNotEct, kEcnNotEct, kEcnNotEct}, Case{kEcnNotEct, kEcnEct0, kEcnNotEct},
        Case{kEcnNotEct, kEcnEct1, kEcnNotEct}, Case{kEcnNotEct, kEcnCe, kDrop},
        Case{kEcnEct0, kEcnNotEct, kEcnEct0}, Case{kEcnEct0, kEcnEct0, kEcnEct0},
        Case{kEcnEct0, kEcnEct1, kEcnEct1}, Case{kEcnEct0, kEcnCe, kEcnCe},
        Case{kEcnEct1, kEcnNotEct, kEcnEct1}, Case{kEcnEct1, kEcnEct0, kEcnEct1},
        Case{kEcnEct1, kEcnEct1, kEcnEct1}, Case{kEcnEct1, kEcnCe, kEcnCe},
        Case{kEcnCe, kEcnNotEct, kEcnCe}, Case{kEcnCe, kEcnEct0, kEcnCe},
        Case{kEcnCe, kEcnEct1, kEcnCe}, Case{kEcnCe, kEcnCe, kEcnCe}}) {
    // Bits of the DSCP next to them play no part.
    const auto result = decapsulated_ecn(c.inner | 0xb8, c.outer | 0x44);
    EXPECT_EQ(result ? int{*result} : kDrop, c.result) << int{c.inner} << " in " << int{c.outer};
  }
}

}  // namespace
}  // namespace xfrmfs::engine
