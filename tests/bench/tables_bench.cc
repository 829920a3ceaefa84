// SPDX-License-Identifier: Apache-2.0
// How long the databases take, by size: lookups must stay flat, and so must a change.
//
//   cmake --preset release -DXFRMFS_BUILD_BENCH=ON && cmake --build --preset release
//   build/release/tables_bench
//
// The argument is how many SAs or policies there are; what is looked up is uniform among them.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <memory>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "engine/base/slab.h"
#include "engine/sad/sad.h"
#include "engine/spd/spd.h"
#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

IpAddress ipv4(std::uint32_t number) {
  std::array<std::byte, 4> bytes;
  store_be32(bytes.data(), number);
  return IpAddress::from(Family::kIpv4, bytes.data());
}

/// Bytes of this process that are in memory.
std::size_t resident() {
  std::size_t total = 0;
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> total >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// SAs without keys schedules: SPI 1 + i, or one end of a tunnel each.
struct Associations {
  Settings settings;
  Garbage garbage;
  Sad sad{42};
  SadView view;
  std::uint64_t serial = 1;
  std::size_t bytes_each = 0;

  explicit Associations(std::uint32_t count) {
    const std::size_t before = resident();
    for (std::uint32_t i = 0; i < count; ++i) add(i);
    publish();
    bytes_each = (resident() - before) / count;
  }
  void add(std::uint32_t i) {
    SaParams params = make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2", .spi = 1 + i});
    params.id.destination = ipv4(0x0b000000 + i);
    params.replay.kind = ReplayKind::kBitmap;
    params.replay.window = 64;
    params.replay.bitmap_words = 2;
    params.replay.bitmap.resize(2);
    sad.insert(
        make_shared_in_slab<SecurityAssociation>(std::move(params), nullptr, SaState::kValid,
                                                 serial++, settings, BootTime(1), WallTime(1)),
        garbage);
  }
  void publish() {
    view = sad.publish(serial, garbage);
    garbage.clear();
  }
  static IpAddress destination(std::uint32_t i) { return ipv4(0x0b000000 + i); }
};

Associations& associations(std::int64_t count) {
  static std::unique_ptr<Associations> made;
  static std::int64_t made_for = 0;
  if (made_for != count) {
    made.reset();
    made = std::make_unique<Associations>(static_cast<std::uint32_t>(count));
    made_for = count;
  }
  return *made;
}

/// What an inbound packet does to its SA.
void use(SecurityAssociation& association, std::uint32_t low) {
  benchmark::DoNotOptimize(association.replay().check(low));
  benchmark::DoNotOptimize(association.lifetime().check(BootTime(2)));
  benchmark::DoNotOptimize(association.replay().commit(low));
  association.lifetime().charge(64, 1, BootTime(2));
}

struct Draw {
  explicit Draw(std::int64_t count) : below(static_cast<std::uint32_t>(count)) {}
  std::uint32_t operator()() { return static_cast<std::uint32_t>(random() % below); }
  std::uint32_t below;
  std::minstd_rand random{1};
};

void FindSa(benchmark::State& state) {
  Associations& all = associations(state.range(0));
  Draw draw(state.range(0));
  for (auto _ : state) {
    const std::uint32_t i = draw();
    benchmark::DoNotOptimize(
        all.view.find(0, Associations::destination(i), Spi{1 + i}, Protocol::kEsp));
  }
  state.counters["bytes_each"] = static_cast<double>(all.bytes_each);
}

/// Batches of 64 packets, each for an SA of its own, as the inbound path sees them: all lines are
/// asked for before they are needed.
template <bool kPrefetch>
void UseSa(benchmark::State& state) {
  Associations& all = associations(state.range(0));
  Draw draw(state.range(0));
  std::array<std::uint32_t, 64> batch;
  std::uint32_t low = 0;
  for (auto _ : state) {
    for (auto& i : batch) i = draw();
    ++low;
    if (kPrefetch) {
      FetchList list;
      for (const auto i : batch) {
        all.view.prefetch(Associations::destination(i), Spi{1 + i}, Protocol::kEsp, list);
      }
      list.fetch();
      for (const auto i : batch) {
        all.view.prefetch_association(Associations::destination(i), Spi{1 + i}, Protocol::kEsp,
                                      list);
      }
      list.fetch();
    }
    for (const auto i : batch) {
      use(*all.view.find(0, Associations::destination(i), Spi{1 + i}, Protocol::kEsp), low);
    }
  }
  state.SetItemsProcessed(state.iterations() * 64);
}

void ChooseSa(benchmark::State& state) {
  Associations& all = associations(state.range(0));
  Draw draw(state.range(0));
  Template tmpl;
  tmpl.source = address("10.0.0.1");
  tmpl.protocol = Protocol::kEsp;
  tmpl.mode = Mode::kTunnel;
  tmpl.reqid = Reqid{1};
  const Flow flow{.source = address("192.0.1.1"), .destination = address("192.0.2.1")};
  for (auto _ : state) {
    tmpl.destination = Associations::destination(draw());
    benchmark::DoNotOptimize(all.view.choose(tmpl, flow, 0, 0));
  }
}

/// One SA removed and one added, each published.
void ReplaceSa(benchmark::State& state) {
  Associations& all = associations(state.range(0));
  Draw draw(state.range(0));
  for (auto _ : state) {
    const std::uint32_t i = draw();
    auto* old = all.sad.view().find(0, Associations::destination(i), Spi{1 + i}, Protocol::kEsp);
    old->set_state(SaState::kDead);
    all.sad.erase(*old, all.garbage);
    all.publish();
    all.add(i);
    all.publish();
  }
}

BENCHMARK(FindSa)->Arg(1)->Arg(1000)->Arg(1000000);
BENCHMARK(UseSa<false>)->Arg(1)->Arg(1000)->Arg(1000000);
BENCHMARK(UseSa<true>)->Arg(1)->Arg(1000)->Arg(1000000);
BENCHMARK(ChooseSa)->Arg(1)->Arg(1000)->Arg(1000000);
BENCHMARK(ReplaceSa)->Arg(1)->Arg(1000)->Arg(1000000);

// --- Policies.

enum class Kind { kPorts, kHosts, kNets, kMixed };

/// Policies that differ in what `kind` says; flow() matches the one of that number.
struct Policies {
  Garbage garbage;
  Spd spd{42};
  SpdView view;
  const Flow common{.source = address("192.0.1.7"),
                    .destination = address("192.0.2.9"),
                    .protocol = Protocol::kUdp,
                    .ports_known = true};
  std::uint64_t serial = 1;
  std::size_t bytes_each = 0;

  Policies(Kind kind, std::uint32_t count) {
    const std::size_t before = resident();
    for (std::uint32_t i = 0; i < count; ++i) {
      add(kind, i);
      publish();
    }
    bytes_each = (resident() - before) / count;
  }
  void add(Kind kind, std::uint32_t i) {
    PolicyParams params;
    params.direction = Direction::kOut;
    params.selector.family = Family::kIpv4;
    params.priority = 1000;
    params.index = 8 * (i + 1) + 1;
    const auto pair = [&](unsigned source_length, unsigned destination_length) {
      params.selector.source = {flow(kind, i).source, static_cast<std::uint8_t>(source_length)};
      params.selector.destination = {flow(kind, i).destination,
                                     static_cast<std::uint8_t>(destination_length)};
    };
    switch (kind) {
      case Kind::kPorts:
        params.selector.source = prefix("192.0.1.0/24");
        params.selector.destination = prefix("192.0.2.0/24");
        params.selector.protocol = Protocol::kUdp;
        params.selector.source_port = {flow(kind, i).source_port, 0xffff};
        params.selector.destination_port = {flow(kind, i).destination_port, 0xffff};
        break;
      case Kind::kHosts:
        pair(32, 32);
        break;
      case Kind::kNets:
        pair(24, 24);
        break;
      case Kind::kMixed:
        pair(20 + i % 4 * 4, 24 + i % 9);
        break;
    }
    spd.insert(make_shared_in_slab<const SecurityPolicy>(std::move(params), serial++, BootTime(1),
                                                         WallTime(1)),
               nullptr, garbage);
  }
  void publish() {
    view = spd.publish(serial);
    spd.sweep(view, garbage);
    garbage.clear();
  }
  Flow flow(Kind kind, std::uint32_t i) const {
    Flow flow = common;
    if (kind == Kind::kPorts) {
      flow.source_port = static_cast<std::uint16_t>(1 + i / 1000);
      flow.destination_port = static_cast<std::uint16_t>(1 + i % 1000);
    } else {
      flow.source = ipv4(0x0a000000 + (i << 8) + 7);
      flow.destination = ipv4(0x40000000 + (i << 12) + (i & 0xff));
    }
    return flow;
  }
};

Policies& policies(Kind kind, std::int64_t count) {
  static std::unique_ptr<Policies> made;
  static std::pair<Kind, std::int64_t> made_for;
  if (made_for != std::pair(kind, count)) {
    made.reset();
    made = std::make_unique<Policies>(kind, static_cast<std::uint32_t>(count));
    made_for = {kind, count};
  }
  return *made;
}

/// Of all flows, or of a few: what the tables cost, without what memory costs.
template <Kind kKind, bool kFew = false>
void FindPolicy(benchmark::State& state) {
  Policies& all = policies(kKind, state.range(0));
  Draw draw(kFew ? std::min<std::int64_t>(state.range(0), 64) : state.range(0));
  std::size_t missed = 0;
  for (auto _ : state) {
    const auto* found =
        all.view.find(Direction::kOut, PolicyType::kMain, all.flow(kKind, draw()), 0, 0);
    missed += found == nullptr ? 1 : 0;
  }
  if (missed != 0) state.SkipWithError("not found");
  state.counters["bytes_each"] = static_cast<double>(all.bytes_each);
}

/// Batches of 64 packets, each of another flow, as the outbound path sees them: all lines are asked
/// for before they are needed.
template <Kind kKind>
void FindPoliciesAhead(benchmark::State& state) {
  Policies& all = policies(kKind, state.range(0));
  Draw draw(state.range(0));
  std::array<Flow, 64> batch;
  std::size_t missed = 0;
  for (auto _ : state) {
    for (Flow& flow : batch) flow = all.flow(kKind, draw());
    FetchList list;
    for (const Flow& flow : batch) all.view.prefetch(Direction::kOut, flow, 0, 0, list);
    list.fetch();
    for (const Flow& flow : batch) all.view.prefetch_policies(Direction::kOut, flow, 0, 0, list);
    list.fetch();
    for (const Flow& flow : batch) {
      const auto* found = all.view.find(Direction::kOut, PolicyType::kMain, flow, 0, 0);
      missed += found == nullptr ? 1 : 0;
    }
  }
  if (missed != 0) state.SkipWithError("not found");
  state.SetItemsProcessed(state.iterations() * 64);
}

/// One policy replaced by one like it, published.
void ReplacePolicy(benchmark::State& state) {
  Policies& all = policies(Kind::kPorts, state.range(0));
  Draw draw(state.range(0));
  for (auto _ : state) {
    const std::uint32_t i = draw();
    all.spd.erase(all.spd.find(8 * (i + 1) + 1), all.serial++);
    all.publish();
    all.add(Kind::kPorts, i);
    all.publish();
  }
}

BENCHMARK(FindPolicy<Kind::kPorts>)->Arg(1)->Arg(1000)->Arg(100000);
BENCHMARK(FindPolicy<Kind::kPorts, true>)->Arg(1)->Arg(1000)->Arg(100000);
BENCHMARK(FindPoliciesAhead<Kind::kPorts>)->Arg(1)->Arg(1000)->Arg(100000);
BENCHMARK(FindPolicy<Kind::kHosts>)->Arg(1)->Arg(1000)->Arg(100000);
BENCHMARK(FindPolicy<Kind::kNets>)->Arg(1)->Arg(1000)->Arg(100000);
BENCHMARK(FindPolicy<Kind::kMixed>)->Arg(1)->Arg(1000)->Arg(100000);
BENCHMARK(ReplacePolicy)->Arg(1)->Arg(1000)->Arg(100000);

}  // namespace
}  // namespace xfrmfs::testing
