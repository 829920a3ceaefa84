// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/sad.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace xfrmfs::engine {
namespace {

/// One round of a multiply-and-fold hash (the product's halves xor'ed).
std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xd1b54a32d192ed03u);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t hash(std::uint64_t seed, const IpAddress& address, std::uint32_t number,
                   Protocol protocol) {
  std::uint64_t halves[2];
  std::memcpy(halves, address.storage().data(), sizeof halves);
  const std::uint64_t rest = std::uint64_t{number} << 16 |
                             std::uint64_t{std::to_underlying(protocol)} << 8 |
                             std::to_underlying(address.family());
  return mix(mix(mix(seed, halves[0]), halves[1]), rest);
}

bool is_gone(SaState state) {
  return state == SaState::kExpired;
}

std::uint64_t spi_key(Protocol protocol, Spi spi) {
  return std::uint64_t{std::to_underlying(protocol)} << 32 | std::to_underlying(spi);
}

bool source_fits(const IpAddress& wanted, const IpAddress& source) {
  return wanted == source || wanted.is_any() || source.is_any();
}

}  // namespace

std::uint64_t SadView::id_hash(const IpAddress& destination, Spi spi, Protocol protocol) const {
  return hash(seed_, destination, std::to_underlying(spi), protocol);
}

std::uint64_t SadView::group_hash(const IpAddress& destination, Reqid reqid,
                                  Protocol protocol) const {
  return hash(~seed_, destination, std::to_underlying(reqid), protocol);
}

SecurityAssociation* SadView::find(std::uint32_t packet_mark, const IpAddress& destination, Spi spi,
                                   Protocol protocol) const {
  const IdSlot* slot = by_id_.find(id_hash(destination, spi, protocol));
  if (slot == nullptr) return nullptr;
  SecurityAssociation* best = nullptr;
  const auto consider = [&](const SaPtr& association) {
    const SaId& id = association->id();
    if (id.destination != destination || id.spi != spi || id.protocol != protocol) return;
    if (!id.mark.matches(packet_mark) || is_gone(association->state())) return;
    if (best == nullptr || association->serial() > best->serial()) best = association.get();
  };
  consider(slot->first);
  if (slot->others) std::ranges::for_each(*slot->others, consider);
  return best;
}

SadView::Choice SadView::choose(const Template& tmpl, const Flow& flow, std::uint32_t packet_mark,
                                std::uint32_t if_id) const {
  const bool transport = tmpl.mode == Mode::kTransport;
  const IpAddress& remote = transport ? flow.destination : tmpl.destination;
  const IpAddress& local = transport ? flow.source : tmpl.source;
  Choice choice;
  SecurityAssociation* dying = nullptr;

  const auto fits = [&](const SecurityAssociation& association) {
    const SaParams& params = association.params();
    return params.id.destination == remote && params.reqid == tmpl.reqid &&
           params.id.protocol == tmpl.protocol && params.mode == tmpl.mode &&
           (tmpl.spi == Spi{} || tmpl.spi == params.id.spi) && params.if_id == if_id &&
           params.id.mark.matches(packet_mark) && source_fits(local, params.source) &&
           (params.flags & kSaWildRecv) == 0 && association.state() == SaState::kValid &&
           params.selector.matches(flow);
  };

  if (const auto* group = groups_.find(group_hash(remote, tmpl.reqid, tmpl.protocol))) {
    group->descending([&](std::uint64_t, const SaPtr& association) {
      if (!fits(*association)) return true;
      if (!association->lifetime().soft_told()) {
        choice.association = association.get();
        return false;
      }
      if (dying == nullptr) dying = association.get();
      return true;
    });
  }
  if (choice.association == nullptr) choice.association = dying;
  if (choice.association == nullptr && tmpl.spi != Spi{}) {
    choice.spi_conflict = find(packet_mark, remote, tmpl.spi, tmpl.protocol) != nullptr;
  }
  return choice;
}

void Sad::insert(const SaPtr& association) {
  const SaParams& params = association->params();
  const SaId& id = params.id;
  if (id.spi != Spi{}) insert_by_id(association);

  const std::uint64_t group_key = view_.group_hash(id.destination, params.reqid, id.protocol);
  const auto* group = view_.groups_.find(group_key);
  view_.groups_ = view_.groups_.with(
      group_key,
      (group ? *group : PersistentMap<SaPtr>{}).with(association->serial(), association));
  view_.by_serial_ = view_.by_serial_.with(association->serial(), association);
  ++spi_users_[spi_key(id.protocol, id.spi)];
}

void Sad::erase(const SaPtr& association) {
  const SaParams& params = association->params();
  const SaId& id = params.id;
  if (id.spi != Spi{}) erase_by_id(association);

  const std::uint64_t group_key = view_.group_hash(id.destination, params.reqid, id.protocol);
  auto group = view_.groups_.find(group_key)->without(association->serial());
  view_.groups_ = group.empty() ? view_.groups_.without(group_key)
                                : view_.groups_.with(group_key, std::move(group));
  view_.by_serial_ = view_.by_serial_.without(association->serial());
  const auto users = spi_users_.find(spi_key(id.protocol, id.spi));
  if (--users->second == 0) spi_users_.erase(users);
}

void Sad::insert_by_id(const SaPtr& association) {
  const SaId& id = association->id();
  const std::uint64_t key = view_.id_hash(id.destination, id.spi, id.protocol);
  SadView::IdSlot slot;
  if (const auto* there = view_.by_id_.find(key)) {
    slot = *there;
    auto others = slot.others ? *slot.others : std::vector<SaPtr>{};
    others.push_back(association);
    slot.others = std::make_shared<const std::vector<SaPtr>>(std::move(others));
  } else {
    slot.first = association;
  }
  view_.by_id_ = view_.by_id_.with(key, std::move(slot));
}

void Sad::erase_by_id(const SaPtr& association) {
  const SaId& id = association->id();
  const std::uint64_t key = view_.id_hash(id.destination, id.spi, id.protocol);
  const SadView::IdSlot slot = *view_.by_id_.find(key);
  std::vector<SaPtr> rest = slot.others ? *slot.others : std::vector<SaPtr>{};
  rest.insert(rest.begin(), slot.first);
  std::erase(rest, association);
  if (rest.empty()) {
    view_.by_id_ = view_.by_id_.without(key);
    return;
  }
  SadView::IdSlot left{.first = rest.front(), .others = nullptr};
  rest.erase(rest.begin());
  if (!rest.empty()) left.others = std::make_shared<const std::vector<SaPtr>>(std::move(rest));
  view_.by_id_ = view_.by_id_.with(key, std::move(left));
}

bool Sad::spi_in_use(Protocol protocol, Spi spi) const {
  return spi_users_.contains(spi_key(protocol, spi));
}

}  // namespace xfrmfs::engine
