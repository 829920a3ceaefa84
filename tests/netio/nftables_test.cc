// SPDX-License-Identifier: Apache-2.0
// The guard's table in a real kernel: made, filled, taken over, lost and made again. In a network
// namespace of this test's own.

#include "netio/nftables.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include <linux/netfilter/nf_tables.h>
#include <sched.h>

#include "engine/engine.h"
#include "netio/guard_table.h"
#include "netio/system_clock.h"

namespace xfrmfs::netio {
namespace {

class NftablesTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << "needs root"; }

  static int change(Nftables& nftables, unsigned type, std::string_view table) {
    NftBatch batch = nftables.batch();
    batch.message(type, type == NFT_MSG_NEWTABLE ? 0x400 /* NLM_F_CREATE */ : 0);
    batch.text(NFTA_TABLE_NAME, table);
    return nftables.apply(batch);
  }
};

TEST_F(NftablesTest, AnswersAreOfTheirBatch) {
  Nftables nftables;
  EXPECT_EQ(change(nftables, NFT_MSG_DELTABLE, "nothing"), ENOENT);
  EXPECT_EQ(change(nftables, NFT_MSG_NEWTABLE, "one"), 0);
  EXPECT_EQ(change(nftables, NFT_MSG_DELTABLE, "one"), 0);
  EXPECT_EQ(change(nftables, NFT_MSG_DELTABLE, "one"), ENOENT);
}

TEST_F(NftablesTest, ABatchWithAnErrorDoesNothing) {
  Nftables nftables;
  NftBatch batch = nftables.batch();
  batch.message(NFT_MSG_DELTABLE, 0);
  batch.text(NFTA_TABLE_NAME, "nothing");
  batch.message(NFT_MSG_NEWTABLE, 0x400);
  batch.text(NFTA_TABLE_NAME, "one");
  EXPECT_EQ(nftables.apply(batch), ENOENT);
  EXPECT_EQ(change(nftables, NFT_MSG_DELTABLE, "one"), ENOENT);
}

TEST_F(NftablesTest, CountersOfNoTable) {
  Nftables nftables;
  const auto counters = nftables.counters("nothing");
  EXPECT_TRUE(!counters || counters->empty());
}

TEST_F(NftablesTest, TheTableTakesThePlaceOfOneThatWasLeft) {
  Nftables other;
  ASSERT_EQ(change(other, NFT_MSG_NEWTABLE, "xfrmfs_t0"), 0);
  {
    GuardTable table({.tun = "t0", .tun_index = 1, .udp_port = 4500});
    engine::Counters counters;
    engine::CounterBlock& block = counters.add_block();
    EXPECT_EQ(table.collect(block), 0);
    EXPECT_EQ(counters.sum(), engine::CounterSums{});
    EXPECT_EQ(change(other, NFT_MSG_DELTABLE, "xfrmfs_t0"), EPERM) << "nobody else may";
  }
  EXPECT_EQ(change(other, NFT_MSG_DELTABLE, "xfrmfs_t0"), ENOENT) << "it went by itself";
}

TEST_F(NftablesTest, ManyPoliciesAreOneTransaction) {
  SystemClock clock;
  engine::Engine engine(1, clock);
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    engine::PolicyParams params;
    params.direction = engine::Direction::kIn;
    params.selector.family = engine::Family::kIpv6;
    std::array<std::byte, 16> bytes{};
    bytes[0] = std::byte{0x20};
    engine::store_be32(&bytes[4], i);
    params.selector.source = {engine::IpAddress::from(engine::Family::kIpv6, bytes.data()), 64};
    params.action = i % 2 == 0 ? engine::PolicyAction::kBlock : engine::PolicyAction::kAllow;
    params.templates.resize(1);
    ASSERT_TRUE(engine.add_policy(params));
  }
  GuardTable table({.tun = "t0", .tun_index = 1, .udp_port = 0});
  GuardRules rules;
  rules.input =
      guard_rules(engine.current().spd, engine::Direction::kIn, engine::DefaultAction::kAccept);
  rules.forward = rules.input;
  ASSERT_EQ(rules.input.first.lookups.size(), 1u);
  ASSERT_EQ(rules.input.first.lookups[0].elements.size(), 10'000u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(table.replace(rules), 0);
  EXPECT_EQ(table.replace({}), 0);
  EXPECT_EQ(table.replace({}), 0);
  EXPECT_EQ(table.replace(rules), 0);
}

TEST(GuardTableNameTest, IsOneThatCanBeTyped) {
  EXPECT_EQ(guard_table_name("ipsec0"), "xfrmfs_ipsec0");
  EXPECT_EQ(guard_table_name("a.b-c_d"), "xfrmfs_a.b-c_d");
  EXPECT_EQ(guard_table_name("tun@1"), "xfrmfs_tun401");
}

TEST(NftCounterTest, ReadsNoFurtherThanThereIs) {
  EXPECT_FALSE(read_counter({}));
  const std::array<std::byte, 4> head{std::byte{1}};
  EXPECT_FALSE(read_counter(head));
}

}  // namespace
}  // namespace xfrmfs::netio
