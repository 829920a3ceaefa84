// SPDX-License-Identifier: Apache-2.0
#include "engine/spd/selector.h"

#include <gtest/gtest.h>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

Flow flow() {
  return {.source = address("192.0.1.7"),
          .destination = address("192.0.2.9"),
          .protocol = Protocol::kUdp,
          .source_port = 6000,
          .destination_port = 7000,
          .ports_known = true};
}

Selector selector() {
  Selector s;
  s.family = Family::kIpv4;
  s.source = prefix("192.0.1.0/24");
  s.destination = prefix("192.0.2.0/24");
  return s;
}

TEST(SelectorTest, EachFieldDecides) {
  EXPECT_TRUE(selector().matches(flow()));
  Selector s = selector();
  s.source.length = 32;
  EXPECT_FALSE(s.matches(flow()));
  s = selector();
  s.destination = prefix("192.0.3.0/24");
  EXPECT_FALSE(s.matches(flow()));
  s = selector();
  s.protocol = Protocol::kTcp;
  EXPECT_FALSE(s.matches(flow()));
  s = selector();
  s.family = Family::kIpv6;
  EXPECT_FALSE(s.matches(flow()));
  s.family = Family::kNone;
  EXPECT_TRUE(s.matches(flow()));
}

TEST(SelectorTest, PortsMatchUnderTheirMask) {
  Selector s = selector();
  s.destination_port = {.port = 7000, .mask = 0xffff};
  EXPECT_TRUE(s.matches(flow()));
  s.destination_port = {.port = 7001, .mask = 0xffff};
  EXPECT_FALSE(s.matches(flow()));
  s.destination_port = {.port = 7001, .mask = 0xfffe};
  EXPECT_TRUE(s.matches(flow()));
}

TEST(SelectorTest, UnknownPortsMatchOnlyAnyPort) {
  Flow fragment = flow();
  fragment.ports_known = false;
  fragment.source_port = fragment.destination_port = 0;
  EXPECT_TRUE(selector().matches(fragment));
  Selector s = selector();
  s.source_port = {.port = 0, .mask = 0xffff};
  EXPECT_FALSE(s.matches(fragment));
}

TEST(PrefixTest, EveryLengthIsCompared) {
  const IpAddress base = address("2001:db8::ffff");
  for (unsigned bit = 0; bit < 128; ++bit) {
    auto bytes = base.storage();
    bytes[bit / 8] ^= static_cast<std::byte>(0x80u >> (bit % 8));
    const IpAddress other = IpAddress::from(Family::kIpv6, bytes.data());
    EXPECT_TRUE(same_prefix(base, other, bit)) << bit;
    EXPECT_FALSE(same_prefix(base, other, bit + 1)) << bit;
  }
  EXPECT_FALSE(same_prefix(base, address("192.0.2.1"), 0));
}

}  // namespace
}  // namespace xfrmfs::testing
