// SPDX-License-Identifier: Apache-2.0
// The sealed side: raw sockets of IP protocol 50, one for IPv4 and one for IPv6 (raw(7), ipv6(7));
// or of protocol 51.
//
// As long as they are open the host answers no ESP packet with "protocol unreachable". Every raw
// socket gets a copy of every ESP packet; with several lanes a filter in the kernel gives each
// packet to the lane SPI % lanes. Fragments arrive here reassembled.

#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

#include "engine/base/address.h"
#include "netio/file_descriptor.h"
#include "netio/ports.h"
#include "netio/sealed_datagrams.h"
#include "netio/turns.h"

namespace xfrmfs::netio {

class EspSocket final : public WirePort {
 public:
  struct Options {
    unsigned lane = 0;
    unsigned lanes = 1;
    std::string underlay;                                // interface; empty: any
    engine::Protocol protocol = engine::Protocol::kEsp;  // or AH, which differs in where its SPI is
  };

  /// Belongs to the calling thread's network namespace. IPv6 is left out where the kernel has none.
  explicit EspSocket(const Options& options);

  void receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) override;
  /// Each segment of a train is sent as a datagram of its own. Waits a moment if the socket's
  /// buffer is full, so that the TUN device's queue, and not our drops, slow the senders down. A
  /// datagram above the link's MTU is fragmented if its header permits.
  void transmit(engine::SealedPacket train) noexcept override;
  std::size_t flush() noexcept override;
  std::span<const int> descriptors() const override { return {polled_.data(), polled_count_}; }

 private:
  /// What recvmmsg(2) wants to see; prepared once. Only IPv6 needs names and ancillary data.
  struct Incoming {
    std::array<mmsghdr, engine::kBatch> heads{};
    std::array<iovec, engine::kBatch> pieces{};
    std::array<sockaddr_in6, engine::kBatch> names;
    /// Destination, hop limit and traffic class.
    static constexpr std::size_t kControlSize =
        CMSG_SPACE(sizeof(in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int));
    struct alignas(cmsghdr) Control {
      std::array<std::byte, kControlSize> bytes;
    };
    std::array<Control, engine::kBatch> controls;
    std::size_t last_count = 1;    // datagrams that receive_from() got
    std::size_t typical_size = 1;  // of them
    explicit Incoming(engine::Family family);
  };

  void receive_from(engine::Family family, engine::PacketPool& pool,
                    engine::Batch<engine::SealedPacket>& batch);
  /// Makes a packet of message `i`; nothing if the system does not say where it was sent to.
  engine::SealedPacket arrived(Incoming& incoming, std::size_t i, engine::Buffer buffer) const;
  /// Sends what is in both queues, whose trains are not needed afterwards.
  void send_queued() noexcept;
  void send_queue(int fd, DatagramQueue& queue) noexcept;

  std::string underlay_;
  const engine::Protocol protocol_;
  FileDescriptor ipv4_;
  FileDescriptor ipv6_;
  std::array<int, 2> polled_{};
  std::size_t polled_count_ = 0;
  // The receiving thread's.
  Turns turns_;  // of the families
  Incoming incoming_ipv4_{engine::Family::kIpv4};
  Incoming incoming_ipv6_{engine::Family::kIpv6};
  // The sending thread's.
  DatagramQueue outgoing_ipv4_;
  DatagramQueue outgoing_ipv6_;
  engine::Batch<engine::SealedPacket> kept_;  // what the queues point at
  std::size_t unsent_ = 0;
  bool waited_ = false;  // since the last flush()
};

}  // namespace xfrmfs::netio
