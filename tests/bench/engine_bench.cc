// SPDX-License-Identifier: Apache-2.0
// How long the engine alone takes for a packet: no device, no system call.
//
//   cmake --preset bench && cmake --build --preset bench && build/bench/engine_bench
//
// seal/ and open/ ALGORITHM / LIBRARY, arguments: inner packet size (0: a mix of 64, 576 and 1500,
// 7:4:1), packets a batch, whether they come as one TCP train, SAs in use, each with a policy of
// its own when sealing. policies/ seals for one SA, by so many policies that differ in their ports
// only. SAs and policies are drawn uniformly. Packets are laid into the buffers outside of the time
// taken.
//
// The mean is what is reported; `ns`, the median per packet, is hardly moved by whatever else the
// machine does. `sa_bytes` is what an SA takes, its keys and its places in the tables included.
//
// Trains are compared with the bare cipher (bare_gcm.h) on as many bytes in the same buffers, turn
// by turn: of_bare is its share of the time, bare_ns its median, best_... the least of each.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "tests/support/gateway.h"
#ifdef XFRMFS_IPSEC_MB
#include "tests/bench/bare_gcm.h"
#endif

namespace xfrmfs::testing {
namespace {

using namespace engine;

constexpr const char* kWest = "192.1.2.45";
constexpr const char* kEast = "192.1.2.23";
constexpr std::size_t kTcpHeaders = 20 + 32;
constexpr std::size_t kEspSize = 8 + 8 + 4 + 16;  // header, IV, trailer, ICV around 1400 bytes

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

PacketData inner_packet(std::size_t size, std::uint32_t number) {
  return make(
      UdpPacket{.source = "192.0.1.1", .destination = host(number), .payload_size = size - 28});
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

/// How a side is furnished: so many SAs, each with a policy of its own; or one, with so many
/// policies that differ in their ports.
struct Furniture {
  std::string suite;
  Backend backend{};
  std::int64_t associations = 1;
  std::int64_t policies_each = 1;

  bool operator==(const Furniture&) const = default;
};

/// Bytes of this process that are in memory.
std::size_t resident() {
  std::size_t total = 0;
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> total >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Both ends of a tunnel in one engine: what it seals it can open.
struct Side {
  ManualClock clock;
  Engine engine;
  PacketPool pool{3 * kBatch};
  std::size_t sa_bytes = 0;
  // One sealed packet of each SA, of this size.
  std::vector<PacketData> sealed;
  std::int64_t sealed_size = -1;

  Side(const Suite& suite, const Furniture& furniture)
      : engine(1, clock,
               CryptoBackends::select(furniture.backend == Backend::kOpenssl
                                          ? BackendPreference::kOpenssl
                                          : BackendPreference::kIpsecMb)) {
    const auto count = static_cast<std::uint32_t>(furniture.associations);
    const std::size_t before = resident();
    for (std::uint32_t i = 0; i < count; ++i) {
      std::ignore = engine.add_sa(association(suite, i)).value();
    }
    engine.publish();
    sa_bytes = (resident() - before) / count;
    for (std::uint32_t i = 0; i < count; ++i) {
      PolicyParams policy = make(TunnelPolicy{.direction = Direction::kOut,
                                              .source = "192.0.1.0/24",
                                              .destination = host(i) + "/32",
                                              .tunnel_source = kWest,
                                              .tunnel_destination = kEast,
                                              .reqid = 1 + i});
      for (std::int64_t k = 0; k < furniture.policies_each; ++k) {
        if (furniture.policies_each > 1) {
          policy.selector.protocol = Protocol::kUdp;
          policy.selector.source_port = {source_port(k), 0xffff};
          policy.selector.destination_port = {destination_port(k), 0xffff};
        }
        std::ignore = engine.add_policy(policy).value();
      }
    }
    PolicyParams back = make(TunnelPolicy{.direction = Direction::kForward,
                                          .source = "192.0.1.0/24",
                                          .destination = "10.0.0.0/8",
                                          .tunnel_source = kWest,
                                          .tunnel_destination = kEast});
    back.templates.front().reqid = Reqid{0};
    std::ignore = engine.add_policy(std::move(back)).value();
    engine.set_local_addresses({address(kEast)});
    engine.publish();
    use_all(count);
  }

  void use_all(std::uint32_t count);

  static std::uint16_t source_port(std::int64_t k) {
    return static_cast<std::uint16_t>(1 + k / 1000);
  }
  static std::uint16_t destination_port(std::int64_t k) {
    return static_cast<std::uint16_t>(1 + k % 1000);
  }
};

/// The first use of an SA is not what is measured.
void Side::use_all(std::uint32_t count) {
  const auto path = engine.make_outbound(0);
  Drain drain;
  Batch<ClearPacket> batch;
  for (std::uint32_t i = 0; i < count; ++i) {
    batch.push(ClearPacket(in_buffer(pool, inner_packet(64, i))));
    if (batch.size() == kBatch || i + 1 == count) path->process(batch, pool, drain, drain);
  }
}

/// Kept for the next benchmark that wants the same.
Side& side_of(const Suite& suite, const Furniture& furniture) {
  static std::unique_ptr<Side> made;
  static Furniture made_for;
  if (made == nullptr || made_for != furniture) {
    made.reset();
    made = std::make_unique<Side>(suite, furniture);
    made_for = furniture;
  }
  return *made;
}

std::size_t size_of(const Load& load, std::size_t i) {
  if (load.size != 0) return static_cast<std::size_t>(load.size);
  constexpr std::size_t kMix[] = {64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500};
  return kMix[i % std::size(kMix)];
}

template <class Work>
double seconds_of(Work work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  return spent.count();
}

/// The engine's turns and the bare cipher's.
class Comparison {
 public:
  /// `bare`: 0 if it was not asked.
  void add(double ours, double bare) {
    ours_.push_back(ours);
    if (bare != 0) bare_.push_back(bare);
  }
  void report(benchmark::State& state, std::int64_t packets) {
    if (ours_.empty()) return;
    const double scale = 1e9 / static_cast<double>(packets);
    const auto at = [&](std::vector<double>& times, std::size_t place) {
      std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(place));
      return times[place] * scale;
    };
    const std::size_t middle = ours_.size() / 2;
    state.counters["ns"] = at(ours_, middle);
    if (bare_.empty()) return;
    state.counters["bare_ns"] = at(bare_, middle);
    state.counters["of_bare"] = at(bare_, middle) / at(ours_, middle);
    state.counters["best_ns"] = at(ours_, 0);
    state.counters["best_bare_ns"] = at(bare_, 0);
  }

 private:
  std::vector<double> ours_;
  std::vector<double> bare_;
};

/// `bare()` gives the seconds that the bare cipher took, 0 if it is not asked.
template <class Prepare, class Work, class Bare>
void measure(benchmark::State& state, std::size_t bytes, Drain& drain, Prepare prepare, Work work,
             Bare bare) {
  const Load load = load_of(state);
  Comparison comparison;
  for (auto _ : state) {
    const double bare_seconds = bare();
    prepare();
    drain.packets = 0;
    const double seconds = seconds_of(work);
    state.SetIterationTime(seconds);
    comparison.add(seconds, bare_seconds);
    if (drain.packets != static_cast<std::size_t>(load.batch)) state.SkipWithError("dropped");
  }
  comparison.report(state, load.batch);
  state.SetItemsProcessed(state.iterations() * load.batch);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void seal(benchmark::State& state, const Suite& suite, Backend backend) {
  const Load load = load_of(state);
  Side& side = side_of(suite, {suite.name, backend, load.associations});
  const auto path = side.engine.make_outbound(0);
  Drain drain;
#ifdef XFRMFS_IPSEC_MB
  BareGcm cipher(suite.key_bits);
#endif
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
      [&] { path->process(batch, side.pool, drain, drain); },
      [&]() -> double {
#ifdef XFRMFS_IPSEC_MB
        if (load.train && !suite.cbc && backend == Backend::kIpsecMb) {
          PacketBytes clear = in_buffer(side.pool, super);
          Buffer sealed = side.pool.take();
          return seconds_of([&] {
            cipher.seal(count, clear.data(), static_cast<std::size_t>(load.size),
                        sealed.data() + kHeadroom, static_cast<std::size_t>(load.size) + kEspSize);
          });
        }
#endif
        return 0;
      });
  if (load.associations >= 100000) state.counters["sa_bytes"] = static_cast<double>(side.sa_bytes);
}

/// seal(), where the SAs of the load are policies.
void seal_by_port(benchmark::State& state, const Suite& suite, Backend backend) {
  const Load load = load_of(state);
  Side& side = side_of(suite, {suite.name, backend, 1, load.associations});
  const auto path = side.engine.make_outbound(0);
  Drain drain;
  Batch<ClearPacket> batch;
  std::minstd_rand random;
  PacketData packet = inner_packet(static_cast<std::size_t>(load.size), 0);
  const auto prepare = [&] {
    for (std::int64_t i = 0; i < load.batch; ++i) {
      const std::int64_t which = random() % load.associations;
      store_be16(&packet[20], Side::source_port(which));
      store_be16(&packet[22], Side::destination_port(which));
      batch.push(ClearPacket(in_buffer(side.pool, packet)));
    }
  };
  measure(
      state, packet.size() * static_cast<std::size_t>(load.batch), drain, prepare,
      [&] { path->process(batch, side.pool, drain, drain); }, [] { return 0.0; });
}

/// A packet of each SA, sealed.
void make_sealed(Side& side, const Load& load) {
  const std::int64_t needed = load.associations == 1 ? load.batch : load.associations;
  if (side.sealed_size == load.size && std::ssize(side.sealed) >= needed) return;
  side.sealed = {};
  side.sealed_size = load.size;
  const auto path = side.engine.make_outbound(0);
  Drain drain;
  Batch<ClearPacket> batch;
  for (std::int64_t i = 0; i < needed; ++i) {
    WireCollector wire;
    const auto number = static_cast<std::uint32_t>(load.associations == 1 ? 0 : i);
    const std::size_t size = size_of(load, static_cast<std::size_t>(i));
    batch.push(ClearPacket(in_buffer(side.pool, inner_packet(size, number))));
    path->process(batch, side.pool, wire, drain);
    side.sealed.push_back(std::move(wire.packets.at(0)));
  }
}

void open(benchmark::State& state, const Suite& suite, Backend backend) {
  const Load load = load_of(state);
  Side& side = side_of(suite, {suite.name, backend, load.associations});
  const auto count = static_cast<std::size_t>(load.batch);
  SealedTrain train;
  std::size_t bytes = 0;
  Drain drain;
  if (load.train) {
    const std::size_t segment = static_cast<std::size_t>(load.size) - kTcpHeaders;
    const auto path = side.engine.make_outbound(0);
    WireCollector wire;
    Batch<ClearPacket> batch;
    batch.push(ClearPacket(in_buffer(side.pool, make(TcpPacket{.source = "192.0.1.1",
                                                               .destination = host(0),
                                                               .payload_size = segment * count})),
                           Cut::kTcp, static_cast<std::uint16_t>(segment)));
    path->process(batch, side.pool, wire, drain);
    train = SealedTrain::of(wire.packets);
    bytes = count * static_cast<std::size_t>(load.size);
  } else {
    make_sealed(side, load);
    for (std::size_t i = 0; i < count; ++i) bytes += size_of(load, i);
  }
  const auto path = side.engine.make_inbound(0);
#ifdef XFRMFS_IPSEC_MB
  BareGcm cipher(suite.key_bits);
#endif
  Batch<SealedPacket> batch;
  std::minstd_rand random;
  measure(
      state, bytes, drain,
      [&] {
        if (load.train) {
          batch.push(from_wire(in_buffer(side.pool, train.bytes), train.segment_size));
          return;
        }
        for (std::size_t i = 0; i < count; ++i) {
          const std::size_t which =
              load.associations == 1 ? i % side.sealed.size() : random() % side.sealed.size();
          batch.push(from_wire(in_buffer(side.pool, side.sealed[which])));
        }
      },
      [&] { path->process(batch, drain); },
      [&]() -> double {
#ifdef XFRMFS_IPSEC_MB
        if (load.train && !suite.cbc && backend == Backend::kIpsecMb) {
          PacketBytes wire = in_buffer(side.pool, train.bytes);
          return seconds_of([&] {
            benchmark::DoNotOptimize(cipher.open(
                count, wire.data() + 20, static_cast<std::size_t>(load.size), train.segment_size));
          });
        }
#endif
        return 0;
      });
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
    auto* by_port = benchmark::RegisterBenchmark(
        fmt::format("policies/{}/{}", kSuites[0].name, name_of(backend)).c_str(),
        [backend](benchmark::State& state) { seal_by_port(state, kSuites[0], backend); });
    by_port->UseManualTime()->ArgNames({"size", "batch", "train", "policies"});
    for (const int count : {1, 1000, 100000}) by_port->Args({64, 64, 0, count});
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
