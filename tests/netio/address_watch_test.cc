// SPDX-License-Identifier: Apache-2.0
// The kernel's addresses and links, in a network namespace of the test's own.
#include "netio/address_watch.h"

#include <chrono>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "netio/system_clock.h"
#include "tests/support/network_namespace.h"

namespace xfrmfs::netio {
namespace {

using engine::IpAddress;

Link link(int index, const char* name, std::uint32_t mtu, bool is_up = true) {
  return {.index = index, .name = name, .mtu = mtu, .is_up = is_up, .is_loopback = false};
}

const Link kLoopback{.index = 1, .name = "lo", .mtu = 65536, .is_up = true, .is_loopback = true};

TEST(UnderlayMtuTest, IsThatOfTheNamedLink) {
  const std::vector<Link> links{kLoopback, link(2, "eth0", 1500), link(3, "eth1", 9000, false)};
  EXPECT_EQ(underlay_mtu(links, "eth1", 2, 0), 9000u);
  EXPECT_EQ(underlay_mtu(links, "lo", 2, 0), 65536u);
  EXPECT_EQ(underlay_mtu(links, "eth2", 2, 0), std::nullopt);
}

TEST(UnderlayMtuTest, IsThatOfTheDefaultRoute) {
  const std::vector<Link> links{kLoopback, link(2, "eth0", 1400), link(3, "eth1", 9000)};
  EXPECT_EQ(underlay_mtu(links, "", 3, 0), 9000u);
}

TEST(UnderlayMtuTest, IsTheSmallestWithoutDefaultRoute) {
  const std::vector<Link> links{kLoopback, link(2, "eth0", 9000), link(3, "eth1", 1450),
                                link(4, "ipsec0", 1300), link(5, "eth2", 1200, false)};
  EXPECT_EQ(underlay_mtu(links, "", std::nullopt, 4), 1450u);
}

TEST(UnderlayMtuTest, IgnoresDefaultRouteThroughTheTunnel) {
  const std::vector<Link> links{kLoopback, link(2, "eth0", 1500), link(4, "ipsec0", 1300)};
  EXPECT_EQ(underlay_mtu(links, "", 4, 4), 1500u);
}

TEST(UnderlayMtuTest, IsTheUsualWhereNoLinkIsUp) {
  EXPECT_EQ(underlay_mtu(std::vector<Link>{kLoopback}, "", std::nullopt, 0), 1500u);
}

class AddressWatchTest : public test::NetworkNamespaceTest {
 protected:
  bool knows(std::string_view address) const {
    return engine_.view().snapshot()->is_local(*IpAddress::parse(address));
  }
  std::uint32_t mtu() { return engine_.settings().underlay_mtu.load(); }
  /// Runs the control thread until `happened`; false if it does not.
  template <class Condition>
  bool run_until(const Condition& happened) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!happened() && std::chrono::steady_clock::now() < deadline) {
      io_.run_one_for(std::chrono::milliseconds(100));
    }
    return happened();
  }

  SystemClock clock_;
  engine::Engine engine_{1, clock_};
  asio::io_context io_;
  int changes_ = 0;
};

TEST_F(AddressWatchTest, KnowsAddressesFromTheStart) {
  test::run("ip addr add 192.0.2.1/24 dev lo && ip addr add 2001:db8::1/64 dev lo nodad");
  const AddressWatch watch(io_, engine_, {}, [this] { ++changes_; });
  EXPECT_TRUE(knows("127.0.0.1"));
  EXPECT_TRUE(knows("::1"));
  EXPECT_TRUE(knows("192.0.2.1"));
  EXPECT_TRUE(knows("2001:db8::1"));
  EXPECT_FALSE(knows("192.0.2.2"));
  EXPECT_EQ(changes_, 0);
}

TEST_F(AddressWatchTest, FollowsAddresses) {
  const AddressWatch watch(io_, engine_, {}, [this] { ++changes_; });
  test::run("ip addr add 192.0.2.1/24 dev lo");
  EXPECT_TRUE(run_until([this] { return knows("192.0.2.1"); }));
  EXPECT_EQ(changes_, 1);
  test::run("ip addr del 192.0.2.1/24 dev lo");
  EXPECT_TRUE(run_until([this] { return !knows("192.0.2.1"); }));
  EXPECT_EQ(changes_, 2);
}

TEST_F(AddressWatchTest, KnowsItsOwnEndOfAPointToPointLink) {
  test::run("ip tuntap add tun0 mode tun && ip addr add 192.0.2.1 peer 192.0.2.2 dev tun0");
  const AddressWatch watch(io_, engine_, {}, [] {});
  EXPECT_TRUE(knows("192.0.2.1"));
  EXPECT_FALSE(knows("192.0.2.2"));
}

TEST_F(AddressWatchTest, CatchesUpWhenNotificationsWereLost) {
  const AddressWatch watch(io_, engine_, {}, [] {});
  // More about links than the socket's buffer holds, and then an address, which is lost.
  test::run(
      "(for i in $(seq 1 1000); do echo link set lo mtu $((60000 + i % 2)); done; "
      "echo addr add 192.0.2.1/32 dev lo) | ip -batch -");
  EXPECT_TRUE(run_until([this] { return knows("192.0.2.1"); }));
}

TEST_F(AddressWatchTest, FollowsTheUnderlaysMtu) {
  test::run("ip link add veth0 mtu 1450 type veth peer name veth1 mtu 1280");
  const AddressWatch watch(io_, engine_, {.underlay = "veth0"}, [] {});
  EXPECT_EQ(mtu(), 1450u);
  test::run("ip link set veth0 mtu 1400");
  EXPECT_TRUE(run_until([this] { return mtu() == 1400; }));
  test::run("ip link del veth0");
  io_.run_for(std::chrono::milliseconds(20));
  EXPECT_EQ(mtu(), 1400u);  // nothing better is known
}

TEST_F(AddressWatchTest, TakesTheMtuOfTheDefaultRoute) {
  test::run(
      "ip link add veth0 mtu 1450 type veth peer name veth1 mtu 1280 && ip link set veth0 up && "
      "ip link set veth1 up && ip addr add 192.0.2.1/24 dev veth0 && "
      "ip route add default via 192.0.2.2");
  const AddressWatch watch(io_, engine_, {}, [] {});
  EXPECT_EQ(mtu(), 1450u);
}

}  // namespace
}  // namespace xfrmfs::netio
