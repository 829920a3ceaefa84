// SPDX-License-Identifier: Apache-2.0
#include "netio/wire.h"

#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>

#include "engine/packet/ip_header.h"
#include "tests/support/loopback_ports.h"
#include "tests/support/network_namespace.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::IpAddress;
using engine::kBatch;
using engine::PacketPool;
using engine::Protocol;
using engine::SealedPacket;
using test::LoopbackWirePort;
using test::PacketText;

/// From loopback to loopback, 100 bytes behind the IP header.
PacketText packet(Protocol protocol, std::uint16_t source_port) {
  PacketText text(120, std::byte{1});
  const IpAddress loopback = *IpAddress::parse("127.0.0.1");
  engine::write_outer_header({.source = loopback, .destination = loopback, .protocol = protocol},
                             100, text.data());
  engine::store_be16(&text[20], source_port);
  engine::store_be16(&text[22], 4500);
  engine::store_be16(&text[24], 100);
  engine::store_be16(&text[26], 0);
  return text;
}

class WireTest : public test::NetworkNamespaceTest {
 protected:
  std::unique_ptr<WirePort> esp() {
    auto port = std::make_unique<LoopbackWirePort>();
    esp_ = port.get();
    return port;
  }
  void transmit(Wire& wire, const PacketText& text) {
    wire.transmit(LoopbackWirePort::make(pool_, text));
  }
  void receive(Wire& wire) {
    received_.clear();
    std::vector<pollfd> polled;
    for (const int fd : wire.descriptors()) polled.push_back({fd, POLLIN, 0});
    ASSERT_GT(::poll(polled.data(), polled.size(), 10'000), 0);
    wire.receive(pool_, received_);
  }

  PacketPool pool_{3 * kBatch};
  Batch<SealedPacket> received_;
  LoopbackWirePort* esp_ = nullptr;
};

TEST_F(WireTest, SendsByOuterHeader) {
  Wire wire(esp(), std::make_unique<UdpEncapSocket>(UdpEncapSocket::Options{}));
  transmit(wire, packet(Protocol::kEsp, 4500));
  transmit(wire, packet(Protocol::kUdp, 4500));
  transmit(wire, packet(Protocol::kUdp, 4501));
  EXPECT_EQ(wire.flush(), 0u);
  EXPECT_EQ(esp_->next_sent(), packet(Protocol::kEsp, 4500));
  EXPECT_EQ(esp_->next_sent(), packet(Protocol::kUdp, 4501));
  receive(wire);
  ASSERT_EQ(received_.size(), 1u);
  EXPECT_EQ(received_[0].size(), 120u);
}

TEST_F(WireTest, NeedsNoUdpSocket) {
  Wire wire(esp(), nullptr);
  EXPECT_EQ(wire.descriptors().size(), 1u);
  transmit(wire, packet(Protocol::kUdp, 4500));
  EXPECT_EQ(wire.flush(), 0u);
  EXPECT_EQ(esp_->next_sent(), packet(Protocol::kUdp, 4500));
  esp_->arrive(packet(Protocol::kEsp, 1));
  receive(wire);
  EXPECT_EQ(received_.size(), 1u);
}

TEST_F(WireTest, ReceivesFromEither) {
  Wire wire(esp(), std::make_unique<UdpEncapSocket>(UdpEncapSocket::Options{}));
  for (int i = 0; i < 10; ++i) {
    transmit(wire, packet(Protocol::kUdp, 4500));
    EXPECT_EQ(wire.flush(), 0u);
    receive(wire);
    ASSERT_EQ(received_.size(), 1u);
    EXPECT_EQ(received_[0].data()[9], std::byte{17});
    esp_->arrive(packet(Protocol::kEsp, 1));
    receive(wire);
    ASSERT_EQ(received_.size(), 1u);
    EXPECT_EQ(received_[0].data()[9], std::byte{50});
  }
}

TEST_F(WireTest, OneDoesNotStarveTheOther) {
  Wire wire(esp(), std::make_unique<UdpEncapSocket>(UdpEncapSocket::Options{}));
  transmit(wire, packet(Protocol::kUdp, 4500));
  EXPECT_EQ(wire.flush(), 0u);
  for (std::size_t i = 0; i < 10 * kBatch; ++i) esp_->arrive(packet(Protocol::kEsp, 1));
  bool udp_came = false;
  for (int i = 0; i < 5; ++i) {
    receive(wire);
    EXPECT_EQ(received_.size(), kBatch);
    udp_came |= received_[0].data()[9] == std::byte{17};
  }
  EXPECT_TRUE(udp_came);
}

TEST_F(WireTest, SumsWhatBothCouldNotSend) {
  Wire wire(esp(), std::make_unique<UdpEncapSocket>(UdpEncapSocket::Options{}));
  esp_->refuse_everything();
  PacketText unreachable = packet(Protocol::kUdp, 4500);
  unreachable[12] = std::byte{192};  // not an address of this host
  for (std::size_t i = 0; i < kMostKept; ++i) transmit(wire, unreachable);
  transmit(wire, packet(Protocol::kEsp, 4500));
  EXPECT_EQ(pool_.available(), 3 * kBatch) << "more than kMostKept are kept";
  EXPECT_EQ(wire.flush(), kMostKept + 1);
  EXPECT_EQ(wire.flush(), 0u);
}

}  // namespace
}  // namespace xfrmfs::netio
