// SPDX-License-Identifier: Apache-2.0
// How long the engine alone takes for a packet: no device, no system call.
//
//   cmake --preset bench && cmake --build --preset bench && build/bench/engine_bench
//
// seal/ and open/ ALGORITHM / LIBRARY, arguments: inner packet size (0: a mix of 64, 576 and 1500,
// 7:4:1), packets a batch, whether they come as one TCP train, SAs in use, each with a policy of
// its own when sealing. Packets are laid into the buffers outside of the time taken.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

constexpr const char* kWest = "192.1.2.45";
constexpr const char* kEast = "192.1.2.23";
constexpr std::size_t kTcpHeaders = 20 + 32;

struct Suite {
  const char* name;
  std::size_t key_bits;
  bool cbc;
};
constexpr Suite kSuites[] = {
    {"aes-128-gcm", 128, false}, {"aes-256-gcm", 256, false}, {"aes-128-cbc-sha256", 128, true}};

struct Load {
  std::int64_t size, batch;
  bool train;
  std::int64_t associations;
};
Load load_of(const benchmark::State& state) {
  return {state.range(0), state.range(1), state.range(2) != 0, state.range(3)};
}

SaParams association(const Suite& suite, std::uint32_t number) {
  SaParams params = make(TunnelSa{.source = kWest,
                                  .destination = kEast,
                                  .spi = 0x1000 + number,
                                  .reqid = 1 + number,
                                  .cbc = suite.cbc});
  if (!suite.cbc) {
    const std::vector<std::byte> key(suite.key_bits / 8 + 4, std::byte{3});
    params.crypto.aead->key = Secret(key);
  }
  params.replay.window = 0;  // the same packets can be opened again and again
  return params;
}

/// The network behind SA `number`: one address.
std::string host(std::uint32_t number) {
  return fmt::format("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
}

/// One side of a tunnel with `count` SAs.
struct Side {
  ManualClock clock;
  Engine engine;
  PacketPool pool{3 * kBatch};

  Side(Direction direction, const Suite& suite, Backend backend, std::int64_t count)
      : engine(1, clock,
               CryptoBackends::select(backend == Backend::kOpenssl ? BackendPreference::kOpenssl
                                                                   : BackendPreference::kIpsecMb)) {
    for (std::uint32_t i = 0; i < count; ++i) {
      std::ignore = engine.add_sa(association(suite, i)).value();
      if (direction != Direction::kOut && i != 0) continue;
      const bool own = direction == Direction::kOut;
      PolicyParams policy = make(TunnelPolicy{.direction = direction,
                                              .source = "192.0.1.0/24",
                                              .destination = own ? host(i) + "/32" : "10.0.0.0/8",
                                              .tunnel_source = kWest,
                                              .tunnel_destination = kEast,
                                              .reqid = 1 + i});
      if (!own) policy.templates.front().reqid = Reqid{0};
      std::ignore = engine.add_policy(std::move(policy)).value();
    }
    engine.set_local_addresses({address(kEast)});
    engine.publish();
  }
};

PacketData inner_packet(std::size_t size, std::uint32_t number) {
  return make(
      UdpPacket{.source = "192.0.1.1", .destination = host(number), .payload_size = size - 28});
}

std::size_t size_of(const Load& load, std::size_t i) {
  if (load.size != 0) return static_cast<std::size_t>(load.size);
  constexpr std::size_t kMix[] = {64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500};
  return kMix[i % std::size(kMix)];
}

/// Sinks that let everything go at once.
class Drain final : public WireSink, public ClearSink {
 public:
  void transmit(SealedPacket train) noexcept override {
    packets += train.segment_size() == 0
                   ? 1
                   : (train.size() - 20 + train.segment_size() - 1u) / train.segment_size();
  }
  bool deliver(const ClearTrain& train) noexcept override {
    packets += train.packets();
    return true;
  }
  Joins joins() const noexcept override { return {.tcp = true, .udp = true}; }

  std::size_t packets = 0;
};

template <class Prepare, class Work>
void measure(benchmark::State& state, std::size_t bytes, Drain& drain, Prepare prepare, Work work) {
  const Load load = load_of(state);
  for (auto _ : state) {
    prepare();
    drain.packets = 0;
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(spent.count());
    if (drain.packets != static_cast<std::size_t>(load.batch)) state.SkipWithError("dropped");
  }
  state.SetItemsProcessed(state.iterations() * load.batch);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void seal(benchmark::State& state, const Suite& suite, Backend backend) {
  const Load load = load_of(state);
  Side side(Direction::kOut, suite, backend, load.associations);
  const auto path = side.engine.make_outbound(0);
  Drain drain;
  Batch<ClearPacket> batch;
  std::minstd_rand random;
  const auto count = static_cast<std::size_t>(load.batch);
  std::size_t bytes = 0;
  std::vector<PacketData> packets(count);
  PacketData super;
  const std::size_t segment = static_cast<std::size_t>(load.size) - kTcpHeaders;
  if (load.train) {
    super = make(
        TcpPacket{.source = "192.0.1.1", .destination = host(0), .payload_size = segment * count});
    bytes = count * static_cast<std::size_t>(load.size);
  } else {
    for (std::size_t i = 0; i < count; ++i) {
      packets[i] = inner_packet(size_of(load, i), 0);
      bytes += packets[i].size();
    }
  }
  measure(
      state, bytes, drain,
      [&] {
        if (load.train) {
          batch.push(ClearPacket(in_buffer(side.pool, super), Cut::kTcp,
                                 static_cast<std::uint16_t>(segment)));
          return;
        }
        for (PacketData& packet : packets) {
          const auto number =
              static_cast<std::uint32_t>(random() % static_cast<unsigned>(load.associations));
          store_be32(&packet[16], 10u << 24 | number);
          batch.push(ClearPacket(in_buffer(side.pool, packet)));
        }
      },
      [&] { path->process(batch, side.pool, drain, drain); });
}

void open(benchmark::State& state, const Suite& suite, Backend backend) {
  const Load load = load_of(state);
  const auto count = static_cast<std::size_t>(load.batch);
  // Sealed one after the other by SAs of their own: the packets of all SAs, once.
  std::vector<PacketData> sealed;
  SealedTrain train;
  std::size_t bytes = 0;
  Drain drain;
  {
    Side west(Direction::kOut, suite, backend, load.associations);
    const auto path = west.engine.make_outbound(0);
    Batch<ClearPacket> batch;
    const std::size_t needed =
        load.associations == 1 ? count : static_cast<std::size_t>(load.associations);
    if (load.train) {
      const std::size_t segment = static_cast<std::size_t>(load.size) - kTcpHeaders;
      WireCollector wire;
      batch.push(ClearPacket(in_buffer(west.pool, make(TcpPacket{.source = "192.0.1.1",
                                                                 .destination = host(0),
                                                                 .payload_size = segment * count})),
                             Cut::kTcp, static_cast<std::uint16_t>(segment)));
      path->process(batch, west.pool, wire, drain);
      train = SealedTrain::of(wire.packets);
      bytes = count * static_cast<std::size_t>(load.size);
    }
    for (std::size_t i = 0; !load.train && i < needed; ++i) {
      WireCollector wire;
      const auto number = static_cast<std::uint32_t>(load.associations == 1 ? 0 : i);
      batch.push(ClearPacket(in_buffer(west.pool, inner_packet(size_of(load, i), number))));
      path->process(batch, west.pool, wire, drain);
      sealed.push_back(std::move(wire.packets.at(0)));
      if (i < count) bytes += size_of(load, i);
    }
  }
  Side east(Direction::kForward, suite, backend, load.associations);
  const auto path = east.engine.make_inbound(0);
  Batch<SealedPacket> batch;
  std::minstd_rand random;
  measure(
      state, bytes, drain,
      [&] {
        if (load.train) {
          batch.push(from_wire(in_buffer(east.pool, train.bytes), train.segment_size));
          return;
        }
        for (std::size_t i = 0; i < count; ++i) {
          const std::size_t which = load.associations == 1 ? i : random() % sealed.size();
          batch.push(from_wire(in_buffer(east.pool, sealed[which])));
        }
      },
      [&] { path->process(batch, drain); });
}

void register_all() {
  const bool have_ipsec_mb = [] {
    try {
      std::ignore = CryptoBackends::select(BackendPreference::kIpsecMb);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }();
  for (const Backend backend : kBackends) {
    if (backend == Backend::kIpsecMb && !have_ipsec_mb) continue;
    for (const Suite& suite : kSuites) {
      for (const bool sealing : {true, false}) {
        const std::string name =
            fmt::format("{}/{}/{}", sealing ? "seal" : "open", suite.name, name_of(backend));
        auto* bench = benchmark::RegisterBenchmark(
            name.c_str(), [sealing, &suite, backend](benchmark::State& state) {
              sealing ? seal(state, suite, backend) : open(state, suite, backend);
            });
        bench->UseManualTime()->ArgNames({"size", "batch", "train", "sas"});
        for (const int size : {64, 576, 1400, 0}) {
          bench->Args({size, 64, 0, 1});
          if (size != 0) bench->Args({size, 1, 0, 1});
        }
        for (const int size : {576, 1400}) bench->Args({size, 40, 1, 1});
        if (suite.cbc || suite.key_bits != 128) continue;
        for (const int count : {1000, 100000, 1000000}) {
          // OpenSSL's contexts of a million SAs would take gigabytes.
          if (count > 100000 && backend == Backend::kOpenssl) continue;
          bench->Args({64, 64, 0, count});
          bench->Args({1400, 64, 0, count});
        }
      }
    }
  }
}

}  // namespace
}  // namespace xfrmfs::testing

int main(int argc, char** argv) {
  xfrmfs::testing::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
