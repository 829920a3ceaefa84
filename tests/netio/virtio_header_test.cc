// SPDX-License-Identifier: Apache-2.0
#include "netio/virtio_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/packet/checksum.h"
#include "engine/packet/ip_header.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::ClearPacket;
using engine::ClearTrain;
using engine::Cut;
using engine::kHeadroom;
using engine::PacketBytes;
using engine::PacketPool;

constexpr std::uint8_t kPartial = VirtioHeader::kPartialChecksum;

class VirtioHeaderTest : public testing::Test {
 protected:
  /// 20 or 40 bytes of IP header, 20 of TCP header, data; `header` as a kernel would have it.
  void make_tcp(unsigned version, std::size_t data_size) {
    const std::size_t ip_size = version == 4 ? 20 : 40;
    bytes_.assign(ip_size + 20 + data_size, std::byte{7});
    bytes_[0] = std::byte(version << 4 | 5);
    bytes_[ip_size + 12] = std::byte{0x50};
    header_ = {};
    header_.flags = kPartial;
    header_.gso_type = version == 4 ? VirtioHeader::kTcp4 : VirtioHeader::kTcp6;
    header_.segment_size = 1000;
    header_.header_size = static_cast<std::uint16_t>(ip_size + 20);
    header_.checksum_start = static_cast<std::uint16_t>(ip_size);
    header_.checksum_offset = 16;
  }
  void make_udp(std::size_t data_size) {
    bytes_.assign(28 + data_size, std::byte{7});
    bytes_[0] = std::byte{0x45};
    header_ = {};
    header_.flags = kPartial;
    header_.gso_type = VirtioHeader::kUdp;
    header_.segment_size = 1000;
    header_.checksum_start = 20;
    header_.checksum_offset = 6;
  }

  ClearPacket read() {
    engine::Buffer buffer = pool_.take();
    std::ranges::copy(bytes_, buffer.data() + kHeadroom);
    return read_train(header_, PacketBytes(std::move(buffer), kHeadroom, bytes_.size()));
  }
  void expect_train(Cut cut) {
    const ClearPacket packet = read();
    EXPECT_EQ(packet.cut(), cut);
    EXPECT_EQ(packet.segment_size(), 1000);
    EXPECT_TRUE(std::ranges::equal(packet.bytes(), bytes_));
  }
  /// A single packet with the bytes that came.
  void expect_untouched(const char* why) {
    SCOPED_TRACE(why);
    const ClearPacket packet = read();
    EXPECT_EQ(packet.cut(), Cut::kWhole);
    EXPECT_TRUE(std::ranges::equal(packet.bytes(), bytes_));
  }

  PacketPool pool_{1};
  std::vector<std::byte> bytes_;
  VirtioHeader header_{};
};

TEST_F(VirtioHeaderTest, ReadsTrains) {
  make_tcp(4, 5000);
  expect_train(Cut::kTcp);
  header_.gso_type |= VirtioHeader::kEcn;
  expect_train(Cut::kTcp);
  make_tcp(6, 1001);
  expect_train(Cut::kTcp);
  make_udp(1001);
  expect_train(Cut::kUdp);
  bytes_[0] = std::byte{0x60};
  expect_train(Cut::kUdp);
}

TEST_F(VirtioHeaderTest, ReadsSinglePacketsAsTheyAre) {
  make_tcp(4, 5000);
  header_ = {};
  expect_untouched("complete");
  header_.flags = 2;
  expect_untouched("verified by the sender");
}

TEST_F(VirtioHeaderTest, CompletesChecksums) {
  make_tcp(4, 333);
  header_.gso_type = VirtioHeader::kNone;
  engine::store_be16(&bytes_[36], 0x1234);  // sum of a pseudo header
  const std::uint16_t sum = engine::checksum_add(Bytes(bytes_).subspan(20));
  const ClearPacket packet = read();
  EXPECT_EQ(packet.cut(), Cut::kWhole);
  EXPECT_EQ(engine::load_be16(packet.data() + 36), static_cast<std::uint16_t>(~sum));

  // A pseudo header that is the only thing in the sum makes it verify.
  std::vector<std::byte> rest(packet.bytes().begin() + 20, packet.bytes().end());
  engine::store_be16(&rest[16], 0);
  EXPECT_EQ(engine::checksum_add(rest, 0x1234U + engine::load_be16(packet.data() + 36)), 0xffff);
}

TEST_F(VirtioHeaderTest, NeverWritesChecksumZero) {
  make_udp(0);
  header_.gso_type = VirtioHeader::kNone;
  std::fill(bytes_.begin() + 20, bytes_.end(), std::byte{0});
  engine::store_be16(&bytes_[26], 0xffff);
  EXPECT_EQ(engine::load_be16(read().data() + 26), 0xffff);
}

TEST_F(VirtioHeaderTest, TrainOfOneSegmentIsSinglePacket) {
  make_tcp(4, 1000);
  const ClearPacket tcp = read();
  EXPECT_EQ(tcp.cut(), Cut::kWhole);
  EXPECT_EQ(engine::load_be16(tcp.data() + 36),
            static_cast<std::uint16_t>(~engine::checksum_add(Bytes(bytes_).subspan(20))));
}

TEST_F(VirtioHeaderTest, LeavesNonsenseToTheEngine) {
  const auto change = [this](const char* why, const auto& edit) {
    make_tcp(4, 5000);
    edit();
    expect_untouched(why);
  };
  change("no size", [this] { header_.segment_size = 0; });
  change("checksum complete", [this] { header_.flags = 0; });
  change("checksum elsewhere", [this] { header_.checksum_offset = 6; });
  change("transport header outside", [this] { header_.checksum_start = 5030; });
  change("transport header far outside", [this] { header_.checksum_start = 0xffff; });
  change("other family", [this] { bytes_[0] = std::byte{0x60}; });
  change("TCP header too small", [this] { bytes_[32] = std::byte{0x40}; });
  change("TCP header outside", [this] {
    bytes_.resize(60);
    bytes_[32] = std::byte{0xf0};
  });
  change("IP fragmentation offload", [this] { header_.gso_type = 3; });
  change("unknown offload", [this] { header_.gso_type = 0x7f; });
  change("nothing", [this] { bytes_.clear(); });
  change("checksum of nothing", [this] {
    bytes_.clear();
    header_.gso_type = VirtioHeader::kNone;
  });
  change("checksum outside", [this] {
    header_.gso_type = VirtioHeader::kNone;
    header_.checksum_start = 5039;
  });
  change("checksum far outside", [this] {
    header_.gso_type = VirtioHeader::kNone;
    header_.checksum_start = header_.checksum_offset = 0xffff;
  });
  make_udp(5000);
  header_.checksum_start = 5021;
  expect_untouched("UDP header outside");
}

TEST_F(VirtioHeaderTest, WritesNothingAboutSinglePackets) {
  const VirtioHeader header = header_for({});
  EXPECT_EQ(std::memcmp(&header, std::array<std::byte, sizeof header>{}.data(), sizeof header), 0);
}

TEST_F(VirtioHeaderTest, WritesTrains) {
  VirtioHeader header = header_for({.pieces = {},
                                    .cut = Cut::kTcp,
                                    .transport_offset = 20,
                                    .header_size = 52,
                                    .segment_size = 1348});
  EXPECT_EQ(header.flags, kPartial);
  EXPECT_EQ(header.gso_type, VirtioHeader::kTcp4);
  EXPECT_EQ(header.header_size, 52);
  EXPECT_EQ(header.segment_size, 1348);
  EXPECT_EQ(header.checksum_start, 20);
  EXPECT_EQ(header.checksum_offset, 16);
  header = header_for({.pieces = {}, .cut = Cut::kTcp, .ipv6 = true});
  EXPECT_EQ(header.gso_type, VirtioHeader::kTcp6);
  header = header_for({.pieces = {}, .cut = Cut::kUdp, .ipv6 = true, .transport_offset = 40});
  EXPECT_EQ(header.gso_type, VirtioHeader::kUdp);
  EXPECT_EQ(header.checksum_start, 40);
  EXPECT_EQ(header.checksum_offset, 6);
}

}  // namespace
}  // namespace xfrmfs::netio
