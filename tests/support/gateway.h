// SPDX-License-Identifier: Apache-2.0
// An engine with one lane and no device: tests push bytes in at one side and look at what comes out
// at the other.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/packet/ip_header.h"
#include "netio/ports.h"
#include "tests/support/manual_clock.h"
#include "tests/support/sinks.h"

namespace xfrmfs::testing {

engine::IpAddress address(std::string_view text);
engine::Prefix prefix(std::string_view text);  // "192.0.2.0/24"

/// A whole UDP packet of either family, checksums of the IP header right.
struct UdpPacket {
  std::string_view source;
  std::string_view destination;
  std::uint16_t source_port = 6000;
  std::uint16_t destination_port = 7000;
  std::size_t payload_size = 100;
  std::uint8_t traffic_class = 0;
  bool dont_fragment = false;
};
PacketData make(const UdpPacket& packet);

/// A TCP segment of either family, checksums right.
struct TcpPacket {
  std::string_view source;
  std::string_view destination;
  std::uint16_t source_port = 6000;
  std::uint16_t destination_port = 7000;
  std::uint32_t sequence = 1000;
  std::uint8_t flags = 0x10;
  std::size_t payload_size = 1000;
  std::size_t options_size = 12;  // of the header, a multiple of 4
  std::uint8_t traffic_class = 0;
  std::uint16_t identification = 7;
};
PacketData make(const TcpPacket& packet);

/// A super-packet as segmentation offload makes it: `segment_size` of data a segment; checksum and
/// identification are those of the first.
struct Super {
  PacketData bytes;
  engine::Cut cut = engine::Cut::kTcp;
  std::uint16_t segment_size = 0;

  static Super of(const TcpPacket& packet, std::uint16_t segment_size) {
    return {make(packet), engine::Cut::kTcp, segment_size};
  }
  static Super of(const UdpPacket& packet, std::uint16_t segment_size) {
    return {make(packet), engine::Cut::kUdp, segment_size};
  }
  /// The same data, as the packets that it stands for.
  std::vector<PacketData> packets() const;
};

/// Datagrams of equal size, the last maybe shorter, as a train from the wire.
struct SealedTrain {
  PacketData bytes;
  std::uint16_t segment_size = 0;

  static SealedTrain of(const std::vector<PacketData>& datagrams);
};

/// An ESP tunnel SA, AES-128-GCM unless `cbc`; window 32.
struct TunnelSa {
  std::string_view source;
  std::string_view destination;
  std::uint32_t spi = 0x1000;
  std::uint32_t reqid = 1;
  bool any_family = true;
  bool cbc = false;
  bool encapsulated = false;  // in UDP, port 4500 to port 4500
};
engine::SaParams make(const TunnelSa& sa);

/// A policy with one ESP tunnel template, or none if `reqid` is 0.
struct TunnelPolicy {
  engine::Direction direction = engine::Direction::kOut;
  std::string_view source;  // prefixes
  std::string_view destination;
  std::string_view tunnel_source = "";
  std::string_view tunnel_destination = "";
  std::uint32_t reqid = 1;
};
engine::PolicyParams make(const TunnelPolicy& policy);

/// A copy of `data` in a buffer of `pool`, which has one.
engine::PacketBytes in_buffer(engine::PacketPool& pool, const PacketData& data);
/// As if it had come from the wire.
engine::SealedPacket from_wire(engine::PacketBytes bytes, std::uint16_t segment_size = 0);

class Gateway {
 public:
  Gateway();

  engine::Engine& engine() { return engine_; }
  ManualClock& clock() { return clock_; }

  struct Sent {
    std::vector<PacketData> sealed;
    std::vector<PacketData> replies;
  };
  /// One batch from the TUN device.
  Sent send(const std::vector<PacketData>& packets);
  Sent send(const PacketData& packet) { return send(std::vector<PacketData>{packet}); }
  /// One train from the TUN device.
  Sent send(const Super& train);
  /// One batch from the wire; what may enter the TUN device.
  std::vector<PacketData> receive(const std::vector<PacketData>& packets);
  std::vector<PacketData> receive(const PacketData& packet) {
    return receive(std::vector<PacketData>{packet});
  }
  std::vector<PacketData> receive(const SealedTrain& train);

  /// From now on the TUN device takes joined segments.
  void take_joined() { joins_ = {.tcp = true, .udp = true}; }
  /// Packets in each of the trains that the last receive() delivered.
  const std::vector<std::size_t>& delivered() const { return delivered_; }
  /// Segment size of each of the trains that the last send() made; 0: a single packet.
  const std::vector<std::size_t>& transmitted() const { return transmitted_; }

  /// The counters that moved since the last call, by name.
  std::map<std::string, std::uint64_t> moved();

 private:
  Sent process(engine::Batch<engine::ClearPacket>& batch);
  std::vector<PacketData> process(engine::Batch<engine::SealedPacket>& batch);

  ManualClock clock_;
  engine::Engine engine_;
  std::unique_ptr<engine::OutboundPath> outbound_;
  std::unique_ptr<engine::InboundPath> inbound_;
  engine::PacketPool pool_;
  engine::CounterSums seen_{};
  engine::Joins joins_;
  std::vector<std::size_t> delivered_;
  std::vector<std::size_t> transmitted_;
};

}  // namespace xfrmfs::testing
