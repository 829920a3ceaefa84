// SPDX-License-Identifier: Apache-2.0
// The index of the SPD against a walk over all of it in order.

#include "engine/spd/spd.h"

#include <array>
#include <atomic>
#include <deque>
#include <initializer_list>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

/// Few values of everything, so that policies overlap, collide and are replaced.
class Dice {
 public:
  explicit Dice(unsigned seed) : random_(seed) {}

  std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random_()) % below; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return *(choices.begin() + pick(static_cast<std::uint32_t>(choices.size())));
  }

  Family family() { return pick(3) == 0 ? Family::kIpv6 : Family::kIpv4; }
  IpAddress address(Family family) {
    std::array<std::byte, 16> bytes{};
    const std::size_t size = address_size(family);
    bytes[0] = std::byte{10};
    bytes[size - 2] = static_cast<std::byte>(pick(2));
    bytes[size - 1] = static_cast<std::byte>(pick(3));
    return IpAddress::from(family, bytes.data());
  }
  Prefix prefix(Family family) {
    const auto width = static_cast<std::uint8_t>(8 * address_size(family));
    return {address(family),
            one_of<std::uint8_t>({0, 8, static_cast<std::uint8_t>(width - 8),
                                  static_cast<std::uint8_t>(width - 1), width, 255})};
  }
  PortMatch port() {
    return {static_cast<std::uint16_t>(pick(4)),
            one_of<std::uint16_t>({0, 0, 0xffff, 0xfffe, 0x0001})};
  }
  Direction direction() { return one_of({Direction::kOut, Direction::kIn}); }
  PolicyType type() { return pick(5) == 0 ? PolicyType::kSub : PolicyType::kMain; }
  std::uint32_t mark() { return pick(4); }
  std::uint32_t if_id() { return pick(4) == 0 ? 1 : 0; }

  PolicyParams policy() {
    PolicyParams params;
    params.direction = direction();
    params.type = type();
    Selector& selector = params.selector;
    selector.family = pick(40) == 0 ? Family::kNone : family();
    if (selector.family != Family::kNone) {
      selector.source = prefix(selector.family);
      selector.destination = prefix(selector.family);
    }
    selector.source_port = port();
    selector.destination_port = port();
    selector.protocol = one_of({Protocol{}, Protocol::kUdp, Protocol::kTcp});
    selector.interface_index = pick(8) == 0 ? 1 : 0;
    selector.user = pick(8) == 0 ? 1 : 0;
    params.priority = pick(4) == 0 ? pick(3) : 7;
    params.mark = pick(4) == 0 ? Mark{.value = pick(4), .mask = one_of({1u, 3u})} : Mark{};
    params.if_id = if_id();
    return params;
  }
  Flow flow() {
    Flow flow;
    const Family f = family();
    flow.source = address(f);
    flow.destination = address(f);
    flow.protocol = one_of({Protocol::kUdp, Protocol::kTcp, Protocol::kEsp});
    flow.ports_known = pick(8) != 0;
    if (flow.ports_known) {
      flow.source_port = static_cast<std::uint16_t>(pick(4));
      flow.destination_port = static_cast<std::uint16_t>(pick(4));
    }
    return flow;
  }

 private:
  std::mt19937 random_;
};

const SecurityPolicy* walk(const SpdView& view, Direction direction, PolicyType type,
                           const Flow& flow, std::uint32_t mark, std::uint32_t if_id) {
  const SecurityPolicy* found = nullptr;
  view.in_order(direction, type, [&](const SecurityPolicy& policy) {
    const PolicyParams& params = policy.params();
    const bool matches =
        params.mark.matches(mark) && params.if_id == if_id && params.selector.matches(flow);
    if (matches) found = &policy;
    return !matches;
  });
  return found;
}

/// Is the order that of priorities, and of ages among equal ones that never took another's place?
void expect_sorted(const SpdView& view, Direction direction, PolicyType type) {
  std::uint32_t last = 0;
  view.in_order(direction, type, [&](const SecurityPolicy& policy) {
    EXPECT_GE(policy.params().priority, last);
    last = policy.params().priority;
    return true;
  });
}

TEST(SpdTest, LookupAgreesWithAWalk) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    Dice dice(seed);
    ManualClock clock;
    Engine engine(1, clock);
    std::vector<PolicyPtr> present;
    std::deque<std::shared_ptr<const Snapshot>> held;
    for (int step = 0; step < 3000; ++step) {
      const bool grow = dice.pick(8) < (step / 500 % 2 == 0 ? 6u : 3u);
      if (grow && dice.pick(4) == 0 && !present.empty()) {
        PolicyParams params =
            present[dice.pick(static_cast<std::uint32_t>(present.size()))]->params();
        if (dice.pick(2) == 0) params.priority = dice.pick(9);
        ASSERT_TRUE(engine.update_policy(params));
      } else if (grow) {
        if (const auto added = engine.add_policy(dice.policy())) present.push_back(*added);
      } else if (!present.empty()) {
        const auto at = dice.pick(static_cast<std::uint32_t>(present.size()));
        const PolicyParams& params = present[at]->params();
        ASSERT_TRUE(engine.delete_policy({.direction = params.direction,
                                          .type = params.type,
                                          .selector = params.selector,
                                          .mark = params.mark,
                                          .if_id = params.if_id}));
        present.erase(present.begin() + at);
      }
      if (dice.pick(3) == 0) {
        engine.publish();
        held.push_back(engine.view().snapshot());
        if (dice.pick(3) != 0) held.pop_front();
        if (held.size() > 8) held.clear();
        engine.reclaim();
      }
      const auto check = [&](const SpdView& view) {
        const Direction direction = dice.direction();
        const PolicyType type = dice.type();
        const Flow flow = dice.flow();
        const std::uint32_t mark = dice.mark();
        const std::uint32_t if_id = dice.if_id();
        ASSERT_EQ(view.find(direction, type, flow, mark, if_id),
                  walk(view, direction, type, flow, mark, if_id))
            << "seed " << seed << " step " << step;
      };
      for (int i = 0; i < 4; ++i) check(engine.current().spd);
      for (const auto& snapshot : held) check(snapshot->spd);  // as of then
    }
    expect_sorted(engine.current().spd, Direction::kOut, PolicyType::kMain);
  }
}

TEST(SpdTest, PriorityThenAgeDecidesAcrossShapes) {
  ManualClock clock;
  Engine engine(1, clock);
  const auto add = [&](const char* destination, std::uint32_t priority) {
    PolicyParams params =
        make(TunnelPolicy{.source = "192.0.1.0/24", .destination = destination, .reqid = 0});
    params.priority = priority;
    return engine.add_policy(params).value();
  };
  const Flow flow{.source = address("192.0.1.1"), .destination = address("192.0.2.1")};
  const auto decides = [&] {
    return engine.current().spd.find(Direction::kOut, PolicyType::kMain, flow, 0, 0);
  };
  EXPECT_EQ(decides(), nullptr);
  const PolicyPtr wide = add("192.0.0.0/16", 5);
  const PolicyPtr narrow = add("192.0.2.0/24", 5);
  EXPECT_EQ(decides(), wide.get());
  const PolicyPtr first = add("192.0.2.1/32", 4);
  EXPECT_EQ(decides(), first.get());
  PolicyParams again = wide->params();
  const PolicyPtr renewed = engine.update_policy(again).value();  // keeps its turn
  ASSERT_TRUE(engine.delete_policy({.index = first->params().index}));
  EXPECT_EQ(decides(), renewed.get());
  again.priority = 6;
  ASSERT_TRUE(engine.update_policy(again));
  EXPECT_EQ(decides(), narrow.get());
}

/// A reader must meet the old set of policies or the new one, never half a change: here a block
/// and an allow that change places, always both in one publication.
TEST(SpdTest, AnyChangeMakesAnotherVersion) {
  ManualClock clock;
  Engine engine(1, clock);
  const auto version = [&] {
    engine.publish();
    return engine.view().snapshot()->spd.version();
  };
  PolicyParams params;
  params.selector.family = Family::kIpv4;
  const auto empty = version();
  ASSERT_TRUE(engine.add_policy(params));
  const auto added = version();
  EXPECT_NE(added, empty);
  engine.set_defaults({});
  EXPECT_EQ(version(), added) << "no policy has changed";
  ASSERT_TRUE(engine.update_policy(params));
  const auto updated = version();
  EXPECT_NE(updated, added);
  EXPECT_EQ(engine.flush_policies(PolicyType::kMain), 1u);
  const auto flushed = version();
  EXPECT_NE(flushed, updated);
  EXPECT_NE(flushed, empty) << "there is nothing again, but it is another time";
}

TEST(SpdTest, ReadersMeetWholeChanges) {
  ManualClock clock;
  Engine engine(1, clock);
  const auto params = [](std::uint32_t host, PolicyAction action, std::uint32_t priority) {
    PolicyParams p = make(TunnelPolicy{.direction = Direction::kIn,
                                       .source = "192.0.1.0/24",
                                       .destination = host == 0 ? "192.0.2.0/24" : "192.0.2.1/32",
                                       .reqid = 0});
    p.action = action;
    p.priority = priority;
    return p;
  };
  const auto set = [&](bool host_blocks) {
    // The one that decides is always a block, the other one an allow.
    ASSERT_TRUE(engine.update_policy(
        params(0, host_blocks ? PolicyAction::kAllow : PolicyAction::kBlock, 5)));
    ASSERT_TRUE(engine.update_policy(
        params(1, host_blocks ? PolicyAction::kBlock : PolicyAction::kAllow, host_blocks ? 4 : 6)));
    engine.publish();
  };
  set(false);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> wrong{0};
  const auto read = [&] {
    const Flow flow{.source = address("192.0.1.1"), .destination = address("192.0.2.1")};
    const View view = engine.view();
    while (!done.load(std::memory_order_relaxed)) {
      const auto snapshot = view.snapshot();
      for (int i = 0; i < 20; ++i) {
        const auto* found = snapshot->spd.find(Direction::kIn, PolicyType::kMain, flow, 0, 0);
        if (found == nullptr || found->params().action != PolicyAction::kBlock) wrong.fetch_add(1);
      }
    }
  };
  {
    std::jthread first(read);
    std::jthread second(read);
    for (int round = 0; round < 2000; ++round) {
      set(round % 2 == 0);
      engine.reclaim();
    }
    done = true;
  }
  EXPECT_EQ(wrong.load(), 0u);
}

}  // namespace
}  // namespace xfrmfs::testing
