// SPDX-License-Identifier: Apache-2.0
// Real raw sockets over the loopback device of a network namespace of the test's own. On loopback
// a raw socket hears what it sends itself, so one socket is both ends.
#include "netio/esp_socket.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>

#include "engine/packet/ip_header.h"
#include "tests/support/network_namespace.h"
#include "tests/support/sealed_train.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Bytes;
using engine::Family;
using engine::IpAddress;
using engine::kBatch;
using engine::kHeadroom;
using engine::PacketPool;
using engine::SealedPacket;

using Datagram = test::SealedTrain;

Datagram ipv6(std::size_t payload_size) {
  return {.source = "::1", .destination = "::1", .payload_size = payload_size};
}

class EspSocketTest : public test::NetworkNamespaceTest {
 protected:
  SealedPacket build(const Datagram& datagram) { return test::seal(pool_, datagram); }

  /// The number unsent.
  std::size_t send(EspSocket& socket, const Datagram& datagram) {
    socket.transmit(build(datagram));
    return socket.flush();
  }

  /// Fills received_; false if nothing comes.
  bool receive(EspSocket& socket, int patience_ms = 10'000) {
    received_.clear();
    std::vector<pollfd> polled;
    for (const int fd : socket.descriptors()) polled.push_back({fd, POLLIN, 0});
    if (::poll(polled.data(), polled.size(), patience_ms) <= 0) return false;
    socket.receive(pool_, received_);
    return !received_.empty();
  }

  /// Sends one datagram and expects it back as it was. A few times: all namespaces share the queues
  /// behind a loopback device, which may overflow under somebody else's load.
  void round_trip(EspSocket& socket, const Datagram& datagram) {
    SCOPED_TRACE(datagram.source + ", " + std::to_string(datagram.payload_size) + " bytes");
    constexpr int kTries = 5;
    bool came = false;
    for (int i = 0; i < kTries && !came; ++i) {
      ASSERT_EQ(send(socket, datagram), 0u);
      came = receive(socket, 3'000);
    }
    ASSERT_TRUE(came);
    ASSERT_EQ(received_.size(), 1u);
    expect_same(received_[0], datagram);
  }

  void expect_same(const SealedPacket& packet, const Datagram& datagram) {
    EXPECT_EQ(packet.headroom(), kHeadroom);
    const auto header = engine::parse_ip_header(packet.bytes());
    ASSERT_TRUE(header);
    EXPECT_EQ(header->source.text(), datagram.source);
    EXPECT_EQ(header->destination.text(), datagram.destination);
    EXPECT_EQ(header->protocol, engine::Protocol::kEsp);
    EXPECT_EQ(header->traffic_class, datagram.traffic_class);
    EXPECT_EQ(header->hop_limit, datagram.hop_limit);
    EXPECT_FALSE(header->is_fragment);
    EXPECT_EQ(header->total_size, packet.size());
    const SealedPacket original = build(datagram);
    const Bytes expected = original.bytes().subspan(header->header_size);
    const Bytes payload = packet.bytes().subspan(header->header_size);
    EXPECT_TRUE(std::ranges::equal(payload, expected));
  }

  PacketPool pool_{3 * kBatch};
  Batch<SealedPacket> received_;
};

TEST_F(EspSocketTest, CarriesIpv4OfAllSizes) {
  EspSocket socket({});
  for (const std::size_t size : {0u, 1u, 3u, 4u, 8u, 100u, 1480u, 1481u, 9000u, 65515u}) {
    round_trip(socket, {.payload_size = size});
  }
}

TEST_F(EspSocketTest, CarriesIpv6OfAllSizes) {
  test::run("ip link set lo mtu 66000");
  EspSocket socket({});
  for (const std::size_t size : {0u, 1u, 3u, 4u, 8u, 100u, 1460u, 1461u, 9000u, 65535u}) {
    round_trip(socket, ipv6(size));
  }
}

TEST_F(EspSocketTest, KeepsAddressesTrafficClassAndHopLimit) {
  EspSocket socket({});
  round_trip(
      socket,
      {.source = "127.0.0.2", .destination = "127.0.0.3", .traffic_class = 0xb9, .hop_limit = 7});
  test::run("ip addr add 2001:db8::2/128 dev lo nodad && ip addr add 2001:db8::3/128 dev lo nodad");
  round_trip(socket, {.source = "2001:db8::2",
                      .destination = "2001:db8::3",
                      .traffic_class = 0xb9,
                      .hop_limit = 7});
}

TEST_F(EspSocketTest, SendsAndReceivesBatchOfBothFamilies) {
  EspSocket socket({});
  for (std::size_t i = 0; i < kBatch; ++i) {
    socket.transmit(build(i % 2 == 0 ? Datagram{} : ipv6(100)));
  }
  EXPECT_EQ(socket.flush(), 0u);

  std::size_t ipv4_count = 0;
  std::size_t count = 0;
  while (count < kBatch && receive(socket)) {
    count += received_.size();
    for (const SealedPacket& packet : received_) ipv4_count += packet.data()[0] == std::byte{0x45};
  }
  EXPECT_EQ(count, kBatch);
  EXPECT_EQ(ipv4_count, kBatch / 2);
}

TEST_F(EspSocketTest, FillsABatchFromOneFamily) {
  EspSocket socket({});
  for (const Datagram& ends : {Datagram{}, ipv6(100)}) {
    for (std::size_t i = 0; i < kBatch; ++i) socket.transmit(build(ends));
    EXPECT_EQ(socket.flush(), 0u);
    ASSERT_TRUE(receive(socket));
    EXPECT_EQ(received_.size(), kBatch);
  }
}

/// However many and however large the ones before were.
TEST_F(EspSocketTest, ReceivesEachOfManyOnceInOrder) {
  test::run("ip link set lo mtu 1500");
  test::run("ip addr add 2001:db8::2/128 dev lo nodad && ip addr add 2001:db8::3/128 dev lo nodad");
  EspSocket socket({});
  const std::size_t sizes[] = {1400, 1400, 1400, 700, 1400, 8, 9000, 1400, 3, 1400, 0, 60'000, 40};
  for (const Datagram& ends :
       {Datagram{}, Datagram{.source = "2001:db8::2", .destination = "2001:db8::3"}}) {
    for (const std::size_t count : {1u, 5u, 64u, 2u, 130u, 1u}) {
      std::vector<Datagram> datagrams(count, ends);
      for (std::size_t i = 0; i < count; ++i) {
        datagrams[i].payload_size = sizes[i % std::size(sizes)];
        datagrams[i].spi = static_cast<std::uint32_t>(0x1000 + i / 4 % 2);
        datagrams[i].traffic_class = i % 7 == 0 ? 3 : 0;
        datagrams[i].hop_limit = i % 11 == 0 ? 63 : 64;
        // Only so much at once that the queues hold it.
        const bool last = i + 1 == count || i % 16 == 15;
        socket.transmit(build(datagrams[i]));
        if (!last) continue;
        ASSERT_EQ(socket.flush(), 0u);
        for (std::size_t next = i / 16 * 16; next <= i;) {
          ASSERT_TRUE(receive(socket));
          for (const SealedPacket& packet : received_) {
            ASSERT_LE(next, i);
            expect_same(packet, datagrams[next++]);
          }
        }
      }
      received_.clear();
      EXPECT_EQ(pool_.available(), 3 * kBatch);
    }
  }
}

TEST_F(EspSocketTest, SendsEachSegmentOfATrainAsItsOwnDatagram) {
  test::run("ip link set lo mtu 1500");
  test::run("ip addr add 2001:db8::2/128 dev lo nodad");
  EspSocket socket({});
  for (const Datagram& ends :
       {Datagram{}, Datagram{.source = "::1", .destination = "2001:db8::2"}}) {
    Datagram train = ends;
    train.payload_size = 64'000;  // more segments than one batch of messages has
    train.segment_size = 400;
    train.hop_limit = 9;
    train.traffic_class = 2;
    train.identification = 0xfff0;
    const SealedPacket original = build(train);
    const std::size_t header_size = original.size() - train.payload_size;
    ASSERT_EQ(send(socket, train), 0u);
    std::size_t at = header_size;
    std::uint16_t identification = train.identification;
    while (at < original.size()) {
      ASSERT_TRUE(receive(socket));
      for (const SealedPacket& packet : received_) {
        const auto header = engine::parse_ip_header(packet.bytes());
        ASSERT_TRUE(header);
        EXPECT_EQ(header->total_size, packet.size());
        EXPECT_EQ(header->hop_limit, 9);
        EXPECT_EQ(header->traffic_class, 2);
        if (header->family == Family::kIpv4 && identification != 0) {  // 0: the kernel chooses
          EXPECT_EQ(engine::load_be16(packet.data() + 4), identification);
        }
        ++identification;
        ASSERT_LE(at + packet.size() - header_size, original.size());
        EXPECT_TRUE(std::ranges::equal(packet.bytes().subspan(header_size),
                                       original.bytes().subspan(at, packet.size() - header_size)));
        at += packet.size() - header_size;
      }
    }
    EXPECT_EQ(at, original.size());
  }
}

TEST_F(EspSocketTest, CountsEverySegmentThatHasNoRoute) {
  EspSocket socket({});
  socket.transmit(
      build({.destination = "198.51.100.1", .payload_size = 1001, .segment_size = 100}));
  EXPECT_EQ(socket.flush(), 11u);
  EXPECT_EQ(socket.flush(), 0u);
}

TEST_F(EspSocketTest, FragmentsTheSegmentsThatTheLinkCannotCarry) {
  test::run("ip link set lo mtu 1400");
  EspSocket socket({});
  socket.transmit(build({.payload_size = 3500, .segment_size = 1500}));
  EXPECT_EQ(socket.flush(), 0u);
  std::vector<std::size_t> sizes;
  while (sizes.size() < 3 && receive(socket)) {
    for (const SealedPacket& packet : received_) sizes.push_back(packet.size());
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{1520, 1520, 520}));
}

TEST_F(EspSocketTest, KeepsMoreTrainsThanABatchUntilTheyAreSent) {
  EspSocket socket({});
  for (std::size_t i = 0; i < 2 * kBatch + 3; ++i) socket.transmit(build({.payload_size = 40}));
  EXPECT_EQ(socket.flush(), 0u);
  EXPECT_EQ(pool_.available(), 3 * kBatch);
  std::size_t count = 0;
  while (count < 2 * kBatch + 3 && receive(socket)) count += received_.size();
  EXPECT_EQ(count, 2 * kBatch + 3);
}

TEST_F(EspSocketTest, StopsReceivingWhenTheCacheIsFull) {
  EspSocket socket({});
  round_trip(socket, {.payload_size = 60'000});
  for (int i = 0; i < 5; ++i) ASSERT_EQ(send(socket, {.payload_size = 60'000}), 0u);
  ASSERT_TRUE(receive(socket));
  EXPECT_EQ(received_.size(), 2u);  // of which 128 KiB hold two
}

TEST_F(EspSocketTest, ReceivesNothingWhenNoBufferIsFree) {
  EspSocket socket({});
  ASSERT_EQ(send(socket, {}), 0u);
  PacketPool empty(0);
  socket.receive(empty, received_);
  EXPECT_TRUE(received_.empty());
  EXPECT_TRUE(receive(socket));  // the packet still waits
}

TEST_F(EspSocketTest, CountsPacketsThatHaveNoRoute) {
  EspSocket socket({});
  socket.transmit(build({}));
  socket.transmit(build({.source = "192.0.2.1", .destination = "198.51.100.1"}));
  socket.transmit(build({.source = "2001:db8::1", .destination = "2001:db8:1::1"}));
  socket.transmit(build({}));
  EXPECT_EQ(socket.flush(), 2u);
  ASSERT_TRUE(receive(socket));
  EXPECT_EQ(received_.size(), 2u);
}

TEST_F(EspSocketTest, FragmentsWhatTheLinkCannotCarry) {
  test::run("ip link set lo mtu 1400");
  EspSocket socket({});
  round_trip(socket, {.source = "127.0.0.2",
                      .destination = "127.0.0.3",
                      .payload_size = 3000,
                      .traffic_class = 0x28,
                      .hop_limit = 9});
  test::run("ip addr add 2001:db8::2/128 dev lo nodad && ip addr add 2001:db8::3/128 dev lo nodad");
  round_trip(socket, {.source = "2001:db8::2",
                      .destination = "2001:db8::3",
                      .payload_size = 3000,
                      .traffic_class = 0x28,
                      .hop_limit = 9});
}

TEST_F(EspSocketTest, DoesNotFragmentWhereTheHeaderForbidsIt) {
  test::run("ip link set lo mtu 1400");
  EspSocket socket({});
  socket.transmit(build({.payload_size = 3000, .dont_fragment = true}));
  socket.transmit(build({.payload_size = 1380, .dont_fragment = true}));
  EXPECT_EQ(socket.flush(), 1u);
  ASSERT_TRUE(receive(socket));
  ASSERT_EQ(received_.size(), 1u);
  EXPECT_EQ(received_[0].size(), 1400u);
}

TEST_F(EspSocketTest, SpreadsSpisOverLanes) {
  constexpr unsigned kLanes = 3;
  std::vector<std::unique_ptr<EspSocket>> lanes;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    lanes.push_back(std::make_unique<EspSocket>(EspSocket::Options{lane, kLanes, {}}));
  }
  // An SPI is a whole 32-bit number: 0x80000000 % 3 is 2, its low 16 bits % 3 would be 0.
  for (const std::uint32_t spi : {0x1000u, 0x1001u, 0x1002u, 0x80000000u, 0xffffffffu}) {
    for (const Datagram& family : {Datagram{}, ipv6(100)}) {
      Datagram datagram = family;
      datagram.spi = spi;
      round_trip(*lanes[spi % kLanes], datagram);
    }
  }
  for (const auto& lane : lanes) {
    received_.clear();
    lane->receive(pool_, received_);
    EXPECT_TRUE(received_.empty());
  }
}

TEST_F(EspSocketTest, GivesPacketsWithoutSpiToTheFirstLane) {
  EspSocket first({.lane = 0, .lanes = 2, .underlay = {}});
  EspSocket second({.lane = 1, .lanes = 2, .underlay = {}});
  for (const std::size_t size : {0u, 3u}) {
    round_trip(first, {.payload_size = size});
    round_trip(first, ipv6(size));
    second.receive(pool_, received_);
    EXPECT_EQ(received_.size(), 1u);  // still the one of round_trip
  }
}

TEST_F(EspSocketTest, HearsOnlyTheUnderlay) {
  test::run("ip link add veth0 type veth peer name veth1 && ip link set veth0 up");
  EspSocket elsewhere({.underlay = "veth0"});
  EspSocket everywhere({});
  ASSERT_EQ(send(everywhere, {}), 0u);
  ASSERT_TRUE(receive(everywhere));
  received_.clear();
  elsewhere.receive(pool_, received_);
  EXPECT_TRUE(received_.empty());
}

TEST_F(EspSocketTest, NamesUnderlayThatDoesNotExist) {
  try {
    EspSocket socket({.underlay = "nowhere0"});
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENODEV);
    EXPECT_TRUE(std::string_view(error.what()).starts_with("underlay \"nowhere0\""));
  }
}

}  // namespace
}  // namespace xfrmfs::netio
