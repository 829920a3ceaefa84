// SPDX-License-Identifier: Apache-2.0
// Packets from the wire, into an engine with SAs and policies of every kind it knows.
//
// The first byte says what to do with the rest: 0 takes it as it is; otherwise it is the inside of
// a packet that is sealed with the real key, so that what a hostile peer with the key can send is
// reached, and the next byte says where the result is damaged (0: nowhere). Two first bytes stand
// for trains: 255 for pieces of the rest, as long as the next byte says and more, each sealed as
// the inside of an IPv4 tunnel; 254 for the rest as it is, in segments as long as the next byte.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "engine/crypto/random_pool.h"
#include "engine/transform/esp.h"
#include "tests/support/gateway.h"

namespace {

using namespace xfrmfs::engine;
using namespace xfrmfs::testing;

constexpr const char* kSource = "192.1.2.45";
constexpr const char* kDestination = "192.1.2.23";

void require(bool fact) {
  if (!fact) std::abort();
}

struct Target {
  Gateway gateway;
  RandomPool ivs;
  std::unique_ptr<Esp> esp;
  SeqNo sequence = 0;

  Target() {
    Engine& engine = gateway.engine();
    gateway.take_joined();
    engine.set_local_addresses({address(kDestination), address("192.0.2.1")});
    SaParams params = make(TunnelSa{.source = kSource, .destination = kDestination});
    esp = Esp::create(params.id.spi, false, params.crypto, 1).value();
    require(engine.add_sa(std::move(params)).has_value());
    for (const Direction direction : {Direction::kIn, Direction::kForward}) {
      require(engine
                  .add_policy(make(TunnelPolicy{.direction = direction,
                                                .source = "0.0.0.0/0",
                                                .destination = "0.0.0.0/0",
                                                .tunnel_source = kSource,
                                                .tunnel_destination = kDestination}))
                  .has_value());
    }
    engine.publish();
  }

  PacketData seal(std::span<const std::uint8_t> inside, Protocol next_header) {
    PacketData data(20 + esp->sealed_size(inside.size()));
    std::byte* const payload = data.data() + 20 + esp->head_size();
    std::memcpy(payload, inside.data(), inside.size());
    SealItem item{.packet = data.data() + 20,
                  .room = data.size() - 20,
                  .payload = payload,
                  .size = inside.size(),
                  .next_header = next_header,
                  .sequence = ++sequence};
    esp->seal(Lane{.index = 0, .ivs = &ivs}, std::span(&item, 1));
    require(item.ok && 20 + item.size == data.size());
    write_outer_header({.source = address(kSource),
                        .destination = address(kDestination),
                        .protocol = Protocol::kEsp},
                       item.size, data.data());
    return data;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static Target target;
  if (size < 2 || size > 4096) return 0;
  const std::span<const std::uint8_t> rest(bytes + 2, size - 2);
  const auto raw = std::as_bytes(rest);
  target.gateway.moved();
  std::size_t packets = 1;
  std::vector<PacketData> clear;
  if (bytes[0] == 255) {
    const std::size_t piece = std::size_t{20} + 4 * bytes[1];
    std::vector<PacketData> sealed;
    for (std::size_t at = 0; at < rest.size(); at += piece) {
      sealed.push_back(
          target.seal(rest.subspan(at, std::min(piece, rest.size() - at)), Protocol::kIpip));
    }
    if (sealed.empty()) return 0;
    packets = sealed.size();
    clear = target.gateway.receive(SealedTrain::of(sealed));
  } else if (bytes[0] == 254) {
    const SealedTrain train{.bytes = PacketData(raw.begin(), raw.end()), .segment_size = bytes[1]};
    clear = target.gateway.receive(train);
    const auto outer = parse_ip_header(train.bytes);
    const std::size_t head = outer && outer->protocol == Protocol::kUdp ? 8 : 0;
    const bool is_train = outer && !outer->is_fragment && train.segment_size != 0 &&
                          (head != 0 || outer->protocol == Protocol::kEsp);
    if (is_train && outer->total_size > outer->header_size + head) {
      const std::size_t data = outer->total_size - outer->header_size - head;
      packets = (data + train.segment_size - 1) / train.segment_size;
    }
  } else {
    PacketData packet(raw.begin(), raw.end());
    if (bytes[0] != 0) {
      packet = target.seal(rest, Protocol{bytes[0]});
      if (bytes[1] != 0) packet[bytes[1] % packet.size()] ^= std::byte{0x40};
    }
    clear = target.gateway.receive(packet);
  }
  std::uint64_t drops = 0;
  for (const auto& [name, count] : target.gateway.moved()) drops += count;
  require(drops + clear.size() == packets);  // delivered, or dropped with one name, once
  for (const auto& one : clear) require(parse_ip_header(one).has_value());
  return 0;
}
