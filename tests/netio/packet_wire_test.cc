// SPDX-License-Identifier: Apache-2.0
// Frames between two network namespaces: what a real kernel's routes, neighbours and links make of
// them. Where the raw socket is blocked by a firewall rule, what arrives has come as a frame.
#include "netio/packet_wire.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include "netio/next_hop_resolver.h"
#include "tests/support/network_namespace.h"
#include "tests/support/sealed_train.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::IpAddress;
using engine::PacketPool;
using test::SealedTrain;
using Frame = std::vector<std::byte>;

constexpr std::size_t kEthernetHeader = 14;
constexpr const char* kOurMac = "02:00:00:00:00:01";
constexpr const char* kPeerMac = "02:00:00:00:00:02";

std::string mac_text(Bytes bytes) {
  std::string text;
  for (const std::byte b : bytes.first(6)) {
    constexpr const char* kDigits = "0123456789abcdef";
    if (!text.empty()) text += ':';
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

/// We are 10.77.0.1 and fd77::1 on veth0; the peer, in a namespace of its own, is .2 on veth1.
class PacketWireTest : public test::NetworkNamespaceTest {
 protected:
  void SetUp() override {
    NetworkNamespaceTest::SetUp();
    if (IsSkipped()) return;
    ours_ = open_namespace();
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    theirs_ = open_namespace();
    enter(ours_);
    test::run(std::string("ip link add veth0 address ") + kOurMac +
              " type veth peer name veth1 address " + kPeerMac);
    test::run("ip link set veth1 netns " + peer_path());
    test::run("sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv6.conf.all.accept_dad=0");
    test::run(
        "ip addr add 10.77.0.1/24 dev veth0 && ip addr add fd77::1/64 dev veth0 nodad && "
        "ip link set veth0 up");
    peer_run(
        "ip link set lo up; ip addr add 10.77.0.2/24 dev veth1; "
        "ip addr add fd77::2/64 dev veth1 nodad; ip link set veth1 up");
    enter(theirs_);
    listener_ = listen();
    enter(ours_);
  }

  static FileDescriptor open_namespace() {
    return own_or_throw(::open("/proc/thread-self/ns/net", O_RDONLY), "namespace");
  }
  static void enter(const FileDescriptor& where) {
    ASSERT_EQ(::setns(where.get(), CLONE_NEWNET), 0);
  }
  std::string peer_path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(theirs_.get());
  }
  void peer_run(const std::string& command) const {
    test::run("nsenter --net=" + peer_path() + " sh -ec '" + command + "'");
  }
  /// Hears what the peer's links receive.
  static FileDescriptor listen() {
    FileDescriptor fd =
        own_or_throw(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)), "packet");
    const int size = 4 << 20;
    EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size), 0);
    return fd;
  }
  /// From now on the raw socket cannot send ESP, and packets that try count as unsent.
  void block_raw_socket() {
    test::run(
        "nft 'table inet t { chain o { type filter hook output priority 0;"
        " meta l4proto esp drop; }; }'");
  }

  void start(RawSend send = RawSend::kPacket, const std::string& underlay = {}) {
    resolver_.emplace(
        io_, table_,
        NextHopResolver::Options{.underlay = underlay, .send = send, .period = period_});
    wire_ = std::make_unique<PacketWire>(EspSocket::Options{.underlay = underlay}, table_);
  }
  /// Runs the control thread until `happened`; false if it does not.
  template <class Condition>
  bool run_until(const Condition& happened) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!happened() && std::chrono::steady_clock::now() < deadline) {
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(20));
    }
    return happened();
  }
  static Ends ends(const SealedTrain& train) {
    return {.source = *IpAddress::parse(train.source),
            .destination = *IpAddress::parse(train.destination)};
  }
  bool becomes_direct(const SealedTrain& train) {
    return run_until([&] { return table_.find(ends(train)).has_value(); });
  }
  bool becomes_indirect(const SealedTrain& train) {
    return run_until([&] { return !table_.find(ends(train)); });
  }
  /// The resolver has looked at it, and it is for the raw socket.
  bool stays_indirect(const SealedTrain& train) {
    table_.find(ends(train));
    return run_until([&] { return !table_.empty(); }) && !table_.find(ends(train));
  }
  /// The kernel learns the neighbours by asking them.
  void meet(const SealedTrain& train) {
    test::run("ping -q -c 1 -W 5 " + train.destination + " >/dev/null");
  }

  /// The number unsent.
  std::size_t send(const SealedTrain& train) {
    wire_->transmit(test::seal(pool_, train));
    return wire_->flush();
  }
  /// The next frame with ESP; nothing if none comes.
  std::optional<Frame> next_frame(int patience_ms = 5'000) {
    while (true) {
      pollfd polled{.fd = listener_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&polled, 1, patience_ms) <= 0) return std::nullopt;
      Frame frame(70'000);
      const ssize_t size = ::recv(listener_.get(), frame.data(), frame.size(), 0);
      if (size < static_cast<ssize_t>(kEthernetHeader + 40)) continue;
      frame.resize(static_cast<std::size_t>(size));
      const std::uint16_t type = engine::load_be16(&frame[12]);
      const std::size_t at = kEthernetHeader + (type == ETH_P_IP ? 9 : 6);
      if ((type == ETH_P_IP || type == ETH_P_IPV6) && frame[at] == std::byte{50}) return frame;
    }
  }
  /// Sends `train` and expects it at the peer, a frame per segment.
  void expect_frames(const SealedTrain& train, const std::string& mac = kPeerMac) {
    SCOPED_TRACE(train.destination);
    ASSERT_EQ(send(train), 0u);
    const std::size_t step = train.segment_size == 0 ? train.payload_size : train.segment_size;
    for (std::size_t at = 0; at < train.payload_size; at += step) {
      SealedTrain alone = train;
      alone.payload_size = std::min(step, train.payload_size - at);
      alone.segment_size = 0;
      alone.identification = static_cast<std::uint16_t>(train.identification + at / step);
      const auto frame = next_frame();
      ASSERT_TRUE(frame);
      EXPECT_EQ(mac_text(*frame), mac);
      EXPECT_EQ(mac_text(Bytes(*frame).subspan(6)), kOurMac);
      const Bytes packet = Bytes(*frame).subspan(kEthernetHeader);
      const engine::SealedPacket header = test::seal(pool_, alone);
      const engine::SealedPacket whole = test::seal(pool_, train);
      const std::size_t header_size = header.size() - alone.payload_size;
      ASSERT_EQ(packet.size(), header.size());
      EXPECT_TRUE(std::ranges::equal(packet.first(header_size), header.bytes().first(header_size)));
      EXPECT_TRUE(std::ranges::equal(packet.subspan(header_size),
                                     whole.bytes().subspan(header_size + at, alone.payload_size)));
    }
  }

  const SealedTrain ipv4_{.source = "10.77.0.1",
                          .destination = "10.77.0.2",
                          .payload_size = 1000,
                          .traffic_class = 0x2a,
                          .hop_limit = 61,
                          .identification = 77};
  const SealedTrain ipv6_{.source = "fd77::1",
                          .destination = "fd77::2",
                          .payload_size = 1000,
                          .traffic_class = 0x2a,
                          .hop_limit = 61};
  std::chrono::milliseconds period_ = std::chrono::hours(1);  // only what is announced counts
  FileDescriptor ours_;
  FileDescriptor theirs_;
  FileDescriptor listener_;
  PacketPool pool_{3 * engine::kBatch};
  asio::io_context io_;
  NextHopTable table_;
  std::optional<NextHopResolver> resolver_;
  std::unique_ptr<PacketWire> wire_;
};

TEST_F(PacketWireTest, SendsFramesToANeighbour) {
  block_raw_socket();
  start();
  for (SealedTrain train : {ipv4_, ipv6_}) {
    meet(train);
    EXPECT_EQ(send(train), 1u);  // not known yet, and the raw socket is blocked
    ASSERT_TRUE(becomes_direct(train));
    expect_frames(train);
    train.payload_size = 64'000;
    train.segment_size = 700;
    expect_frames(train);
  }
}

TEST_F(PacketWireTest, SendsThroughTheSocketUntilTheNeighbourIsKnown) {
  start();
  for (const SealedTrain& train : {ipv4_, ipv6_}) {
    expect_frames(train);  // makes the kernel ask for the neighbour
    ASSERT_TRUE(becomes_direct(train));
    expect_frames(train);
  }
}

TEST_F(PacketWireTest, KeepsTheOrderWhenSidesChange) {
  start();
  meet(ipv4_);
  send(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  ASSERT_TRUE(next_frame());
  for (std::uint32_t i = 0; i < 20; ++i) {
    SealedTrain train = ipv4_;
    train.spi = i;
    // Every second one is too large for a frame.
    train.payload_size = i % 2 == 0 ? 100 : 1501;
    wire_->transmit(test::seal(pool_, train));
  }
  EXPECT_EQ(wire_->flush(), 0u);
  for (std::uint32_t i = 0; i < 20; ++i) {
    const auto frame = next_frame();
    ASSERT_TRUE(frame);
    EXPECT_EQ(engine::load_be32(&(*frame)[kEthernetHeader + 20]), i);
    if (i % 2 != 0) {
      ASSERT_TRUE(next_frame());  // the second fragment
    }
  }
}

TEST_F(PacketWireTest, GoesThroughAGateway) {
  block_raw_socket();
  start();
  test::run("ip route add 198.51.100.0/24 via 10.77.0.2 && ip route add 2001:db8::/32 via fd77::2");
  test::run("ip route add 203.0.113.0/24 via inet6 fd77::2 dev veth0");
  meet(ipv4_);
  meet(ipv6_);
  for (const char* destination : {"198.51.100.9", "2001:db8::9", "203.0.113.9"}) {
    SealedTrain train = destination[4] == ':' ? ipv6_ : ipv4_;
    train.destination = destination;
    ASSERT_TRUE(becomes_direct(train)) << destination;
    expect_frames(train);
  }
}

TEST_F(PacketWireTest, FollowsTheNeighboursLinkLayerAddress) {
  block_raw_socket();
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  expect_frames(ipv4_);
  // The peer announces its new address.
  peer_run("ip link set veth1 address 02:00:00:00:00:42; ping -q -c 1 -W 5 10.77.0.1 >/dev/null");
  test::run("ip neigh flush to 10.77.0.2");
  meet(ipv4_);
  ASSERT_TRUE(run_until([&] {
    const auto hop = table_.find(ends(ipv4_));
    return hop && hop->address[5] == std::byte{0x42};
  }));
  expect_frames(ipv4_, "02:00:00:00:00:42");
}

TEST_F(PacketWireTest, AsksAgainAfterTheNeighbourIsForgotten) {
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  test::run("ip neigh flush to 10.77.0.2");
  ASSERT_TRUE(becomes_indirect(ipv4_));
  expect_frames(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
}

TEST_F(PacketWireTest, DoesNotTrustASilentNeighbour) {
  start();
  test::run("ip neigh replace 10.77.0.3 lladdr 02:00:00:00:00:03 dev veth0 nud reachable");
  SealedTrain train = ipv4_;
  train.destination = "10.77.0.3";
  ASSERT_TRUE(becomes_direct(train));
  test::run("ip neigh change 10.77.0.3 dev veth0 nud failed");
  EXPECT_TRUE(becomes_indirect(train));
}

TEST_F(PacketWireTest, LetsTheKernelConfirmADoubtfulNeighbour) {
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  test::run("sysctl -qw net.ipv4.neigh.veth0.delay_first_probe_time=1");
  test::run("ip neigh change 10.77.0.2 dev veth0 lladdr 02:00:00:00:00:02 nud stale");
  // One of the following goes through the raw socket, whereupon the kernel asks the neighbour.
  ASSERT_TRUE(run_until([&] {
    send(ipv4_);
    return std::system("ip neigh show to 10.77.0.2 | grep -qE 'DELAY|PROBE|REACHABLE'") == 0;
  }));
  ASSERT_TRUE(run_until(
      [&] { return std::system("ip neigh show to 10.77.0.2 | grep -q REACHABLE") == 0; }));
  ASSERT_TRUE(becomes_direct(ipv4_));
}

TEST_F(PacketWireTest, FollowsRoutes) {
  block_raw_socket();
  start();
  test::run("ip addr add 10.77.1.1/24 dev veth0");
  peer_run("ip addr add 10.77.1.2/24 dev veth1");
  test::run("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:02 dev veth0 nud permanent");
  test::run("ip neigh replace 10.77.1.2 lladdr 02:00:00:00:00:99 dev veth0 nud permanent");
  test::run("ip route add 198.51.100.0/24 via 10.77.0.2");
  SealedTrain train = ipv4_;
  train.destination = "198.51.100.9";
  ASSERT_TRUE(becomes_direct(train));
  expect_frames(train);
  test::run("ip route replace 198.51.100.0/24 via 10.77.1.2");
  ASSERT_TRUE(run_until([&] {
    const auto hop = table_.find(ends(train));
    return hop && hop->address[5] == std::byte{0x99};
  }));
  test::run("ip route replace blackhole 198.51.100.0/24");
  ASSERT_TRUE(becomes_indirect(train));
  test::run("ip route del 198.51.100.0/24");
  test::run(
      "ip route add 198.51.100.0/24 via 10.77.0.2 table 7 && "
      "ip rule add from 10.77.0.1 lookup 7");
  ASSERT_TRUE(becomes_direct(train));
  expect_frames(train);
}

TEST_F(PacketWireTest, FollowsTheLink) {
  block_raw_socket();
  start();
  test::run("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:02 dev veth0 nud permanent");
  ASSERT_TRUE(becomes_direct(ipv4_));
  test::run("ip link set veth0 down");
  ASSERT_TRUE(becomes_indirect(ipv4_));
  EXPECT_EQ(send(ipv4_), 1u);
  test::run("ip link set veth0 up");
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  expect_frames(ipv4_);
}

TEST_F(PacketWireTest, LeavesToTheSocketWhatTheLinkOrPathCannotCarry) {
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  EXPECT_EQ(table_.find(ends(ipv4_))->mtu, 1500u);
  SealedTrain large = ipv4_;
  large.payload_size = 1600;
  ASSERT_EQ(send(large), 0u);
  ASSERT_TRUE(next_frame());
  const auto second = next_frame();
  ASSERT_TRUE(second);
  EXPECT_EQ(engine::load_be16(&(*second)[kEthernetHeader + 6]) & 0x1fffu, 1480u / 8);
  large.dont_fragment = true;
  EXPECT_EQ(send(large), 1u);

  test::run("ip link set veth0 mtu 1400");
  EXPECT_TRUE(run_until([&] {
    const auto hop = table_.find(ends(ipv4_));
    return hop && hop->mtu == 1400;
  }));
  test::run("ip route add 10.77.0.2/32 dev veth0 mtu 1300");
  EXPECT_TRUE(run_until([&] {
    const auto hop = table_.find(ends(ipv4_));
    return hop && hop->mtu == 1300;
  }));
}

TEST_F(PacketWireTest, CountsEveryFrameThatIsRefused) {
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  test::run("ip link set veth0 down");  // and nobody tells the table
  SealedTrain train = ipv4_;
  train.segment_size = 100;
  EXPECT_EQ(send(train), 10u);
  EXPECT_EQ(wire_->flush(), 0u);
  EXPECT_EQ(pool_.available(), 3 * engine::kBatch);
}

TEST_F(PacketWireTest, IsNotForAnythingButEthernet) {
  start();
  test::run(
      "ip tuntap add tun7 mode tun && ip addr add 10.78.0.1/24 dev tun7 && "
      "ip link set tun7 up");
  const SealedTrain through_tun{.source = "10.78.0.1", .destination = "10.78.0.2"};
  EXPECT_TRUE(stays_indirect(through_tun));
}

TEST_F(PacketWireTest, IsNotForLocalDestinations) {
  start();
  EXPECT_TRUE(stays_indirect({.source = "127.0.0.1", .destination = "127.0.0.2"}));
  EXPECT_EQ(send({.source = "10.77.0.1", .destination = "10.77.0.1"}), 0u);
  EXPECT_TRUE(stays_indirect({.source = "10.77.0.1", .destination = "10.77.0.1"}));
  EXPECT_TRUE(stays_indirect({.source = "10.77.0.1", .destination = "10.77.0.255"}));
  EXPECT_TRUE(stays_indirect({.source = "10.77.0.1", .destination = "224.0.0.9"}));
}

TEST_F(PacketWireTest, IsNotForForeignSources) {
  start();
  meet(ipv4_);
  SealedTrain train = ipv4_;
  train.source = "192.0.2.77";
  EXPECT_TRUE(stays_indirect(train));
}

TEST_F(PacketWireTest, UsesUpperEthernetDevices) {
  test::run(
      "ip link add br0 address 02:00:00:00:00:77 type bridge && ip link set veth0 master br0 "
      "&& ip addr flush dev veth0 && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up");
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  ASSERT_EQ(send(ipv4_), 0u);
  const auto frame = next_frame();
  ASSERT_TRUE(frame);
  EXPECT_EQ(mac_text(*frame), kPeerMac);
  EXPECT_EQ(mac_text(Bytes(*frame).subspan(6)), "02:00:00:00:00:77");
}

TEST_F(PacketWireTest, UsesVlanDevices) {
  if (std::system("ip link add link veth0 name v5 type vlan id 5 2>/dev/null") != 0) {
    return;  // not every kernel is built with VLAN devices, and without them nothing can go wrong
  }
  test::run("ip addr add 10.79.0.1/24 dev v5 && ip link set v5 up");
  peer_run(
      "ip link add link veth1 name v5 type vlan id 5; ip addr add 10.79.0.2/24 dev v5; "
      "ip link set v5 up");
  start();
  SealedTrain train = ipv4_;
  train.source = "10.79.0.1";
  train.destination = "10.79.0.2";
  meet(train);
  ASSERT_TRUE(becomes_direct(train));
  expect_frames(train);
}

TEST_F(PacketWireTest, ForgetsWhatNobodyUses) {
  period_ = std::chrono::milliseconds(50);
  start();
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  EXPECT_TRUE(run_until([&] { return table_.empty(); }));
  ASSERT_TRUE(becomes_direct(ipv4_));
}

TEST_F(PacketWireTest, StaysOnTheUnderlay) {
  test::run("ip link add veth8 type veth peer name veth9 && ip link set veth8 up");
  start(RawSend::kPacket, "veth8");
  meet(ipv4_);
  EXPECT_TRUE(stays_indirect(ipv4_));
}

TEST_F(PacketWireTest, LeavesPacketsToTheFirewallByDefault) {
  start(RawSend::kAuto);
  meet(ipv4_);
  ASSERT_TRUE(becomes_direct(ipv4_));
  test::run("nft add table ip t && nft add chain ip t i '{ type filter hook input priority 0; }'");
  block_raw_socket();
  ASSERT_TRUE(run_until([&] { return !table_.allowed(); }));
  EXPECT_EQ(send(ipv4_), 1u);
  test::run("nft delete table inet t");
  ASSERT_TRUE(becomes_direct(ipv4_));  // the chain at "input" does not matter
}

TEST_F(PacketWireTest, FindsTheFirewallThatIsThereFirst) {
  block_raw_socket();
  start(RawSend::kAuto);
  EXPECT_FALSE(table_.allowed());
}

TEST_F(PacketWireTest, UsesOnlyTheSocketIfToldSo) {
  start(RawSend::kSocket);
  meet(ipv4_);
  expect_frames(ipv4_);
  EXPECT_FALSE(table_.allowed());
  EXPECT_TRUE(table_.take_requests().empty());
}

TEST_F(PacketWireTest, Receives) {
  start();
  enter(theirs_);
  const EspSocket::Options options;
  EspSocket peer(options);
  enter(ours_);
  peer.transmit(test::seal(pool_, {.source = "10.77.0.2", .destination = "10.77.0.1"}));
  ASSERT_EQ(peer.flush(), 0u);
  std::vector<pollfd> polled;
  for (const int fd : wire_->descriptors()) polled.push_back({fd, POLLIN, 0});
  ASSERT_GT(::poll(polled.data(), polled.size(), 5'000), 0);
  engine::Batch<engine::SealedPacket> batch;
  wire_->receive(pool_, batch);
  EXPECT_EQ(batch.size(), 1u);
}

}  // namespace
}  // namespace xfrmfs::netio
