// SPDX-License-Identifier: Apache-2.0
// The Security Policy Database (RFC 4301 §4.4.1): Spd for its one writer, SpdView for readers.
//
// A view holds, per direction, the policies in the order in which they are asked: priority, then
// age. It is immutable; a change makes a new view that shares almost everything.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include "engine/base/clock.h"
#include "engine/base/persistent_map.h"
#include "engine/packet/flow.h"
#include "engine/spd/policy_params.h"

namespace xfrmfs::engine {

/// A policy in the database. Any thread; the parameters never change.
class SecurityPolicy {
 public:
  SecurityPolicy(PolicyParams params, std::uint64_t serial, BootTime now, WallTime wall_now)
      : params_(std::move(params)), serial_(serial), added_at_(now), added_wall_(wall_now) {}

  const PolicyParams& params() const { return params_; }
  /// Greater is younger. Unique within an engine.
  std::uint64_t serial() const { return serial_; }
  BootTime added_at() const { return added_at_; }
  WallTime added_wall() const { return added_wall_; }

  /// A packet matched. Any worker.
  void touch(BootTime now) const { last_used_ns_.store(now.count(), std::memory_order_relaxed); }
  /// Last match; nothing: never.
  std::optional<BootTime> last_used_at() const {
    const std::int64_t ns = last_used_ns_.load(std::memory_order_relaxed);
    if (ns == 0) return std::nullopt;
    return BootTime(ns);
  }

 private:
  const PolicyParams params_;
  const std::uint64_t serial_;
  const BootTime added_at_;
  const WallTime added_wall_;
  mutable std::atomic<std::int64_t> last_used_ns_{0};
};

using PolicyPtr = std::shared_ptr<const SecurityPolicy>;

class SpdView {
 public:
  /// The policy that decides: sub policies have a table of their own. Null: none matches.
  const SecurityPolicy* find(Direction direction, PolicyType type, const Flow& flow,
                             std::uint32_t packet_mark, std::uint32_t if_id) const;

  /// In the order in which they are asked.
  template <class Visit>
  void in_order(Direction direction, PolicyType type, Visit&& visit) const {
    table(direction, type).ascending([&](std::uint64_t, const PolicyPtr& policy) {
      return visit(*policy);
    });
  }
  std::size_t size(Direction direction) const;
  bool empty() const { return by_serial_.empty(); }
  /// All of them by age: keys are serials.
  const PersistentMap<PolicyPtr>& by_serial() const { return by_serial_; }

 private:
  friend class Spd;
  using Table = PersistentMap<PolicyPtr>;  // key: priority, then age

  const Table& table(Direction direction, PolicyType type) const {
    return tables_[static_cast<std::size_t>(direction)][static_cast<std::size_t>(type)];
  }
  Table& table(Direction direction, PolicyType type) {
    return tables_[static_cast<std::size_t>(direction)][static_cast<std::size_t>(type)];
  }

  std::array<std::array<Table, 2>, kDirections> tables_;
  PersistentMap<PolicyPtr> by_serial_;
};

/// What tells policies apart: priority is not part of it.
struct PolicyIdentity {
  Direction direction{};
  PolicyType type{};
  Selector selector{};
  Mark mark{};
  std::uint32_t if_id = 0;

  bool operator==(const PolicyIdentity&) const = default;
};

PolicyIdentity identity_of(const PolicyParams& params);

struct PolicyIdentityHash {
  std::size_t operator()(const PolicyIdentity& identity) const;
};

/// The writer's side. Control thread.
class Spd {
 public:
  const SpdView& view() const { return view_; }
  PolicyPtr find(const PolicyIdentity& identity) const;
  PolicyPtr find(std::uint32_t index) const;
  /// A free index for this direction: `wanted` if that is free and not 0.
  std::uint32_t make_index(Direction direction, std::uint32_t wanted);

  /// Adds a policy, in the place of `replaced` if that is not null: among equal priorities it
  /// keeps that one's turn. Identity and index are free, or those of `replaced`.
  void insert(const PolicyPtr& policy, const PolicyPtr& replaced);
  void erase(const PolicyPtr& policy);

 private:
  struct Entry {
    PolicyPtr policy;
    std::uint64_t order = 0;  // key in its table
  };

  SpdView view_;
  std::unordered_map<PolicyIdentity, Entry, PolicyIdentityHash> by_identity_;
  std::unordered_map<std::uint32_t, PolicyPtr> by_index_;
  std::uint32_t next_index_ = 0;
};

}  // namespace xfrmfs::engine
