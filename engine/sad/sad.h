// SPDX-License-Identifier: Apache-2.0
// The Security Association Database (RFC 4301 §4.4.2): Sad for its one writer, SadView for readers.
//
// A view finds an SA in three ways: by id for a packet that arrives, by template for one that
// leaves, by age for a listing. It is immutable; a change makes a new view that shares almost
// everything, so a snapshot of a million SAs costs a few hundred bytes.

#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>

#include "engine/base/persistent_map.h"
#include "engine/packet/flow.h"
#include "engine/sad/security_association.h"
#include "engine/spd/template.h"

namespace xfrmfs::engine {

using SaPtr = std::shared_ptr<SecurityAssociation>;

class SadView {
 public:
  /// The SA that a packet with this mark, destination, SPI and protocol belongs to, or null.
  /// An expired one is as good as gone and not found.
  SecurityAssociation* find(std::uint32_t packet_mark, const IpAddress& destination, Spi spi,
                            Protocol protocol) const;

  struct Choice {
    SecurityAssociation* association = nullptr;  // null: none is usable now
    bool spi_conflict = false;  // the template's SPI exists, with other parameters
  };
  /// The SA that satisfies `tmpl` for this flow: not dying before dying, then the youngest.
  Choice choose(const Template& tmpl, const Flow& flow, std::uint32_t packet_mark,
                std::uint32_t if_id) const;

  std::size_t size() const { return by_serial_.size(); }
  /// All of them by age: keys are serials, descending() is newest first as dumps want it.
  const PersistentMap<SaPtr>& by_serial() const { return by_serial_; }

 private:
  friend class Sad;
  // Keys of the first two are hashes; a collision takes the next free key, as in open addressing.
  PersistentMap<SaPtr> by_id_;
  struct Group;  // the SAs of one destination, reqid and protocol
  PersistentMap<std::shared_ptr<const Group>> by_template_;
  PersistentMap<SaPtr> by_serial_;
  std::uint64_t seed_ = 0;
};

}  // namespace xfrmfs::engine
