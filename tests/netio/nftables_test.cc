// SPDX-License-Identifier: Apache-2.0
// The guard's table in a real kernel: made, filled, taken over, lost and made again. In a network
// namespace of this test's own.

#include "netio/nftables.h"

#include <array>
#include <bit>
#include <cerrno>
#include <initializer_list>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
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
    batch.message(type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
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
  batch.message(NFT_MSG_NEWTABLE, NLM_F_CREATE);
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

/// What a kernel says of a counter "c" with 99 bytes and 7 packets, from nfgenmsg on.
std::vector<std::byte> counter_message(std::uint8_t family, std::uint8_t type) {
  const std::initializer_list<unsigned> bytes = {family, 0,    0,
                                                 3,  // nfgenmsg
                                                 6,      0,    NFTA_OBJ_NAME,
                                                 0,      'c',  0,
                                                 0,      0,  // padded
                                                 8,      0,    NFTA_OBJ_TYPE,
                                                 0,      0,    0,
                                                 0,      type,  //
                                                 28,     0,    NFTA_OBJ_DATA,
                                                 0x80,  // nested
                                                 12,     0,    NFTA_COUNTER_BYTES,
                                                 0,      0,    0,
                                                 0,      0,    0,
                                                 0,      0,    99,  //
                                                 12,     0,    NFTA_COUNTER_PACKETS,
                                                 0,      0,    0,
                                                 0,      0,    0,
                                                 0,      0,    7};
  std::vector<std::byte> out;
  for (const unsigned byte : bytes) out.push_back(static_cast<std::byte>(byte));
  return out;
}

TEST(NftCounterTest, HasANameAndPackets) {
  if constexpr (std::endian::native != std::endian::little) GTEST_SKIP() << "lengths are native";
  const auto counter = read_counter(counter_message(NFPROTO_INET, NFT_OBJECT_COUNTER));
  ASSERT_TRUE(counter);
  EXPECT_EQ(counter->name, "c");
  EXPECT_EQ(counter->packets, 7u);
  EXPECT_FALSE(read_counter(counter_message(NFPROTO_IPV4, NFT_OBJECT_COUNTER)));
  EXPECT_FALSE(read_counter(counter_message(NFPROTO_INET, NFT_OBJECT_QUOTA)));
}

TEST(NftCounterTest, ReadsNoFurtherThanThereIs) {
  const auto whole = counter_message(NFPROTO_INET, NFT_OBJECT_COUNTER);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<long>(size));
    EXPECT_FALSE(read_counter(part)) << size;
  }
}

}  // namespace
}  // namespace xfrmfs::netio
