// SPDX-License-Identifier: Apache-2.0
// Packets from the TUN device, into an engine that protects some of them.
//
// Whatever comes in, what leaves for the wire is ESP of ours and nothing else.

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "engine/packet/segments.h"
#include "tests/support/gateway.h"

namespace {

using namespace xfrmfs::engine;
using namespace xfrmfs::testing;

void require(bool fact) {
  if (!fact) std::abort();
}

Gateway& gateway() {
  static Gateway& instance = *[] {
    static Gateway g;
    Engine& engine = g.engine();
    const char* source = "192.1.2.45";
    const char* destination = "192.1.2.23";
    require(
        engine.add_sa(make(TunnelSa{.source = source, .destination = destination})).has_value());
    require(
        engine
            .add_sa(make(TunnelSa{
                .source = "2001:db8::45", .destination = "2001:db8::23", .reqid = 2, .cbc = true}))
            .has_value());
    const auto policy = [&](const char* from, const char* to, bool six) {
      PolicyParams params =
          make(TunnelPolicy{.source = from,
                            .destination = to,
                            .tunnel_source = six ? "2001:db8::45" : source,
                            .tunnel_destination = six ? "2001:db8::23" : destination,
                            .reqid = six ? 2u : 1u});
      require(engine.add_policy(std::move(params)).has_value());
    };
    policy("0.0.0.0/1", "0.0.0.0/0", false);
    policy("128.0.0.0/1", "0.0.0.0/0", true);
    policy("::/1", "::/0", false);
    policy("8000::/1", "::/0", true);
    engine.publish();
    return &g;
  }();
  return instance;
}

/// How many packets a train stands for: what is no train counts as one.
std::size_t packets_in(const Super& train) {
  static PacketPool pool(1);
  ClearPacket packet(in_buffer(pool, train.bytes), train.cut, train.segment_size);
  const auto header = parse_ip_header(packet.bytes());
  const auto segments = header ? Segments::of(packet, *header) : std::nullopt;
  return segments ? segments->count() : 1;
}

}  // namespace

// A packet, which begins with 4 or 6; or 1 (TCP) or 2 (UDP), segment size 2, and a train.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  if (size > 4096) return 0;
  const auto raw = std::as_bytes(std::span(bytes, size));
  const bool is_train = size >= 3 && (bytes[0] == 1 || bytes[0] == 2);
  gateway().moved();
  std::size_t packets = 1;
  Gateway::Sent sent;
  if (is_train) {
    const Super train{.bytes = PacketData(raw.begin() + 3, raw.end()),
                      .cut = bytes[0] == 1 ? Cut::kTcp : Cut::kUdp,
                      .segment_size = load_be16(raw.data() + 1)};
    packets = packets_in(train);
    sent = gateway().send(train);
  } else {
    sent = gateway().send(PacketData(raw.begin(), raw.end()));
  }
  std::uint64_t drops = 0;
  for (const auto& [name, count] : gateway().moved()) drops += count;
  require(drops + sent.sealed.size() == packets);
  require(sent.replies.size() <= (sent.sealed.size() == packets ? 0 : 1));
  for (const auto& packet : sent.sealed) {
    const auto outer = parse_ip_header(packet);
    require(outer && outer->protocol == Protocol::kEsp && outer->total_size == packet.size());
    const IpAddress& to = outer->destination;
    require(to == address("192.1.2.23") || to == address("2001:db8::23"));
  }
  for (const auto& packet : sent.replies) require(parse_ip_header(packet).has_value());
  return 0;
}
