// SPDX-License-Identifier: Apache-2.0
// Trains cut into datagrams: lengths, identifications, checksums, and what cannot be cut.
#include "netio/sealed_datagrams.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "engine/packet/checksum.h"
#include "tests/support/sealed_train.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::PacketPool;
using test::SealedTrain;

class SealedDatagramsTest : public testing::Test {
 protected:
  /// The datagrams, each in one piece.
  std::vector<std::vector<std::byte>> cut(const SealedTrain& train) {
    const engine::SealedPacket packet = test::seal(pool_, train);
    const auto cut = TrainCut::of(packet.bytes(), packet.segment_size());
    std::vector<std::vector<std::byte>> datagrams;
    for (std::size_t i = 0; cut && i < cut->count(); ++i) {
      std::vector<std::byte> datagram(cut->head_size());
      cut->write_header(i, datagram.data());
      const Bytes data = cut->data(i);
      datagram.insert(datagram.end(), data.begin(), data.end());
      EXPECT_LE(datagram.size(), cut->largest());
      datagrams.push_back(std::move(datagram));
    }
    return datagrams;
  }

  PacketPool pool_{4};
};

TEST_F(SealedDatagramsTest, AreWhatTheSegmentsWouldBeAlone) {
  for (const std::size_t payload : {1u, 99u, 100u, 101u, 1000u, 64'950u}) {
    SealedTrain train{.source = "192.0.2.1",
                      .destination = "198.51.100.7",
                      .payload_size = payload,
                      .traffic_class = 0xb9,
                      .hop_limit = 63,
                      .segment_size = 100,
                      .identification = 0xffc0};
    const auto datagrams = cut(train);
    ASSERT_EQ(datagrams.size(), (payload + 99) / 100);
    for (std::size_t i = 0; i < datagrams.size(); ++i) {
      SealedTrain alone = train;
      alone.segment_size = 0;
      alone.payload_size = std::min<std::size_t>(100, payload - 100 * i);
      alone.identification = static_cast<std::uint16_t>(train.identification + i);
      const engine::SealedPacket expected = test::seal(pool_, alone);
      EXPECT_TRUE(
          std::ranges::equal(std::span(datagrams[i]).first(20), expected.bytes().first(20)));
      EXPECT_EQ(datagrams[i].size(), expected.size());
    }
  }
}

TEST_F(SealedDatagramsTest, HaveTheLengthsOfIpv6) {
  const auto datagrams =
      cut({.source = "::1", .destination = "::2", .payload_size = 250, .segment_size = 100});
  ASSERT_EQ(datagrams.size(), 3u);
  for (const auto& datagram : datagrams) {
    const auto header = engine::parse_ip_header(datagram);
    ASSERT_TRUE(header);
    EXPECT_EQ(header->total_size, datagram.size());
  }
  EXPECT_EQ(datagrams[2].size(), 90u);
}

/// Over IPv6 with the checksum that a receiver insists on, a single packet too.
TEST_F(SealedDatagramsTest, HaveUdpHeadersOfTheirOwn) {
  for (const bool ipv6 : {false, true}) {
    for (const std::size_t payload : {40u, 250u}) {
      SealedTrain train{.payload_size = payload, .segment_size = 100, .udp = true};
      if (ipv6) train.source = train.destination = "::1";
      if (payload < 100) train.segment_size = 0;
      const std::size_t at = ipv6 ? 40 : 20;
      const auto datagrams = cut(train);
      ASSERT_EQ(datagrams.size(), (payload + 99) / 100);
      for (std::size_t i = 0; i < datagrams.size(); ++i) {
        const auto& datagram = datagrams[i];
        const auto header = engine::parse_ip_header(datagram);
        ASSERT_TRUE(header);
        EXPECT_EQ(header->total_size, datagram.size());
        EXPECT_EQ(datagram.size(), at + 8 + std::min<std::size_t>(100, payload - 100 * i));
        EXPECT_EQ(engine::load_be16(&datagram[at]), 4500);
        EXPECT_EQ(engine::load_be16(&datagram[at + 2]), 14500);
        EXPECT_EQ(engine::load_be16(&datagram[at + 4]), datagram.size() - at);
        EXPECT_EQ(engine::load_be32(&datagram[at + 8]), train.spi);
        if (!ipv6) {
          EXPECT_EQ(engine::load_be16(&datagram[at + 6]), 0);
          continue;
        }
        auto again = datagram;
        engine::fill_udp_checksum(again);
        EXPECT_EQ(again, datagram);
      }
    }
  }
}

TEST_F(SealedDatagramsTest, IncludeWholePackets) {
  const auto datagrams = cut({.payload_size = 1000});
  ASSERT_EQ(datagrams.size(), 1u);
  EXPECT_TRUE(std::ranges::equal(datagrams[0], test::seal(pool_, {.payload_size = 1000}).bytes()));
  EXPECT_EQ(cut({.payload_size = 0}).size(), 1u);
}

TEST_F(SealedDatagramsTest, AreMadeOfEspOnlyWithOrWithoutUdp) {
  engine::SealedPacket packet = test::seal(pool_, {});
  packet.data()[9] = std::byte{6};
  EXPECT_FALSE(TrainCut::of(packet.bytes(), 50));
  EXPECT_TRUE(TrainCut::of(packet.bytes(), 0));
  EXPECT_FALSE(TrainCut::of(packet.bytes().first(19), 0));
  EXPECT_FALSE(TrainCut::of({}, 0));
}

TEST_F(SealedDatagramsTest, CopyOptionsIntoEveryHeader) {
  // IPv6 with destination options of 1024 bytes, more than fit into a queue twice over.
  std::vector<std::byte> train(40 + 1024 + 300);
  engine::write_outer_header({.source = *engine::IpAddress::parse("::1"),
                              .destination = *engine::IpAddress::parse("::2"),
                              .protocol = engine::Protocol::kDestinationOptions},
                             train.size() - 40, train.data());
  train[40] = static_cast<std::byte>(engine::Protocol::kEsp);
  train[41] = std::byte{127};
  const auto cut = TrainCut::of(train, 60);
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->count(), 5u);
  const auto queue = std::make_unique<DatagramQueue>();
  std::size_t added = 0;
  while (queue->has_room(cut->head_size())) {
    queue->add(Bytes(train).first(4), *cut, 0);  // any address
    ++added;
  }
  EXPECT_EQ(added, 3u);
  EXPECT_EQ(queue->messages()[2].msg_hdr.msg_iov[0].iov_len, 1064u);
}

}  // namespace
}  // namespace xfrmfs::netio
