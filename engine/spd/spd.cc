// SPDX-License-Identifier: Apache-2.0
#include "engine/spd/spd.h"

#include <functional>
#include <string_view>
#include <utility>

namespace xfrmfs::engine {
namespace {

/// Lower priority first, then older first. Ages are the low half of a serial.
std::uint64_t order_of(const SecurityPolicy& policy) {
  return std::uint64_t{policy.params().priority} << 32 |
         static_cast<std::uint32_t>(policy.serial());
}

constexpr std::uint32_t kIndexStep = 8;  // the low three bits are the direction

}  // namespace

const SecurityPolicy* SpdView::find(Direction direction, PolicyType type, const Flow& flow,
                                    std::uint32_t packet_mark, std::uint32_t if_id) const {
  const SecurityPolicy* found = nullptr;
  table(direction, type).ascending([&](std::uint64_t, const PolicyPtr& policy) {
    const PolicyParams& params = policy->params();
    if (!params.mark.matches(packet_mark) || params.if_id != if_id ||
        !params.selector.matches(flow)) {
      return true;
    }
    found = policy.get();
    return false;
  });
  return found;
}

std::size_t SpdView::size(Direction direction) const {
  return table(direction, PolicyType::kMain).size() + table(direction, PolicyType::kSub).size();
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

PolicyPtr Spd::find(const PolicyIdentity& identity) const {
  const auto it = by_identity_.find(identity);
  return it == by_identity_.end() ? nullptr : it->second.policy;
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

void Spd::insert(const PolicyPtr& policy, const PolicyPtr& replaced) {
  const PolicyParams& params = policy->params();
  const PolicyIdentity identity = identity_of(params);
  std::uint64_t order = order_of(*policy);
  if (replaced) {
    if (replaced->params().priority == params.priority) order = by_identity_.at(identity).order;
    erase(replaced);
  }
  auto& table = view_.table(params.direction, params.type);
  while (table.find(order) != nullptr) ++order;  // ages meet again after 2^32 policies
  table = table.with(order, policy);
  view_.by_serial_ = view_.by_serial_.with(policy->serial(), policy);
  by_identity_.insert_or_assign(identity, Entry{policy, order});
  by_index_.insert_or_assign(params.index, policy);
}

void Spd::erase(const PolicyPtr& policy) {
  const PolicyParams& params = policy->params();
  const auto it = by_identity_.find(identity_of(params));
  auto& table = view_.table(params.direction, params.type);
  table = table.without(it->second.order);
  view_.by_serial_ = view_.by_serial_.without(policy->serial());
  by_index_.erase(params.index);
  by_identity_.erase(it);
}

}  // namespace xfrmfs::engine
