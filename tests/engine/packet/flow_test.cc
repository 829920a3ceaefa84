// SPDX-License-Identifier: Apache-2.0
#include "engine/packet/flow.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::from_hex;

constexpr std::uint8_t kTcp = 6, kUdp = 17, kDccp = 33, kSctp = 132, kUdpLite = 136;
constexpr std::uint8_t kIcmp = 1, kIcmpv6 = 58, kGre = 47, kMobility = 135, kEsp = 50;

struct Ports {
  std::uint16_t source, destination;
};

std::vector<std::byte> packet_of(Family family, std::uint8_t protocol, const std::string& upper,
                                 unsigned fragment_offset = 0, bool more_fragments = false) {
  const auto payload = from_hex(upper);
  std::vector<std::byte> packet;
  if (family == Family::kIpv4) {
    packet = from_hex("4500 0000 0000 0000 40 00 0000 c0000201 cb007102");
    store_be16(&packet[2], static_cast<std::uint16_t>(20 + payload.size()));
    store_be16(&packet[6],
               static_cast<std::uint16_t>(fragment_offset | (more_fragments ? 0x2000 : 0)));
    packet[9] = std::byte{protocol};
  } else {
    packet = from_hex(
        "60000000 0000 00 40"
        "20010db8000000000000000000000001 20010db8000000000000000000000002");
    const bool fragment = fragment_offset != 0 || more_fragments;
    packet[6] = fragment ? std::byte{44} : std::byte{protocol};
    if (fragment) {
      auto header = from_hex("0000000000000000");
      header[0] = std::byte{protocol};
      store_be16(&header[2],
                 static_cast<std::uint16_t>(fragment_offset << 3 | (more_fragments ? 1 : 0)));
      packet.insert(packet.end(), header.begin(), header.end());
    }
    store_be16(&packet[4], static_cast<std::uint16_t>(payload.size() + (fragment ? 8 : 0)));
  }
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

Flow flow_of_packet(const std::vector<std::byte>& packet) {
  const auto header = parse_ip_header(packet);
  if (!header) throw std::runtime_error("test packet is malformed");
  return flow_of(*header, packet);
}

TEST(FlowTest, ReadsPortsOfEachProtocol) {
  constexpr auto kV4 = Family::kIpv4;
  constexpr auto kV6 = Family::kIpv6;
  struct Case {
    Family family;
    std::uint8_t protocol;
    const char* upper;
    std::optional<Ports> ports;
  };
  // clang-format off
  const Case cases[] = {
      {kV4, kTcp, "1f9000500000", Ports{8080, 80}},
      {kV6, kTcp, "1f9000500000", Ports{8080, 80}},
      {kV4, kUdp, "1f900050", Ports{8080, 80}},
      {kV6, kUdp, "1f900050", Ports{8080, 80}},
      {kV4, kUdpLite, "00010002", Ports{1, 2}},
      {kV6, kSctp, "ffff0002", Ports{0xffff, 2}},
      {kV4, kDccp, "00010002", Ports{1, 2}},
      {kV4, kUdp, "1f9000", {}},
      {kV4, kUdp, "", {}},
      {kV6, kTcp, "", {}},

      {kV4, kIcmp, "0803", Ports{8, 3}},
      {kV4, kIcmp, "08", {}},
      {kV6, kIcmp, "0803", {}},       // not ICMP of this family
      {kV6, kIcmpv6, "8000ffff", Ports{128, 0}},
      {kV4, kIcmpv6, "8000ffff", {}},

      {kV6, kMobility, "3b0105", Ports{5, 0}},
      {kV6, kMobility, "3b01", {}},
      {kV4, kMobility, "3b0105", {}},

      {kV4, kGre, "20000800 0a0b0c0d", Ports{0x0a0b, 0x0c0d}},
      {kV6, kGre, "20000800 0a0b0c0d", Ports{0x0a0b, 0x0c0d}},
      {kV4, kGre, "a0000800 11112222 0a0b0c0d", Ports{0x0a0b, 0x0c0d}},  // behind a checksum
      {kV4, kGre, "b0000800 11112222 0a0b0c0d 00000001", Ports{0x0a0b, 0x0c0d}},
      {kV4, kGre, "00000800 0a0b0c0d", {}},                              // no key
      {kV4, kGre, "20000800 0a0b0c", {}},
      {kV4, kGre, "a0000800 11112222 0a0b0c", {}},
      {kV4, kGre, "2000", {}},

      {kV4, kEsp, "0000100000000001", {}},
      {kV4, 4, "4500", {}},
  };
  // clang-format on
  for (const Case& c : cases) {
    SCOPED_TRACE(std::to_string(c.protocol) + " " + c.upper);
    const Flow flow = flow_of_packet(packet_of(c.family, c.protocol, c.upper));
    EXPECT_EQ(flow.family(), c.family);
    EXPECT_EQ(static_cast<std::uint8_t>(flow.protocol), c.protocol);
    EXPECT_EQ(flow.ports_known, c.ports.has_value());
    EXPECT_EQ(flow.source_port, c.ports ? c.ports->source : 0);
    EXPECT_EQ(flow.destination_port, c.ports ? c.ports->destination : 0);
  }
}

/// A3: the upper-layer header is in the first fragment and nowhere else.
TEST(FlowTest, ReadsPortsOnlyInFirstFragments) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    for (const std::uint8_t protocol : {kTcp, kUdp}) {
      const Flow first = flow_of_packet(packet_of(family, protocol, "1f9000500000ffff", 0, true));
      EXPECT_TRUE(first.ports_known);
      EXPECT_EQ(first.destination_port, 80);
      const Flow tiny = flow_of_packet(packet_of(family, protocol, "1f9000", 0, true));
      EXPECT_FALSE(tiny.ports_known);
      for (const bool more : {true, false}) {
        const Flow later = flow_of_packet(packet_of(family, protocol, "1f9000500000ffff", 1, more));
        EXPECT_FALSE(later.ports_known);
        EXPECT_EQ(later.source_port, 0);
        EXPECT_EQ(later.destination_port, 0);
        EXPECT_EQ(static_cast<std::uint8_t>(later.protocol), protocol);
      }
    }
  }
}

/// Ports may not come from the link padding behind a short packet.
TEST(FlowTest, LooksNoFurtherThanThePacket) {
  auto packet = packet_of(Family::kIpv4, kUdp, "1f90");
  packet.resize(60, std::byte{0x50});
  EXPECT_FALSE(flow_of_packet(packet).ports_known);
}

TEST(FlowTest, SurvivesAHeaderOfAnotherPacket) {
  const auto packet = packet_of(Family::kIpv4, kUdp, "1f900050");
  auto header = *parse_ip_header(packet);
  EXPECT_FALSE(flow_of(header, Bytes(packet).first(22)).ports_known);
  header.header_size = 100;
  EXPECT_FALSE(flow_of(header, packet).ports_known);
}

}  // namespace
}  // namespace xfrmfs::engine
