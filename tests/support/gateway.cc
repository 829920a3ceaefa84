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

PacketData make(const TcpPacket& tcp) {
  const OuterHeader ip{.source = address(tcp.source),
                       .destination = address(tcp.destination),
                       .protocol = Protocol::kTcp,
                       .traffic_class = tcp.traffic_class,
                       .dont_fragment = true,
                       .identification = tcp.identification};
  const std::size_t at = outer_header_size(ip.source.family());
  const std::size_t header = 20 + tcp.options_size;
  PacketData data(at + header + tcp.payload_size);
  for (std::size_t i = 0; i < tcp.payload_size; ++i) {
    data[at + header + i] = static_cast<std::byte>((tcp.sequence + i) * 7);
  }
  write_outer_header(ip, data.size() - at, data.data());
  store_be16(&data[at], tcp.source_port);
  store_be16(&data[at + 2], tcp.destination_port);
  store_be32(&data[at + 4], tcp.sequence);
  store_be32(&data[at + 8], 0x01020304);
  data[at + 12] = static_cast<std::byte>(header / 4 << 4);
  data[at + 13] = std::byte{tcp.flags};
  store_be16(&data[at + 14], 512);
  for (std::size_t i = 0; i < tcp.options_size; ++i) data[at + 20 + i] = std::byte{1};  // NOP
  fill_checksum(data);
  return data;
}

std::vector<PacketData> Super::packets() const {
  const bool ipv6 = std::to_integer<unsigned>(bytes[0]) >> 4 == 6;
  const std::size_t at = ipv6 ? 40 : 20;
  const std::size_t head =
      at + (cut == Cut::kUdp ? 8 : std::to_integer<std::size_t>(bytes[at + 12]) / 16 * 4);
  std::vector<Bytes> pieces;
  const Bytes all(bytes);
  for (std::size_t from = head; from < bytes.size(); from += segment_size) {
    const std::size_t size = std::min<std::size_t>(segment_size, bytes.size() - from);
    pieces.push_back(pieces.empty() ? all.first(head + size) : all.subspan(from, size));
  }
  return split(ClearTrain{.pieces = pieces,
                          .cut = cut,
                          .ipv6 = ipv6,
                          .transport_offset = static_cast<std::uint16_t>(at),
                          .header_size = static_cast<std::uint16_t>(head),
                          .segment_size = segment_size});
}

SealedTrain SealedTrain::of(const std::vector<PacketData>& datagrams) {
  SealedTrain train{.bytes = datagrams.at(0)};
  const bool ipv6 = std::to_integer<unsigned>(train.bytes[0]) >> 4 == 6;
  const bool udp = std::to_integer<unsigned>(train.bytes[ipv6 ? 6 : 9]) == 17;
  const std::size_t head = (ipv6 ? 40 : 20) + (udp ? 8 : 0);
  if (datagrams.size() > 1)
    train.segment_size = static_cast<std::uint16_t>(train.bytes.size() - head);
  for (std::size_t i = 1; i < datagrams.size(); ++i) {
    train.bytes.insert(train.bytes.end(), datagrams[i].begin() + static_cast<std::ptrdiff_t>(head),
                       datagrams[i].end());
  }
  store_be16(&train.bytes[ipv6 ? 4 : 2],
             static_cast<std::uint16_t>(train.bytes.size() - (ipv6 ? 40 : 0)));
  return train;
}

SaParams make(const TunnelSa& sa) {
  SaParams params;
  params.id.destination = address(sa.destination);
  params.id.spi = Spi{sa.spi};
  params.source = address(sa.source);
  params.reqid = Reqid{sa.reqid};
  params.replay.window = 32;
  if (sa.encapsulated) params.encapsulation = {.source_port = 4500, .destination_port = 4500};
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
  std::copy(data.begin(), data.end(), buffer.data() + kHeadroom);
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

Gateway::Sent Gateway::process(Batch<ClearPacket>& batch) {
  WireCollector wire;
  ClearCollector replies;
  outbound_->process(batch, pool_, wire, replies);
  transmitted_ = std::move(wire.sizes);
  return {.sealed = std::move(wire.packets), .replies = std::move(replies.packets)};
}

Gateway::Sent Gateway::send(const std::vector<PacketData>& packets) {
  Batch<ClearPacket> batch;
  for (const PacketData& data : packets) batch.push(ClearPacket(in_buffer(pool_, data)));
  return process(batch);
}

Gateway::Sent Gateway::send(const Super& train) {
  Batch<ClearPacket> batch;
  batch.push(ClearPacket(in_buffer(pool_, train.bytes), train.cut, train.segment_size));
  return process(batch);
}

std::vector<PacketData> Gateway::process(Batch<SealedPacket>& batch) {
  ClearCollector clear(joins_);
  inbound_->process(batch, clear);
  delivered_ = std::move(clear.counts);
  return std::move(clear.packets);
}

std::vector<PacketData> Gateway::receive(const std::vector<PacketData>& packets) {
  std::vector<PacketData> all;
  for (std::size_t i = 0; i < packets.size(); i += kBatch) {
    Batch<SealedPacket> batch;
    for (std::size_t k = i; k < std::min(packets.size(), i + kBatch); ++k) {
      batch.push(from_wire(in_buffer(pool_, packets[k])));
    }
    for (PacketData& packet : process(batch)) all.push_back(std::move(packet));
  }
  return all;
}

std::vector<PacketData> Gateway::receive(const SealedTrain& train) {
  Batch<SealedPacket> batch;
  batch.push(from_wire(in_buffer(pool_, train.bytes), train.segment_size));
  return process(batch);
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
