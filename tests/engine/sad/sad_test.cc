// SPDX-License-Identifier: Apache-2.0
// The indexes of the SAD against a walk over all of it.

#include "engine/sad/sad.h"

#include <atomic>
#include <random>
#include <thread>

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
    const SaConfig& have = association->params();
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
    if (random() % 4 == 0) engine.publish();
    const SadView& view = engine.current().sad;
    ASSERT_EQ(view.find(mark, id.destination, id.spi, Protocol::kEsp), walk(view, id, mark));
    ASSERT_EQ(view.choose(tmpl, flow, mark, 0).association, walk(view, tmpl, mark));
  }
}

TEST(SadTest, PublishedViewsSeeWhatWasThereThen) {
  ManualClock clock;
  Engine engine(1, clock);
  const auto found = [&](const Snapshot& snapshot, std::uint32_t spi) {
    return snapshot.sad.find(0, address("10.0.0.2"), Spi{spi}, Protocol::kEsp) != nullptr;
  };
  const auto before = engine.view().snapshot();
  const SaPtr added =
      engine.add_sa(make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2", .spi = 0x1000}))
          .value();
  EXPECT_FALSE(found(*engine.view().snapshot(), 0x1000));
  EXPECT_TRUE(found(engine.current(), 0x1000));
  engine.publish();
  EXPECT_FALSE(found(*before, 0x1000));
  const auto with = engine.view().snapshot();
  EXPECT_TRUE(found(*with, 0x1000));

  ASSERT_TRUE(engine.delete_sa(added->id()));
  EXPECT_FALSE(found(engine.current(), 0x1000));
  EXPECT_TRUE(found(*engine.view().snapshot(), 0x1000));  // and dead
  engine.publish();
  EXPECT_FALSE(found(*engine.view().snapshot(), 0x1000));
  EXPECT_EQ(with->sad.size(), 1u);
}

TEST(SadTest, RemovedAssociationsGoWhenNoOlderSnapshotIsHeld) {
  ManualClock clock;
  Engine engine(1, clock);
  auto old = engine.view().snapshot();
  std::weak_ptr<SecurityAssociation> gone;
  {
    // Never published: an older reader may have met it in the table all the same.
    const SaPtr added =
        engine.add_sa(make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2"})).value();
    gone = added;
    ASSERT_TRUE(engine.delete_sa(added->id()));
  }
  engine.publish();
  EXPECT_FALSE(engine.reclaim());
  EXPECT_FALSE(gone.expired());
  old.reset();
  EXPECT_TRUE(engine.reclaim());
  EXPECT_TRUE(gone.expired());
}

/// One thread adds, removes and publishes; others look up what is always there, what comes and
/// goes, and groups, each under a snapshot.
TEST(SadTest, ReadersSearchWhileTheWriterChanges) {
  ManualClock clock;
  Engine engine(1, clock);
  constexpr std::uint32_t kStaying = 64;
  const auto add = [&](std::uint32_t spi) {
    const auto added =
        engine.add_sa(make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2", .spi = spi}));
    ASSERT_TRUE(added);
  };
  for (std::uint32_t i = 0; i < kStaying; ++i) add(0x1000 + i);
  engine.publish();

  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> wrong{0};
  const auto read = [&] {
    const IpAddress destination = address("10.0.0.2");
    const Flow flow{.source = address("192.0.1.1"), .destination = address("192.0.2.1")};
    Template tmpl;
    tmpl.destination = destination;
    tmpl.source = address("10.0.0.1");
    tmpl.protocol = Protocol::kEsp;
    tmpl.mode = Mode::kTunnel;
    tmpl.reqid = Reqid{1};
    const View view = engine.view();
    while (!done.load(std::memory_order_relaxed)) {
      const auto snapshot = view.snapshot();
      const SadView& sad = snapshot->sad;
      for (std::uint32_t i = 0; i < 2 * kStaying; ++i) {
        FetchList list;
        sad.prefetch(destination, Spi{0x1000 + i}, Protocol::kEsp, list);
        sad.prefetch_association(destination, Spi{0x1000 + i}, Protocol::kEsp, list);
        sad.prefetch(tmpl, flow, list);
        sad.prefetch_association(tmpl, flow, list);
        list.fetch();
        auto* found = sad.find(0, destination, Spi{0x1000 + i}, Protocol::kEsp);
        if (found == nullptr && i < kStaying) wrong.fetch_add(1);
        if (found != nullptr && found->id().spi != Spi{0x1000 + i}) wrong.fetch_add(1);
        if (found != nullptr) found->lifetime().charge(1, 1, BootTime(1));
      }
      if (sad.choose(tmpl, flow, 0, 0).association == nullptr) wrong.fetch_add(1);
    }
  };
  {
    std::jthread first(read);
    std::jthread second(read);
    for (int round = 0; round < 200; ++round) {
      for (std::uint32_t i = kStaying; i < 2 * kStaying; ++i) {
        add(0x1000 + i);
        if (i % 3 == 0) engine.publish();
      }
      for (std::uint32_t i = kStaying; i < 2 * kStaying; ++i) {
        const SaId id{.destination = address("10.0.0.2"), .spi = Spi{0x1000 + i}};
        ASSERT_TRUE(engine.delete_sa(id));
        if (i % 5 == 0) engine.publish();
      }
      engine.publish();
      engine.reclaim();
    }
    done = true;
  }
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_TRUE(engine.reclaim());
}

TEST(SadTest, WhatPacketsTouchLiesTogether) {
  ManualClock clock;
  Engine engine(1, clock);
  const SaPtr sa =
      engine.add_sa(make(TunnelSa{.source = "10.0.0.1", .destination = "10.0.0.2"})).value();
  const auto at = [&](const void* member) {
    return static_cast<const std::byte*>(member) - reinterpret_cast<const std::byte*>(sa.get());
  };
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(sa.get()) % 64, 0u);
  EXPECT_EQ(at(&sa->lifetime()), 32);
  EXPECT_EQ(at(&sa->replay()), 2 * 64 + 24);
  EXPECT_EQ(at(&sa->params()), 3 * 64);
  EXPECT_LE(sizeof(SecurityAssociation), 576u);
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
