// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/scenario.h"

#include <stdexcept>
#include <string>
#include <utility>

namespace xfrmfs::fs {
namespace {

using engine::Direction;
using testing::Gateway;
using testing::TunnelPolicy;
using testing::TunnelSa;

constexpr TunnelSa kOut{
    .source = "192.0.2.1", .destination = "198.51.100.2", .spi = 0x43952d72, .reqid = 1};
constexpr TunnelSa kIn{.source = "198.51.100.2",
                       .destination = "192.0.2.1",
                       .spi = 0xafaae4b1,
                       .reqid = 1,
                       .cbc = true};
constexpr TunnelSa kOut6{
    .source = "2001:db8::1", .destination = "2001:db8::2", .spi = 0x1234, .reqid = 2};
constexpr TunnelSa kIn6{
    .source = "2001:db8::2", .destination = "2001:db8::1", .spi = 0x5678, .reqid = 2};

template <class T>
T checked(std::expected<T, engine::ControlError> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

engine::PolicyParams out_policy(std::string_view destination, std::uint32_t reqid) {
  return make(TunnelPolicy{.source = "10.1.0.0/16",
                           .destination = destination,
                           .tunnel_source = "192.0.2.1",
                           .tunnel_destination = "198.51.100.2",
                           .reqid = reqid});
}

}  // namespace

engine::SaPtr add(engine::Engine& engine, engine::SaParams params) {
  return checked(engine.add_sa(std::move(params)));
}

void add(engine::Engine& engine, engine::PolicyParams params) {
  checked(engine.add_policy(std::move(params)));
}

Scenario::Scenario() {
  gateway_.engine().set_local_addresses(
      {testing::address("192.0.2.1"), testing::address("2001:db8::1")});
  add_associations();
  add_policies();
  gateway_.engine().publish();
  pass_packets();
}

void Scenario::add_associations() {
  engine::Engine& engine = gateway_.engine();
  add(engine, make(kOut));
  engine::SaParams in = make(kIn);
  in.limits.soft_bytes = 1'000'000;
  in.limits.hard_bytes = 2'000'000;
  in.limits.hard_add_seconds = 3600;
  add(engine, std::move(in));
  add(engine, make(kOut6));
  engine::SaParams in6 = make(kIn6);
  in6.replay = {.kind = engine::ReplayKind::kEsn, .window = 128, .bitmap_words = 4, .bitmap = {}};
  in6.replay.bitmap.resize(4);
  in6.flags = engine::kSaEsn;
  add(engine, std::move(in6));

  engine::SaParams larval = make(kOut);
  larval.id.spi = {};
  larval.crypto = {};
  larval.selector = out_policy("10.9.0.7/32", 9).selector;
  larval.selector.source = testing::prefix("10.1.0.5/32");
  checked(engine.allocate_spi(std::move(larval), 0x100, 0x1ff));
}

void Scenario::add_policies() {
  engine::Engine& engine = gateway_.engine();
  add(engine, out_policy("10.2.0.0/16", 1));
  add(engine, out_policy("10.9.0.0/16", 9));  // no SA has this reqid
  add(engine, out_policy("10.1.0.0/16", 0));
  engine::PolicyParams block = out_policy("10.3.0.0/16", 0);
  block.action = engine::PolicyAction::kBlock;
  add(engine, std::move(block));
  engine::PolicyParams web = out_policy("10.2.0.0/16", 1);
  web.selector.protocol = engine::Protocol::kTcp;
  web.selector.destination_port = {80, 0xffff};
  add(engine, std::move(web));

  TunnelPolicy six{.source = "2001:db8:1::/48",
                   .destination = "2001:db8:2::/48",
                   .tunnel_source = "2001:db8::1",
                   .tunnel_destination = "2001:db8::2",
                   .reqid = 2};
  add(engine, make(six));
  six = {.direction = Direction::kIn,
         .source = "2001:db8:2::/48",
         .destination = "2001:db8:1::/48",
         .tunnel_source = "2001:db8::2",
         .tunnel_destination = "2001:db8::1",
         .reqid = 2};
  add(engine, make(six));
  for (const Direction direction : {Direction::kIn, Direction::kForward}) {
    add(engine, make(TunnelPolicy{.direction = direction,
                                  .source = "10.2.0.0/16",
                                  .destination = "10.1.0.0/16",
                                  .tunnel_source = "198.51.100.2",
                                  .tunnel_destination = "192.0.2.1",
                                  .reqid = 1}));
  }
}

void Scenario::pass_packets() {
  using namespace std::chrono_literals;
  Gateway peer;
  add(peer.engine(), make(kIn));
  add(peer.engine(), make(TunnelPolicy{.source = "10.2.0.0/16",
                                       .destination = "10.1.0.0/16",
                                       .tunnel_source = "198.51.100.2",
                                       .tunnel_destination = "192.0.2.1",
                                       .reqid = 1}));
  peer.engine().publish();

  gateway_.clock().advance(65s);
  for (int i = 0; i < 2; ++i) {
    gateway_.receive(
        peer.send(make(testing::UdpPacket{.source = "10.2.0.7", .destination = "10.1.0.5"}))
            .sealed);
  }
  gateway_.clock().advance(5s);
  for (int i = 0; i < 3; ++i) {
    gateway_.send(make(testing::UdpPacket{.source = "10.1.0.5", .destination = "10.2.0.7"}));
  }
  for (int i = 0; i < 4; ++i) {
    gateway_.send(make(testing::UdpPacket{.source = "10.1.0.5", .destination = "10.3.0.7"}));
  }
  gateway_.clock().advance(5s);
}

}  // namespace xfrmfs::fs
