// SPDX-License-Identifier: Apache-2.0
// The Security Association Database (RFC 4301 §4.4.2): Sad for its one writer, SadView for readers.
//
// A view finds an SA in three ways: by id for a packet that arrives, by template for one that
// leaves, by age for a listing. It is immutable; a change makes a new view that shares almost
// everything, so a snapshot of a million SAs costs a few hundred bytes.

#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/base/persistent_map.h"
#include "engine/packet/flow.h"
#include "engine/sad/security_association.h"
#include "engine/spd/template.h"

namespace xfrmfs::engine {

using SaPtr = std::shared_ptr<SecurityAssociation>;

class SadView {
 public:
  /// The SA that a packet with this mark, destination, SPI and protocol belongs to, or null; the
  /// youngest if marks leave a choice. An expired one is as good as gone and not found. SPI 0 names
  /// no SA: one that was made with it can be listed, but not found.
  SecurityAssociation* find(std::uint32_t packet_mark, const IpAddress& destination, Spi spi,
                            Protocol protocol) const;

  struct Choice {
    SecurityAssociation* association = nullptr;  // null: none is usable now
    bool spi_conflict = false;                   // the template's SPI exists, with other parameters
  };
  /// The SA that satisfies `tmpl` for this flow: not dying before dying, then the youngest.
  Choice choose(const Template& tmpl, const Flow& flow, std::uint32_t packet_mark,
                std::uint32_t if_id) const;

  std::size_t size() const { return by_serial_.size(); }
  /// All of them by age: keys are serials, descending() is newest first as dumps want it.
  const PersistentMap<SaPtr>& by_serial() const { return by_serial_; }

 private:
  friend class Sad;

  /// The SAs under one hash of destination, SPI and protocol: one, but for marks and collisions.
  struct IdSlot {
    SaPtr first;
    std::shared_ptr<const std::vector<SaPtr>> others;
  };

  std::uint64_t id_hash(const IpAddress& destination, Spi spi, Protocol protocol) const;
  std::uint64_t group_hash(const IpAddress& destination, Reqid reqid, Protocol protocol) const;

  PersistentMap<IdSlot> by_id_;
  PersistentMap<PersistentMap<SaPtr>> groups_;  // by group_hash, then serial
  PersistentMap<SaPtr> by_serial_;
  std::uint64_t seed_ = 0;
};

/// The writer's side. Control thread.
class Sad {
 public:
  /// `seed` keeps the hashes of this database from being guessed.
  explicit Sad(std::uint64_t seed) { view_.seed_ = seed; }

  const SadView& view() const { return view_; }
  /// Its serial must be new.
  void insert(const SaPtr& association);
  /// It must be in the database.
  void erase(const SaPtr& association);
  /// Is an SA of any destination using this SPI?
  bool spi_in_use(Protocol protocol, Spi spi) const;

 private:
  void insert_by_id(const SaPtr& association);
  void erase_by_id(const SaPtr& association);

  SadView view_;
  std::unordered_map<std::uint64_t, std::uint32_t> spi_users_;  // protocol and SPI -> SAs
};

}  // namespace xfrmfs::engine
