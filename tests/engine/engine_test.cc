// SPDX-License-Identifier: Apache-2.0
// Door 1: what changes are refused, what they change, and when they show.

#include "engine/engine.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;
using std::chrono::seconds;

class EngineTest : public ::testing::Test {
 protected:
  static SaParams sa(std::uint32_t spi = 0x1000) {
    return make(TunnelSa{.source = "192.1.2.45", .destination = "192.1.2.23", .spi = spi});
  }
  static PolicyParams policy(std::string_view destination = "192.0.2.0/24") {
    return make(TunnelPolicy{.source = "192.0.1.0/24",
                             .destination = destination,
                             .tunnel_source = "192.1.2.45",
                             .tunnel_destination = "192.1.2.23"});
  }
  static SaParams larval() {
    SaParams params;
    params.id.destination = address("192.1.2.23");
    params.source = address("192.1.2.45");
    return params;
  }

  ManualClock clock_;
  Engine engine_{1, clock_};
};

TEST_F(EngineTest, AnotherSourceIsTheSameAssociation) {
  ASSERT_TRUE(engine_.add_sa(sa()));
  SaParams other = sa();
  other.source = address("192.1.2.99");
  EXPECT_EQ(engine_.add_sa(std::move(other)).error().error, EEXIST);
  SaParams elsewhere = sa();
  elsewhere.id.destination = address("192.1.2.24");
  EXPECT_TRUE(engine_.add_sa(std::move(elsewhere)));
}

/// Permitted or not: what is inside a tunnel goes anywhere.
TEST_F(EngineTest, NoTunnelIsWithoutIntegrity) {
  CryptoBackends backends;
  backends.permit({.broken_ciphers = true, .unauthenticated = true});
  Engine lenient{1, clock_, backends};
  SaParams params = sa();
  params.crypto = {};
  params.crypto.cipher = CipherParams{"cbc(aes)", Secret(std::vector<std::byte>(16))};
  const auto refused = lenient.add_sa(std::move(params));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error, EINVAL);
  EXPECT_EQ(refused.error().message, "encryption without integrity is refused in tunnel mode");
}

TEST_F(EngineTest, DesIsTakenWherePermitted) {
  CryptoBackends backends;
  backends.permit({.broken_ciphers = true});
  Engine lenient{1, clock_, backends};
  for (Engine* const engine : {&engine_, &lenient}) {
    SaParams params = sa();
    params.crypto = {};
    params.crypto.cipher = CipherParams{"des", Secret(std::vector<std::byte>(8))};
    params.crypto.mac = MacParams{"md5", Secret(std::vector<std::byte>(16)), 0};
    const auto added = engine->add_sa(std::move(params));
    if (added) {
      EXPECT_EQ(engine, &lenient);
      continue;
    }
    EXPECT_EQ(added.error().error, ENOSYS);
    const bool permitted = added.error().message.find("not permitted") == std::string::npos;
    EXPECT_EQ(permitted, engine == &lenient) << added.error().message;
  }
}

TEST_F(EngineTest, MarksTellAssociationsApart) {
  SaParams marked = sa();
  marked.id.mark = {.value = 1, .mask = 0xff};
  const SaId id = marked.id;
  ASSERT_TRUE(engine_.add_sa(std::move(marked)));
  EXPECT_EQ(engine_.find_sa(sa().id), nullptr);
  ASSERT_TRUE(engine_.add_sa(sa()));
  EXPECT_EQ(engine_.find_sa(id)->id().mark, (Mark{}));  // mask 0 fits too, and is younger
  EXPECT_EQ(engine_.delete_sa(sa().id).value()->id().mark, (Mark{}));
  EXPECT_EQ(engine_.find_sa(id)->id(), id);
}

TEST_F(EngineTest, WhatTheEngineCannotDoIsRefusedAsAKernelWithoutItWould) {
  SaParams transport = sa();
  transport.mode = Mode::kTransport;
  EXPECT_EQ(engine_.add_sa(std::move(transport)).error().error, EPROTONOSUPPORT);
  SaParams comp = sa();
  comp.id.protocol = Protocol::kComp;
  EXPECT_EQ(engine_.add_sa(std::move(comp)).error().error, EPROTONOSUPPORT);
  SaParams ah = sa();  // with a cipher, which AH has no use for
  ah.id.protocol = Protocol::kAh;
  EXPECT_EQ(engine_.add_sa(std::move(ah)).error().error, EINVAL);
  SaParams bare = sa();
  bare.crypto.aead.reset();
  bare.crypto.cipher =
      CipherParams{.name = "cbc(aes)", .key = Secret(std::vector(16, std::byte{1}))};
  EXPECT_EQ(engine_.add_sa(std::move(bare)).error().error, EINVAL);
  EXPECT_EQ(engine_.current().sad.size(), 0u);
}

TEST_F(EngineTest, UpdateChangesLimitsAndKeepsTheRest) {
  EXPECT_EQ(engine_.update_sa(sa()).error().error, ESRCH);
  const SaPtr association = engine_.add_sa(sa()).value();
  association->sequence().reserve(5);
  SaParams update = sa();
  update.limits.hard_packets = 77;
  ASSERT_TRUE(engine_.update_sa(std::move(update)));
  EXPECT_EQ(engine_.find_sa(sa().id), association);
  EXPECT_EQ(association->lifetime().limits().hard_packets, 77u);
  EXPECT_EQ(association->sequence().last(), 5u);
}

TEST_F(EngineTest, UpdateFillsALarvalAssociation) {
  const auto held = engine_.allocate_spi(larval(), 0x700, 0x700);
  ASSERT_TRUE(held);
  EXPECT_EQ(engine_.add_sa(sa(0x700)).error().error, EEXIST);
  ASSERT_TRUE(engine_.update_sa(sa(0x700)));
  EXPECT_EQ(engine_.find_sa(sa(0x700).id)->state(), SaState::kValid);
  EXPECT_EQ(engine_.current().sad.size(), 1u);
}

TEST_F(EngineTest, SpisAreUniqueOverAllDestinations) {
  ASSERT_TRUE(engine_.add_sa(sa(0x700)));
  SaParams elsewhere = larval();
  elsewhere.id.destination = address("192.1.2.99");
  EXPECT_EQ(engine_.allocate_spi(std::move(elsewhere), 0x700, 0x700).error().error, ENOENT);
  EXPECT_EQ(engine_.allocate_spi(larval(), 5, 4).error().error, EINVAL);
  EXPECT_EQ(engine_.allocate_spi(larval(), 0, 0).error().error, ENOENT);
  for (int i = 0; i < 16; ++i) {
    const auto held = engine_.allocate_spi(larval(), 0x800, 0x8ff);
    ASSERT_TRUE(held);
    const auto spi = static_cast<std::uint32_t>((*held)->id().spi);
    EXPECT_TRUE(spi >= 0x800 && spi <= 0x8ff);
  }
}

TEST_F(EngineTest, AnAcquiresSequenceFindsItsLarvalAssociation) {
  SaParams wanted = larval();
  wanted.acquire_sequence = 9;
  const SaPtr held = engine_.allocate_spi(std::move(wanted), 0x700, 0x7ff).value();
  SaParams again = larval();
  again.acquire_sequence = 9;
  EXPECT_EQ(engine_.allocate_spi(std::move(again), 0x900, 0x9ff).value(), held);
  SaParams other = sa(0x5000);
  other.acquire_sequence = 9;
  ASSERT_TRUE(engine_.add_sa(std::move(other)));
  EXPECT_EQ(engine_.current().sad.size(), 1u);
}

TEST_F(EngineTest, SpiZeroIsListedButNotFound) {
  ASSERT_TRUE(engine_.add_sa(sa(0)));
  ASSERT_TRUE(engine_.add_sa(sa(0)));
  EXPECT_EQ(engine_.find_sa(sa(0).id), nullptr);
  EXPECT_EQ(engine_.current().sad.size(), 2u);
  EXPECT_EQ(engine_.flush_sas(std::nullopt), 2u);
}

TEST_F(EngineTest, FlushTakesOneProtocolOrAll) {
  ASSERT_TRUE(engine_.add_sa(sa(1)));
  ASSERT_TRUE(engine_.allocate_spi(larval(), 0x700, 0x7ff));
  EXPECT_EQ(engine_.flush_sas(Protocol::kAh), 0u);
  EXPECT_EQ(engine_.flush_sas(Protocol::kEsp), 2u);
  EXPECT_EQ(engine_.flush_sas(std::nullopt), 0u);
}

TEST_F(EngineTest, TimeLimitsRemoveAssociations) {
  SaParams limited = sa();
  limited.limits.hard_add_seconds = 10;
  limited.limits.soft_add_seconds = 5;
  ASSERT_TRUE(engine_.add_sa(std::move(limited)));
  const SaPtr association = engine_.find_sa(sa().id);
  const auto soft = engine_.advance();
  ASSERT_TRUE(soft);
  EXPECT_EQ(*soft - clock_.boot_now(), seconds(5));
  clock_.advance(seconds(5));
  const auto hard = engine_.advance();
  EXPECT_TRUE(association->lifetime().soft_told());
  ASSERT_TRUE(hard);
  EXPECT_EQ(*hard - clock_.boot_now(), seconds(5));
  clock_.advance(seconds(5));
  engine_.advance();
  EXPECT_EQ(engine_.find_sa(sa().id), nullptr);
  EXPECT_EQ(engine_.view().snapshot()->sad.size(), 0u);
}

TEST_F(EngineTest, ThresholdsAreTakenFromTheSettingsAtCreation) {
  engine_.settings().aevent_rseqth_packets = 7;
  engine_.settings().aevent_etime_100ms = 25;
  const SaPtr association = engine_.add_sa(sa()).value();
  engine_.settings().aevent_rseqth_packets = 2;
  EXPECT_EQ(association->aevent_threshold_packets(), 7u);
  EXPECT_EQ(association->aevent_interval_ms(), 2500u);
}

TEST_F(EngineTest, LegacyWindowsAbove32AreStoredAs32) {
  SaParams wide = sa();
  wide.replay.window = 200;
  EXPECT_EQ(engine_.add_sa(std::move(wide)).value()->replay().window(), 32u);
}

TEST_F(EngineTest, PriorityIsNotPartOfAPolicysIdentity) {
  ASSERT_TRUE(engine_.add_policy(policy()));
  PolicyParams other = policy();
  other.priority = 5;
  EXPECT_EQ(engine_.add_policy(std::move(other)).error().error, EEXIST);
  EXPECT_TRUE(engine_.add_policy(policy("192.0.3.0/24")));
}

TEST_F(EngineTest, PolicyIndexesCarryTheDirection) {
  EXPECT_EQ(engine_.add_policy(policy()).value()->params().index, 1u);
  PolicyParams in = policy();
  in.direction = Direction::kIn;
  EXPECT_EQ(engine_.add_policy(std::move(in)).value()->params().index, 8u);
  PolicyParams wanted = policy("10.0.0.0/8");
  wanted.index = 801;
  EXPECT_EQ(engine_.add_policy(std::move(wanted)).value()->params().index, 801u);
  EXPECT_EQ(engine_.find_policy({.direction = Direction::kOut, .index = 801})
                ->params()
                .selector.destination,
            prefix("10.0.0.0/8"));
  EXPECT_EQ(engine_.find_policy({.direction = Direction::kIn, .index = 801}), nullptr);
}

TEST_F(EngineTest, UpdateReplacesAPolicyOrCreatesIt) {
  const auto first = engine_.update_policy(policy());
  ASSERT_TRUE(first);
  PolicyParams changed = policy();
  changed.priority = 9;
  const auto second = engine_.update_policy(std::move(changed));
  EXPECT_EQ((*second)->params().index, (*first)->params().index);
  EXPECT_EQ(engine_.current().spd.by_serial().size(), 1u);
  const PolicyKey key{.direction = Direction::kOut, .selector = policy().selector};
  EXPECT_EQ(engine_.delete_policy(key).value(), *second);
  EXPECT_EQ(engine_.delete_policy(key).error().error, ENOENT);
}

TEST_F(EngineTest, PoliciesAreAskedByPriorityThenAge) {
  const auto with_priority = [](std::string_view destination, std::uint32_t priority) {
    PolicyParams params = policy(destination);
    params.priority = priority;
    return params;
  };
  ASSERT_TRUE(engine_.add_policy(with_priority("10.1.0.0/16", 5)));
  ASSERT_TRUE(engine_.add_policy(with_priority("10.2.0.0/16", 0xffffffff)));
  ASSERT_TRUE(engine_.add_policy(with_priority("10.3.0.0/16", 1)));
  ASSERT_TRUE(engine_.add_policy(with_priority("10.4.0.0/16", 5)));
  ASSERT_TRUE(engine_.update_policy(with_priority("10.1.0.0/16", 5)));  // keeps its turn
  std::vector<std::string> order;
  engine_.current().spd.in_order(Direction::kOut, PolicyType::kMain, [&](const auto& p) {
    order.push_back(p.params().selector.destination.address.text());
    return true;
  });
  EXPECT_EQ(order, (std::vector<std::string>{"10.3.0.0", "10.1.0.0", "10.4.0.0", "10.2.0.0"}));
}

TEST_F(EngineTest, FlushLeavesTheOtherType) {
  PolicyParams sub = policy();
  sub.type = PolicyType::kSub;
  ASSERT_TRUE(engine_.add_policy(std::move(sub)));
  ASSERT_TRUE(engine_.add_policy(policy()));
  EXPECT_EQ(engine_.flush_policies(PolicyType::kMain), 1u);
  EXPECT_EQ(engine_.current().spd.size(Direction::kOut), 1u);
}

TEST_F(EngineTest, ReadersSeeWhatWasPublished) {
  const View view = engine_.view();
  ASSERT_TRUE(engine_.add_sa(sa()));
  EXPECT_EQ(view.snapshot()->sad.size(), 0u);
  const auto before = view.snapshot();
  engine_.publish();
  EXPECT_EQ(view.snapshot()->sad.size(), 1u);
  EXPECT_EQ(before->sad.size(), 0u);
}

TEST(LargestInnerPacketTest, FitsWithTheWidestAlgorithm) {
  EXPECT_EQ(largest_inner_packet(1500), 1390u);
  EXPECT_EQ(largest_inner_packet(0), 0u);
  EXPECT_EQ(largest_inner_packet(119), 0u);
  EXPECT_EQ(largest_inner_packet(120), 14u);
}

}  // namespace
}  // namespace xfrmfs::testing
