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

/// An ESP tunnel SA, AES-128-GCM unless `cbc`; window 32.
struct TunnelSa {
  std::string_view source;
  std::string_view destination;
  std::uint32_t spi = 0x1000;
  std::uint32_t reqid = 1;
  bool any_family = true;
  bool cbc = false;
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
  /// One batch from the wire; what may enter the TUN device.
  std::vector<PacketData> receive(const std::vector<PacketData>& packets);
  std::vector<PacketData> receive(const PacketData& packet) {
    return receive(std::vector<PacketData>{packet});
  }

  /// The counters that moved since the last call, by name.
  std::map<std::string, std::uint64_t> moved();

 private:
  ManualClock clock_;
  engine::Engine engine_;
  std::unique_ptr<engine::OutboundPath> outbound_;
  std::unique_ptr<engine::InboundPath> inbound_;
  engine::PacketPool pool_;
  engine::CounterSums seen_{};
};

}  // namespace xfrmfs::testing
