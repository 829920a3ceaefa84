// SPDX-License-Identifier: Apache-2.0
// The table of next hops: what is asked, filled in, changed, forgotten, and read meanwhile.
#include "netio/next_hop.h"

#include <atomic>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <poll.h>

namespace xfrmfs::netio {
namespace {

using engine::IpAddress;
using Way = NextHop::Way;

Ends ends(const std::string& source, const std::string& destination) {
  return {.source = *IpAddress::parse(source), .destination = *IpAddress::parse(destination)};
}

Ends to(unsigned host) {
  return ends("10.0.0.1", "10.1." + std::to_string(host / 256) + "." + std::to_string(host % 256));
}

ResolvedHop hop(Way way, int link = 3) {
  return {.hop = {.way = way,
                  .link = link,
                  .address = {std::byte{2}, {}, {}, {}, {}, std::byte{0xfe}},
                  .mtu = 1500},
          .neighbour = {}};
}

class NextHopTableTest : public testing::Test {
 protected:
  NextHopTableTest() { table_.allow(true); }
  bool rings() {
    pollfd polled{.fd = table_.descriptor(), .events = POLLIN, .revents = 0};
    return ::poll(&polled, 1, 0) == 1;
  }

  NextHopTable table_;
};

TEST_F(NextHopTableTest, NotesOnceWhatIsNotThere) {
  EXPECT_FALSE(rings());
  EXPECT_FALSE(table_.find(to(1)));
  EXPECT_FALSE(table_.find(to(1)));
  EXPECT_FALSE(table_.find(to(2)));
  EXPECT_TRUE(rings());
  EXPECT_EQ(table_.take_requests(), (std::vector<Ends>{to(1), to(2)}));
  EXPECT_FALSE(rings());
  EXPECT_TRUE(table_.take_requests().empty());
}

TEST_F(NextHopTableTest, NotesNoMoreThanItHasRoomFor) {
  for (unsigned i = 0; i < 1000; ++i) table_.find(to(i));
  EXPECT_EQ(table_.take_requests().size(), NextHopTable::kMostRequests);
  table_.find(to(1));
  EXPECT_EQ(table_.take_requests().size(), 1u);
}

TEST_F(NextHopTableTest, FindsWhatWasPut) {
  const Ends ipv6 = ends("2001:db8::1", "2001:db8::2");
  EXPECT_TRUE(table_.empty());
  ASSERT_TRUE(table_.put(to(1), hop(Way::kDirect, 3)));
  ASSERT_TRUE(table_.put(ipv6, hop(Way::kDirect, 4)));
  EXPECT_EQ(table_.find(to(1)), hop(Way::kDirect, 3).hop);
  EXPECT_EQ(table_.find(ipv6), hop(Way::kDirect, 4).hop);
  ASSERT_TRUE(table_.put(to(1), hop(Way::kDirect, 5)));
  EXPECT_EQ(table_.find(to(1)), hop(Way::kDirect, 5).hop);
  EXPECT_FALSE(table_.empty());
  EXPECT_TRUE(table_.take_requests().empty());
}

TEST_F(NextHopTableTest, TellsFamiliesAndSourcesApart) {
  // The same bits: 10.0.0.1 and a00:1::.
  ASSERT_TRUE(table_.put(ends("10.0.0.1", "10.0.0.2"), hop(Way::kDirect)));
  EXPECT_FALSE(table_.find(ends("a00:1::", "a00:2::")));
  EXPECT_FALSE(table_.find(ends("10.0.0.3", "10.0.0.2")));
  EXPECT_EQ(table_.take_requests().size(), 2u);
}

TEST_F(NextHopTableTest, SendsThroughTheSocketWithoutAskingAgain) {
  ASSERT_TRUE(table_.put(to(1), hop(Way::kSocket)));
  EXPECT_FALSE(table_.find(to(1)));
  EXPECT_TRUE(table_.take_requests().empty());
}

TEST_F(NextHopTableTest, SendsOneOfManyThroughTheSocketIfInDoubt) {
  ASSERT_TRUE(table_.put(to(1), hop(Way::kConfirm)));
  int through_socket = 0;
  for (int i = 0; i < 1000; ++i) through_socket += table_.find(to(1)) ? 0 : 1;
  EXPECT_GE(through_socket, 1);
  EXPECT_LE(through_socket, 20);  // one in a second
}

TEST_F(NextHopTableTest, FindsNothingUnlessAllowed) {
  ASSERT_TRUE(table_.put(to(1), hop(Way::kDirect)));
  table_.allow(false);
  EXPECT_FALSE(table_.find(to(1)));
  EXPECT_FALSE(table_.find(to(2)));
  EXPECT_TRUE(table_.take_requests().empty());
  table_.allow(true);
  EXPECT_TRUE(table_.find(to(1)));
}

TEST_F(NextHopTableTest, UpdatesEveryEntry) {
  for (unsigned i = 0; i < 100; ++i) ASSERT_TRUE(table_.put(to(i), hop(Way::kDirect, 3)));
  std::size_t seen = 0;
  table_.update([&](const Ends& which, ResolvedHop& resolved) {
    ++seen;
    EXPECT_EQ(resolved, hop(Way::kDirect, 3));
    if (which == to(7)) resolved.hop.link = 9;
  });
  EXPECT_EQ(seen, 100u);
  EXPECT_EQ(table_.find(to(7))->link, 9);
  EXPECT_EQ(table_.find(to(8))->link, 3);
}

TEST_F(NextHopTableTest, ForgetsWhatNobodyUses) {
  ASSERT_TRUE(table_.put(to(1), hop(Way::kDirect)));
  ASSERT_TRUE(table_.put(to(2), hop(Way::kDirect)));
  table_.forget_unused();  // both are new
  EXPECT_TRUE(table_.find(to(1)));
  table_.forget_unused();
  EXPECT_TRUE(table_.find(to(1)));
  EXPECT_FALSE(table_.find(to(2)));
  table_.forget_unused();
  table_.forget_unused();
  EXPECT_TRUE(table_.empty());
}

TEST_F(NextHopTableTest, RefusesMoreThanFit) {
  unsigned fit = 0;
  for (unsigned i = 0; i < 10'000; ++i) fit += table_.put(to(i), hop(Way::kDirect)) ? 1 : 0;
  EXPECT_LE(fit, NextHopTable::kSets * NextHopTable::kWays);
  EXPECT_GE(fit, NextHopTable::kSets * NextHopTable::kWays * 9 / 10);
  table_.forget_unused();
  table_.forget_unused();
  EXPECT_TRUE(table_.empty());
  EXPECT_TRUE(table_.put(to(1), hop(Way::kDirect)));
}

TEST_F(NextHopTableTest, IsReadWholeWhileItIsWritten) {
  std::atomic<bool> done{false};
  std::atomic<unsigned> found{0};
  std::atomic<unsigned> torn{0};
  const auto read = [&] {
    while (!done.load()) {
      const auto now = table_.find(to(1));
      if (!now) continue;
      ++found;
      if (now->mtu != static_cast<std::uint32_t>(now->link) ||
          std::to_integer<int>(now->address[0]) != now->link % 256) {
        ++torn;
      }
    }
  };
  std::jthread first(read);
  std::jthread second(read);
  for (int i = 1; i < 20'000 || found.load() < 100; ++i) {
    ResolvedHop next = hop(Way::kDirect, i);
    next.hop.mtu = static_cast<std::uint32_t>(i);
    next.hop.address[0] = static_cast<std::byte>(i % 256);
    ASSERT_TRUE(table_.put(to(1), next));
  }
  done.store(true);
  first.join();
  second.join();
  EXPECT_EQ(torn.load(), 0u);
}

}  // namespace
}  // namespace xfrmfs::netio
