// SPDX-License-Identifier: Apache-2.0
// Real UDP sockets over the loopback device of a network namespace of the test's own. A socket may
// send to its own port, so one socket is both ends.
#include "netio/udp_encap_socket.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/udp.h>
#include <poll.h>

#include "engine/packet/ip_header.h"
#include "tests/support/loopback_ports.h"
#include "tests/support/network_namespace.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Bytes;
using engine::IpAddress;
using engine::kBatch;
using engine::kHeadroom;
using engine::PacketBytes;
using engine::PacketPool;
using engine::SealedPacket;
using test::LoopbackWirePort;

constexpr std::uint16_t kPort = 4500;

std::optional<EspInUdp> sort(const std::vector<int>& payload, std::size_t segment_size = 0) {
  std::vector<std::byte> bytes;
  for (const int value : payload) bytes.push_back(static_cast<std::byte>(value));
  return esp_in_udp(bytes, segment_size);
}

TEST(EspInUdpTest, SortsSingleDatagrams) {
  EXPECT_EQ(sort({0xff}), std::nullopt);           // keep-alive
  EXPECT_EQ(sort({0, 0, 0, 0}), std::nullopt);     // IKE, empty
  EXPECT_EQ(sort({0, 0, 0, 0, 1}), std::nullopt);  // IKE
  EXPECT_EQ(sort({}), (EspInUdp{0, 0}));           // the engine counts what is too short
  EXPECT_EQ(sort({0xfe}), (EspInUdp{1, 0}));
  EXPECT_EQ(sort({0}), (EspInUdp{1, 0}));
  EXPECT_EQ(sort({0xff, 0xff}), (EspInUdp{2, 0}));
  EXPECT_EQ(sort({0, 0, 0}), (EspInUdp{3, 0}));
  EXPECT_EQ(sort({0, 0, 0, 1, 9, 9, 9, 0xff}), (EspInUdp{8, 0}));
  EXPECT_EQ(sort({0, 0, 0, 1, 9, 9, 9, 0xff}, 8), (EspInUdp{8, 0}));
  EXPECT_EQ(sort({0, 0, 0, 1, 9, 9, 9, 0xff}, 100), (EspInUdp{8, 0}));
}

TEST(EspInUdpTest, TakesKeepAlivesFromTheEndOfTrains) {
  EXPECT_EQ(sort({1, 2, 3, 4, 5, 6, 7, 0xff}, 4), (EspInUdp{8, 4}));
  EXPECT_EQ(sort({1, 2, 3, 4, 5, 6, 7, 8, 9}, 4), (EspInUdp{9, 4}));
  EXPECT_EQ(sort({1, 2, 3, 4, 5, 6, 7, 8, 0xff}, 4), (EspInUdp{8, 4}));
  EXPECT_EQ(sort({1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff}, 4), (EspInUdp{10, 4}));
  EXPECT_EQ(sort({1, 2, 3, 4, 0xff}, 4), (EspInUdp{4, 0}));
  EXPECT_EQ(sort({0, 0, 0, 0, 0xff}, 4), std::nullopt);
  EXPECT_EQ(sort({0xff, 0xff, 0xff}, 1), std::nullopt);
  EXPECT_EQ(sort({1, 0xff, 0xff}, 1), (EspInUdp{1, 0}));
}

struct Datagrams {
  std::string source = "127.0.0.1";
  std::string destination = "127.0.0.1";
  std::size_t size = 100;  // of ESP, all segments together
  std::uint16_t segment_size = 0;
  std::uint32_t spi = 0x1000;
  std::uint16_t source_port = kPort;
  std::uint16_t destination_port = kPort;
  std::uint8_t traffic_class = 0;
  std::uint8_t hop_limit = 64;
  bool dont_fragment = false;
};

Datagrams ipv6(std::size_t size, std::uint16_t segment_size = 0) {
  return {.source = "::1", .destination = "::1", .size = size, .segment_size = segment_size};
}

class UdpEncapSocketTest : public test::NetworkNamespaceTest {
 protected:
  SealedPacket build(const Datagrams& datagrams) {
    const IpAddress source = *IpAddress::parse(datagrams.source);
    const std::size_t ip_size = engine::outer_header_size(source.family());
    const std::size_t udp_size = 8 + datagrams.size;
    engine::Buffer buffer = pool_.take();
    std::byte* const at = buffer.data() + kHeadroom;
    engine::write_outer_header({.source = source,
                                .destination = *IpAddress::parse(datagrams.destination),
                                .protocol = engine::Protocol::kUdp,
                                .traffic_class = datagrams.traffic_class,
                                .hop_limit = datagrams.hop_limit,
                                .dont_fragment = datagrams.dont_fragment},
                               udp_size, at);
    std::byte* const udp = at + ip_size;
    engine::store_be16(udp, datagrams.source_port);
    engine::store_be16(udp + 2, datagrams.destination_port);
    engine::store_be16(udp + 4, static_cast<std::uint16_t>(udp_size));
    engine::store_be16(udp + 6, 0);
    for (std::size_t i = 0; i < datagrams.size; ++i) udp[8 + i] = static_cast<std::byte>(i * 7);
    if (datagrams.size >= 4) engine::store_be32(udp + 8, datagrams.spi);
    return LoopbackWirePort::make(PacketBytes(std::move(buffer), kHeadroom, ip_size + udp_size),
                                  datagrams.segment_size);
  }

  /// The number unsent.
  std::size_t send(UdpEncapSocket& socket, const Datagrams& datagrams) {
    socket.transmit(build(datagrams));
    return socket.flush();
  }

  /// Fills received_; false if nothing comes.
  bool receive(UdpEncapSocket& socket, int patience_ms = 10'000) {
    received_.clear();
    std::vector<pollfd> polled;
    for (const int fd : socket.descriptors()) polled.push_back({fd, POLLIN, 0});
    if (::poll(polled.data(), polled.size(), patience_ms) <= 0) return false;
    socket.receive(pool_, received_);
    return !received_.empty();
  }

  /// Sends and expects it back as it was. A few times: all namespaces share the queues behind a
  /// loopback device, which may overflow under somebody else's load.
  void round_trip(UdpEncapSocket& sender, UdpEncapSocket& receiver, const Datagrams& datagrams) {
    SCOPED_TRACE(datagrams.source + ", " + std::to_string(datagrams.size) + " bytes");
    constexpr int kTries = 5;
    bool came = false;
    for (int i = 0; i < kTries && !came; ++i) {
      ASSERT_EQ(send(sender, datagrams), 0u);
      came = receive(receiver, 3'000);
    }
    ASSERT_TRUE(came);
    ASSERT_EQ(received_.size(), 1u);
    expect_same(received_[0], datagrams);
  }
  void round_trip(UdpEncapSocket& socket, const Datagrams& datagrams) {
    round_trip(socket, socket, datagrams);
  }

  void expect_same(const SealedPacket& train, const Datagrams& datagrams) {
    EXPECT_EQ(train.headroom(), kHeadroom);
    EXPECT_EQ(train.segment_size(), datagrams.segment_size);
    const auto header = engine::parse_ip_header(train.bytes());
    ASSERT_TRUE(header);
    EXPECT_EQ(header->source.text(), datagrams.source);
    EXPECT_EQ(header->destination.text(), datagrams.destination);
    EXPECT_EQ(header->protocol, engine::Protocol::kUdp);
    EXPECT_EQ(header->traffic_class, datagrams.traffic_class);
    EXPECT_EQ(header->hop_limit, datagrams.hop_limit);
    EXPECT_EQ(header->total_size, train.size());
    const SealedPacket original = build(datagrams);
    EXPECT_TRUE(std::ranges::equal(train.bytes().subspan(header->header_size),
                                   original.bytes().subspan(header->header_size)));
  }

  /// A socket of somebody else, which sends to kPort.
  FileDescriptor stranger() {
    FileDescriptor fd = own_or_throw(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(kPort);
    ::inet_pton(AF_INET, "127.0.0.1", &peer.sin_addr);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 0) {
      throw_errno("connect");
    }
    return fd;
  }
  void say(const FileDescriptor& fd, const std::string& payload) {
    ASSERT_EQ(::send(fd.get(), payload.data(), payload.size(), 0),
              static_cast<ssize_t>(payload.size()));
  }

  PacketPool pool_{4 * kBatch};
  Batch<SealedPacket> received_;
};

TEST_F(UdpEncapSocketTest, CarriesSinglePacketsOfAllSizes) {
  UdpEncapSocket socket({});
  for (const std::size_t size : {1u, 3u, 4u, 8u, 100u, 1472u, 9000u, 65507u}) {
    round_trip(socket, {.size = size});
    round_trip(socket, ipv6(size));
  }
  round_trip(socket, ipv6(65527));
}

TEST_F(UdpEncapSocketTest, CarriesTrains) {
  UdpEncapSocket socket({});
  for (const std::size_t size : {1481u, 2960u, 44u * 1480, 44u * 1480 + 1, 65'300u}) {
    round_trip(socket, {.size = size, .segment_size = 1480});
    round_trip(socket, ipv6(size, 1480));
  }
  round_trip(socket, {.size = 64 * 100, .segment_size = 100});
  round_trip(socket, {.size = 64 * 100, .segment_size = 100, .dont_fragment = true});
}

TEST_F(UdpEncapSocketTest, KeepsAddressesTrafficClassAndHopLimit) {
  UdpEncapSocket socket({});
  test::run("ip addr add 2001:db8::2/128 dev lo nodad && ip addr add 2001:db8::3/128 dev lo nodad");
  for (const auto segment_size : {std::uint16_t{0}, std::uint16_t{1400}}) {
    round_trip(socket, {.source = "127.0.0.2",
                        .destination = "127.0.0.3",
                        .size = 5000,
                        .segment_size = segment_size,
                        .traffic_class = 0xb9,
                        .hop_limit = 7});
    round_trip(socket, {.source = "2001:db8::2",
                        .destination = "2001:db8::3",
                        .size = 5000,
                        .segment_size = segment_size,
                        .traffic_class = 0xb9,
                        .hop_limit = 7});
  }
}

TEST_F(UdpEncapSocketTest, SendsPacketsOfOneFlowTogether) {
  UdpEncapSocket socket({});
  for (int i = 0; i < 10; ++i) socket.transmit(build({.size = 500}));
  socket.transmit(build({.size = 1000, .segment_size = 500}));
  socket.transmit(build({.size = 300}));  // the short one is the last
  socket.transmit(build({.size = 500}));
  socket.transmit(build({.size = 500, .traffic_class = 1}));
  socket.transmit(build({.size = 500, .hop_limit = 7}));
  socket.transmit(build({.source = "127.0.0.2", .size = 500}));
  socket.transmit(build({.destination = "127.0.0.2", .size = 500}));
  socket.transmit(build({.size = 500, .dont_fragment = true}));
  socket.transmit(build(ipv6(500)));
  socket.transmit(build(ipv6(500)));
  socket.transmit(build(ipv6(501)));
  EXPECT_EQ(socket.flush(), 0u);
  std::vector<std::size_t> ipv4_sizes;
  std::vector<std::size_t> ipv6_sizes;
  while (ipv4_sizes.size() + ipv6_sizes.size() < 9 && receive(socket)) {
    for (const SealedPacket& train : received_) {
      const bool ipv4 = train.data()[0] == std::byte{0x45};
      (ipv4 ? ipv4_sizes : ipv6_sizes).push_back(train.size() - (ipv4 ? 28 : 48));
      if (train.size() == 28 + 6300) {
        EXPECT_EQ(train.segment_size(), 500);
      }
    }
  }
  EXPECT_EQ(ipv4_sizes, (std::vector<std::size_t>{6300, 500, 500, 500, 500, 500, 500}));
  EXPECT_EQ(ipv6_sizes, (std::vector<std::size_t>{1000, 501}));
}

TEST_F(UdpEncapSocketTest, JoinsNoMoreThanTheKernelTakes) {
  UdpEncapSocket socket({});
  for (std::size_t i = 0; i < 2 * kBatch; ++i) {
    socket.transmit(build({.size = 200, .segment_size = 100}));
  }
  EXPECT_EQ(socket.flush(), 0u);
  ASSERT_TRUE(receive(socket));
  ASSERT_EQ(received_.size(), 4u);
  for (const SealedPacket& train : received_) EXPECT_EQ(train.size(), 28u + 6400u);
}

TEST_F(UdpEncapSocketTest, SendsLargeTrainAtOnce) {
  UdpEncapSocket socket({});
  socket.transmit(build({.size = 60'000, .segment_size = 1480}));
  EXPECT_TRUE(receive(socket));
  EXPECT_EQ(socket.flush(), 0u);
}

TEST_F(UdpEncapSocketTest, StopsReadingWhenItHasEnough) {
  UdpEncapSocket socket({});
  for (int i = 0; i < 9; ++i) {
    ASSERT_EQ(send(socket, {.size = 60'000, .segment_size = 1480}), 0u);
  }
  ASSERT_TRUE(receive(socket));  // of the first call it does not know how much it brings
  for (int i = 0; i < 9; ++i) {
    ASSERT_EQ(send(socket, {.size = 60'000, .segment_size = 1480}), 0u);
  }
  ASSERT_TRUE(receive(socket));
  EXPECT_LE(received_.size(), 4u);
}

TEST_F(UdpEncapSocketTest, DropsKeepAlivesAndIke) {
  UdpEncapSocket socket({});
  const FileDescriptor peer = stranger();
  say(peer, "\xff");
  say(peer, std::string(4, '\0') + "IKE");
  say(peer, "short");
  say(peer, "");
  say(peer, "long enough");
  ASSERT_TRUE(receive(socket));
  ASSERT_EQ(received_.size(), 3u);
  EXPECT_EQ(received_[0].size(), 28u + 5u);
  EXPECT_EQ(received_[1].size(), 28u);
  EXPECT_EQ(received_[2].size(), 28u + 11u);
}

TEST_F(UdpEncapSocketTest, ShowsThePeersPort) {
  UdpEncapSocket socket({});
  const FileDescriptor peer = stranger();
  sockaddr_in name{};
  socklen_t size = sizeof name;
  ASSERT_EQ(::getsockname(peer.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  say(peer, "long enough");
  ASSERT_TRUE(receive(socket));
  ASSERT_EQ(received_.size(), 1u);
  EXPECT_EQ(engine::load_be16(received_[0].data() + 20), ntohs(name.sin_port));
  EXPECT_EQ(engine::load_be16(received_[0].data() + 22), kPort);

  ASSERT_EQ(send(socket, {.destination_port = ntohs(name.sin_port)}), 0u);
  std::array<std::byte, 200> answer;
  EXPECT_EQ(::recv(peer.get(), answer.data(), answer.size(), 0), 100);
}

TEST_F(UdpEncapSocketTest, TakesUdpFromItsPort) {
  UdpEncapSocket socket({});
  EXPECT_TRUE(socket.takes(build({})));
  EXPECT_TRUE(socket.takes(build(ipv6(0))));
  EXPECT_TRUE(socket.takes(build({.size = 0, .destination_port = 1})));
  EXPECT_FALSE(socket.takes(build({.source_port = 4501})));
  Datagrams other = ipv6(100);
  other.source_port = 4501;
  EXPECT_FALSE(socket.takes(build(other)));
  for (const Datagrams& datagrams : {Datagrams(), ipv6(100)}) {
    SealedPacket esp = build(datagrams);
    esp.data()[datagrams.source == "::1" ? 6 : 9] = std::byte{50};
    EXPECT_FALSE(socket.takes(esp));
    SealedPacket cut = build(datagrams);
    cut.reframe(cut.data(), datagrams.source == "::1" ? 47 : 27);
    EXPECT_FALSE(socket.takes(cut));
    socket.transmit(std::move(cut));
    EXPECT_EQ(socket.flush(), 1u);
  }
  EXPECT_FALSE(socket.takes(LoopbackWirePort::make(PacketBytes(pool_.take(), kHeadroom, 0))));
}

TEST_F(UdpEncapSocketTest, ReceivesNothingWhenNoBufferIsFree) {
  UdpEncapSocket socket({});
  ASSERT_EQ(send(socket, {}), 0u);
  PacketPool empty(0);
  socket.receive(empty, received_);
  EXPECT_TRUE(received_.empty());
  EXPECT_TRUE(receive(socket));  // the packet still waits
}

TEST_F(UdpEncapSocketTest, CountsSegmentsThatItCannotSend) {
  UdpEncapSocket socket({});
  socket.transmit(build({}));
  socket.transmit(build({.source = "127.0.0.1", .destination = "198.51.100.1"}));  // no route
  socket.transmit(build({.source = "192.0.2.1"}));                                 // not ours
  socket.transmit(build({.source = "192.0.2.1", .size = 1000, .segment_size = 300}));
  socket.transmit(build({.source = "2001:db8::1", .destination = "2001:db8:1::1"}));
  socket.transmit(build({}));
  EXPECT_EQ(socket.flush(), 1u + 1u + 4u + 1u);
  EXPECT_EQ(socket.flush(), 0u);
  ASSERT_TRUE(receive(socket));
  EXPECT_EQ(received_.size(), 2u);
}

TEST_F(UdpEncapSocketTest, FragmentsWhatTheLinkCannotCarry) {
  test::run("ip link set lo mtu 1400");
  UdpEncapSocket socket({});
  round_trip(socket, {.size = 3000});
  round_trip(socket, ipv6(3000));
  for (const Datagrams& datagrams :
       {Datagrams{.size = 5000, .segment_size = 2000}, ipv6(5000, 2000)}) {
    ASSERT_EQ(send(socket, datagrams), 0u);
    std::vector<std::size_t> sizes;
    while (sizes.size() < 3 && receive(socket)) {
      for (const SealedPacket& packet : received_) {
        EXPECT_EQ(packet.segment_size(), 0);
        sizes.push_back(packet.size() - (datagrams.source == "::1" ? 48 : 28));
      }
    }
    EXPECT_EQ(sizes, (std::vector<std::size_t>{2000, 2000, 1000}));
  }
  round_trip(socket, {.size = 5000, .segment_size = 1000});  // it still cuts by itself
}

TEST_F(UdpEncapSocketTest, DoesNotFragmentWhereTheHeaderForbidsIt) {
  test::run("ip link set lo mtu 1400");
  UdpEncapSocket socket({});
  socket.transmit(build({.size = 1373, .dont_fragment = true}));
  socket.transmit(build({.size = 3000, .segment_size = 1373, .dont_fragment = true}));
  socket.transmit(build({.size = 1373}));
  socket.transmit(build({.size = 1372, .dont_fragment = true}));
  EXPECT_EQ(socket.flush(), 3u);  // of the train the last segment fits
  std::vector<std::size_t> sizes;
  while (sizes.size() < 3 && receive(socket)) {
    for (const SealedPacket& packet : received_) sizes.push_back(packet.size() - 28);
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{3000 - 2 * 1373, 1373, 1372}));
}

TEST_F(UdpEncapSocketTest, SpreadsSpisOverLanes) {
  constexpr unsigned kLanes = 3;
  std::vector<std::unique_ptr<UdpEncapSocket>> lanes;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    lanes.push_back(std::make_unique<UdpEncapSocket>(
        UdpEncapSocket::Options{.lane = lane, .lanes = kLanes, .underlay = {}}));
  }
  // An SPI is a whole 32-bit number: 0x80000000 % 3 is 2, its low 16 bits % 3 would be 0.
  for (const std::uint32_t spi : {0x1000u, 0x1001u, 0x1002u, 0x80000000u, 0xffffffffu}) {
    for (Datagrams datagrams :
         {Datagrams{}, ipv6(100), Datagrams{.size = 300, .segment_size = 100}}) {
      datagrams.spi = spi;
      round_trip(*lanes[0], *lanes[spi % kLanes], datagrams);
    }
  }
  const FileDescriptor peer = stranger();
  say(peer, "abc");
  ASSERT_TRUE(receive(*lanes[0]));
  for (const auto& lane : lanes) {
    received_.clear();
    lane->receive(pool_, received_);
    EXPECT_TRUE(received_.empty());
  }
}

TEST_F(UdpEncapSocketTest, SharesThePortWithNobody) {
  for (const unsigned lanes : {1u, 2u}) {
    const UdpEncapSocket first({.lane = 0, .lanes = lanes, .underlay = {}});
    try {
      const UdpEncapSocket second({.lane = 0, .lanes = lanes, .underlay = {}});
      FAIL();
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code().value(), EADDRINUSE);
      EXPECT_TRUE(std::string_view(error.what()).starts_with("UDP port 4500")) << error.what();
    }
  }
}

TEST_F(UdpEncapSocketTest, HearsOnlyTheUnderlay) {
  test::run("ip link add veth0 type veth peer name veth1 && ip link set veth0 up");
  UdpEncapSocket elsewhere({.underlay = "veth0"});
  say(stranger(), "long enough");
  elsewhere.receive(pool_, received_);
  EXPECT_TRUE(received_.empty());
}

TEST_F(UdpEncapSocketTest, NamesUnderlayThatDoesNotExist) {
  try {
    UdpEncapSocket socket({.underlay = "nowhere0"});
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENODEV);
    EXPECT_TRUE(std::string_view(error.what()).starts_with("underlay \"nowhere0\""));
  }
}

}  // namespace
}  // namespace xfrmfs::netio
