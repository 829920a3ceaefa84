// SPDX-License-Identifier: Apache-2.0
// A train means exactly what its packets mean alone: the same packets come out, the same counters
// move, whatever happens in its middle.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tuple>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

using Moved = std::map<std::string, std::uint64_t>;

constexpr const char* kWest4 = "192.1.2.45";
constexpr const char* kEast4 = "192.1.2.23";
constexpr const char* kWest6 = "2001:db8::45";
constexpr const char* kEast6 = "2001:db8::23";

/// What the SAs between the two are like.
struct Tunnel {
  bool outer6 = false;
  bool encapsulated = false;
  bool cbc = false;
  unsigned depth = 1;  // SAs around each other
  std::function<void(SaParams&)> adjust = [](SaParams&) {};
};

/// West and east, made anew for each way of sending.
struct Pair {
  Gateway west;
  Gateway east;

  explicit Pair(const Tunnel& tunnel) {
    const char* from = tunnel.outer6 ? kWest6 : kWest4;
    const char* to = tunnel.outer6 ? kEast6 : kEast4;
    for (Gateway* gateway : {&west, &east}) {
      for (unsigned i = 0; i < tunnel.depth; ++i) {
        SaParams params =
            make(TunnelSa{.source = from,
                          .destination = to,
                          .spi = 0x1000 + i,
                          .reqid = 1 + i,
                          .cbc = tunnel.cbc,
                          .encapsulated = tunnel.encapsulated && i + 1 == tunnel.depth});
        if (gateway == &west) tunnel.adjust(params);
        EXPECT_TRUE(gateway->engine().add_sa(std::move(params)));
      }
      for (const char* net : {"192.0.0.0/16", "2001:db8:1::/48"}) {
        for (const Direction direction : {Direction::kOut, Direction::kIn, Direction::kForward}) {
          PolicyParams policy = make(TunnelPolicy{.direction = direction,
                                                  .source = net,
                                                  .destination = net,
                                                  .tunnel_source = from,
                                                  .tunnel_destination = to});
          for (unsigned i = 1; i < tunnel.depth; ++i) {
            policy.templates.push_back(policy.templates.front());
            policy.templates.back().reqid = Reqid{1 + i};
          }
          EXPECT_TRUE(gateway->engine().add_policy(std::move(policy)));
        }
      }
      gateway->engine().set_local_addresses({address(gateway == &west ? from : to)});
      gateway->engine().publish();
    }
    east.take_joined();
  }
};

TcpPacket tcp(bool ipv6, std::size_t size, std::uint8_t flags = 0x18) {
  return {.source = ipv6 ? "2001:db8:1::1" : "192.0.1.1",
          .destination = ipv6 ? "2001:db8:1::2" : "192.0.2.1",
          .sequence = 0xfffffff0,
          .flags = flags,
          .payload_size = size};
}

UdpPacket udp(bool ipv6, std::size_t size) {
  return {.source = ipv6 ? "2001:db8:1::1" : "192.0.1.1",
          .destination = ipv6 ? "2001:db8:1::2" : "192.0.2.1",
          .payload_size = size};
}

/// Sends `train` once as it is and once as single packets: the same must arrive, and the same
/// counters move. Returns what arrived.
std::vector<PacketData> same_either_way(const Tunnel& tunnel, const Super& train) {
  const auto packets = train.packets();
  Pair one(tunnel);
  const auto sent = one.west.send(train);
  std::vector<PacketData> arrived;
  if (!sent.sealed.empty()) arrived = one.east.receive(sent.sealed);

  Pair other(tunnel);
  std::vector<PacketData> expected;
  std::vector<PacketData> replies;
  for (const PacketData& packet : packets) {
    const auto single = other.west.send(packet);
    replies.insert(replies.end(), single.replies.begin(), single.replies.end());
    for (PacketData& clear : other.east.receive(single.sealed))
      expected.push_back(std::move(clear));
  }
  EXPECT_EQ(arrived, expected);
  EXPECT_EQ(one.west.moved(), other.west.moved());
  EXPECT_EQ(one.east.moved(), other.east.moved());
  EXPECT_EQ(sent.replies.empty(), replies.empty());
  if (!replies.empty()) {
    EXPECT_EQ(sent.replies.front(), replies.front());
  }
  for (Pair* pair : {&one, &other}) {
    for (Gateway* gateway : {&pair->west, &pair->east}) gateway->engine().advance();
  }
  const auto usage = [](Gateway& gateway) {
    std::vector<std::tuple<std::uint64_t, std::uint64_t, SeqNo, SeqNo>> all;
    gateway.engine().current().sad.by_serial().ascending([&](std::uint64_t, const SaPtr& sa) {
      const auto used = sa->lifetime().usage();
      const auto replay = sa->replay_state();
      all.emplace_back(used.bytes, used.packets, replay.in_sequence, replay.out_sequence);
      return true;
    });
    return all;
  };
  EXPECT_EQ(usage(one.west), usage(other.west));
  EXPECT_EQ(usage(one.east), usage(other.east));
  return arrived;
}

std::vector<Tunnel> tunnels() {
  std::vector<Tunnel> all;
  for (const bool outer6 : {false, true}) {
    for (const bool encapsulated : {false, true}) {
      for (const bool cbc : {false, true}) {
        for (const unsigned depth : {1u, 2u}) all.push_back({outer6, encapsulated, cbc, depth});
      }
    }
  }
  return all;
}

TEST(TrainTest, ArrivesAsItsPackets) {
  for (const Tunnel& tunnel : tunnels()) {
    for (const bool ipv6 : {false, true}) {
      for (const std::size_t size : {1u, 999u, 1000u, 1001u, 2000u, 4500u, 20000u}) {
        SCOPED_TRACE(::testing::Message()
                     << "outer6 " << tunnel.outer6 << " encapsulated " << tunnel.encapsulated
                     << " cbc " << tunnel.cbc << " depth " << tunnel.depth << " ipv6 " << ipv6
                     << " size " << size);
        for (const Super& train :
             {Super::of(tcp(ipv6, size), 1000), Super::of(udp(ipv6, size), 1000)}) {
          EXPECT_EQ(same_either_way(tunnel, train), train.packets());
        }
      }
    }
  }
}

TEST(TrainTest, SmallSegments) {
  for (const bool cbc : {false, true}) {
    for (const std::uint16_t segment : std::initializer_list<std::uint16_t>{1, 7, 33, 100}) {
      for (const bool ipv6 : {false, true}) {
        for (const Super& train :
             {Super::of(tcp(ipv6, 640), segment), Super::of(udp(ipv6, 640), segment)}) {
          EXPECT_EQ(same_either_way({.cbc = cbc}, train), train.packets());
        }
      }
    }
  }
}

TEST(TrainTest, LeavesAsTrainsThatFitOneDatagramAndOneSend) {
  Pair pair({.encapsulated = true});
  const auto sent = pair.west.send(Super::of(tcp(false, 63000), 1000));
  EXPECT_EQ(sent.sealed.size(), 63u);
  EXPECT_EQ(pair.west.transmitted(), (std::vector<std::size_t>{1088, 1088}));  // 60 and 3
  const auto small = pair.west.send(Super::of(udp(false, 6500), 100));
  EXPECT_EQ(small.sealed.size(), 65u);
  EXPECT_EQ(pair.west.transmitted().size(), 2u);  // 64 and one
}

TEST(TrainTest, ArrivesAndLeavesAsOne) {
  for (const bool encapsulated : {false, true}) {
    for (const bool ipv6 : {false, true}) {
      for (const Super& train :
           {Super::of(tcp(ipv6, 20500), 1000), Super::of(udp(ipv6, 20500), 1000)}) {
        Pair pair({.encapsulated = encapsulated});
        const auto sent = pair.west.send(train);
        EXPECT_EQ(pair.east.receive(SealedTrain::of(sent.sealed)), train.packets());
        EXPECT_EQ(pair.east.delivered(), std::vector<std::size_t>{21});
        EXPECT_EQ(pair.east.moved(), Moved{});
        // All of it once more: every number was seen.
        EXPECT_TRUE(pair.east.receive(SealedTrain::of(sent.sealed)).empty());
        EXPECT_EQ(pair.east.moved(), (Moved{{"XfrmInStateSeqError", 21}}));
      }
    }
  }
}

TEST(TrainTest, HeadersOfEverySize) {
  for (const bool ipv6 : {false, true}) {
    for (const std::size_t options : {0u, 4u, 12u, 40u}) {
      for (const std::uint16_t segment : std::initializer_list<std::uint16_t>{333, 1280}) {
        TcpPacket packet = tcp(ipv6, 6000);
        packet.options_size = options;
        const Super train = Super::of(packet, segment);
        EXPECT_EQ(same_either_way({}, train), train.packets());
      }
    }
  }
}

/// Congestion that the train met is carried inward for each of its packets, whatever the one before
/// was like.
TEST(TrainTest, CongestionIsCarriedInward) {
  for (const bool ipv6 : {false, true}) {
    for (const bool join : {false, true}) {
      std::vector<PacketData> inner;
      for (const unsigned traffic_class : {2u, 2u, 2u, 1u, 1u, 3u, 3u, 2u, 0u, 2u, 2u}) {
        TcpPacket packet = tcp(ipv6, 1000, 0x10);
        packet.sequence += static_cast<std::uint32_t>(1000 * inner.size());
        packet.identification = static_cast<std::uint16_t>(inner.size());
        packet.traffic_class = static_cast<std::uint8_t>(traffic_class);
        inner.push_back(make(packet));
      }
      Pair pair({});
      std::vector<PacketData> sealed = pair.west.send(inner).sealed;
      ASSERT_EQ(sealed.size(), inner.size());
      for (PacketData& packet : sealed) {
        packet[1] |= std::byte{3};  // CE
        packet[10] = packet[11] = std::byte{0};
        std::uint32_t sum = 0;
        for (std::size_t i = 0; i < 20; i += 2) sum += load_be16(&packet[i]);
        sum = (sum & 0xffff) + (sum >> 16);
        store_be16(&packet[10], static_cast<std::uint16_t>(~sum));
      }
      const auto arrived =
          join ? pair.east.receive(SealedTrain::of(sealed)) : pair.east.receive(sealed);
      std::vector<PacketData> expected;
      for (std::size_t i = 0; i < inner.size(); ++i) {
        if (i == 8) continue;  // not ECN-capable: dropped
        TcpPacket packet = tcp(ipv6, 1000, 0x10);
        packet.sequence += static_cast<std::uint32_t>(1000 * i);
        packet.identification = static_cast<std::uint16_t>(i);
        packet.traffic_class = 3;
        expected.push_back(make(packet));
      }
      EXPECT_EQ(arrived, expected);
      EXPECT_EQ(pair.east.moved(), (Moved{{"XfrmInStateModeError", 1}}));
    }
  }
}

void add16(PacketData& packet, std::size_t at, int difference) {
  store_be16(&packet[at], static_cast<std::uint16_t>(load_be16(&packet[at]) + difference));
}

/// Packets that came one by one may share what was read of their outer headers: only where reading
/// each would have given the same.
TEST(TrainTest, ABatchOfSinglesMeansWhatItsPacketsMeanAlone) {
  const std::vector<std::function<void(PacketData&)>> changes4{
      [](PacketData&) {},
      [](PacketData& p) { p[0] = std::byte{0x46}; },     // options
      [](PacketData& p) { p[0] = std::byte{0x55}; },     // no such version
      [](PacketData& p) { p[1] ^= std::byte{kEcnCe}; },  // congestion
      [](PacketData& p) { add16(p, 2, -16); },           // shorter than it came
      [](PacketData& p) { add16(p, 2, 1); },             // longer
      [](PacketData& p) { store_be16(&p[2], 27); },      // too short for ESP
      [](PacketData& p) { p.resize(p.size() + 3); },     // padding of the link
      [](PacketData& p) { p.resize(39); },
      [](PacketData& p) { p.resize(3); },
      [](PacketData& p) { p.clear(); },
      [](PacketData& p) { p[4] ^= std::byte{1}; },     // identification
      [](PacketData& p) { p[6] ^= std::byte{0x20}; },  // a fragment
      [](PacketData& p) { p[7] ^= std::byte{1}; },
      [](PacketData& p) { p[8] ^= std::byte{1}; },  // time to live
      [](PacketData& p) { p[9] = std::byte{17}; },
      [](PacketData& p) { p[9] = std::byte{6}; },
      [](PacketData& p) { p[15] ^= std::byte{1}; },  // source
      [](PacketData& p) { p[19] ^= std::byte{1}; },  // destination
      [](PacketData& p) { p[23] ^= std::byte{1}; },  // SPI
      [](PacketData& p) { p.back() ^= std::byte{1}; },
  };
  const std::vector<std::function<void(PacketData&)>> changes6{
      [](PacketData&) {},
      [](PacketData& p) { p[0] = std::byte{0x50}; },
      [](PacketData& p) { p[1] ^= std::byte{kEcnCe << 4}; },
      [](PacketData& p) { p[3] ^= std::byte{1}; },  // flow label
      [](PacketData& p) { add16(p, 4, -16); },
      [](PacketData& p) { add16(p, 4, 1); },
      [](PacketData& p) { store_be16(&p[4], 7); },
      [](PacketData& p) { p.resize(p.size() + 3); },
      [](PacketData& p) { p.resize(39); },
      [](PacketData& p) { p[6] = std::byte{17}; },
      [](PacketData& p) { p[6] = std::byte{0}; },   // hop-by-hop options
      [](PacketData& p) { p[6] = std::byte{44}; },  // a fragment
      [](PacketData& p) { p[7] ^= std::byte{1}; },  // hop limit
      [](PacketData& p) { p[23] ^= std::byte{1}; },
      [](PacketData& p) { p[39] ^= std::byte{1}; },
      [](PacketData& p) { p[43] ^= std::byte{1}; },
      [](PacketData& p) { p.back() ^= std::byte{1}; },
  };
  for (const Tunnel& tunnel : tunnels()) {
    Pair sender(tunnel);
    const auto& changes = tunnel.outer6 ? changes6 : changes4;
    for (const bool first : {false, true}) {
      std::vector<PacketData> packets;
      for (const auto& change : changes) {
        for (const bool changed : {first, !first}) {
          UdpPacket inner = udp(false, 100);
          inner.traffic_class = 2;  // ECN-capable
          auto sent = sender.west.send(make(inner));
          ASSERT_EQ(sent.sealed.size(), 1u);
          if (changed) change(sent.sealed[0]);
          packets.push_back(sent.sealed[0]);
        }
      }
      Pair together(tunnel);
      const auto arrived = together.east.receive(packets);
      Pair alone(tunnel);
      std::vector<PacketData> expected;
      for (const PacketData& packet : packets) {
        for (PacketData& clear : alone.east.receive(packet)) expected.push_back(std::move(clear));
      }
      EXPECT_GE(expected.size(), changes.size());
      EXPECT_EQ(arrived, expected);
      EXPECT_EQ(together.east.moved(), alone.east.moved());
    }
  }
}

/// As many as are opened at once leave as one.
TEST(TrainTest, AFullBatchOfSinglesIsNotTorn) {
  Pair pair({});
  auto datagram = tcp(false, 100, 0x10);
  std::vector<PacketData> packets;
  for (std::size_t i = 0; i < kBatch; ++i) {
    for (PacketData& sealed : pair.west.send(make(datagram)).sealed) packets.push_back(sealed);
    datagram.sequence += 100;
    ++datagram.identification;
  }
  EXPECT_EQ(pair.east.receive(packets).size(), kBatch);
  EXPECT_EQ(pair.east.delivered(), std::vector<std::size_t>{kBatch});
}

TEST(TrainTest, DamageStrikesItsOwnPacketOnly) {
  const Super train = Super::of(tcp(false, 5000), 1000);
  Pair pair({});
  auto sealed = pair.west.send(train).sealed;
  sealed[2][100] ^= std::byte{1};
  auto expected = train.packets();
  expected.erase(expected.begin() + 2);
  EXPECT_EQ(pair.east.receive(SealedTrain::of(sealed)), expected);
  EXPECT_EQ(pair.east.delivered(), (std::vector<std::size_t>{2, 2}));
  EXPECT_EQ(pair.east.moved(), (Moved{{"XfrmInStateProtoError", 1}}));
}

TEST(TrainTest, PacketLimitsAreMetExactly) {
  for (const bool cbc : {false, true}) {
    for (std::uint64_t limit = 0; limit <= 6; ++limit) {
      SCOPED_TRACE(limit);
      const Tunnel tunnel{.cbc = cbc,
                          .adjust = [limit](SaParams& sa) { sa.limits.hard_packets = limit; }};
      const auto arrived = same_either_way(tunnel, Super::of(tcp(false, 5000), 1000));
      EXPECT_EQ(arrived.size(), std::min<std::uint64_t>(limit, 5));
    }
  }
}

TEST(TrainTest, ByteLimitsAreMetExactly) {
  for (std::uint64_t limit = 1; limit <= 6000; limit += 521) {
    SCOPED_TRACE(limit);
    const Tunnel tunnel{.adjust = [limit](SaParams& sa) { sa.limits.hard_bytes = limit; }};
    same_either_way(tunnel, Super::of(tcp(false, 5000), 1000));
  }
}

/// The outer SA expires while the inner one goes on: what is sealed half-way is lost with a name.
TEST(TrainTest, LimitsOfAnOuterAssociation) {
  const Tunnel tunnel{.depth = 2, .adjust = [](SaParams& sa) {
                        if (sa.id.spi == Spi{0x1001}) sa.limits.hard_packets = 3;
                      }};
  Pair pair(tunnel);
  EXPECT_EQ(pair.west.send(Super::of(tcp(false, 5000), 1000)).sealed.size(), 3u);
  EXPECT_EQ(pair.west.moved(), (Moved{{"XfrmOutStateExpired", 1}, {"XfrmOutNoStates", 1}}));
}

TEST(TrainTest, SequenceNumbersEndInsideATrain) {
  const Tunnel tunnel{.adjust = [](SaParams& sa) {
    sa.replay.out_sequence = 0xfffffffc;
    sa.replay.window = 0;
  }};
  EXPECT_EQ(same_either_way(tunnel, Super::of(tcp(false, 5000), 1000)).size(), 3u);
}

TEST(TrainTest, ExpiryInsideATrainTurnsToTheNextAssociation) {
  Pair pair({});
  SaParams younger = make(TunnelSa{.source = kWest4, .destination = kEast4, .spi = 0x2000});
  younger.limits.hard_packets = 2;
  ASSERT_TRUE(pair.west.engine().add_sa(std::move(younger)));
  pair.west.engine().publish();
  const auto sent = pair.west.send(Super::of(tcp(false, 5000), 1000));
  ASSERT_EQ(sent.sealed.size(), 4u);
  const std::uint32_t expected[] = {0x2000, 0x2000, 0x1000, 0x1000};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(load_be32(sent.sealed[i].data() + 20), expected[i]);
  EXPECT_EQ(pair.west.moved(), (Moved{{"XfrmOutStateExpired", 1}}));
}

TEST(TrainTest, EveryPacketOfARefusedTrainCounts) {
  Pair pair({});
  TcpPacket stranger = tcp(false, 5000);
  stranger.destination = "10.0.0.1";
  EXPECT_TRUE(pair.west.send(Super::of(stranger, 1000)).sealed.empty());
  EXPECT_EQ(pair.west.moved(), (Moved{{"OutDefaultBlock", 5}}));
  EXPECT_TRUE(pair.west.send(Super::of(tcp(false, 5000), 1450)).sealed.empty());
  EXPECT_EQ(pair.west.moved(), (Moved{{"OutTooBig", 4}}));
}

TEST(TrainTest, TooBigIsAnsweredAsForThePacketAlone) {
  for (const bool ipv6 : {false, true})
    same_either_way({}, [&] {
      Super train = Super::of(tcp(ipv6, 1450), 1450);
      return train;
    }());
}

TEST(TrainTest, WhatIsNoTrainIsDropped) {
  Pair pair({});
  Super wrong = Super::of(udp(false, 5000), 1000);
  wrong.cut = Cut::kTcp;
  EXPECT_TRUE(pair.west.send(wrong).sealed.empty());
  Super headers = Super::of(tcp(false, 0), 1000);
  EXPECT_TRUE(pair.west.send(headers).sealed.empty());
  Super nothing = Super::of(tcp(false, 5000), 0);
  EXPECT_TRUE(pair.west.send(nothing).sealed.empty());
  EXPECT_EQ(pair.west.moved(), (Moved{{"XfrmOutError", 3}}));
}

TEST(TrainTest, FlagsGoWhereTheyBelong) {
  const Super train = Super::of(tcp(false, 3000, 0x99), 1000);  // CWR, ACK, PSH, FIN
  Pair pair({});
  const auto clear = pair.east.receive(pair.west.send(train).sealed);
  ASSERT_EQ(clear.size(), 3u);
  EXPECT_EQ(clear[0][33], std::byte{0x90});
  EXPECT_EQ(clear[1][33], std::byte{0x10});
  EXPECT_EQ(clear[2][33], std::byte{0x19});
  for (const PacketData& packet : clear) {
    PacketData right = packet;
    fill_checksum(right);
    EXPECT_EQ(packet, right);
  }
}

/// ESP in UDP and ESP alone are two things to the SA.
TEST(TrainTest, EncapsulationMustBeTheAssociations) {
  Pair plain({});
  Pair wrapped({.encapsulated = true});
  const auto packet = make(udp(false, 100));
  EXPECT_TRUE(plain.east.receive(wrapped.west.send(packet).sealed).empty());
  EXPECT_EQ(plain.east.moved(), (Moved{{"XfrmInStateMismatch", 1}}));
  EXPECT_TRUE(wrapped.east.receive(plain.west.send(packet).sealed).empty());
  EXPECT_EQ(wrapped.east.moved(), (Moved{{"XfrmInStateMismatch", 1}}));
}

TEST(TrainTest, OwnEncapsulatedOutputIsNotSealedAgain) {
  Pair pair({.encapsulated = true});
  const auto sealed = pair.west.send(make(udp(false, 100))).sealed;
  EXPECT_TRUE(pair.west.send(sealed).sealed.empty());
  EXPECT_EQ(pair.west.moved(), (Moved{{"XfrmOutBundleGenError", 1}}));
}

}  // namespace
}  // namespace xfrmfs::testing
