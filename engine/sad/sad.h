// SPDX-License-Identifier: Apache-2.0
// The Security Association Database (RFC 4301 §4.4.2): Sad for its one writer, SadView for readers.
//
// A view finds an SA in three ways: by id for a packet that arrives, by template for one that
// leaves, by age for a listing. Listings are of one moment: that index is persistent. The other two
// are hash tables which all views share and the writer changes in place, so that a change costs the
// same among a million SAs as among two:
//
//   - An SA is in the tables from insert() on, but a view does not see serials that were given out
//     after it was made: what has not been published is not found.
//   - An SA is taken out of the tables by publish(), just before the view without it replaces the
//     last one that owns it; readers of older views may miss it from then on. Until then it is
//     found, and its state says that it is dead.
//   - Readers use what they find only while they hold the snapshot that they searched, and
//     snapshots go in the order in which they were replaced (Published): so everything that a
//     reader can find, or has found, is owned by its snapshot, by one that goes later, or by the
//     garbage of one of these.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "engine/base/persistent_map.h"
#include "engine/base/sharded_index.h"
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

  /// For whoever has several packets to find SAs for: the table's lines; and, when they have come,
  /// what the packet will touch of the SA. Before find(), and before choose().
  void prefetch(const IpAddress& destination, Spi spi, Protocol protocol,
                FetchList& list) const noexcept;
  /// Returns an SA that find() may find, mostly does; null: there is none.
  const SecurityAssociation* prefetch_association(const IpAddress& destination, Spi spi,
                                                  Protocol protocol,
                                                  FetchList& list) const noexcept;
  void prefetch(const Template& tmpl, const Flow& flow, FetchList& list) const noexcept;
  void prefetch_association(const Template& tmpl, const Flow& flow, FetchList& list) const noexcept;

  /// False: no SA encapsulates in UDP between these ports. True: one might.
  bool may_encapsulate(std::uint16_t source_port, std::uint16_t destination_port) const {
    return tables_ != nullptr && tables_->encapsulations.may_have(source_port, destination_port);
  }

  struct Choice {
    SecurityAssociation* association = nullptr;  // null: none is usable now
    bool spi_conflict = false;                   // the template's SPI exists, with other parameters
  };
  /// The SA that satisfies `tmpl` for this flow: not dying before dying, then the youngest.
  /// `around`: the tunnel that the packet is in by then, between whose ends transport mode works.
  Choice choose(const Template& tmpl, const Flow& flow, std::uint32_t packet_mark,
                std::uint32_t if_id, const SaConfig* around = nullptr) const;

  std::size_t size() const { return by_serial_.size(); }
  /// All of them by age: keys are serials, descending() is newest first as dumps want it.
  const PersistentMap<SaPtr>& by_serial() const { return by_serial_; }

 private:
  friend class Sad;

  /// Which ports SAs encapsulate between: a set that only grows, with false positives. It is asked
  /// for every UDP packet that leaves.
  class PortPairs {
   public:
    void add(std::uint16_t source, std::uint16_t destination) {
      const auto [word, bit] = place(source, destination);
      words_[word].fetch_or(bit, std::memory_order_relaxed);  // released with the view
    }
    bool may_have(std::uint16_t source, std::uint16_t destination) const {
      const auto [word, bit] = place(source, destination);
      return (words_[word].load(std::memory_order_relaxed) & bit) != 0;
    }

   private:
    struct Place {
      std::size_t word;
      std::uint64_t bit;
    };
    static Place place(std::uint16_t source, std::uint16_t destination) {
      const std::uint32_t sum =
          (std::uint32_t{source} << 16 | destination) * std::uint32_t{0x9e3779b1};
      return {.word = sum >> 29, .bit = std::uint64_t{1} << (sum >> 23 & 63)};
    }

    std::array<std::atomic<std::uint64_t>, 8> words_{};
  };

  struct Tables {
    explicit Tables(std::uint64_t s) : seed(s) {}

    std::uint64_t id_hash(const IpAddress& destination, Spi spi, Protocol protocol) const;
    std::uint64_t group_hash(const IpAddress& destination, Reqid reqid, Protocol protocol) const;
    std::uint64_t id_hash(const SecurityAssociation& association) const;
    std::uint64_t group_hash(const SecurityAssociation& association) const;

    const std::uint64_t seed;
    PortPairs encapsulations;
    /// One but for marks under the hash of destination, SPI and protocol.
    ShardedIndex<SecurityAssociation*> by_id;
    /// Under the hash of destination, reqid and protocol, linked from young to old.
    ShardedIndex<SecurityAssociation*> youngest;
  };

  /// Calls visit(association) for those with this id, in no order, until it returns false.
  template <class Visit>
  void each_with_id(const IpAddress& destination, Spi spi, Protocol protocol, Visit&& visit) const;

  static constexpr std::uint64_t kWriter = std::numeric_limits<std::uint64_t>::max();

  std::shared_ptr<const Tables> tables_;  // null: an empty view
  std::uint64_t end_ = 0;                 // serials from here on are not seen; or kWriter
  PersistentMap<SaPtr> by_serial_;
};

/// The writer's side. Control thread.
class Sad {
 public:
  /// `seed` keeps the hashes of this database from being guessed.
  explicit Sad(std::uint64_t seed);

  /// What the writer sees: everything but the dead.
  const SadView& view() const { return view_; }
  /// Its serial must be greater than all before. `garbage` is what to keep with the snapshot that
  /// is replaced next.
  void insert(const SaPtr& association, Garbage& garbage);
  /// It must be in the database, and dead or expired.
  void erase(const SecurityAssociation& association, Garbage& garbage);
  /// What to publish, `end` being the next serial. Then what was erased is in no table.
  SadView publish(std::uint64_t end, Garbage& garbage);
  /// Is an SA of any destination using this SPI?
  bool spi_in_use(Protocol protocol, Spi spi) const;

 private:
  void unlink(SecurityAssociation& association, Garbage& garbage);
  void count_spi(const SaId& id, bool more, Garbage& garbage);

  std::shared_ptr<SadView::Tables> tables_;
  SadView view_;
  std::vector<SaPtr> erased_;              // and still in the tables
  ShardedIndex<std::uint64_t> spi_users_;  // how many, under protocol and SPI; not hashed: exact
};

}  // namespace xfrmfs::engine
