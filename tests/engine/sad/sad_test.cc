// SPDX-License-Identifier: Apache-2.0
// The indexes of the SAD against a walk over all of it.

#include "engine/sad/sad.h"

#include <random>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

SaParams random_params(std::mt19937& random) {
  SaParams params = make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2"});
  const auto pick = [&](std::uint32_t below) {
    return static_cast<std::uint32_t>(random()) % below;
  };
  auto bytes = params.id.destination.storage();
  bytes[3] = static_cast<std::byte>(pick(4));
  params.id.destination = IpAddress::from(Family::kIpv4, bytes.data());
  params.id.spi = Spi{256 + pick(8)};
  params.id.mark = pick(3) == 0 ? Mark{.value = pick(2), .mask = 1} : Mark{};
  params.reqid = Reqid{pick(3)};
  return params;
}

SecurityAssociation* walk(const SadView& view, const SaId& id, std::uint32_t mark) {
  SecurityAssociation* found = nullptr;
  view.by_serial().descending([&](std::uint64_t, const SaPtr& association) {
    const SaId& have = association->id();
    if (have.destination != id.destination || have.spi != id.spi || !have.mark.matches(mark)) {
      return true;
    }
    found = association.get();
    return false;
  });
  return found;
}

SecurityAssociation* walk(const SadView& view, const Template& tmpl, std::uint32_t mark) {
  SecurityAssociation* found = nullptr;
  view.by_serial().descending([&](std::uint64_t, const SaPtr& association) {
    const SaParams& have = association->params();
    if (have.id.destination != tmpl.destination || have.reqid != tmpl.reqid ||
        !have.id.mark.matches(mark) || (tmpl.spi != Spi{} && tmpl.spi != have.id.spi)) {
      return true;
    }
    found = association.get();
    return false;
  });
  return found;
}

TEST(SadTest, IndexesAgreeWithAWalk) {
  std::mt19937 random(3);
  ManualClock clock;
  Engine engine(1, clock);
  const Flow flow{.source = address("192.0.1.1"), .destination = address("192.0.2.1")};
  for (int step = 0; step < 5000; ++step) {
    SaParams params = random_params(random);
    const SaId id = params.id;
    const std::uint32_t mark = static_cast<std::uint32_t>(random()) % 2;
    Template tmpl;
    tmpl.destination = id.destination;
    tmpl.source = IpAddress::any(Family::kIpv4);
    tmpl.protocol = Protocol::kEsp;
    tmpl.mode = Mode::kTunnel;
    tmpl.reqid = params.reqid;
    if (random() % 2 == 0) tmpl.spi = id.spi;

    if (random() % 2 == 0) {
      const bool there = engine.find_sa(id) != nullptr;
      ASSERT_EQ(engine.add_sa(std::move(params)).has_value(), !there);
    } else {
      const bool there = engine.find_sa(id) != nullptr;
      ASSERT_EQ(engine.delete_sa(id).has_value(), there);
    }
    const SadView& view = engine.current().sad;
    ASSERT_EQ(view.find(mark, id.destination, id.spi, Protocol::kEsp), walk(view, id, mark));
    ASSERT_EQ(view.choose(tmpl, flow, mark, 0).association, walk(view, tmpl, mark));
  }
}

TEST(SadTest, DyingAssociationsAreChosenLast) {
  ManualClock clock;
  Engine engine(1, clock);
  const auto add = [&](std::uint32_t spi) {
    return engine
        .add_sa(make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2", .spi = spi}))
        .value();
  };
  const SaPtr older = add(0x1000);
  const SaPtr younger = add(0x2000);
  Template tmpl;
  tmpl.destination = address("10.0.0.2");
  tmpl.source = address("10.0.0.1");
  tmpl.protocol = Protocol::kEsp;
  tmpl.mode = Mode::kTunnel;
  tmpl.reqid = Reqid{1};
  const Flow flow{.source = address("192.0.1.1"), .destination = address("192.0.2.1")};
  const auto chosen = [&] { return engine.current().sad.choose(tmpl, flow, 0, 0).association; };
  EXPECT_EQ(chosen(), younger.get());
  younger->lifetime().tell_soft();
  EXPECT_EQ(chosen(), older.get());
  older->lifetime().tell_soft();
  EXPECT_EQ(chosen(), younger.get());
  younger->set_state(SaState::kExpired);
  EXPECT_EQ(chosen(), older.get());
}

}  // namespace
}  // namespace xfrmfs::testing
