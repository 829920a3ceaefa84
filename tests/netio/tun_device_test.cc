// SPDX-License-Identifier: Apache-2.0
// A real TUN device, in a network namespace of the test's own.
#include "netio/tun_device.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include "engine/packet/checksum.h"
#include "engine/packet/ip_header.h"
#include "netio/event_fd.h"
#include "netio/rtnetlink.h"
#include "tests/support/network_namespace.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Bytes;
using engine::ClearPacket;
using engine::Cut;
using engine::IpAddress;
using engine::kHeadroom;
using engine::PacketBytes;
using engine::PacketPool;

constexpr std::uint16_t kPort = 7777;

bool readable(int fd) {
  pollfd polled{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&polled, 1, 10'000) == 1 && (polled.revents & POLLIN) != 0;
}

sockaddr_in socket_address(const char* text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  ::inet_pton(AF_INET, text, &address.sin_addr);
  return address;
}

/// A UDP socket bound to kPort.
FileDescriptor udp_socket(const char* address) {
  FileDescriptor fd = own_or_throw(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in name = socket_address(address);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    throw_errno("bind");
  }
  return fd;
}

/// An IPv4 UDP packet to kPort, without a UDP checksum.
ClearPacket udp_packet(PacketPool& pool, const char* from, const char* to,
                       const std::string& payload) {
  engine::Buffer buffer = pool.take();
  std::byte* const at = buffer.data() + kHeadroom;
  const std::size_t udp_size = 8 + payload.size();
  engine::write_outer_header({.source = *IpAddress::parse(from),
                              .destination = *IpAddress::parse(to),
                              .protocol = engine::Protocol::kUdp},
                             udp_size, at);
  engine::store_be16(at + 20, kPort);
  engine::store_be16(at + 22, kPort);
  engine::store_be16(at + 24, static_cast<std::uint16_t>(udp_size));
  engine::store_be16(at + 26, 0);
  std::memcpy(at + 28, payload.data(), payload.size());
  return ClearPacket(std::move(buffer), kHeadroom, 20 + udp_size);
}

void send_to(const FileDescriptor& socket, const char* to, const std::string& payload) {
  const sockaddr_in peer = socket_address(to);
  ASSERT_EQ(::sendto(socket.get(), payload.data(), payload.size(), 0,
                     reinterpret_cast<const sockaddr*>(&peer), sizeof peer),
            static_cast<ssize_t>(payload.size()));
}

/// What came out of one device into another, in the pieces that the engine would make of it.
bool deliver(engine::ClearSink& sink, const ClearPacket& packet) {
  Bytes rest = packet.bytes();
  if (packet.cut() == Cut::kWhole) return sink.deliver({.pieces = {&rest, 1}});
  engine::ClearTrain train{
      .pieces = {}, .cut = packet.cut(), .segment_size = packet.segment_size()};
  train.ipv6 = (rest[0] >> 4) == std::byte{6};
  train.transport_offset = train.ipv6 ? 40 : 20;
  std::size_t transport_size = 8;
  if (packet.cut() == Cut::kTcp) {
    const Bytes tcp = rest.subspan(train.transport_offset);
    transport_size = std::to_integer<std::size_t>(tcp[12] >> 4) * 4;
  }
  train.header_size = static_cast<std::uint16_t>(train.transport_offset + transport_size);
  std::vector<Bytes> pieces{rest.first(std::size_t{train.header_size} + train.segment_size)};
  for (rest = rest.subspan(pieces[0].size()); !rest.empty();) {
    const std::size_t size = std::min<std::size_t>(rest.size(), train.segment_size);
    pieces.push_back(rest.first(size));
    rest = rest.subspan(size);
  }
  train.pieces = pieces;
  return sink.deliver(train);
}

class TunDeviceTest : public test::NetworkNamespaceTest {
 protected:
  PacketPool pool_{engine::kBatch + 1};
  Batch<ClearPacket> batch_;
};

TEST_F(TunDeviceTest, MakesInterfaceWithMtu) {
  const TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  const auto links = Rtnetlink().links();
  const auto found = std::ranges::find(links, "tuntest", &Link::name);
  ASSERT_NE(found, links.end());
  EXPECT_EQ(found->index, tun.index());
  EXPECT_EQ(found->mtu, 1400u);
  EXPECT_FALSE(found->is_up);
}

TEST_F(TunDeviceTest, TakesInterfaceAway) {
  {
    const TunInterface tun({.name = "tuntest", .queues = 2, .mtu = 1400});
  }
  EXPECT_EQ(::if_nametoindex("tuntest"), 0u);
}

TEST_F(TunDeviceTest, RefusesNameThatIsTaken) {
  const auto message_of_second = [](unsigned queues) -> std::string {
    const TunInterface first({.name = "tuntest", .queues = queues, .mtu = 1400});
    try {
      const TunInterface second({.name = "tuntest", .queues = queues, .mtu = 1400});
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code().value(), EBUSY);
      return error.what();
    }
    return "nothing";
  };
  EXPECT_TRUE(message_of_second(1).starts_with("TUN device name \"tuntest\" is taken"));
  // A multi-queue device could be joined, and then shared its packets with a stranger.
  EXPECT_TRUE(message_of_second(2).starts_with("TUN device name \"tuntest\" is taken"));
}

TEST_F(TunDeviceTest, MakesNoAddressForItself) {
  TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  tun.bring_up();
  for (const LinkAddress& found : Rtnetlink().addresses()) {
    EXPECT_NE(found.link, tun.index()) << found.address.text();
  }
}

TEST_F(TunDeviceTest, ReceivesWhatTheHostRoutesIntoIt) {
  TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  tun.bring_up();
  test::run("ip addr add 192.0.2.1/24 dev tuntest");
  const FileDescriptor host = udp_socket("192.0.2.1");
  const sockaddr_in peer = socket_address("192.0.2.2");
  for (const char* payload : {"hello", "again"}) {
    ASSERT_EQ(
        ::sendto(host.get(), payload, 5, 0, reinterpret_cast<const sockaddr*>(&peer), sizeof peer),
        5);
  }

  ASSERT_TRUE(readable(tun.queue(0).descriptors()[0]));
  tun.queue(0).receive(pool_, batch_);
  ASSERT_EQ(batch_.size(), 2u);
  EXPECT_EQ(batch_[0].headroom(), kHeadroom);
  ASSERT_EQ(batch_[0].size(), 20u + 8u + 5u);
  EXPECT_EQ(std::memcmp(batch_[0].data() + 28, "hello", 5), 0);
  EXPECT_EQ(std::memcmp(batch_[1].data() + 28, "again", 5), 0);
  batch_.clear();
  tun.queue(0).receive(pool_, batch_);
  EXPECT_TRUE(batch_.empty());
}

TEST_F(TunDeviceTest, DeliversToTheHost) {
  TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  tun.bring_up();
  test::run("ip addr add 192.0.2.1/24 dev tuntest");
  const FileDescriptor host = udp_socket("192.0.2.1");
  batch_.push(udp_packet(pool_, "192.0.2.2", "192.0.2.1", "hello"));
  EXPECT_TRUE(deliver(tun.queue(0), batch_[0]));

  ASSERT_TRUE(readable(host.get()));
  char text[16];
  ASSERT_EQ(::recv(host.get(), text, sizeof text, 0), 5);
  EXPECT_EQ(std::memcmp(text, "hello", 5), 0);
}

TEST_F(TunDeviceTest, TellsWhatItRefuses) {
  TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});  // down
  batch_.push(udp_packet(pool_, "192.0.2.2", "192.0.2.1", "hello"));
  EXPECT_FALSE(deliver(tun.queue(0), batch_[0]));
  batch_.clear();
  tun.queue(0).receive(pool_, batch_);
  EXPECT_TRUE(batch_.empty());

  tun.bring_up();
  const std::vector<Bytes> too_many(engine::Joins::kMostPieces + 1);
  EXPECT_FALSE(tun.queue(0).deliver({.pieces = too_many}));
  EXPECT_FALSE(tun.queue(0).deliver({}));
}

TEST_F(TunDeviceTest, LimitsSegmentsToWhatOneSealedTrainHolds) {
  const TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  test::run("ip -d link show tuntest | grep -q 'gso_max_segs 43 '");  // 65507 / (1400 + 100)
  const TunInterface small({.name = "tunsmall", .queues = 1, .mtu = 600});
  test::run("ip -d link show tunsmall | grep -q 'gso_max_segs 64 '");
}

TEST_F(TunDeviceTest, HasRoomForBursts) {
  const TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  test::run("ip link show tuntest | grep -q 'qlen 2000'");
}

TEST_F(TunDeviceTest, CompletesChecksums) {
  TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  tun.bring_up();
  test::run("ip addr add 192.0.2.1/24 dev tuntest");
  const FileDescriptor host = udp_socket("192.0.2.1");
  send_to(host, "192.0.2.2", "hello");
  ASSERT_TRUE(readable(tun.queue(0).descriptors()[0]));
  tun.queue(0).receive(pool_, batch_);
  ASSERT_EQ(batch_.size(), 1u);
  ASSERT_EQ(batch_[0].size(), 33u);
  const Bytes packet = batch_[0].bytes();
  EXPECT_NE(engine::load_be16(&packet[26]), 0);
  const std::uint32_t pseudo_header =
      engine::checksum_add(packet.subspan(12, 8), 17 + 13 /* protocol, length */);
  EXPECT_EQ(engine::checksum_add(packet.subspan(20), pseudo_header), 0xffff);
}

TEST_F(TunDeviceTest, WithoutOffloadsHasOnlySinglePackets) {
  TunInterface tun({.name = "tuntest", .queues = 2, .mtu = 1400, .offload = false});
  EXPECT_EQ(tun.offloads(), Offloads());
  EXPECT_EQ(tun.offloads().text(), "off");
  EXPECT_FALSE(tun.queue(0).joins().tcp);
  EXPECT_FALSE(tun.queue(0).joins().udp);
  tun.bring_up();
  test::run("ip addr add 192.0.2.1/24 dev tuntest");
  const FileDescriptor host = udp_socket("192.0.2.1");
  batch_.push(udp_packet(pool_, "192.0.2.2", "192.0.2.1", "hello"));
  EXPECT_TRUE(deliver(tun.queue(1), batch_[0]));
  ASSERT_TRUE(readable(host.get()));
}

/// Datagrams that the kernel cuts only when it must (UDP_SEGMENT).
void cut_datagrams(const FileDescriptor& socket, int size) {
  ASSERT_EQ(::setsockopt(socket.get(), SOL_UDP, UDP_SEGMENT, &size, sizeof size), 0);
}

TEST_F(TunDeviceTest, StopsReadingWhenItHasEnough) {
  TunInterface tun({.name = "tuntest", .queues = 1, .mtu = 1400});
  if (!tun.offloads().udp) GTEST_SKIP() << "no UDP segmentation offload";
  tun.bring_up();
  test::run("ip addr add 192.0.2.1/24 dev tuntest");
  const FileDescriptor host = udp_socket("192.0.2.1");
  cut_datagrams(host, 1000);
  for (int i = 0; i < 6; ++i) send_to(host, "192.0.2.2", std::string(40'000, 'x'));
  tun.queue(0).receive(pool_, batch_);
  EXPECT_EQ(batch_.size(), kEnoughBytes / 40'000 + 1);
}

/// Two hosts, each a network namespace with a TUN device, and a wire between the devices: what one
/// reads the other writes, train for train.
class TunPairTest : public TunDeviceTest {
 protected:
  struct Host {
    FileDescriptor network;  // its namespace
    std::unique_ptr<TunInterface> tun;
  };

  void SetUp() override {
    TunDeviceTest::SetUp();
    if (IsSkipped()) return;
    left_ = make_host("192.0.2.1/24", "2001:db8::1/64");
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    right_ = make_host("192.0.2.2/24", "2001:db8::2/64");
    if (!left_.tun->offloads().udp) GTEST_SKIP() << "this kernel has fewer offloads";
  }

  static Host make_host(const std::string& ipv4, const std::string& ipv6) {
    Host host;
    host.network = own_or_throw(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "netns");
    host.tun = std::make_unique<TunInterface>(
        TunInterface::Options{.name = "tuntest", .queues = 1, .mtu = 1400});
    host.tun->bring_up();
    test::run("ip addr add " + ipv4 + " dev tuntest && ip addr add " + ipv6 + " dev tuntest nodad");
    // The kernel makes the route to an IPv6 address of its own a moment later.
    const std::string address = ipv6.substr(0, ipv6.find('/'));
    test::run("timeout 10 sh -c 'until ip -6 route get " + address +
              " | grep -q ^local; do :; done'");
    return host;
  }

  static FileDescriptor socket_of(const Host& host, int family, int type) {
    if (::setns(host.network.get(), CLONE_NEWNET) != 0) throw_errno("setns");
    return own_or_throw(::socket(family, type | SOCK_CLOEXEC, 0), "socket");
  }

  /// Reads a batch of one device and writes it to the other.
  void carry(Host& from, Host& to) {
    from.tun->queue(0).receive(pool_, batch_);
    for (const ClearPacket& packet : batch_) {
      if (packet.cut() != Cut::kWhole) longest_ = std::max(longest_, packet.size());
      EXPECT_TRUE(deliver(to.tun->queue(0), packet));
    }
    batch_.clear();
  }

  /// Carries in both directions until `done` rings.
  void carry_until(EventFd& done) {
    std::array<pollfd, 3> polled{
        {{.fd = done.descriptor(), .events = POLLIN, .revents = 0},
         {.fd = left_.tun->queue(0).descriptors()[0], .events = POLLIN, .revents = 0},
         {.fd = right_.tun->queue(0).descriptors()[0], .events = POLLIN, .revents = 0}}};
    while (::poll(polled.data(), polled.size(), 20'000) > 0 && polled[0].revents == 0) {
      carry(left_, right_);
      carry(right_, left_);
    }
    EXPECT_NE(polled[0].revents, 0) << "nothing moves";
  }

  /// Some megabytes over a TCP connection from left to right; the address is the right one's.
  template <class Address>
  void stream(const Address& right) {
    constexpr std::size_t kSize = 4 << 20;
    std::vector<std::uint32_t> sent(kSize / 4);
    std::iota(sent.begin(), sent.end(), 0U);
    const auto* const name = reinterpret_cast<const sockaddr*>(&right);
    const FileDescriptor listener = socket_of(right_, name->sa_family, SOCK_STREAM);
    ASSERT_EQ(::bind(listener.get(), name, sizeof right), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    const FileDescriptor client = socket_of(left_, name->sa_family, SOCK_STREAM);

    std::vector<std::uint32_t> arrived(sent.size());
    EventFd done;
    std::jthread sender([&] {
      EXPECT_EQ(::connect(client.get(), name, sizeof right), 0);
      EXPECT_EQ(::send(client.get(), sent.data(), kSize, MSG_NOSIGNAL),
                static_cast<ssize_t>(kSize));
      ::shutdown(client.get(), SHUT_WR);
    });
    std::jthread receiver([&] {
      const FileDescriptor server(::accept(listener.get(), nullptr, nullptr));
      EXPECT_EQ(::recv(server.get(), arrived.data(), kSize, MSG_WAITALL),
                static_cast<ssize_t>(kSize));
      done.ring();
    });
    carry_until(done);
    ::shutdown(listener.get(), SHUT_RDWR);  // lets the threads go if that did not work
    ::shutdown(client.get(), SHUT_RDWR);
    sender.join();
    receiver.join();
    EXPECT_EQ(arrived, sent);
    EXPECT_GT(longest_, 20'000u);
    EXPECT_LT(longest_, 65'536u);
    tcp_info info{};
    socklen_t info_size = sizeof info;
    ASSERT_EQ(::getsockopt(client.get(), IPPROTO_TCP, TCP_INFO, &info, &info_size), 0);
    EXPECT_LT(info.tcpi_total_retrans, 5u);  // it took every segment; a busy machine may probe
  }

  /// Datagrams of one size and a last one, from left to right, as one train.
  template <class Address>
  void datagrams(const Address& right) {
    const auto* const name = reinterpret_cast<const sockaddr*>(&right);
    const FileDescriptor receiver = socket_of(right_, name->sa_family, SOCK_DGRAM);
    ASSERT_EQ(::bind(receiver.get(), name, sizeof right), 0);
    const FileDescriptor sender = socket_of(left_, name->sa_family, SOCK_DGRAM);
    cut_datagrams(sender, 1000);
    std::string text(10'300, 'x');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i / 1000);
    ASSERT_EQ(::sendto(sender.get(), text.data(), text.size(), 0, name, sizeof right),
              static_cast<ssize_t>(text.size()));
    carry(left_, right_);
    EXPECT_EQ(longest_, (name->sa_family == AF_INET ? 28 : 48) + text.size());
    for (std::size_t at = 0; at < text.size(); at += 1000) {
      std::array<char, 2000> datagram;
      ASSERT_TRUE(readable(receiver.get()));
      const ssize_t size = ::recv(receiver.get(), datagram.data(), datagram.size(), 0);
      EXPECT_EQ(std::string(datagram.data(), static_cast<std::size_t>(size)),
                text.substr(at, 1000));
    }
  }

  static sockaddr_in6 right_ipv6() {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(kPort);
    ::inet_pton(AF_INET6, "2001:db8::2", &address.sin6_addr);
    return address;
  }

  Host left_;
  Host right_;
  std::size_t longest_ = 0;  // train, in bytes
};

TEST_F(TunPairTest, CarriesTcpInTrains) {
  stream(socket_address("192.0.2.2"));
}

TEST_F(TunPairTest, CarriesTcpOverIpv6InTrains) {
  stream(right_ipv6());
}

TEST_F(TunPairTest, CarriesDatagramsInTrains) {
  datagrams(socket_address("192.0.2.2"));
}

TEST_F(TunPairTest, CarriesDatagramsOverIpv6InTrains) {
  datagrams(right_ipv6());
}

}  // namespace
}  // namespace xfrmfs::netio
