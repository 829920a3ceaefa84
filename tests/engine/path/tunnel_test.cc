// SPDX-License-Identifier: Apache-2.0
// Two engines back to back: what one seals, the other opens, and every refusal has its counter.

#include <gtest/gtest.h>

#include "engine/packet/checksum.h"
#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

using Moved = std::map<std::string, std::uint64_t>;

/// West 192.1.2.45 protects 192.0.1.0/24, east 192.1.2.23 protects 192.0.2.0/24.
class TunnelTest : public ::testing::Test {
 protected:
  TunnelTest() {
    east_.engine().set_local_addresses({address("192.1.2.23"), address("192.0.2.1")});
    west_.engine().set_local_addresses({address("192.1.2.45"), address("192.0.1.1")});
    policy(west_, Direction::kOut);
    policy(east_, Direction::kIn);
    policy(east_, Direction::kForward);
  }

  void policy(Gateway& gateway, Direction direction) {
    ASSERT_TRUE(
        gateway.engine().add_policy(make(TunnelPolicy{.direction = direction,
                                                      .source = "192.0.1.0/24",
                                                      .destination = "192.0.2.0/24",
                                                      .tunnel_source = "192.1.2.45",
                                                      .tunnel_destination = "192.1.2.23"})));
    gateway.engine().publish();
  }

  static SaParams sa() {
    return make(TunnelSa{.source = "192.1.2.45", .destination = "192.1.2.23"});
  }

  void add(SaParams both) {
    SaParams copy;
    copy.id = both.id;
    copy.source = both.source;
    copy.selector = both.selector;
    copy.mode = both.mode;
    copy.reqid = both.reqid;
    copy.flags = both.flags;
    copy.extra_flags = both.extra_flags;
    copy.replay = both.replay;
    copy.crypto = both.crypto.clone();
    copy.limits = both.limits;
    ASSERT_TRUE(west_.engine().add_sa(std::move(both)));
    ASSERT_TRUE(east_.engine().add_sa(std::move(copy)));
    west_.engine().publish();
    east_.engine().publish();
  }

  static PacketData packet(std::size_t payload = 100) {
    return make(
        UdpPacket{.source = "192.0.1.1", .destination = "192.0.2.1", .payload_size = payload});
  }

  PacketData sealed() {
    auto sent = west_.send(packet());
    EXPECT_EQ(sent.sealed.size(), 1u);
    return sent.sealed.empty() ? PacketData{} : sent.sealed[0];
  }

  Gateway west_;
  Gateway east_;
};

TEST_F(TunnelTest, CarriesAPacketUnchanged) {
  add(sa());
  const auto sent = west_.send(packet());
  ASSERT_EQ(sent.sealed.size(), 1u);
  EXPECT_EQ(east_.receive(sent.sealed), std::vector<PacketData>{packet()});
  EXPECT_EQ(west_.moved(), Moved{});
  EXPECT_EQ(east_.moved(), Moved{});
}

TEST_F(TunnelTest, ChargesTheInnerPacketOnBothSides) {
  add(sa());
  east_.receive(sealed());
  for (Gateway* gateway : {&west_, &east_}) {
    const auto association = gateway->engine().find_sa(sa().id);
    EXPECT_EQ(association->lifetime().usage().bytes, packet().size());
    EXPECT_EQ(association->lifetime().usage().packets, 1u);
  }
}

TEST_F(TunnelTest, CarriesAnyFamilyInAnyFamily) {
  for (const bool outer6 : {false, true}) {
    for (const bool inner6 : {false, true}) {
      for (const bool cbc : {false, true}) {
        Gateway a;
        Gateway b;
        const char* from = outer6 ? "2001:db8::45" : "192.1.2.45";
        const char* to = outer6 ? "2001:db8::23" : "192.1.2.23";
        const char* source = inner6 ? "2001:db8:1::1" : "192.0.1.1";
        const char* destination = inner6 ? "2001:db8:2::1" : "192.0.2.1";
        b.engine().set_local_addresses({address(destination)});
        for (Gateway* gateway : {&a, &b}) {
          ASSERT_TRUE(gateway->engine().add_sa(
              make(TunnelSa{.source = from, .destination = to, .cbc = cbc})));
          ASSERT_TRUE(gateway->engine().add_policy(
              make(TunnelPolicy{.direction = gateway == &a ? Direction::kOut : Direction::kIn,
                                .source = inner6 ? "2001:db8:1::/48" : "192.0.1.0/24",
                                .destination = inner6 ? "2001:db8:2::/48" : "192.0.2.0/24",
                                .tunnel_source = from,
                                .tunnel_destination = to})));
          gateway->engine().publish();
        }
        const PacketData inner =
            make(UdpPacket{.source = source, .destination = destination, .traffic_class = 0xb9});
        const auto sent = a.send(inner);
        ASSERT_EQ(sent.sealed.size(), 1u) << outer6 << inner6 << cbc;
        const auto outer = parse_ip_header(sent.sealed[0]);
        ASSERT_TRUE(outer);
        EXPECT_EQ(outer->total_size, sent.sealed[0].size());
        EXPECT_EQ(outer->protocol, Protocol::kEsp);
        EXPECT_EQ(outer->traffic_class, 0xb9);
        EXPECT_EQ(b.receive(sent.sealed), std::vector<PacketData>{inner})
            << outer6 << inner6 << cbc;
      }
    }
  }
}

TEST_F(TunnelTest, ABatchIsManyPacketsInOrder) {
  add(sa());
  std::vector<PacketData> packets;
  for (std::size_t i = 0; i < kBatch; ++i) packets.push_back(packet(i));
  const auto sent = west_.send(packets);
  ASSERT_EQ(sent.sealed.size(), kBatch);
  EXPECT_EQ(east_.receive(sent.sealed), packets);
}

TEST_F(TunnelTest, OuterHeaderFollowsRfc4301) {
  add(sa());
  for (const bool dont_fragment : {false, true}) {
    const auto sent = west_.send(make(UdpPacket{.source = "192.0.1.1",
                                                .destination = "192.0.2.1",
                                                .traffic_class = 0x2a,
                                                .dont_fragment = dont_fragment}));
    const auto outer = parse_ip_header(sent.sealed.at(0));
    EXPECT_EQ(outer->dont_fragment, dont_fragment);
    EXPECT_EQ(outer->traffic_class, 0x2a);
    EXPECT_EQ(outer->hop_limit, 64);
    EXPECT_EQ(outer->source, address("192.1.2.45"));
    EXPECT_EQ(outer->destination, address("192.1.2.23"));
  }
}

TEST_F(TunnelTest, CongestionMarksTravelInward) {
  add(sa());
  const PacketData capable =
      make(UdpPacket{.source = "192.0.1.1", .destination = "192.0.2.1", .traffic_class = kEcnEct0});
  auto marked = west_.send(capable).sealed.at(0);
  set_traffic_class(marked, kEcnCe);
  const auto opened = east_.receive(marked);
  ASSERT_EQ(opened.size(), 1u);
  EXPECT_EQ(parse_ip_header(opened[0])->traffic_class, kEcnCe);
  EXPECT_EQ(east_.moved(), Moved{});

  // RFC 6040 §4.2: a packet that is not ECN-capable cannot carry the mark on.
  auto lost = sealed();
  set_traffic_class(lost, kEcnCe);
  EXPECT_TRUE(east_.receive(lost).empty());
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInStateModeError", 1}}));
}

TEST_F(TunnelTest, UnprotectedPacketsGoNowhereAndCountNothingInXfrmStat) {
  const auto sent = west_.send(make(UdpPacket{.source = "192.0.1.1", .destination = "10.0.0.1"}));
  EXPECT_TRUE(sent.sealed.empty());
  EXPECT_EQ(west_.moved(), (Moved{{"OutDefaultBlock", 1}}));
}

TEST_F(TunnelTest, PoliciesWithoutProtectionHaveNoRoadToTheWire) {
  ASSERT_TRUE(west_.engine().add_policy(
      make(TunnelPolicy{.source = "192.0.1.0/24", .destination = "10.0.0.0/8", .reqid = 0})));
  west_.engine().publish();
  const auto sent = west_.send(make(UdpPacket{.source = "192.0.1.1", .destination = "10.0.0.1"}));
  EXPECT_TRUE(sent.sealed.empty());
  EXPECT_EQ(west_.moved(), (Moved{{"OutClearRefused", 1}}));
}

TEST_F(TunnelTest, MissingAssociation) {
  EXPECT_TRUE(west_.send(packet()).sealed.empty());
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutNoStates", 1}}));
}

TEST_F(TunnelTest, BlockingPolicy) {
  add(sa());
  auto block =
      make(TunnelPolicy{.source = "192.0.1.0/24", .destination = "192.0.2.1/32", .reqid = 0});
  block.action = PolicyAction::kBlock;
  ASSERT_TRUE(west_.engine().add_policy(std::move(block)));
  west_.engine().publish();
  // Same priority: the older policy decides, whatever the prefixes.
  EXPECT_EQ(west_.send(packet()).sealed.size(), 1u);
  ASSERT_TRUE(west_.engine().update_policy([] {
    auto params = make(TunnelPolicy{.source = "192.0.1.0/24",
                                    .destination = "192.0.2.0/24",
                                    .tunnel_source = "192.1.2.45",
                                    .tunnel_destination = "192.1.2.23"});
    params.priority = 1;
    return params;
  }()));
  west_.engine().publish();
  EXPECT_TRUE(west_.send(packet()).sealed.empty());
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutPolBlock", 1}}));
}

TEST_F(TunnelTest, TooManyTemplates) {
  for (const std::size_t count : {kUsableTemplates, kUsableTemplates + 1}) {
    Gateway gateway;
    auto params = make(TunnelPolicy{.source = "192.0.1.0/24",
                                    .destination = "192.0.2.0/24",
                                    .tunnel_source = "192.1.2.45",
                                    .tunnel_destination = "192.1.2.23"});
    params.templates.resize(count, params.templates[0]);
    ASSERT_TRUE(gateway.engine().add_policy(std::move(params)));
    gateway.engine().publish();
    gateway.send(packet());
    const char* expected = count == kUsableTemplates ? "XfrmOutNoStates" : "XfrmOutPolError";
    EXPECT_EQ(gateway.moved(), (Moved{{expected, 1}}));
  }
}

TEST_F(TunnelTest, TemplateWithTheSpiOfAnotherAssociation) {
  add(sa());
  auto params = make(TunnelPolicy{.source = "192.0.1.0/24",
                                  .destination = "192.0.9.0/24",
                                  .tunnel_source = "192.1.2.45",
                                  .tunnel_destination = "192.1.2.23",
                                  .reqid = 77});
  params.templates[0].spi = Spi{0x1000};
  ASSERT_TRUE(west_.engine().add_policy(std::move(params)));
  west_.engine().publish();
  west_.send(make(UdpPacket{.source = "192.0.1.1", .destination = "192.0.9.1"}));
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutPolError", 1}}));
}

TEST_F(TunnelTest, AssociationForOneDirectionOnly) {
  SaParams out = sa();
  out.direction = SaDirection::kOut;
  SaParams in = sa();
  in.direction = SaDirection::kIn;
  ASSERT_TRUE(west_.engine().add_sa(std::move(out)));
  ASSERT_TRUE(east_.engine().add_sa(std::move(in)));
  west_.engine().publish();
  east_.engine().publish();
  const PacketData good = sealed();
  EXPECT_EQ(east_.receive(good), std::vector<PacketData>{packet()});
  EXPECT_EQ(west_.moved(), Moved{});
  // West gets its own packet, east has only what is for the other direction.
  west_.receive(good);
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmInStateDirError", 1}}));
  policy(east_, Direction::kOut);
  EXPECT_TRUE(east_.send(packet()).sealed.empty());
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmOutStateDirError", 1}, {"XfrmOutPolError", 1}}));
  EXPECT_EQ(east_.engine().find_sa(sa().id)->lifetime().usage().packets, 1u);
  // Flows side by side, and the packets of a train, count what each counts alone.
  const PacketData other = make(UdpPacket{.source = "192.0.1.1", .destination = "192.0.2.2"});
  EXPECT_TRUE(east_.send({packet(), other}).sealed.empty());
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmOutStateDirError", 2}, {"XfrmOutPolError", 2}}));
  const TcpPacket tcp{.source = "192.0.1.1", .destination = "192.0.2.1", .payload_size = 3000};
  EXPECT_TRUE(east_.send(Super::of(tcp, 1000)).sealed.empty());
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmOutStateDirError", 3}, {"XfrmOutPolError", 3}}));
}

TEST_F(TunnelTest, YoungestAssociationIsChosen) {
  add(sa());
  const auto first = sealed();
  SaParams second = sa();
  second.id.spi = Spi{0x2000};
  add(std::move(second));
  EXPECT_EQ(load_be32(first.data() + 20), 0x1000u);
  EXPECT_EQ(load_be32(sealed().data() + 20), 0x2000u);
  ASSERT_TRUE(west_.engine().delete_sa([] {
    SaId id = sa().id;
    id.spi = Spi{0x2000};
    return id;
  }()));
  west_.engine().publish();
  EXPECT_EQ(load_be32(sealed().data() + 20), 0x1000u);
}

TEST_F(TunnelTest, HardPacketLimitAsSinglesAndAsABatch) {
  for (const bool batch : {false, true}) {
    Gateway gateway;
    SaParams limited = sa();
    limited.limits.hard_packets = 3;
    ASSERT_TRUE(gateway.engine().add_sa(std::move(limited)));
    ASSERT_TRUE(
        gateway.engine().add_policy(make(TunnelPolicy{.source = "192.0.1.0/24",
                                                      .destination = "192.0.2.0/24",
                                                      .tunnel_source = "192.1.2.45",
                                                      .tunnel_destination = "192.1.2.23"})));
    gateway.engine().publish();
    const std::vector<PacketData> packets(6, packet());
    std::size_t passed = 0;
    if (batch) {
      passed = gateway.send(packets).sealed.size();
    } else {
      for (const PacketData& one : packets) passed += gateway.send(one).sealed.size();
    }
    EXPECT_EQ(passed, 3u);
    EXPECT_EQ(gateway.moved(), (Moved{{"XfrmOutStateExpired", 1}, {"XfrmOutNoStates", 2}}));
    EXPECT_EQ(gateway.engine().current().sad.size(), 1u);
    gateway.engine().advance();
    EXPECT_EQ(gateway.engine().current().sad.size(), 0u);
  }
}

TEST_F(TunnelTest, ExpiryInTheMiddleOfABatchTurnsToTheNextAssociation) {
  add(sa());
  SaParams limited = sa();
  limited.id.spi = Spi{0x2000};
  limited.limits.hard_packets = 2;
  add(std::move(limited));
  const auto sent = west_.send(std::vector<PacketData>(5, packet()));
  ASSERT_EQ(sent.sealed.size(), 4u);
  const std::uint32_t expected[] = {0x2000, 0x2000, 0x1000, 0x1000};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(load_be32(sent.sealed[i].data() + 20), expected[i]);
  }
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutStateExpired", 1}}));
}

/// What is classified again behind an expiry does not meet those that were dropped before it.
TEST_F(TunnelTest, ExpiryInTheMiddleOfABatchCountsEachDropOnce) {
  SaParams limited = sa();
  limited.limits.hard_packets = 1;
  add(std::move(limited));
  const PacketData stranger = make(UdpPacket{.source = "192.0.1.1", .destination = "10.0.0.1"});
  const auto sent = west_.send({packet(), packet(), stranger, packet(), stranger});
  EXPECT_EQ(sent.sealed.size(), 1u);
  EXPECT_EQ(west_.moved(),
            (Moved{{"OutDefaultBlock", 2}, {"XfrmOutNoStates", 1}, {"XfrmOutStateExpired", 1}}));
}

/// What is decided ahead for a whole batch is what each packet decides at its turn.
TEST(OutboundTest, FlowsSideBySideMeetWhatEachMeetsAlone) {
  constexpr std::uint32_t kFlows = 8;
  const auto destination = [](std::uint32_t i) { return "192.0.2." + std::to_string(i); };
  std::vector<PacketData> packets;
  for (std::uint32_t i = 0; i < 6 * kFlows; ++i) {
    packets.push_back(
        make(UdpPacket{.source = "192.0.1.1", .destination = destination(i * 5 % kFlows)}));
    if (i % 11 == 0) packets.push_back(PacketData(3, std::byte{0x45}));
  }

  std::map<std::uint32_t, std::size_t> sealed[2];  // by SPI
  Moved moved[2];
  for (const bool together : {false, true}) {
    Gateway gateway;
    for (std::uint32_t i = 0; i < kFlows; ++i) {
      if (i == 5) continue;  // no policy; and no SA for 6
      PolicyParams policy = make(TunnelPolicy{.source = "192.0.1.0/24",
                                              .destination = destination(i) + "/32",
                                              .tunnel_source = "192.1.2.45",
                                              .tunnel_destination = "192.1.2.23",
                                              .reqid = i == 6 ? 99 : 1 + i / 2});
      if (i == 7) policy.action = PolicyAction::kBlock;
      ASSERT_TRUE(gateway.engine().add_policy(std::move(policy)));
      SaParams sa = make(TunnelSa{.source = "192.1.2.45",
                                  .destination = "192.1.2.23",
                                  .spi = 0x1000 + i,
                                  .reqid = 1 + i / 2});
      if (i % 2 == 1) sa.limits.hard_packets = i;  // then the older one
      if (i == 3) sa.limits.soft_packets = 1;
      ASSERT_TRUE(gateway.engine().add_sa(std::move(sa)));
    }
    gateway.engine().publish();
    const auto count = [&](const Gateway::Sent& sent) {
      for (const PacketData& packet : sent.sealed) ++sealed[together][load_be32(&packet[20])];
    };
    if (together) {
      count(gateway.send(packets));
    } else {
      for (const PacketData& packet : packets) count(gateway.send(packet));
    }
    moved[together] = gateway.moved();
  }
  EXPECT_EQ(sealed[true], sealed[false]);
  EXPECT_EQ(moved[true], moved[false]);
  EXPECT_GE(sealed[true].size(), 5u);
  EXPECT_GE(moved[true].size(), 4u);
}

TEST_F(TunnelTest, SequenceNumbersEnd) {
  SaParams last = sa();
  last.replay.out_sequence = 0xfffffffd;
  last.replay.window = 0;
  add(std::move(last));
  const auto sent = west_.send(std::vector<PacketData>(4, packet()));
  EXPECT_EQ(sent.sealed.size(), 2u);
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutStateSeqError", 2}}));
  EXPECT_EQ(west_.engine().find_sa(sa().id)->replay_state().out_sequence, 0xffffffffu);
}

TEST_F(TunnelTest, MayWrapGoesOnWithFreshIvs) {
  SaParams wrapping = sa();
  wrapping.replay.out_sequence = 0xfffffffe;
  wrapping.replay.window = 0;
  wrapping.extra_flags = kSaOseqMayWrap;
  add(std::move(wrapping));
  const auto sent = west_.send(std::vector<PacketData>(3, packet()));
  ASSERT_EQ(sent.sealed.size(), 3u);
  EXPECT_EQ(load_be32(sent.sealed[1].data() + 24), 0u);
  EXPECT_EQ(east_.receive(sent.sealed).size(), 3u);
}

TEST_F(TunnelTest, ExtendedSequenceNumbersCrossTheEpoch) {
  SaParams extended = sa();
  extended.flags |= kSaEsn;
  extended.replay = {.kind = ReplayKind::kEsn,
                     .window = 32,
                     .bitmap_words = 1,
                     .out_sequence = 0xfffffff0,
                     .in_sequence = 0xfffffff0,
                     .bitmap = {}};
  add(std::move(extended));
  for (int i = 0; i < 3; ++i) {
    const auto sent = west_.send(std::vector<PacketData>(10, packet()));
    EXPECT_EQ(east_.receive(sent.sealed).size(), 10u);
  }
  EXPECT_EQ(east_.engine().find_sa(sa().id)->replay_state().in_sequence, 0xfffffff0u + SeqNo{30});
  EXPECT_EQ(east_.moved(), Moved{});
}

TEST_F(TunnelTest, OwnOutputThatComesBackIsNotSealedAgain) {
  add(sa());
  ASSERT_TRUE(west_.engine().add_policy(make(TunnelPolicy{.source = "0.0.0.0/0",
                                                          .destination = "0.0.0.0/0",
                                                          .tunnel_source = "192.1.2.45",
                                                          .tunnel_destination = "192.1.2.23"})));
  west_.engine().publish();
  EXPECT_TRUE(west_.send(sealed()).sealed.empty());
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutBundleGenError", 1}}));
}

TEST_F(TunnelTest, UnreadablePacketFromTheTun) {
  west_.send(PacketData(3, std::byte{0x45}));
  EXPECT_EQ(west_.moved(), (Moved{{"XfrmOutError", 1}}));
}

TEST_F(TunnelTest, TooBigIsAnsweredWithTheSizeThatFits) {
  add(sa());
  const auto try_size = [&](std::size_t total) {
    return west_.send(make(UdpPacket{.source = "192.0.1.1",
                                     .destination = "192.0.2.1",
                                     .payload_size = total - 28,
                                     .dont_fragment = true}));
  };
  const auto refused = try_size(1480);
  ASSERT_EQ(refused.replies.size(), 1u);
  EXPECT_TRUE(refused.sealed.empty());
  EXPECT_EQ(west_.moved(), (Moved{{"OutTooBig", 1}}));

  const PacketData& icmp = refused.replies[0];
  const auto header = parse_ip_header(icmp);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->destination, address("192.0.1.1"));
  EXPECT_EQ(header->source, address("192.0.2.1"));
  EXPECT_EQ(icmp.size(), 576u);
  EXPECT_EQ(checksum_add(Bytes(icmp).subspan(20)), 0xffff);
  EXPECT_EQ(icmp[20], std::byte{3});
  EXPECT_EQ(icmp[21], std::byte{4});
  const std::size_t mtu = load_be16(icmp.data() + 26);
  EXPECT_EQ(try_size(mtu).sealed.size(), 1u);
  EXPECT_TRUE(try_size(mtu + 1).sealed.empty());
}

TEST_F(TunnelTest, WithoutDontFragmentTheOuterPacketMayBeFragmented) {
  add(sa());
  const auto sent = west_.send(packet(1472));
  ASSERT_EQ(sent.sealed.size(), 1u);
  EXPECT_FALSE(parse_ip_header(sent.sealed[0])->dont_fragment);
}

TEST_F(TunnelTest, InboundRefusalsInTheirOrder) {
  add(sa());
  const PacketData good = sealed();
  const PacketData spare = sealed();

  PacketData short_header(good.begin(), good.begin() + 24);
  store_be16(short_header.data() + 2, 24);
  store_be16(short_header.data() + 10, 0);
  store_be16(short_header.data() + 10,
             static_cast<std::uint16_t>(~checksum_add(Bytes(short_header).first(20))));
  east_.receive(short_header);
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInHdrError", 1}}));

  PacketData unknown = good;
  store_be32(unknown.data() + 20, 0x9999);
  east_.receive(unknown);
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInNoStates", 1}}));

  PacketData tampered = good;
  tampered.back() ^= std::byte{1};
  east_.receive(tampered);
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInStateProtoError", 1}}));
  EXPECT_EQ(east_.engine().find_sa(sa().id)->statistics().integrity_failed, 1u);

  // The failure moved no window: the same number is still good, once.
  EXPECT_EQ(east_.receive(good).size(), 1u);
  EXPECT_EQ(east_.moved(), Moved{});
  east_.receive(good);
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInStateSeqError", 1}}));
  EXPECT_EQ(east_.engine().find_sa(sa().id)->statistics().replay, 1u);

  // Replay is found before a broken ICV, also within one batch.
  east_.receive({tampered, spare, spare});
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInStateSeqError", 2}}));
}

TEST_F(TunnelTest, InboundHardLimit) {
  for (const bool batch : {false, true}) {
    Gateway east;
    east.engine().set_local_addresses({address("192.0.2.1")});
    policy(east, Direction::kIn);
    Gateway west;
    policy(west, Direction::kOut);
    SaParams limited = sa();
    limited.limits.hard_packets = 3;
    ASSERT_TRUE(east.engine().add_sa(std::move(limited)));
    ASSERT_TRUE(west.engine().add_sa(sa()));
    east.engine().publish();
    west.engine().publish();
    const auto sent = west.send(std::vector<PacketData>(5, packet()));
    std::size_t passed = 0;
    if (batch) {
      passed = east.receive(sent.sealed).size();
    } else {
      for (const PacketData& one : sent.sealed) passed += east.receive(one).size();
    }
    EXPECT_EQ(passed, 3u);
    EXPECT_EQ(east.moved(), (Moved{{"XfrmInStateExpired", 1}, {"XfrmInNoStates", 1}}));
  }
}

TEST_F(TunnelTest, LarvalAssociation) {
  add(sa());
  SaParams wanted;
  wanted.id.destination = address("192.1.2.23");
  wanted.source = address("192.1.2.45");
  const auto larval = east_.engine().allocate_spi(std::move(wanted), 0x600, 0x600);
  ASSERT_TRUE(larval);
  east_.engine().publish();
  PacketData to_larval = sealed();
  store_be32(to_larval.data() + 20, 0x600);
  east_.receive(to_larval);
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmAcquireError", 1}}));

  east_.clock().advance(std::chrono::seconds(31));
  east_.engine().advance();
  east_.receive(to_larval);
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInNoStates", 1}}));
}

TEST_F(TunnelTest, SelectorOfTheAssociation) {
  SaParams narrow = sa();
  narrow.selector.family = Family::kIpv4;
  narrow.selector.source = prefix("0.0.0.0/0");
  narrow.selector.destination = prefix("0.0.0.0/0");
  narrow.selector.destination_port = {.port = 7001, .mask = 0xffff};
  ASSERT_TRUE(east_.engine().add_sa(std::move(narrow)));
  ASSERT_TRUE(west_.engine().add_sa(sa()));
  west_.engine().publish();
  east_.engine().publish();
  EXPECT_TRUE(east_.receive(sealed()).empty());
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInStateMismatch", 1}}));
  EXPECT_EQ(east_.engine().find_sa(sa().id)->lifetime().usage().packets, 1u);
}

TEST_F(TunnelTest, InnerFamilyIsThatOfTheSelector) {
  SaParams strict =
      make(TunnelSa{.source = "192.1.2.45", .destination = "192.1.2.23", .any_family = false});
  ASSERT_TRUE(east_.engine().add_sa(std::move(strict)));
  ASSERT_TRUE(west_.engine().add_sa(sa()));
  ASSERT_TRUE(west_.engine().add_policy(make(TunnelPolicy{.source = "2001:db8:1::/48",
                                                          .destination = "2001:db8:2::/48",
                                                          .tunnel_source = "192.1.2.45",
                                                          .tunnel_destination = "192.1.2.23"})));
  west_.engine().publish();
  east_.engine().publish();
  const auto sent =
      west_.send(make(UdpPacket{.source = "2001:db8:1::1", .destination = "2001:db8:2::1"}));
  EXPECT_TRUE(east_.receive(sent.sealed).empty());
  EXPECT_EQ(east_.moved(), (Moved{{"XfrmInStateModeError", 1}}));
}

TEST_F(TunnelTest, InboundPolicies) {
  struct Case {
    const char* destination;  // of the inner packet
    PolicyAction action;
    std::uint32_t reqid;  // demanded by the in and fwd policies
    Moved expected;
  };
  const Case cases[] = {
      {"192.0.2.1", PolicyAction::kAllow, 1, {}},
      {"192.0.2.9", PolicyAction::kAllow, 1, {}},  // forwarded
      {"192.0.2.1", PolicyAction::kAllow, 2, {{"XfrmInTmplMismatch", 1}}},
      {"192.0.2.9", PolicyAction::kAllow, 0, {{"XfrmInTmplMismatch", 1}}},
      {"192.0.2.1", PolicyAction::kBlock, 1, {{"XfrmInPolBlock", 1}}},
  };
  for (const Case& c : cases) {
    Gateway west;
    policy(west, Direction::kOut);
    ASSERT_TRUE(west.engine().add_sa(sa()));
    west.engine().publish();
    Gateway east;
    east.engine().set_local_addresses({address("192.0.2.1")});
    ASSERT_TRUE(east.engine().add_sa(sa()));
    for (const Direction direction : {Direction::kIn, Direction::kForward}) {
      auto params = make(TunnelPolicy{.direction = direction,
                                      .source = "192.0.1.0/24",
                                      .destination = "192.0.2.0/24",
                                      .tunnel_source = "192.1.2.45",
                                      .tunnel_destination = "192.1.2.23",
                                      .reqid = c.reqid});
      params.action = c.action;
      ASSERT_TRUE(east.engine().add_policy(std::move(params)));
    }
    east.engine().publish();
    const auto sent =
        west.send(make(UdpPacket{.source = "192.0.1.1", .destination = c.destination}));
    EXPECT_EQ(east.receive(sent.sealed).size(), c.expected.empty() ? 1u : 0u);
    EXPECT_EQ(east.moved(), c.expected) << c.destination << " " << c.reqid;
  }
}

TEST_F(TunnelTest, TunnelPacketsNeedAPolicy) {
  Gateway east;
  ASSERT_TRUE(east.engine().add_sa(sa()));
  ASSERT_TRUE(west_.engine().add_sa(sa()));
  east.engine().publish();
  west_.engine().publish();
  east.receive(sealed());
  EXPECT_EQ(east.moved(), (Moved{{"XfrmInNoPols", 1}}));
}

TEST_F(TunnelTest, NestedTunnelsInBothDirections) {
  // Inner 1.45 -> 1.23, around it 2.45 -> 2.23; the inner tunnel's end is east's own.
  Gateway west;
  Gateway east;
  east.engine().set_local_addresses(
      {address("192.0.2.1"), address("192.1.1.23"), address("192.1.2.23")});
  for (Gateway* gateway : {&west, &east}) {
    auto params =
        make(TunnelPolicy{.direction = gateway == &west ? Direction::kOut : Direction::kIn,
                          .source = "192.0.1.0/24",
                          .destination = "192.0.2.0/24",
                          .tunnel_source = "192.1.1.45",
                          .tunnel_destination = "192.1.1.23"});
    Template outer = params.templates[0];
    outer.source = address("192.1.2.45");
    outer.destination = address("192.1.2.23");
    outer.reqid = Reqid{2};
    params.templates.push_back(outer);
    ASSERT_TRUE(gateway->engine().add_policy(std::move(params)));
    ASSERT_TRUE(gateway->engine().add_sa(
        make(TunnelSa{.source = "192.1.1.45", .destination = "192.1.1.23", .spi = 0x1001})));
    ASSERT_TRUE(gateway->engine().add_sa(make(TunnelSa{.source = "192.1.2.45",
                                                       .destination = "192.1.2.23",
                                                       .spi = 0x1002,
                                                       .reqid = 2,
                                                       .cbc = true})));
    gateway->engine().publish();
  }
  const auto sent = west.send(std::vector<PacketData>(3, packet()));
  ASSERT_EQ(sent.sealed.size(), 3u);
  EXPECT_EQ(load_be32(sent.sealed[0].data() + 20), 0x1002u);
  EXPECT_EQ(east.receive(sent.sealed), std::vector<PacketData>(3, packet()));
  EXPECT_EQ(east.moved(), Moved{});
}

TEST_F(TunnelTest, PublishedChangesTakeEffectTogether) {
  ASSERT_TRUE(west_.engine().add_sa(sa()));
  EXPECT_TRUE(west_.send(packet()).sealed.empty());
  west_.engine().publish();
  EXPECT_EQ(west_.send(packet()).sealed.size(), 1u);
}

}  // namespace
}  // namespace xfrmfs::testing
