// SPDX-License-Identifier: Apache-2.0
// What is joined, and what must not be: a cut of each train gives its packets back bit for bit.
#include "engine/path/joiner.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

/// Puts packets through a joiner; the sizes of the trains, and whether all came back unchanged.
std::vector<std::size_t> join(std::vector<PacketData> packets, Joins joins = {true, true}) {
  const auto before = packets;
  ClearCollector sink(joins);
  Joiner joiner;
  joiner.set_sink(sink);
  for (PacketData& packet : packets) {
    EXPECT_EQ(joiner.add(*parse_ip_header(packet), packet), 0u);
  }
  EXPECT_EQ(joiner.flush(), 0u);
  EXPECT_EQ(sink.packets, before);
  return sink.counts;
}

using Sizes = std::vector<std::size_t>;

TcpPacket segment(bool ipv6, unsigned number) {
  return {.source = ipv6 ? "2001:db8::1" : "192.0.2.1",
          .destination = ipv6 ? "2001:db8::2" : "192.0.2.2",
          .sequence = 5000 + number * 1000,
          .payload_size = 1000,
          .identification = static_cast<std::uint16_t>(7 + number)};
}

UdpPacket datagram(bool ipv6) {
  return {.source = ipv6 ? "2001:db8::1" : "192.0.2.1",
          .destination = ipv6 ? "2001:db8::2" : "192.0.2.2",
          .payload_size = 1000,
          .dont_fragment = true};
}

PacketData with_checksum(PacketData packet) {
  fill_checksum(packet);
  return packet;
}

TEST(JoinerTest, JoinsWhatContinues) {
  for (const bool ipv6 : {false, true}) {
    EXPECT_EQ(join({make(segment(ipv6, 0)), make(segment(ipv6, 1)), make(segment(ipv6, 2))}),
              Sizes{3});
    const PacketData one = with_checksum(make(datagram(ipv6)));
    EXPECT_EQ(join({one}), Sizes{1});
  }
}

TEST(JoinerTest, JoinsHeadersOfEverySize) {
  for (const bool ipv6 : {false, true}) {
    for (const std::size_t options : {0u, 4u, 12u, 40u}) {
      for (const std::size_t payload : {1u, 7u, 333u, 1348u}) {
        std::vector<PacketData> packets;
        for (unsigned i = 0; i < 5; ++i) {
          TcpPacket one = segment(ipv6, i);
          one.sequence = static_cast<std::uint32_t>(0xfffffff0 + i * payload);  // and once around
          one.options_size = options;
          one.payload_size = payload;
          packets.push_back(make(one));
        }
        EXPECT_EQ(join(packets), Sizes{5});
        packets[3].back() ^= std::byte{1};  // its checksum is wrong
        EXPECT_EQ(join(packets), (Sizes{3, 1, 1}));
      }
    }
  }
}

/// Behind two that are joined, by the same rules.
TEST(JoinerTest, TheThirdIsLookedAtLikeTheSecond) {
  for (const bool ipv6 : {false, true}) {
    const std::size_t at = ipv6 ? 40 : 20;
    const auto third = [&](std::size_t place, unsigned flip) {
      PacketData packet = make(segment(ipv6, 2));
      packet[place] ^= static_cast<std::byte>(flip);
      return join({make(segment(ipv6, 0)), make(segment(ipv6, 1)), with_checksum(packet)});
    };
    for (const std::size_t place : {1u, ipv6 ? 7u : 8u}) EXPECT_EQ(third(place, 4), (Sizes{2, 1}));
    for (const std::size_t place : {1u, 3u, 7u, 11u, 15u, 19u, 20u, 31u}) {
      EXPECT_EQ(third(at + place, 1), (Sizes{2, 1})) << place;
    }
    for (const unsigned flag : {0x01u, 0x02u, 0x04u, 0x10u, 0x20u, 0x40u, 0x80u}) {
      EXPECT_EQ(third(at + 13, flag), (Sizes{2, 1})) << flag;
    }
    EXPECT_EQ(third(at + 13, 0x08), Sizes{3});  // PSH
  }
}

TEST(JoinerTest, JoinsOnlyWhatTheSinkTakes) {
  EXPECT_EQ(join({make(segment(false, 0)), make(segment(false, 1))}, {.udp = true}), (Sizes{1, 1}));
  EXPECT_EQ(join({make(segment(false, 0)), make(segment(false, 1))}, {.tcp = true}), (Sizes{2}));
}

TEST(JoinerTest, AShorterSegmentOrAPushEndsATrain) {
  TcpPacket shorter = segment(false, 1);
  shorter.payload_size = 999;
  TcpPacket behind = segment(false, 2);
  behind.sequence -= 1;
  EXPECT_EQ(join({make(segment(false, 0)), make(shorter), make(behind)}), (Sizes{2, 1}));
  TcpPacket push = segment(false, 1);
  push.flags = 0x18;
  EXPECT_EQ(join({make(segment(false, 0)), make(push), make(segment(false, 2))}), (Sizes{2, 1}));
  TcpPacket longer = segment(false, 1);
  longer.payload_size = 1001;
  EXPECT_EQ(join({make(segment(false, 0)), make(longer)}), (Sizes{1, 1}));
}

/// Any other difference: two packets, each as it was.
TEST(JoinerTest, RefusesOtherHeaders) {
  struct Change {
    std::string name;
    std::function<void(TcpPacket&, PacketData*)> apply;
  };
  const auto header = [](std::size_t at, unsigned flip) {
    return [=](TcpPacket&, PacketData* packet) {
      if (packet != nullptr) (*packet)[at] ^= static_cast<std::byte>(flip);
    };
  };
  const auto field = [](auto change) {
    return [=](TcpPacket& tcp, PacketData* packet) {
      if (packet == nullptr) change(tcp);
    };
  };
  for (const bool ipv6 : {false, true}) {
    const std::size_t at = ipv6 ? 40 : 20;
    const std::vector<Change> changes = {
        {"gap", field([](TcpPacket& t) { t.sequence += 1; })},
        {"overlap", field([](TcpPacket& t) { t.sequence -= 1; })},
        {"source port", field([](TcpPacket& t) { t.source_port ^= 1; })},
        {"destination port", field([](TcpPacket& t) { t.destination_port ^= 1; })},
        {"ECN", field([](TcpPacket& t) { t.traffic_class = 3; })},
        {"DSCP", field([](TcpPacket& t) { t.traffic_class = 0x20; })},
        {"FIN", field([](TcpPacket& t) { t.flags |= 0x01; })},
        {"SYN", field([](TcpPacket& t) { t.flags |= 0x02; })},
        {"RST", field([](TcpPacket& t) { t.flags |= 0x04; })},
        {"URG", field([](TcpPacket& t) { t.flags |= 0x20; })},
        {"ECE", field([](TcpPacket& t) { t.flags |= 0x40; })},
        {"CWR", field([](TcpPacket& t) { t.flags |= 0x80; })},
        {"no data", field([](TcpPacket& t) { t.payload_size = 0; })},
        {"fewer options", field([](TcpPacket& t) { t.options_size = 8; })},
        {"acknowledgement", header(at + 11, 1)},
        {"reserved bits", header(at + 12, 1)},
        {"window", header(at + 15, 1)},
        {"urgent pointer", header(at + 19, 1)},
        {"option", header(at + 25, 1)},
        {"hop limit", header(ipv6 ? 7 : 8, 1)},
    };
    for (const Change& change : changes) {
      SCOPED_TRACE(change.name);
      TcpPacket second = segment(ipv6, 1);
      change.apply(second, nullptr);
      PacketData packet = make(second);
      change.apply(second, &packet);
      if (!ipv6) {
        store_be16(&packet[10], 0);
        std::uint32_t sum = 0;
        for (std::size_t i = 0; i < 20; i += 2) sum += load_be16(&packet[i]);
        sum = (sum & 0xffff) + (sum >> 16);
        store_be16(&packet[10], static_cast<std::uint16_t>(~sum));
      }
      EXPECT_EQ(join({make(segment(ipv6, 0)), with_checksum(packet)}), (Sizes{1, 1}));
    }
  }
}

TEST(JoinerTest, RefusesWrongChecksums) {
  for (const std::size_t wrong : {0u, 1u}) {
    std::vector<PacketData> packets = {make(segment(false, 0)), make(segment(false, 1))};
    packets[wrong].back() ^= std::byte{1};
    EXPECT_EQ(join(packets), (Sizes{1, 1}));
  }
}

/// Identifications mean something only where a router may fragment (RFC 6864).
TEST(JoinerTest, IdentificationsOfPacketsThatMayBeFragmentedMustCountUp) {
  UdpPacket loose = datagram(false);
  loose.dont_fragment = false;
  const PacketData first = with_checksum(make(loose));
  EXPECT_EQ(join({first, first}), (Sizes{1, 1}));
}

TEST(JoinerTest, LeavesDatagramsWithoutChecksumAlone) {
  const PacketData bare = make(datagram(false));
  EXPECT_EQ(join({bare, bare}), (Sizes{1, 1}));
}

TEST(JoinerTest, ATrainHasAnEnd) {
  std::vector<PacketData> packets;
  for (unsigned i = 0; i < 70; ++i) packets.push_back(make(segment(true, i)));
  const auto sizes = join(packets);
  EXPECT_EQ(sizes, (Sizes{64, 6}));
  packets.clear();
  for (unsigned i = 0; i < 50; ++i) {
    TcpPacket big = segment(true, 0);
    big.payload_size = 1400;
    big.sequence = 1400 * i;
    packets.push_back(make(big));
  }
  EXPECT_EQ(join(packets), (Sizes{46, 4}));  // 65535 bytes
}

}  // namespace
}  // namespace xfrmfs::testing
