// SPDX-License-Identifier: Apache-2.0
// Transport mode between two hosts: the IP header stays, and everything else is as in a tunnel.

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "engine/packet/checksum.h"
#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

using Moved = std::map<std::string, std::uint64_t>;

constexpr const char* kWest4 = "192.1.2.45";
constexpr const char* kEast4 = "192.1.2.23";
constexpr const char* kWest6 = "2001:db8::45";
constexpr const char* kEast6 = "2001:db8::23";

struct Hosts {
  bool ipv6 = false;
  bool encapsulated = false;
  bool cbc = false;
};

SaParams transport_sa(const Hosts& hosts, std::uint32_t spi = 0x1000, std::uint32_t reqid = 1) {
  SaParams params = make(TunnelSa{.source = hosts.ipv6 ? kWest6 : kWest4,
                                  .destination = hosts.ipv6 ? kEast6 : kEast4,
                                  .spi = spi,
                                  .reqid = reqid,
                                  .any_family = false,
                                  .cbc = hosts.cbc,
                                  .encapsulated = hosts.encapsulated});
  params.mode = Mode::kTransport;
  return params;
}

Template transport_template(std::uint32_t reqid = 1) {
  Template tmpl;
  tmpl.protocol = Protocol::kEsp;
  tmpl.reqid = Reqid{reqid};
  tmpl.mode = Mode::kTransport;
  return tmpl;
}

/// West protects what it sends to east.
struct Pair {
  Gateway west;
  Gateway east;
  const Hosts hosts;

  explicit Pair(const Hosts& which) : hosts(which) {
    for (Gateway* gateway : {&west, &east}) {
      EXPECT_TRUE(gateway->engine().add_sa(transport_sa(hosts)));
      PolicyParams policy =
          make(TunnelPolicy{.direction = gateway == &west ? Direction::kOut : Direction::kIn,
                            .source = hosts.ipv6 ? "2001:db8::45/128" : "192.1.2.45/32",
                            .destination = hosts.ipv6 ? "2001:db8::23/128" : "192.1.2.23/32",
                            .reqid = 0});
      policy.templates = {transport_template()};
      EXPECT_TRUE(gateway->engine().add_policy(std::move(policy)));
      gateway->engine().set_local_addresses(
          {address(hosts.ipv6 ? (gateway == &west ? kWest6 : kEast6)
                              : (gateway == &west ? kWest4 : kEast4))});
      gateway->engine().publish();
    }
  }

  UdpPacket udp(std::size_t size = 100) const {
    return {.source = hosts.ipv6 ? kWest6 : kWest4,
            .destination = hosts.ipv6 ? kEast6 : kEast4,
            .payload_size = size,
            .traffic_class = 0xb9};
  }
  TcpPacket tcp(std::size_t size) const {
    return {.source = hosts.ipv6 ? kWest6 : kWest4,
            .destination = hosts.ipv6 ? kEast6 : kEast4,
            .payload_size = size};
  }
};

PacketData checked(PacketData packet) {
  fill_udp_checksum(packet);
  return packet;
}

class TransportTest : public ::testing::TestWithParam<std::tuple<bool, bool, bool>> {
 protected:
  TransportTest()
      : pair_({.ipv6 = std::get<0>(GetParam()),
               .encapsulated = std::get<1>(GetParam()),
               .cbc = std::get<2>(GetParam())}) {}
  Pair pair_;
};

TEST_P(TransportTest, CarriesPacketsUnchanged) {
  for (const std::size_t size : {0u, 1u, 17u, 100u, 1300u}) {
    const PacketData packet = checked(make(pair_.udp(size)));
    const auto sent = pair_.west.send(packet);
    ASSERT_EQ(sent.sealed.size(), 1u);
    EXPECT_EQ(pair_.east.receive(sent.sealed), std::vector<PacketData>{packet}) << size;
  }
  EXPECT_EQ(pair_.west.moved(), Moved{});
  EXPECT_EQ(pair_.east.moved(), Moved{});
}

TEST_P(TransportTest, TheHeaderStaysButForProtocolAndLength) {
  const PacketData packet = checked(make(pair_.udp()));
  const auto sent = pair_.west.send(packet);
  ASSERT_EQ(sent.sealed.size(), 1u);
  const auto before = parse_ip_header(packet);
  const auto after = parse_ip_header(sent.sealed[0]);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->protocol, pair_.hosts.encapsulated ? Protocol::kUdp : Protocol::kEsp);
  EXPECT_EQ(after->total_size, sent.sealed[0].size());
  EXPECT_EQ(after->source, before->source);
  EXPECT_EQ(after->destination, before->destination);
  EXPECT_EQ(after->traffic_class, before->traffic_class);
  EXPECT_EQ(after->hop_limit, before->hop_limit);
  if (!pair_.hosts.ipv6) {
    EXPECT_EQ(checksum_add(Bytes(sent.sealed[0]).first(20)), 0xffff);
    EXPECT_EQ(load_be16(&sent.sealed[0][4]), load_be16(&packet[4]));  // identification
  }
}

TEST_P(TransportTest, ChargesWhatItProtects) {
  const PacketData packet = checked(make(pair_.udp(100)));
  pair_.east.receive(pair_.west.send(packet).sealed);
  for (Gateway* gateway : {&pair_.west, &pair_.east}) {
    const auto usage = gateway->engine().find_sa(transport_sa(pair_.hosts).id)->lifetime().usage();
    EXPECT_EQ(usage.bytes, 108u);  // the UDP header and what is behind it
    EXPECT_EQ(usage.packets, 1u);
  }
}

TEST_P(TransportTest, ATrainIsItsPackets) {
  const Super train = Super::of(pair_.tcp(20'000), 1200);
  const auto sent = pair_.west.send(train);
  EXPECT_TRUE(pair_.east.receive(sent.sealed) == train.packets());
  EXPECT_EQ(pair_.west.moved(), Moved{});
  EXPECT_EQ(pair_.east.moved(), Moved{});
}

TEST_P(TransportTest, ArrivesAsATrain) {
  const Super train = Super::of(pair_.tcp(9'600), 1200);
  const auto sent = pair_.west.send(train);
  ASSERT_EQ(sent.sealed.size(), 8u);
  EXPECT_TRUE(pair_.east.receive(SealedTrain::of(sent.sealed)) == train.packets());
  EXPECT_EQ(pair_.east.moved(), Moved{});
}

TEST_P(TransportTest, DamageIsSeen) {
  PacketData sealed = pair_.west.send(checked(make(pair_.udp()))).sealed.at(0);
  sealed.back() ^= std::byte{1};
  EXPECT_TRUE(pair_.east.receive(sealed).empty());
  EXPECT_EQ(pair_.east.moved(), (Moved{{"XfrmInStateProtoError", 1}}));
}

INSTANTIATE_TEST_SUITE_P(All, TransportTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(),
                                            ::testing::Bool()),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) ? "Ipv6" : "Ipv4") +
                                  (std::get<1>(test.param) ? "Udp" : "") +
                                  (std::get<2>(test.param) ? "Cbc" : "Gcm");
                         });

TEST(TransportModeTest, OptionsOfIpv4Stay) {
  Pair pair({});
  PacketData packet = make(pair.udp());
  const std::vector<std::byte> options(8, std::byte{1});  // NOP
  packet.insert(packet.begin() + 20, options.begin(), options.end());
  packet[0] = std::byte{0x47};
  set_total_size(MutableBytes(packet).first(28), packet.size());
  const auto sent = pair.west.send(packet);
  ASSERT_EQ(sent.sealed.size(), 1u);
  EXPECT_EQ(std::to_integer<int>(sent.sealed[0][0]), 0x47);
  EXPECT_EQ(pair.east.receive(sent.sealed), std::vector<PacketData>{packet});
}

/// RFC 4303 §3.1.1, figure 4: what routers on the way look at stays in front.
TEST(TransportModeTest, ExtensionHeadersOfIpv6) {
  Pair pair({.ipv6 = true});
  // Hop-by-hop, destination options, routing (nothing left), destination options; eight bytes each.
  const unsigned chain[] = {0, 60, 43, 60, 17};
  PacketData packet = make(pair.udp());
  std::vector<std::byte> extensions;
  for (int i = 0; i < 4; ++i) {
    const unsigned filler = chain[i] == 43 ? 0 : 1;  // PadN of four, or type 0 with no segment left
    const unsigned bytes[] = {chain[i + 1], 0, filler, filler * 4, 0, 0, 0, 0};
    for (const unsigned byte : bytes) extensions.push_back(static_cast<std::byte>(byte));
  }
  packet[6] = std::byte{0};
  packet.insert(packet.begin() + 40, extensions.begin(), extensions.end());
  set_total_size(MutableBytes(packet).first(72), packet.size());

  const auto sent = pair.west.send(packet);
  ASSERT_EQ(sent.sealed.size(), 1u);
  const PacketData& sealed = sent.sealed[0];
  EXPECT_EQ(std::to_integer<unsigned>(sealed[6]), 0u);
  EXPECT_EQ(std::to_integer<unsigned>(sealed[40]), 60u);
  EXPECT_EQ(std::to_integer<unsigned>(sealed[48]), 43u);
  EXPECT_EQ(std::to_integer<unsigned>(sealed[56]), 50u);  // the last options are inside
  EXPECT_EQ(load_be32(&sealed[64]), 0x1000u);
  EXPECT_EQ(pair.east.receive(sealed), std::vector<PacketData>{packet});
}

TEST(TransportModeTest, AFragmentIsNotProtectedAlone) {
  Pair pair({});
  PacketData packet = make(pair.udp());
  store_be16(&packet[6], 0x2000);  // more of them
  set_total_size(MutableBytes(packet).first(20), packet.size());
  EXPECT_TRUE(pair.west.send(packet).sealed.empty());
  EXPECT_EQ(pair.west.moved(), (Moved{{"XfrmOutStateModeError", 1}}));
}

TEST(TransportModeTest, WithoutAPolicyItIsAcceptedUnlessTheDefaultIsToBlock) {
  Pair pair({});
  Gateway east;
  ASSERT_TRUE(east.engine().add_sa(transport_sa({})));
  east.engine().set_local_addresses({address(kEast4)});
  east.engine().publish();
  const PacketData packet = make(pair.udp());
  EXPECT_EQ(east.receive(pair.west.send(packet).sealed), std::vector<PacketData>{packet});
  DefaultActions defaults;
  defaults[Direction::kIn] = DefaultAction::kBlock;
  east.engine().set_defaults(defaults);
  east.engine().publish();
  EXPECT_TRUE(east.receive(pair.west.send(packet).sealed).empty());
  EXPECT_EQ(east.moved(), (Moved{{"XfrmInNoPols", 1}}));
}

/// Transport around transport around a tunnel: the templates say the innermost first.
TEST(TransportModeTest, Bundles) {
  for (const bool train : {false, true}) {
    Gateway west;
    Gateway east;
    for (Gateway* gateway : {&west, &east}) {
      ASSERT_TRUE(gateway->engine().add_sa(
          make(TunnelSa{.source = kWest4, .destination = kEast4, .spi = 0x2000, .reqid = 3})));
      ASSERT_TRUE(gateway->engine().add_sa(transport_sa({}, 0x2001, 4)));
      ASSERT_TRUE(gateway->engine().add_sa(transport_sa({}, 0x2002, 5)));
      PolicyParams policy =
          make(TunnelPolicy{.direction = gateway == &west ? Direction::kOut : Direction::kForward,
                            .source = "192.0.1.0/24",
                            .destination = "192.0.2.0/24",
                            .tunnel_source = kWest4,
                            .tunnel_destination = kEast4,
                            .reqid = 3});
      policy.templates.push_back(transport_template(4));
      policy.templates.push_back(transport_template(5));
      ASSERT_TRUE(gateway->engine().add_policy(std::move(policy)));
      gateway->engine().set_local_addresses({address(gateway == &west ? kWest4 : kEast4)});
      gateway->engine().publish();
    }
    const TcpPacket tcp{.source = "192.0.1.1", .destination = "192.0.2.1", .payload_size = 5000};
    if (train) {
      const Super super = Super::of(tcp, 1000);
      EXPECT_TRUE(east.receive(west.send(super).sealed) == super.packets());
    } else {
      const PacketData packet = make(UdpPacket{.source = "192.0.1.1", .destination = "192.0.2.1"});
      const auto sent = west.send(packet);
      ASSERT_EQ(sent.sealed.size(), 1u);
      EXPECT_EQ(load_be32(&sent.sealed[0][20]), 0x2002u);
      EXPECT_EQ(east.receive(sent.sealed), std::vector<PacketData>{packet});
      PacketData fragment = packet;
      store_be16(&fragment[6], 0x2000);
      set_total_size(MutableBytes(fragment).first(20), fragment.size());
      EXPECT_EQ(east.receive(west.send(fragment).sealed), std::vector<PacketData>{fragment});
    }
    EXPECT_EQ(west.moved(), Moved{});
    EXPECT_EQ(east.moved(), Moved{});
  }
}

SaParams ah_sa(bool ipv6, Mode mode, std::uint32_t spi = 0x3000, std::uint32_t reqid = 7) {
  SaParams params = make(TunnelSa{.source = ipv6 ? kWest6 : kWest4,
                                  .destination = ipv6 ? kEast6 : kEast4,
                                  .spi = spi,
                                  .reqid = reqid,
                                  .any_family = mode == Mode::kTunnel});
  params.id.protocol = Protocol::kAh;
  params.mode = mode;
  params.crypto = {};
  params.crypto.mac = MacParams{
      .name = "sha256", .key = Secret(std::vector(32, std::byte{9})), .truncation_bits = 128};
  return params;
}

Template ah_template(bool ipv6, Mode mode, std::uint32_t reqid = 7) {
  Template tmpl = transport_template(reqid);
  tmpl.protocol = Protocol::kAh;
  tmpl.mode = mode;
  if (mode == Mode::kTunnel) {
    tmpl.family = ipv6 ? Family::kIpv6 : Family::kIpv4;
    tmpl.source = address(ipv6 ? kWest6 : kWest4);
    tmpl.destination = address(ipv6 ? kEast6 : kEast4);
  }
  return tmpl;
}

/// AH alone and around ESP, both modes, packets and trains.
TEST(TransportModeTest, AuthenticationHeader) {
  for (const bool ipv6 : {false, true}) {
    for (const Mode mode : {Mode::kTransport, Mode::kTunnel}) {
      for (const bool around_esp : {false, true}) {
        Gateway west;
        Gateway east;
        const Hosts hosts{.ipv6 = ipv6};
        for (Gateway* gateway : {&west, &east}) {
          ASSERT_TRUE(gateway->engine().add_sa(transport_sa(hosts)));
          ASSERT_TRUE(gateway->engine().add_sa(ah_sa(ipv6, mode)));
          PolicyParams policy =
              make(TunnelPolicy{.direction = gateway == &west ? Direction::kOut : Direction::kIn,
                                .source = ipv6 ? "2001:db8::45/128" : "192.1.2.45/32",
                                .destination = ipv6 ? "2001:db8::23/128" : "192.1.2.23/32",
                                .reqid = 0});
          if (around_esp) policy.templates.push_back(transport_template());
          policy.templates.push_back(ah_template(ipv6, mode));
          ASSERT_TRUE(gateway->engine().add_policy(std::move(policy)));
          gateway->engine().set_local_addresses({address(
              ipv6 ? (gateway == &west ? kWest6 : kEast6) : (gateway == &west ? kWest4 : kEast4))});
          gateway->engine().publish();
        }
        const Pair facts(hosts);
        const PacketData packet = checked(make(facts.udp()));
        PacketData sealed = west.send(packet).sealed.at(0);
        EXPECT_EQ(std::to_integer<int>(sealed[ipv6 ? 6 : 9]), 51);
        // On the way a router takes one off the hop limit, and nobody minds.
        if (ipv6) {
          sealed[7] = std::byte{9};
        } else {
          sealed[8] = std::byte{9};
          set_total_size(MutableBytes(sealed).first(20), sealed.size());
        }
        const auto arrived = east.receive(sealed);
        ASSERT_EQ(arrived.size(), 1u);
        EXPECT_TRUE(std::equal(arrived[0].end() - 100, arrived[0].end(), packet.end() - 100));
        if (mode == Mode::kTunnel) {
          EXPECT_EQ(arrived[0], packet);
        }
        EXPECT_EQ(east.moved(), Moved{});
        // Another address is another packet.
        PacketData forged = west.send(packet).sealed.at(0);
        forged[ipv6 ? 23 : 15] ^= std::byte{1};
        if (!ipv6) set_total_size(MutableBytes(forged).first(20), forged.size());
        EXPECT_TRUE(east.receive(forged).empty());
        EXPECT_EQ(east.moved(), (Moved{{"XfrmInStateProtoError", 1}}));

        const Super train = Super::of(facts.tcp(6000), 1000);
        const auto sent = west.send(train);
        EXPECT_EQ(sent.sealed.size(), 6u);
        EXPECT_TRUE(east.receive(sent.sealed) == train.packets());
        EXPECT_EQ(west.moved(), Moved{});
        EXPECT_EQ(east.moved(), Moved{});
      }
    }
  }
}

/// Behind a NAT the addresses are not those of which the sender made the sum (RFC 3948 §3.1.2).
TEST(TransportModeTest, ChecksumsFollowTheAddressesThatTheNatWrote) {
  for (const bool tcp : {false, true}) {
    Pair pair({.encapsulated = true});
    const PacketData packet = tcp ? make(pair.tcp(500)) : checked(make(pair.udp(500)));
    PacketData sealed = pair.west.send(packet).sealed.at(0);
    PacketData wanted = packet;
    for (PacketData* data : {&sealed, &wanted}) {
      (*data)[15] = std::byte{99};  // another source
      set_total_size(MutableBytes(*data).first(20), data->size());
    }
    tcp ? fill_checksum(wanted) : fill_udp_checksum(wanted);
    EXPECT_EQ(pair.east.receive(sealed), std::vector<PacketData>{wanted});
  }
}

}  // namespace
}  // namespace xfrmfs::testing
