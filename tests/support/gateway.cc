// SPDX-License-Identifier: Apache-2.0
#include "tests/support/gateway.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <stdexcept>

namespace xfrmfs::testing {
namespace {

using namespace engine;

/// The only way to make a SealedPacket of bytes is to be a wire.
class TestWire final : public netio::WirePort {
 public:
  static SealedPacket sealed(PacketBytes bytes, std::uint16_t segment_size) {
    return received(std::move(bytes), segment_size);
  }
  void transmit(SealedPacket) noexcept override {}
  void receive(PacketPool&, Batch<SealedPacket>&) override {}
  std::size_t flush() noexcept override { return 0; }
  std::span<const int> descriptors() const override { return {}; }
};

Secret key_of(std::size_t size, std::uint8_t fill) {
  const std::vector<std::byte> bytes(size, std::byte{fill});
  return Secret(bytes);
}

}  // namespace

IpAddress address(std::string_view text) {
  const auto parsed = IpAddress::parse(text);
  if (!parsed) throw std::invalid_argument(std::string(text));
  return *parsed;
}

Prefix prefix(std::string_view text) {
  const auto slash = text.find('/');
  Prefix result{.address = address(text.substr(0, slash))};
  const auto length = text.substr(slash + 1);
  std::from_chars(length.data(), length.data() + length.size(), result.length);
  return result;
}

PacketData make(const UdpPacket& udp) {
  const OuterHeader ip{.source = address(udp.source),
                       .destination = address(udp.destination),
                       .protocol = Protocol::kUdp,
                       .traffic_class = udp.traffic_class,
                       .dont_fragment = udp.dont_fragment,
                       .identification = 7};
  const std::size_t header = outer_header_size(ip.source.family());
  PacketData data(header + 8 + udp.payload_size, std::byte{0x55});
  write_outer_header(ip, 8 + udp.payload_size, data.data());
  store_be16(data.data() + header, udp.source_port);
  store_be16(data.data() + header + 2, udp.destination_port);
  store_be16(data.data() + header + 4, static_cast<std::uint16_t>(8 + udp.payload_size));
  store_be16(data.data() + header + 6, 0);
  return data;
}

SaParams make(const TunnelSa& sa) {
  SaParams params;
  params.id.destination = address(sa.destination);
  params.id.spi = Spi{sa.spi};
  params.source = address(sa.source);
  params.reqid = Reqid{sa.reqid};
  params.replay.window = 32;
  if (!sa.any_family) {
    params.selector.family = params.family();
    params.selector.source.address = params.selector.destination.address =
        IpAddress::any(params.family());
  }
  if (sa.cbc) {
    params.crypto.cipher = CipherParams{.name = "cbc(aes)", .key = key_of(16, 1)};
    params.crypto.mac =
        MacParams{.name = "hmac(sha256)", .key = key_of(32, 2), .truncation_bits = 128};
  } else {
    params.crypto.aead =
        AeadParams{.name = "rfc4106(gcm(aes))", .key = key_of(20, 3), .icv_bits = 128};
  }
  return params;
}

PolicyParams make(const TunnelPolicy& policy) {
  PolicyParams params;
  params.direction = policy.direction;
  params.selector.source = prefix(policy.source);
  params.selector.destination = prefix(policy.destination);
  params.selector.family = params.selector.source.address.family();
  if (policy.reqid != 0) {
    Template tmpl;
    tmpl.source = address(policy.tunnel_source);
    tmpl.destination = address(policy.tunnel_destination);
    tmpl.family = tmpl.source.family();
    tmpl.protocol = Protocol::kEsp;
    tmpl.mode = Mode::kTunnel;
    tmpl.reqid = Reqid{policy.reqid};
    params.templates.push_back(tmpl);
  }
  return params;
}

PacketBytes in_buffer(PacketPool& pool, const PacketData& data) {
  Buffer buffer = pool.take();
  std::ranges::copy(data, buffer.data() + kHeadroom);
  return PacketBytes(std::move(buffer), kHeadroom, data.size());
}

SealedPacket from_wire(PacketBytes bytes, std::uint16_t segment_size) {
  return TestWire::sealed(std::move(bytes), segment_size);
}

Gateway::Gateway()
    : engine_(1, clock_),
      outbound_(engine_.make_outbound(0)),
      inbound_(engine_.make_inbound(0)),
      pool_(4 * kBatch) {}

Gateway::Sent Gateway::send(const std::vector<PacketData>& packets) {
  Batch<ClearPacket> batch;
  for (const PacketData& data : packets) batch.push(ClearPacket(in_buffer(pool_, data)));
  WireCollector wire;
  ClearCollector replies;
  outbound_->process(batch, pool_, wire, replies);
  return {.sealed = std::move(wire.packets), .replies = std::move(replies.packets)};
}

std::vector<PacketData> Gateway::receive(const std::vector<PacketData>& packets) {
  Batch<SealedPacket> batch;
  for (const PacketData& data : packets) batch.push(from_wire(in_buffer(pool_, data)));
  ClearCollector clear;
  inbound_->process(batch, clear);
  return std::move(clear.packets);
}

std::map<std::string, std::uint64_t> Gateway::moved() {
  const CounterSums now = engine_.view().counters();
  std::map<std::string, std::uint64_t> result;
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (now[i] != seen_[i]) result[std::string(name(static_cast<Mib>(i)))] = now[i] - seen_[i];
  }
  seen_ = now;
  return result;
}

}  // namespace xfrmfs::testing
