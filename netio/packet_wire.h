// SPDX-License-Identifier: Apache-2.0
// The sealed side with a faster way out: packets leave as frames through a packet socket
// (packet(7)) where it is known where they go, and through the raw socket otherwise.
//
// A frame skips what the system does for every packet of a raw socket: route, netfilter's OUTPUT
// and POSTROUTING. It still passes the queueing discipline. Whether frames may be used, and for
// which destinations, is the business of netio/next_hop_resolver.h.

#pragma once

#include <cstddef>
#include <span>

#include "netio/esp_socket.h"
#include "netio/file_descriptor.h"
#include "netio/next_hop.h"
#include "netio/ports.h"
#include "netio/sealed_datagrams.h"

namespace xfrmfs::netio {

class PacketWire final : public WirePort {
 public:
  /// As EspSocket. `next_hops` outlives the port.
  PacketWire(const EspSocket::Options& options, NextHopTable& next_hops);

  void receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) override {
    socket_.receive(pool, batch);
  }
  void transmit(engine::SealedPacket train) noexcept override;
  std::size_t flush() noexcept override;
  std::span<const int> descriptors() const override { return socket_.descriptors(); }

 private:
  void transmit_frames(engine::SealedPacket train, const TrainCut& cut,
                       const NextHop& hop) noexcept;
  /// Sends what waits for the packet socket.
  void send_frames() noexcept;

  EspSocket socket_;
  NextHopTable& next_hops_;
  FileDescriptor frames_;
  DatagramQueue outgoing_;
  engine::Batch<engine::SealedPacket> kept_;  // what outgoing_ points at
  std::size_t unsent_ = 0;
  bool waited_ = false;          // since the last flush()
  bool socket_waiting_ = false;  // something is in the raw socket's queue
};

}  // namespace xfrmfs::netio
