// SPDX-License-Identifier: Apache-2.0
#include "fs/ipsec_eroute.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/fs/golden.h"
#include "tests/fs/scenario.h"

namespace xfrmfs::fs {
namespace {

using engine::Protocol;
using testing::address;
using testing::prefix;
using testing::TunnelPolicy;
using testing::TunnelSa;

/// A golden line: words, as KLIPS' own readers split it.
ErouteRow parse(const std::string& line) {
  static const std::map<std::string, Said::Kind> kShunts = {
      {"%pass", Said::Kind::kPass},     {"%drop", Said::Kind::kDrop},
      {"%hold", Said::Kind::kHold},     {"%trap", Said::Kind::kTrap},
      {"%reject", Said::Kind::kReject}, {"%trapsubnet", Said::Kind::kTrapSubnet}};
  const auto words = words_of(line);
  EXPECT_EQ(words.size(), 6u);
  EXPECT_EQ(words.at(2), "->");
  EXPECT_EQ(words.at(4), "=>");
  ErouteRow row;
  row.packets = std::stoull(words[0]);
  row.source = prefix(words[1]);
  row.destination = prefix(words[3]);
  const std::string& said = words[5];
  if (const auto shunt = kShunts.find(said); shunt != kShunts.end()) {
    row.said.kind = shunt->second;
  } else {
    EXPECT_TRUE(said.starts_with("tun0x")) << said;
    const auto at = said.find('@');
    row.said = {.protocol = Protocol::kIpip,
                .spi = engine::Spi{static_cast<std::uint32_t>(
                    std::stoul(said.substr(5, at - 5), nullptr, 16))},
                .destination = address(said.substr(at + 1))};
  }
  return row;
}

std::string text_of(const ErouteRow& row) {
  std::string out;
  append(out, row);
  return out;
}

TEST(ErouteRowTest, PrintsWhatKlipsPrintedInItsOrder) {
  std::size_t lines = 0;
  for (const std::string& file : klips_goldens("eroute-")) {
    std::vector<ErouteRow> rows;
    for (const std::string& line : lines_of(golden(file))) {
      rows.push_back(parse(line));
      EXPECT_EQ(text_of(rows.back()), line + "\n") << file;
      ++lines;
    }
    EXPECT_TRUE(std::ranges::is_sorted(rows, radix_less)) << file;
    std::ranges::reverse(rows);
    EXPECT_TRUE(rows.size() < 2 || !std::ranges::is_sorted(rows, radix_less)) << file;
  }
  EXPECT_EQ(lines, 25u);
}

ErouteRow tunnel_row(const char* source, const char* destination) {
  return {.source = prefix(source),
          .destination = prefix(destination),
          .said = {.protocol = Protocol::kEsp,
                   .spi = engine::Spi{0xae595bac},
                   .destination = address("192.1.2.23")}};
}

TEST(ErouteRowTest, PortsAndProtocolsOnlyIfSelected) {
  ErouteRow row = tunnel_row("192.1.3.209/32", "192.1.2.23/32");
  row.source_port = row.destination_port = 1701;
  row.protocol = Protocol::kUdp;
  EXPECT_EQ(
      text_of(row),
      "0          192.1.3.209/32:1701 -> 192.1.2.23/32:1701 => esp0xae595bac@192.1.2.23:17\n");
  row.source_port = 0;
  row.said = {.kind = Said::Kind::kTrap};
  EXPECT_EQ(text_of(row), "0          192.1.3.209/32     -> 192.1.2.23/32:1701 => %trap:17\n");
}

TEST(ErouteRowTest, Ipv6) {
  ErouteRow row = tunnel_row("2001:db8:1:2::45/128", "2001:db8:1:2::23/128");
  row.packets = 8;
  row.said = {.protocol = Protocol::kEsp,
              .spi = engine::Spi{0x43952d72},
              .destination = address("2001:db8:1:2::23")};
  EXPECT_EQ(text_of(row),
            "8          2001:db8:1:2::45/128 -> 2001:db8:1:2::23/128 => "
            "esp0x43952d72@2001:db8:1:2::23\n");
  row.source_port = 25;
  row.destination = prefix("::/0");
  EXPECT_EQ(text_of(row),
            "8          [2001:db8:1:2::45/128]:25 -> ::/0               => "
            "esp0x43952d72@2001:db8:1:2::23\n");
}

TEST(ErouteRowTest, CountIsASigned32BitNumber) {
  ErouteRow row = tunnel_row("0.0.0.0/0", "0.0.0.0/0");
  row.packets = 0x7fff'ffff;
  EXPECT_TRUE(text_of(row).starts_with("2147483647 0.0.0.0/0 "));
  row.packets = 0x8000'0000;
  EXPECT_TRUE(text_of(row).starts_with("-2147483648 0.0.0.0/0 "));
}

TEST(ErouteRowTest, RadixOrder) {
  const auto row = [](const char* source, const char* destination, std::uint8_t protocol = 0,
                      std::uint16_t source_port = 0, std::uint16_t destination_port = 0) {
    ErouteRow r = tunnel_row(source, destination);
    r.protocol = Protocol{protocol};
    r.source_port = source_port;
    r.destination_port = destination_port;
    return r;
  };
  const ErouteRow ordered[] = {
      row("0.0.0.0/8", "0.0.0.0/0"),  // equal keys: the more specific first
      row("0.0.0.0/1", "0.0.0.0/0"),
      row("0.0.0.0/0", "0.0.0.0/8"),
      row("0.0.0.0/0", "0.0.0.0/0"),
      row("0.0.0.0/0", "0.0.0.0/0", 6),
      row("0.0.0.0/0", "0.0.0.0/0", 6, 0, 256),
      row("0.0.0.0/0", "0.0.0.0/0", 6, 1, 2),
      row("0.0.0.0/0", "0.0.0.0/0", 17),
      row("0.0.0.0/0", "10.0.0.0/8"),
      row("10.0.0.0/16", "0.0.0.0/0"),
      row("10.0.0.0/8", "0.0.0.0/0"),
      row("192.1.3.209/32", "0.0.0.0/0"),
      row("192.1.3.209/32", "1.2.3.4/32"),
      row("::/0", "::/0"),
      row("2001:db8::/32", "::/0"),
  };
  for (std::size_t i = 0; i < std::size(ordered); ++i) {
    for (std::size_t j = 0; j < std::size(ordered); ++j) {
      EXPECT_EQ(radix_less(ordered[i], ordered[j]), i < j) << i << " " << j;
    }
  }
}

TEST(IpsecErouteTest, EmptyDatabaseEmptyFile) {
  testing::Gateway gateway;
  EXPECT_EQ(IpsecEroute().render(gateway.engine().view()), "");
}

TEST(IpsecErouteTest, RendersTheGolden) {
  Scenario scenario;
  EXPECT_EQ(IpsecEroute().render(scenario.view()), golden("files/ipsec_eroute"));
}

class ErouteSaidTest : public ::testing::Test {
 protected:
  engine::Engine& engine() { return gateway_.engine(); }

  static engine::PolicyParams policy() {
    return make(TunnelPolicy{.source = "10.1.2.3/16",
                             .destination = "10.2.0.0/16",
                             .tunnel_source = "192.0.2.1",
                             .tunnel_destination = "198.51.100.2"});
  }
  static engine::SaParams sa(std::uint32_t spi) {
    return make(TunnelSa{.source = "192.0.2.1", .destination = "198.51.100.2", .spi = spi});
  }
  /// What the one policy leads to, without the columns in front.
  std::string said() {
    engine().publish();
    const std::string text = IpsecEroute().render(engine().view());
    const std::string start = "0          10.1.0.0/16        -> 10.2.0.0/16        => ";
    EXPECT_TRUE(text.starts_with(start)) << text;
    return text.substr(start.size());
  }

  static std::string tunnel_of(const engine::SaPtr& association) {
    return fmt::format("tun0x{:x}@198.51.100.2\n", 0x1000 + association->serial());
  }

  testing::Gateway gateway_;
};

TEST_F(ErouteSaidTest, FollowsTheYoungestUsableAssociation) {
  const std::string first = tunnel_of(add(engine(), sa(0x101)));
  add(engine(), policy());
  EXPECT_EQ(said(), first);
  const engine::SaPtr younger = add(engine(), sa(0x102));
  EXPECT_EQ(said(), tunnel_of(younger));
  younger->set_state(engine::SaState::kExpired);
  EXPECT_EQ(said(), first);
  engine().flush_sas(std::nullopt);
  EXPECT_EQ(said(), "%trap\n");
}

TEST_F(ErouteSaidTest, OptionalTemplatesMayBePassedBy) {
  engine::PolicyParams params = policy();
  params.templates[0].optional = true;
  add(engine(), std::move(params));
  EXPECT_EQ(said(), "%pass\n");
  const std::string tunnel = tunnel_of(add(engine(), sa(0x101)));
  EXPECT_EQ(said(), tunnel);
}

TEST_F(ErouteSaidTest, BlockWinsOverTemplates) {
  engine::PolicyParams params = policy();
  params.action = engine::PolicyAction::kBlock;
  add(engine(), std::move(params));
  add(engine(), sa(0x101));
  EXPECT_EQ(said(), "%drop\n");
}

TEST_F(ErouteSaidTest, OnlyMainOutboundPoliciesAreListed) {
  for (const auto direction : {engine::Direction::kIn, engine::Direction::kForward}) {
    engine::PolicyParams params = policy();
    params.direction = direction;
    add(engine(), std::move(params));
  }
  engine::PolicyParams sub = policy();
  sub.type = engine::PolicyType::kSub;
  add(engine(), std::move(sub));
  engine().publish();
  EXPECT_EQ(IpsecEroute().render(engine().view()), "");
}

TEST_F(ErouteSaidTest, LarvalAssociationsHoldOnlyHostPairs) {
  const auto larval = [&](const char* source, const char* destination) {
    engine::SaParams params = sa(0);
    params.crypto = {};
    params.selector.family = engine::Family::kIpv4;
    params.selector.source = prefix(source);
    params.selector.destination = prefix(destination);
    ASSERT_TRUE(engine().allocate_spi(std::move(params), 0x100, 0x1ff));
  };
  larval("10.0.0.0/8", "10.2.0.1/32");
  larval("10.1.0.1/32", "0.0.0.0/0");
  engine::SaParams any = sa(0);
  any.crypto = {};
  ASSERT_TRUE(engine().allocate_spi(std::move(any), 0x100, 0x1ff));
  engine::SaParams valid = sa(0x300);
  valid.selector.family = engine::Family::kIpv4;
  valid.selector.source = prefix("10.1.0.1/32");
  valid.selector.destination = prefix("10.2.0.1/32");
  add(engine(), std::move(valid));
  engine().publish();
  EXPECT_EQ(IpsecEroute().render(engine().view()), "");
  larval("10.1.0.1/32", "10.2.0.1/32");
  engine().publish();
  EXPECT_EQ(IpsecEroute().render(engine().view()),
            "0          10.1.0.1/32        -> 10.2.0.1/32        => %hold\n");
}

}  // namespace
}  // namespace xfrmfs::fs
