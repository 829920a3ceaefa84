// SPDX-License-Identifier: Apache-2.0
// The Security Policy Database (RFC 4301 §4.4.1): Spd for its one writer, SpdView for readers.
//
// A view holds, per direction, the policies in the order in which they are asked: priority, then
// age. It is of one moment, exactly: no packet meets half a change.
//
// Lookup goes by shape: what of a flow a selector looks at. There are few shapes in any table,
// however many policies; under the shape and the bits that it looks at, a hash table that all views
// share leads to the policies that want exactly these bits. Each shape knows a lower bound of its
// policies' turns, so that the search ends when nothing earlier can come.
//
//   shapes: [10/8-like pairs, any protocol | bound 5] [pairs of hosts, TCP, both ports | bound 9]
//   ... index:  hash(shape, masked flow, mark, if_id) -> policy -> next policy by turn -> ...
//
// The writer changes that table in place. A policy has two stamps on the engine's clock of serials,
// when it came and when it went, and a view sees those that had come and not gone when it was made.
// One that went leaves the table when no view that sees it is left (sweep()), and is destroyed when
// no view is left that was there then (Published, Garbage).

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/persistent_map.h"
#include "engine/base/prefetch.h"
#include "engine/base/sharded_index.h"
#include "engine/packet/flow.h"
#include "engine/spd/flow_shape.h"
#include "engine/spd/policy_params.h"

namespace xfrmfs::engine {

/// A policy in the database. Any thread; the parameters never change. Among many policies, the next
/// packet's is in no cache: what a lookup touches comes first.
class SecurityPolicy {
 public:
  SecurityPolicy(PolicyParams params, std::uint64_t serial, BootTime now, WallTime wall_now)
      : serial_(serial), params_(std::move(params)), added_at_(now), added_wall_(wall_now) {}

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
  friend class Spd;
  friend class SpdView;

  /// What a lookup and its packet will touch.
  void prefetch(FetchList& list) const noexcept {
    const auto* const begin = reinterpret_cast<const std::byte*>(this);
    const auto* const end = reinterpret_cast<const std::byte*>(&params_.templates + 1);
    list.add(begin, static_cast<std::size_t>(end - begin));
  }

  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  // For Spd and its readers.
  mutable std::atomic<const SecurityPolicy*> next_{nullptr};  // in the same place of the index
  mutable std::atomic<std::uint64_t> gone_{kNever};           // serial at which it was removed
  mutable std::uint64_t order_ = 0;                           // its turn: priority, then age
  const std::uint64_t serial_;
  mutable std::atomic<std::int64_t> last_used_ns_{0};
  const PolicyParams params_;
  const BootTime added_at_;
  const WallTime added_wall_;
};

using PolicyPtr = std::shared_ptr<const SecurityPolicy>;

class SpdView {
 public:
  /// The policy that decides: sub policies have a table of their own. Null: none matches.
  const SecurityPolicy* find(Direction direction, PolicyType type, const Flow& flow,
                             std::uint32_t packet_mark, std::uint32_t if_id) const;

  /// For whoever has several flows to find policies for, of both types: the index's lines; and,
  /// when they have come, the policies that are there.
  void prefetch(Direction direction, const Flow& flow, std::uint32_t packet_mark,
                std::uint32_t if_id, FetchList& list) const noexcept;
  void prefetch_policies(Direction direction, const Flow& flow, std::uint32_t packet_mark,
                         std::uint32_t if_id, FetchList& list) const noexcept;

  /// In the order in which they are asked.
  template <class Visit>
  void in_order(Direction direction, PolicyType type, Visit&& visit) const {
    table(direction, type).by_order.ascending([&](std::uint64_t, const PolicyPtr& policy) {
      return visit(*policy);
    });
  }
  std::size_t size(Direction direction) const;
  bool empty() const { return by_serial_.empty(); }
  /// Equal for two views of one database only if they have the same policies.
  std::uint64_t version() const { return version_; }
  /// All of them by age: keys are serials.
  const PersistentMap<PolicyPtr>& by_serial() const { return by_serial_; }

 private:
  friend class Spd;

  struct Shape {
    FlowShape flow;
    std::uint64_t seed = 0;   // of its hashes
    std::uint64_t bound = 0;  // no policy of this shape has an earlier turn
  };
  struct Table {
    PersistentMap<PolicyPtr> by_order;
    std::shared_ptr<const std::vector<Shape>> shapes;  // by bound; null: none
  };
  struct Index {
    explicit Index(std::uint64_t s) : seed(s) {}

    const std::uint64_t seed;
    ShardedIndex<const SecurityPolicy*> policies;  // first by turn
  };

  static constexpr std::uint64_t kWriter = std::numeric_limits<std::uint64_t>::max();
  /// A search rarely gets further than this: more is not fetched for it.
  static constexpr std::size_t kShapesAhead = 4;

  /// Calls visit(hash) for the shapes of a flow that are asked first.
  template <class Visit>
  void each_hash_ahead(Direction direction, const Flow& flow, std::uint32_t packet_mark,
                       std::uint32_t if_id, Visit&& visit) const;
  bool sees(const SecurityPolicy& policy) const {
    return policy.serial_ < end_ && policy.gone_.load(std::memory_order_relaxed) >= end_;
  }
  const Table& table(Direction direction, PolicyType type) const {
    return tables_[static_cast<std::size_t>(direction)][static_cast<std::size_t>(type)];
  }
  Table& table(Direction direction, PolicyType type) {
    return tables_[static_cast<std::size_t>(direction)][static_cast<std::size_t>(type)];
  }

  std::shared_ptr<const Index> index_;  // null: an empty view
  std::uint64_t end_ = 0;               // the moment: serials from here on are later; or kWriter
  std::array<std::array<Table, 2>, kDirections> tables_;
  PersistentMap<PolicyPtr> by_serial_;
  std::uint64_t version_ = 0;  // policies that have come or gone so far
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
  /// `seed` keeps the hashes of this database from being guessed.
  explicit Spd(std::uint64_t seed);

  /// What the writer sees.
  const SpdView& view() const { return view_; }
  PolicyPtr find(const PolicyIdentity& identity) const;
  PolicyPtr find(std::uint32_t index) const;
  /// A free index for this direction: `wanted` if that is free and not 0.
  std::uint32_t make_index(Direction direction, std::uint32_t wanted);

  /// Adds a policy, in the place of `replaced` if that is not null: among equal priorities it
  /// keeps that one's turn. Identity and index are free, or those of `replaced`. Its serial is
  /// greater than all before. `garbage` is what to keep with the snapshot that is replaced next.
  void insert(const PolicyPtr& policy, const PolicyPtr& replaced, Garbage& garbage);
  /// `now`: a serial of its own.
  void erase(const PolicyPtr& policy, std::uint64_t now);
  /// What to publish, `end` being the next serial.
  SpdView publish(std::uint64_t end) const;
  /// Takes what `oldest`, the oldest view that a reader may have, does not see out of the index.
  void sweep(const SpdView& oldest, Garbage& garbage);

 private:
  using Shape = SpdView::Shape;

  void link(const SecurityPolicy& policy, Garbage& garbage);
  void unlink(const SecurityPolicy& policy, Garbage& garbage);
  std::uint64_t hash_of(const SecurityPolicy& policy) const;
  void add_to_shape(const SecurityPolicy& policy);
  void take_from_shape(const SecurityPolicy& policy);
  std::map<FlowShape, std::size_t>& shape_users(const PolicyParams& params);

  std::shared_ptr<SpdView::Index> index_;
  SpdView view_;
  /// How many policies have a shape, by table.
  std::array<std::array<std::map<FlowShape, std::size_t>, 2>, kDirections> shape_users_;
  std::deque<PolicyPtr> gone_;  // and still in the index; in the order in which they went
  std::unordered_map<PolicyIdentity, PolicyPtr, PolicyIdentityHash> by_identity_;
  std::unordered_map<std::uint32_t, PolicyPtr> by_index_;
  std::uint32_t next_index_ = 0;
};

}  // namespace xfrmfs::engine
