// SPDX-License-Identifier: Apache-2.0
// The network as one port: what has a UDP header goes through the socket for ESP in UDP, all the
// rest through the port for ESP. AH comes in through a socket of its own.

#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "netio/ports.h"
#include "netio/turns.h"
#include "netio/udp_encap_socket.h"

namespace xfrmfs::netio {

class Wire final : public WirePort {
 public:
  /// `udp` may be null. `esp` then sends UDP packets too, as it does those from other ports. `ah`,
  /// which may be null too, only receives.
  Wire(std::unique_ptr<WirePort> esp, std::unique_ptr<UdpEncapSocket> udp,
       std::unique_ptr<WirePort> ah = nullptr);

  void receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) override;
  void transmit(engine::SealedPacket train) noexcept override;
  std::size_t flush() noexcept override;
  std::span<const int> descriptors() const override { return polled_; }

 private:
  std::unique_ptr<WirePort> esp_;
  std::unique_ptr<UdpEncapSocket> udp_;
  std::unique_ptr<WirePort> ah_;
  std::vector<int> polled_;
  // The receiving thread's.
  Turns turns_;         // of ESP and the others
  Turns others_turns_;  // of these

  // The sending thread's.
  std::size_t kept_ = 0;  // by both ports together, at most
  std::size_t unsent_ = 0;
};

}  // namespace xfrmfs::netio
