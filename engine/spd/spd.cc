// SPDX-License-Identifier: Apache-2.0
#include "engine/spd/spd.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "engine/base/mix.h"

namespace xfrmfs::engine {
namespace {

/// Lower priority first, then older first. Ages are the low half of a serial.
std::uint64_t order_of(const SecurityPolicy& policy) {
  return std::uint64_t{policy.params().priority} << 32 |
         static_cast<std::uint32_t>(policy.serial());
}

/// Tables of different directions and types do not meet in the index.
std::uint64_t table_seed(std::uint64_t seed, const PolicyParams& params) {
  return mix(seed, std::uint64_t{std::to_underlying(params.direction)} << 8 |
                       std::to_underlying(params.type));
}

constexpr std::uint32_t kIndexStep = 8;  // the low three bits are the direction

}  // namespace

const SecurityPolicy* SpdView::find(Direction direction, PolicyType type, const Flow& flow,
                                    std::uint32_t packet_mark, std::uint32_t if_id) const {
  const auto* shapes = table(direction, type).shapes.get();
  if (shapes == nullptr) return nullptr;
  const SecurityPolicy* found = nullptr;
  const auto matches = [&](const PolicyParams& params) {
    return params.direction == direction && params.type == type &&
           params.mark.matches(packet_mark) && params.if_id == if_id &&
           params.selector.matches(flow);
  };
  for (const Shape& shape : *shapes) {
    if (found != nullptr && found->order_ < shape.bound) break;
    if (!shape.flow.admits(flow)) continue;
    const std::uint64_t hash = shape.flow.hash(shape.seed, flow, packet_mark, if_id);
    index_->policies.visit(hash, [&](const SecurityPolicy* policy) {
      for (; policy != nullptr; policy = policy->next_.load(std::memory_order_acquire)) {
        if (found != nullptr && found->order_ <= policy->order_) break;
        if (!sees(*policy) || !matches(policy->params_)) continue;
        found = policy;
        break;
      }
      return true;
    });
  }
  return found;
}

template <class Visit>
void SpdView::each_hash_ahead(Direction direction, const Flow& flow, std::uint32_t packet_mark,
                              std::uint32_t if_id, Visit&& visit) const {
  for (const PolicyType type : {PolicyType::kSub, PolicyType::kMain}) {
    const auto* shapes = table(direction, type).shapes.get();
    if (shapes == nullptr) continue;
    for (const Shape& shape : std::span(*shapes).first(std::min(shapes->size(), kShapesAhead))) {
      if (shape.flow.admits(flow)) visit(shape.flow.hash(shape.seed, flow, packet_mark, if_id));
    }
  }
}

void SpdView::prefetch(Direction direction, const Flow& flow, std::uint32_t packet_mark,
                       std::uint32_t if_id, FetchList& list) const noexcept {
  each_hash_ahead(direction, flow, packet_mark, if_id,
                  [&](std::uint64_t hash) { index_->policies.prefetch(hash, list); });
}

void SpdView::prefetch_policies(Direction direction, const Flow& flow, std::uint32_t packet_mark,
                                std::uint32_t if_id, FetchList& list) const noexcept {
  each_hash_ahead(direction, flow, packet_mark, if_id, [&](std::uint64_t hash) {
    if (const SecurityPolicy* first = index_->policies.get(hash)) first->prefetch(list);
  });
}

std::size_t SpdView::size(Direction direction) const {
  return table(direction, PolicyType::kMain).by_order.size() +
         table(direction, PolicyType::kSub).by_order.size();
}

PolicyIdentity identity_of(const PolicyParams& params) {
  return {.direction = params.direction,
          .type = params.type,
          .selector = params.selector,
          .mark = params.mark,
          .if_id = params.if_id};
}

std::size_t PolicyIdentityHash::operator()(const PolicyIdentity& identity) const {
  const Selector& s = identity.selector;
  std::size_t sum = 0;
  const auto add = [&sum](std::uint64_t value) {
    sum = (sum ^ static_cast<std::size_t>(value)) * 0x9e3779b97f4a7c15u;
    sum ^= sum >> 29;
  };
  const auto add_address = [&add](const Prefix& prefix) {
    add(load_be64(prefix.address.storage().data()));
    add(load_be64(prefix.address.storage().data() + 8));
    add(prefix.length);
  };
  add_address(s.source);
  add_address(s.destination);
  add(std::uint64_t{s.source_port.port} << 32 | s.destination_port.port);
  add(std::uint64_t{std::to_underlying(s.protocol)} << 32 | identity.mark.value);
  add(std::uint64_t{identity.if_id} << 8 | std::to_underlying(identity.direction));
  return sum;
}

Spd::Spd(std::uint64_t seed) : index_(std::make_shared<SpdView::Index>(seed)) {
  view_.index_ = index_;
  view_.end_ = SpdView::kWriter;
}

PolicyPtr Spd::find(const PolicyIdentity& identity) const {
  const auto it = by_identity_.find(identity);
  return it == by_identity_.end() ? nullptr : it->second;
}

PolicyPtr Spd::find(std::uint32_t index) const {
  const auto it = by_index_.find(index);
  return it == by_index_.end() ? nullptr : it->second;
}

std::uint32_t Spd::make_index(Direction direction, std::uint32_t wanted) {
  if (wanted != 0 && !by_index_.contains(wanted)) return wanted;
  for (;;) {
    std::uint32_t index = next_index_ | std::to_underlying(direction);
    next_index_ += kIndexStep;
    if (index == 0) index = kIndexStep;
    if (!by_index_.contains(index)) return index;
  }
}

void Spd::insert(const PolicyPtr& policy, const PolicyPtr& replaced, Garbage& garbage) {
  const PolicyParams& params = policy->params();
  ++view_.version_;
  policy->order_ = order_of(*policy);
  if (replaced) {
    if (replaced->params().priority == params.priority) policy->order_ = replaced->order_;
    erase(replaced, policy->serial());  // who sees the one does not see the other
  }
  auto& by_order = view_.table(params.direction, params.type).by_order;
  while (by_order.find(policy->order_) != nullptr) ++policy->order_;  // ages meet after 2^32
  by_order.insert(policy->order_, policy);
  view_.by_serial_.insert(policy->serial(), policy);
  by_identity_.insert_or_assign(identity_of(params), policy);
  by_index_.insert_or_assign(params.index, policy);
  add_to_shape(*policy);
  link(*policy, garbage);
}

void Spd::erase(const PolicyPtr& policy, std::uint64_t now) {
  const PolicyParams& params = policy->params();
  ++view_.version_;
  policy->gone_.store(now, std::memory_order_relaxed);  // released with the view that has it
  gone_.push_back(policy);
  take_from_shape(*policy);
  view_.table(params.direction, params.type).by_order.erase(policy->order_);
  view_.by_serial_.erase(policy->serial());
  by_index_.erase(params.index);
  by_identity_.erase(identity_of(params));
}

SpdView Spd::publish(std::uint64_t end) const {
  SpdView view = view_;
  view.end_ = end;
  return view;
}

void Spd::sweep(const SpdView& oldest, Garbage& garbage) {
  while (!gone_.empty() && gone_.front()->gone_.load(std::memory_order_relaxed) < oldest.end_) {
    unlink(*gone_.front(), garbage);
    garbage.push_back(std::move(gone_.front()));
    gone_.pop_front();
  }
}

// --- The index.

std::uint64_t Spd::hash_of(const SecurityPolicy& policy) const {
  const PolicyParams& params = policy.params();
  const FlowShape shape(params.selector, params.mark);
  return shape.hash(shape.seed_for(table_seed(index_->seed, params)), params.selector, params.mark,
                    params.if_id);
}

void Spd::link(const SecurityPolicy& policy, Garbage& garbage) {
  const std::uint64_t hash = hash_of(policy);
  const SecurityPolicy* next = index_->policies.get(hash);
  if (next == nullptr) return index_->policies.insert(hash, &policy, garbage);
  const SecurityPolicy* before = nullptr;
  const SecurityPolicy* const first = next;
  while (next != nullptr && next->order_ < policy.order_) {
    before = next;
    next = next->next_.load(std::memory_order_relaxed);
  }
  policy.next_.store(next, std::memory_order_relaxed);  // released with what leads to it
  if (before == nullptr) {
    index_->policies.replace(hash, first, &policy);
  } else {
    before->next_.store(&policy, std::memory_order_release);
  }
}

/// What it points to stays as it is: readers may stand on it.
void Spd::unlink(const SecurityPolicy& policy, Garbage& garbage) {
  const std::uint64_t hash = hash_of(policy);
  const SecurityPolicy* const next = policy.next_.load(std::memory_order_relaxed);
  const SecurityPolicy* before = index_->policies.get(hash);
  if (before == &policy) {
    if (next != nullptr) return index_->policies.replace(hash, &policy, next);
    return index_->policies.erase(hash, &policy, garbage);
  }
  const SecurityPolicy* at = before;
  while (at != &policy) {
    before = at;
    at = at->next_.load(std::memory_order_relaxed);
  }
  before->next_.store(next, std::memory_order_release);
}

// --- Shapes.

std::map<FlowShape, std::size_t>& Spd::shape_users(const PolicyParams& params) {
  return shape_users_[static_cast<std::size_t>(params.direction)]
                     [static_cast<std::size_t>(params.type)];
}

/// A list of shapes is replaced when there is a new one, or one with an earlier bound: rarely.
void Spd::add_to_shape(const SecurityPolicy& policy) {
  const PolicyParams& params = policy.params();
  const FlowShape flow(params.selector, params.mark);
  const bool is_new = ++shape_users(params)[flow] == 1;
  auto& published = view_.table(params.direction, params.type).shapes;
  std::vector<Shape> shapes;
  if (published != nullptr) {
    const auto there = std::ranges::find(*published, flow, &Shape::flow);
    if (!is_new && there->bound <= policy.order_) return;
    shapes = *published;
  }
  if (!is_new) std::erase_if(shapes, [&](const Shape& shape) { return shape.flow == flow; });
  const Shape shape{.flow = flow,
                    .seed = flow.seed_for(table_seed(index_->seed, params)),
                    .bound = policy.order_};
  shapes.insert(std::ranges::upper_bound(shapes, shape.bound, {}, &Shape::bound), shape);
  published = std::make_shared<const std::vector<Shape>>(std::move(shapes));
}

/// The last policy of a shape takes it away; others leave its bound, which stays a bound.
void Spd::take_from_shape(const SecurityPolicy& policy) {
  const PolicyParams& params = policy.params();
  auto& users = shape_users(params);
  const auto it = users.find(FlowShape(params.selector, params.mark));
  if (--it->second > 0) return;
  auto& published = view_.table(params.direction, params.type).shapes;
  std::vector<Shape> shapes = *published;
  std::erase_if(shapes, [&](const Shape& shape) { return shape.flow == it->first; });
  published =
      shapes.empty() ? nullptr : std::make_shared<const std::vector<Shape>>(std::move(shapes));
  users.erase(it);
}

}  // namespace xfrmfs::engine
