// SPDX-License-Identifier: Apache-2.0
// A real TUN device, in a network namespace of the test's own.
#include "netio/tun_device.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <system_error>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "engine/packet/ip_header.h"
#include "netio/rtnetlink.h"
#include "tests/support/network_namespace.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::ClearPacket;
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

class TunDeviceTest : public test::NetworkNamespaceTest {
 protected:
  PacketPool pool_{engine::kBatch + 1};
  Batch<ClearPacket> batch_;
};

TEST_F(TunDeviceTest, MakesInterfaceWithMtu) {
  const TunInterface tun("tuntest", 1, 1400);
  const auto links = Rtnetlink().links();
  const auto found = std::ranges::find(links, "tuntest", &Link::name);
  ASSERT_NE(found, links.end());
  EXPECT_EQ(found->index, tun.index());
  EXPECT_EQ(found->mtu, 1400u);
  EXPECT_FALSE(found->is_up);
}

TEST_F(TunDeviceTest, TakesInterfaceAway) {
  {
    const TunInterface tun("tuntest", 2, 1400);
  }
  EXPECT_EQ(::if_nametoindex("tuntest"), 0u);
}

TEST_F(TunDeviceTest, RefusesNameThatIsTaken) {
  const auto message_of_second = [](unsigned queues) -> std::string {
    const TunInterface first("tuntest", queues, 1400);
    try {
      const TunInterface second("tuntest", queues, 1400);
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
  TunInterface tun("tuntest", 1, 1400);
  tun.bring_up();
  for (const LinkAddress& found : Rtnetlink().addresses()) {
    EXPECT_NE(found.link, tun.index()) << found.address.text();
  }
}

TEST_F(TunDeviceTest, ReceivesWhatTheHostRoutesIntoIt) {
  TunInterface tun("tuntest", 1, 1400);
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
  TunInterface tun("tuntest", 1, 1400);
  tun.bring_up();
  test::run("ip addr add 192.0.2.1/24 dev tuntest");
  const FileDescriptor host = udp_socket("192.0.2.1");
  batch_.push(udp_packet(pool_, "192.0.2.2", "192.0.2.1", "hello"));
  EXPECT_EQ(tun.queue(0).send(batch_), 0u);
  EXPECT_TRUE(batch_.empty());

  ASSERT_TRUE(readable(host.get()));
  char text[16];
  ASSERT_EQ(::recv(host.get(), text, sizeof text, 0), 5);
  EXPECT_EQ(std::memcmp(text, "hello", 5), 0);
}

TEST_F(TunDeviceTest, CountsPacketsThatItRefuses) {
  TunInterface tun("tuntest", 1, 1400);  // down
  batch_.push(udp_packet(pool_, "192.0.2.2", "192.0.2.1", "hello"));
  batch_.push(udp_packet(pool_, "192.0.2.2", "192.0.2.1", "hello"));
  EXPECT_EQ(tun.queue(0).send(batch_), 2u);
  EXPECT_TRUE(batch_.empty());
  tun.queue(0).receive(pool_, batch_);
  EXPECT_TRUE(batch_.empty());
}

}  // namespace
}  // namespace xfrmfs::netio
