// SPDX-License-Identifier: Apache-2.0
// PolicyParams: everything that is configured about a policy. A plain value, validated by
// Engine::add_policy.

#pragma once

#include <cstdint>

#include "engine/base/types.h"
#include "engine/sad/lifetime.h"
#include "engine/spd/selector.h"
#include "engine/spd/template.h"

namespace xfrmfs::engine {

enum class PolicyAction : std::uint8_t { kAllow = 0, kBlock = 1 };

/// Main policies decide; a sub policy, if one matches, is asked first and both must allow.
enum class PolicyType : std::uint8_t { kMain = 0, kSub = 1 };

struct PolicyParams {
  // A lookup looks at these: they lie together, see SecurityPolicy.
  Direction direction = Direction::kOut;
  PolicyType type = PolicyType::kMain;
  PolicyAction action = PolicyAction::kAllow;
  Selector selector;
  Mark mark;
  std::uint32_t if_id = 0;
  Templates templates;

  std::uint32_t priority = 0;  // lower decides first; equal: the older
  std::uint32_t index = 0;     // 0: the engine gives one; low three bits are the direction
  std::uint8_t flags = 0;
  std::uint8_t share = 0;
  LifetimeLimits limits;  // only the seconds have an effect
};

}  // namespace xfrmfs::engine
