// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/sad.h"

#include <cstring>
#include <utility>

#include "engine/base/mix.h"

namespace xfrmfs::engine {
namespace {

std::uint64_t hash(std::uint64_t seed, const IpAddress& address, std::uint32_t number,
                   Protocol protocol) {
  std::uint64_t halves[2];
  std::memcpy(halves, address.storage().data(), sizeof halves);
  const std::uint64_t rest = std::uint64_t{number} << 16 |
                             std::uint64_t{std::to_underlying(protocol)} << 8 |
                             std::to_underlying(address.family());
  return mix(mix(mix(seed, halves[0]), halves[1]), rest);
}

/// Different for each protocol and SPI: an odd factor loses nothing of a number.
std::uint64_t spi_hash(Protocol protocol, Spi spi) {
  const auto number = std::uint64_t{std::to_underlying(protocol)} << 32 | std::to_underlying(spi);
  const std::uint64_t product = (number + 1) * 0x9e3779b97f4a7c15u;
  return product ^ product >> 32;
}

/// Where the SA that a template wants for this flow leads to.
const IpAddress& remote_of(const Template& tmpl, const Flow& flow) {
  return tmpl.mode == Mode::kTransport ? flow.destination : tmpl.destination;
}

bool source_fits(const IpAddress& wanted, const IpAddress& source) {
  return wanted == source || wanted.is_any() || source.is_any();
}

}  // namespace

std::uint64_t SadView::Tables::id_hash(const IpAddress& destination, Spi spi,
                                       Protocol protocol) const {
  return hash(seed, destination, std::to_underlying(spi), protocol);
}

std::uint64_t SadView::Tables::group_hash(const IpAddress& destination, Reqid reqid,
                                          Protocol protocol) const {
  return hash(~seed, destination, std::to_underlying(reqid), protocol);
}

std::uint64_t SadView::Tables::id_hash(const SecurityAssociation& association) const {
  const SaId& id = association.id();
  return id_hash(id.destination, id.spi, id.protocol);
}

std::uint64_t SadView::Tables::group_hash(const SecurityAssociation& association) const {
  const SaConfig& config = association.params();
  return group_hash(config.id.destination, config.reqid, config.id.protocol);
}

template <class Visit>
void SadView::each_with_id(const IpAddress& destination, Spi spi, Protocol protocol,
                           Visit&& visit) const {
  if (tables_ == nullptr) return;
  tables_->by_id.visit(
      tables_->id_hash(destination, spi, protocol), [&](SecurityAssociation* association) {
        const SaId& id = association->id();
        const bool same = id.destination == destination && id.spi == spi && id.protocol == protocol;
        return !same || association->serial() >= end_ || visit(association);
      });
}

SecurityAssociation* SadView::find(std::uint32_t packet_mark, const IpAddress& destination, Spi spi,
                                   Protocol protocol) const {
  SecurityAssociation* best = nullptr;
  each_with_id(destination, spi, protocol, [&](SecurityAssociation* association) {
    const SaState state = association->state();
    const bool gone = state == SaState::kExpired || (state == SaState::kDead && end_ == kWriter);
    if (!gone && association->id().mark.matches(packet_mark) &&
        (best == nullptr || association->serial() > best->serial())) {
      best = association;
    }
    return true;
  });
  return best;
}

void SadView::prefetch(const IpAddress& destination, Spi spi, Protocol protocol,
                       FetchList& list) const noexcept {
  if (tables_ == nullptr) return;
  tables_->by_id.prefetch(tables_->id_hash(destination, spi, protocol), list);
}

const SecurityAssociation* SadView::prefetch_association(const IpAddress& destination, Spi spi,
                                                         Protocol protocol,
                                                         FetchList& list) const noexcept {
  const SecurityAssociation* first = nullptr;
  if (tables_ == nullptr) return first;
  tables_->by_id.visit(tables_->id_hash(destination, spi, protocol),
                       [&](const SecurityAssociation* association) {
                         first = association;
                         return false;
                       });
  if (first != nullptr) first->prefetch_inbound(list);
  return first;
}

void SadView::prefetch(const Template& tmpl, const Flow& flow, FetchList& list) const noexcept {
  if (tables_ == nullptr) return;
  const IpAddress& remote = remote_of(tmpl, flow);
  if (tmpl.spi != Spi{}) return prefetch(remote, tmpl.spi, tmpl.protocol, list);
  tables_->youngest.prefetch(tables_->group_hash(remote, tmpl.reqid, tmpl.protocol), list);
}

void SadView::prefetch_association(const Template& tmpl, const Flow& flow,
                                   FetchList& list) const noexcept {
  if (tables_ == nullptr) return;
  const IpAddress& remote = remote_of(tmpl, flow);
  const auto add_first = [&](const SecurityAssociation* association) {
    association->prefetch_outbound(list);
    return false;
  };
  if (tmpl.spi != Spi{}) {
    tables_->by_id.visit(tables_->id_hash(remote, tmpl.spi, tmpl.protocol), add_first);
  } else {
    tables_->youngest.visit(tables_->group_hash(remote, tmpl.reqid, tmpl.protocol), add_first);
  }
}

SadView::Choice SadView::choose(const Template& tmpl, const Flow& flow, std::uint32_t packet_mark,
                                std::uint32_t if_id, const SaConfig* around) const {
  if (tables_ == nullptr) return {};
  const bool inside = tmpl.mode == Mode::kTransport && around != nullptr;
  const IpAddress& remote = inside ? around->id.destination : remote_of(tmpl, flow);
  const IpAddress& local = inside                          ? around->source
                           : tmpl.mode == Mode::kTransport ? flow.source
                                                           : tmpl.source;
  SecurityAssociation* ready = nullptr;
  SecurityAssociation* dying = nullptr;

  const auto fits = [&](const SecurityAssociation& association) {
    const SaConfig& config = association.params();
    return config.id.destination == remote && config.reqid == tmpl.reqid &&
           config.id.protocol == tmpl.protocol && config.mode == tmpl.mode &&
           (tmpl.spi == Spi{} || tmpl.spi == config.id.spi) && config.if_id == if_id &&
           config.id.mark.matches(packet_mark) && source_fits(local, config.source) &&
           (config.flags & kSaWildRecv) == 0 && association.state() == SaState::kValid &&
           association.serial() < end_ && config.selector.matches(flow);
  };
  const auto consider = [&](SecurityAssociation* association) {
    if (!fits(*association)) return;
    auto*& place = association->lifetime().soft_told() ? dying : ready;
    if (place == nullptr || association->serial() > place->serial()) place = association;
  };

  if (tmpl.spi != Spi{}) {
    each_with_id(remote, tmpl.spi, tmpl.protocol, [&](SecurityAssociation* association) {
      consider(association);
      return true;
    });
  } else {
    const std::uint64_t group = tables_->group_hash(remote, tmpl.reqid, tmpl.protocol);
    tables_->youngest.visit(group, [&](SecurityAssociation* association) {
      while (association != nullptr) {
        consider(association);
        if (ready != nullptr) return false;  // and the way to the next, in memory, is not asked for
        association = association->older_.load(std::memory_order_acquire);
      }
      return true;
    });
  }

  Choice choice{.association = ready != nullptr ? ready : dying};
  if (choice.association == nullptr && tmpl.spi != Spi{}) {
    choice.spi_conflict = find(packet_mark, remote, tmpl.spi, tmpl.protocol) != nullptr;
  }
  return choice;
}

Sad::Sad(std::uint64_t seed) : tables_(std::make_shared<SadView::Tables>(seed)) {
  view_.tables_ = tables_;
  view_.end_ = SadView::kWriter;
}

void Sad::insert(const SaPtr& association, Garbage& garbage) {
  SecurityAssociation* const young = association.get();
  if (young->id().spi != Spi{}) {
    tables_->by_id.insert(tables_->id_hash(*young), young, garbage);
  }
  if (const auto& encapsulation = young->params().encapsulation) {
    tables_->encapsulations.add(encapsulation->source_port, encapsulation->destination_port);
  }
  const std::uint64_t group = tables_->group_hash(*young);
  SecurityAssociation* const older = tables_->youngest.get(group);
  young->older_.store(older, std::memory_order_relaxed);  // released with the table's slot
  if (older != nullptr) {
    older->younger_ = young;
    tables_->youngest.replace(group, older, young);
  } else {
    tables_->youngest.insert(group, young, garbage);
  }
  count_spi(young->id(), true, garbage);
  view_.by_serial_.insert(young->serial(), association);
}

void Sad::erase(const SecurityAssociation& association, Garbage& garbage) {
  count_spi(association.id(), false, garbage);
  erased_.push_back(*view_.by_serial_.find(association.serial()));
  view_.by_serial_.erase(association.serial());
}

SadView Sad::publish(std::uint64_t end, Garbage& garbage) {
  for (SaPtr& association : erased_) {
    unlink(*association, garbage);
    garbage.push_back(std::move(association));
  }
  erased_.clear();
  SadView view = view_;
  view.end_ = end;
  return view;
}

/// What it points to stays as it is: readers may stand on it.
void Sad::unlink(SecurityAssociation& association, Garbage& garbage) {
  if (association.id().spi != Spi{}) {
    tables_->by_id.erase(tables_->id_hash(association), &association, garbage);
  }
  SecurityAssociation* const older = association.older_.load(std::memory_order_relaxed);
  SecurityAssociation* const younger = association.younger_;
  if (older != nullptr) older->younger_ = younger;
  if (younger != nullptr) {
    younger->older_.store(older, std::memory_order_release);
    return;
  }
  const std::uint64_t group = tables_->group_hash(association);
  if (older != nullptr) {
    tables_->youngest.replace(group, &association, older);
  } else {
    tables_->youngest.erase(group, &association, garbage);
  }
}

void Sad::count_spi(const SaId& id, bool more, Garbage& garbage) {
  const std::uint64_t key = spi_hash(id.protocol, id.spi);
  const std::uint64_t users = spi_users_.get(key);
  const std::uint64_t now = more ? users + 1 : users - 1;
  if (users == 0) {
    spi_users_.insert(key, now, garbage);
  } else if (now == 0) {
    spi_users_.erase(key, users, garbage);
  } else {
    spi_users_.replace(key, users, now);
  }
}

bool Sad::spi_in_use(Protocol protocol, Spi spi) const {
  return spi_users_.get(spi_hash(protocol, spi)) != 0;
}

}  // namespace xfrmfs::engine
