// SPDX-License-Identifier: Apache-2.0
// How long the engine alone takes for a packet: no device, no system call.
//
//   cmake --preset release -DXFRMFS_BUILD_BENCH=ON && cmake --build --preset release
//   build/release/engine_bench
//
// Arguments: inner packet size, packets per batch, SAs in the database.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

constexpr const char* kWest = "192.1.2.45";
constexpr const char* kEast = "192.1.2.23";

/// One side of a tunnel, with `others` SAs beside the one in use and a window of 0, so that the
/// same packets can be opened again and again.
struct Side {
  ManualClock clock;
  Engine engine{1, clock};
  PacketPool pool{2 * kBatch};

  Side(Direction direction, bool cbc, std::int64_t others) {
    add(cbc, 0x1000, 1);
    for (std::int64_t i = 1; i < others; ++i) {
      add(cbc, 0x1000 + static_cast<std::uint32_t>(i), 1 + static_cast<std::uint32_t>(i));
    }
    auto policy = make(TunnelPolicy{.direction = direction,
                                    .source = "192.0.1.0/24",
                                    .destination = "192.0.2.0/24",
                                    .tunnel_source = kWest,
                                    .tunnel_destination = kEast});
    std::ignore = engine.add_policy(std::move(policy)).value();
    engine.set_local_addresses({address(kEast), address("192.0.2.1")});
    engine.publish();
  }

  void add(bool cbc, std::uint32_t spi, std::uint32_t reqid) {
    SaParams params = make(
        TunnelSa{.source = kWest, .destination = kEast, .spi = spi, .reqid = reqid, .cbc = cbc});
    params.replay.window = 0;
    std::ignore = engine.add_sa(std::move(params)).value();
  }
};

PacketData inner_packet(std::int64_t size) {
  return make(UdpPacket{.source = "192.0.1.1",
                        .destination = "192.0.2.1",
                        .payload_size = static_cast<std::size_t>(size) - 28});
}

void report(benchmark::State& state) {
  const std::int64_t packets = state.iterations() * state.range(1);
  state.SetItemsProcessed(packets);
  state.SetBytesProcessed(packets * state.range(0));
}

template <bool kCbc>
void Seal(benchmark::State& state) {
  Side side(Direction::kOut, kCbc, state.range(2));
  const auto path = side.engine.make_outbound(0);
  const PacketData packet = inner_packet(state.range(0));
  Batch<ClearPacket> batch;
  Outgoing out;
  for (auto _ : state) {
    for (std::int64_t i = 0; i < state.range(1); ++i) {
      batch.push(ClearPacket(in_buffer(side.pool, packet)));
    }
    path->process(batch, out);
    if (out.sealed.size() != static_cast<std::size_t>(state.range(1))) {
      state.SkipWithError("dropped");
    }
    out.clear();
  }
  report(state);
}

template <bool kCbc>
void Open(benchmark::State& state) {
  Side west(Direction::kOut, kCbc, 1);
  Side east(Direction::kIn, kCbc, state.range(2));
  PacketData sealed;
  {
    Batch<ClearPacket> batch;
    Outgoing out;
    batch.push(ClearPacket(in_buffer(west.pool, inner_packet(state.range(0)))));
    west.engine.make_outbound(0)->process(batch, out);
    const auto bytes = std::as_const(out.sealed[0]).bytes();
    sealed.assign(bytes.begin(), bytes.end());
  }
  const auto path = east.engine.make_inbound(0);
  Batch<SealedPacket> batch;
  Batch<ClearPacket> clear;
  for (auto _ : state) {
    for (std::int64_t i = 0; i < state.range(1); ++i) {
      batch.push(from_wire(in_buffer(east.pool, sealed)));
    }
    path->process(batch, clear);
    if (clear.size() != static_cast<std::size_t>(state.range(1))) state.SkipWithError("dropped");
    clear.clear();
  }
  report(state);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"size", "batch", "sas"});
  for (const int size : {64, 576, 1400}) {
    for (const int batch : {1, 64}) bench->Args({size, batch, 1});
  }
  bench->Args({1400, 64, 10000});
}

BENCHMARK(Seal<false>)->Name("seal/aes-128-gcm")->Apply(sizes);
BENCHMARK(Seal<true>)->Name("seal/aes-128-cbc-sha256")->Apply(sizes);
BENCHMARK(Open<false>)->Name("open/aes-128-gcm")->Apply(sizes);
BENCHMARK(Open<true>)->Name("open/aes-128-cbc-sha256")->Apply(sizes);

}  // namespace
}  // namespace xfrmfs::testing
