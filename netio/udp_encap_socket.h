// SPDX-License-Identifier: Apache-2.0
// The sealed side through NATs: ESP in UDP (RFC 3948), one socket for IPv4 and one for IPv6.
//
// The kernel cuts and joins trains here (UDP_SEGMENT, UDP_GRO), so one system call moves up to 64
// packets. It also computes UDP checksums: RFC 3948 §2.1 would rather see zero, but segmentation
// offload insists on them, and receivers take both.
//
// With several lanes their sockets share the port, and a filter in the kernel gives each datagram
// to the lane SPI % lanes.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

#include "netio/file_descriptor.h"
#include "netio/ports.h"
#include "netio/turns.h"
#include "netio/udp_message.h"

namespace xfrmfs::netio {

class UdpEncapSocket final : public WirePort {
 public:
  struct Options {
    unsigned lane = 0;
    unsigned lanes = 1;
    std::string underlay;  // interface; empty: any
    std::uint16_t port = 4500;
  };

  /// Belongs to the calling thread's network namespace. The lanes are made in their order. Throws
  /// EADDRINUSE if somebody else has the port. IPv6 is left out where the kernel has none.
  explicit UdpEncapSocket(const Options& options);

  /// Whether transmit() can send it: UDP from this port.
  bool takes(const engine::SealedPacket& train) const noexcept;

  /// The trains have outer IP and UDP headers as they were on the wire, as far as the kernel tells:
  /// without checksums, identification and options.
  void receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) override;
  /// Waits a moment if the socket's buffer is full. A packet above the path's MTU is fragmented if
  /// its header permits. The source must be an address of the host.
  void transmit(engine::SealedPacket train) noexcept override;
  std::size_t flush() noexcept override;
  std::span<const int> descriptors() const override { return {polled_.data(), polled_count_}; }

 private:
  /// What recvmmsg(2) and sendmmsg(2) want to see. Whatever stays the same is written once.
  struct Messages {
    Messages();
    std::array<mmsghdr, engine::kBatch> heads{};
    std::array<iovec, engine::kBatch> pieces{};
    std::array<sockaddr_in6, engine::kBatch> names{};
    std::array<UdpControl, engine::kBatch> controls{};
  };
  /// One family.
  struct Side {
    FileDescriptor fd;
    Messages received;             // the receiving thread's
    std::size_t typical_size = 1;  // likewise: of a message
    std::size_t last_count = 1;    // likewise: messages that came at once
    bool fragments = true;         // the sending thread's: what the socket is set to
    bool cuts = true;              // likewise: whether UDP_SEGMENT has worked so far
  };
  /// One message to be sent, beside its mmsghdr: packets of one flow, cut by the kernel.
  struct Outgoing {
    std::size_t segment_size = 0;  // of UDP payload
    std::size_t segments = 0;
    std::size_t size = 0;
    bool closed = false;  // the last segment is short
  };

  void open(Side& side, int family, const Options& options);
  void receive_from(Side& side, engine::PacketPool& pool,
                    engine::Batch<engine::SealedPacket>& batch);
  /// Sends what is kept.
  void send_kept() noexcept;
  /// Sends packets from `first` on that can be sent in one go; the first that cannot.
  std::size_t send_run(std::size_t first) noexcept;
  /// Adds a packet to the last message if it can be part of it.
  bool extend(std::size_t messages, const engine::SealedPacket& train,
              const engine::SealedPacket& previous) noexcept;
  void begin(std::size_t message, engine::SealedPacket& train) noexcept;
  void send_messages(Side& side, std::size_t count) noexcept;
  /// Without UDP_SEGMENT.
  void send_cut(Side& side, std::size_t message) noexcept;
  /// True if it is worth another try: the socket's buffer was full.
  bool wait(const Side& side, int error) noexcept;

  std::uint16_t port_;
  Side ipv4_;
  Side ipv6_;
  std::array<int, 2> polled_{};
  std::size_t polled_count_ = 0;
  Turns turns_;  // the receiving thread's

  // The sending thread's.
  engine::Batch<engine::SealedPacket> kept_;
  std::size_t kept_bytes_ = 0;
  Messages sent_;
  std::array<Outgoing, engine::kBatch> outgoing_;
  std::size_t unsent_ = 0;
  bool waited_ = false;  // since the last flush()
};

}  // namespace xfrmfs::netio
