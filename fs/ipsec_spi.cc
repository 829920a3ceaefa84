// SPDX-License-Identifier: Apache-2.0
#include "fs/ipsec_spi.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/sad/sad.h"
#include "engine/spd/spd.h"
#include "fs/klips_sa.h"
#include "fs/spi_row.h"

namespace xfrmfs::fs {
namespace {

using engine::BootTime;
using engine::IpAddress;
using engine::ReplayKind;
using engine::ReplayParams;
using engine::SecurityAssociation;
using engine::Snapshot;

constexpr std::uint32_t kFlagInflow = 8;
constexpr std::size_t kTypicalLine = 320;  // bytes, both addresses IPv6

// --- Finding the relatives of an SA: its inbound policy, its opposite.

/// What an SA and a template, or two SAs, may have in common. Zero: any.
struct Bond {
  IpAddress source;
  IpAddress destination;
  engine::Reqid reqid{};
  engine::Spi spi{};
  std::uint32_t if_id = 0;
  engine::Protocol protocol{};
  engine::Mode mode{};

  bool operator==(const Bond&) const = default;
};

struct BondHash {
  std::size_t operator()(const Bond& bond) const {
    std::uint64_t hash = 0;
    const auto mix = [&hash](std::uint64_t value) {
      hash = (std::rotl(hash, 5) ^ value) * 0x9e37'79b9'7f4a'7c15;
    };
    for (const IpAddress* address : {&bond.source, &bond.destination}) {
      mix(engine::load_be64(address->storage().data()));
      mix(engine::load_be64(address->storage().data() + 8));
    }
    mix(static_cast<std::uint64_t>(bond.reqid) << 32 | static_cast<std::uint32_t>(bond.spi));
    mix(std::uint64_t{bond.if_id} << 32 | static_cast<std::uint64_t>(bond.protocol) << 8 |
        static_cast<std::uint64_t>(bond.mode));
    return hash ^ hash >> 32;
  }
};

Bond bond_of(const SecurityAssociation& association) {
  const engine::SaConfig& params = association.params();
  return {params.source, params.id.destination, params.reqid, params.id.spi,
          params.if_id,  params.id.protocol,    params.mode};
}

/// Inbound policies by their tunnel templates.
class InboundPolicies {
 public:
  explicit InboundPolicies(const engine::SpdView& spd) {
    std::size_t order = 0;
    spd.in_order(engine::Direction::kIn, engine::PolicyType::kMain,
                 [&](const engine::SecurityPolicy& policy) {
                   for (const engine::Template& tmpl : policy.params().templates) {
                     if (tmpl.mode == engine::Mode::kTunnel) add(policy, tmpl, order);
                   }
                   ++order;
                   return true;
                 });
  }

  /// The first policy that accepts this SA, or null.
  const engine::Selector* find(const SecurityAssociation& association) const {
    const Bond whole = bond_of(association);
    const Found* best = nullptr;
    for (const unsigned wildcards : used_wildcards_) {
      const auto found = by_bond_.find(weakened(whole, wildcards));
      if (found == by_bond_.end()) continue;
      if (best == nullptr || found->second.order < best->order) best = &found->second;
    }
    return best == nullptr ? nullptr : best->selector;
  }

 private:
  enum Wildcard : unsigned { kSource = 1, kDestination = 2, kReqid = 4, kSpi = 8, kIfId = 16 };

  struct Found {
    std::size_t order = 0;
    const engine::Selector* selector = nullptr;
  };

  static Bond weakened(Bond bond, unsigned wildcards) {
    if ((wildcards & kSource) != 0) bond.source = IpAddress::any(bond.source.family());
    if ((wildcards & kDestination) != 0) {
      bond.destination = IpAddress::any(bond.destination.family());
    }
    if ((wildcards & kReqid) != 0) bond.reqid = {};
    if ((wildcards & kSpi) != 0) bond.spi = {};
    if ((wildcards & kIfId) != 0) bond.if_id = 0;
    return bond;
  }

  void add(const engine::SecurityPolicy& policy, const engine::Template& tmpl, std::size_t order) {
    const Bond bond{tmpl.source,           tmpl.destination, tmpl.reqid, tmpl.spi,
                    policy.params().if_id, tmpl.protocol,    tmpl.mode};
    const unsigned wildcards =
        (bond.source.is_any() ? kSource : 0u) | (bond.destination.is_any() ? kDestination : 0u) |
        (bond.reqid == engine::Reqid{} ? kReqid : 0u) | (bond.spi == engine::Spi{} ? kSpi : 0u) |
        (bond.if_id == 0 ? kIfId : 0u);
    if (std::ranges::find(used_wildcards_, wildcards) == used_wildcards_.end()) {
      used_wildcards_.push_back(wildcards);
    }
    by_bond_.try_emplace(bond, Found{order, &policy.params().selector});
  }

  std::unordered_map<Bond, Found, BondHash> by_bond_;
  std::vector<unsigned> used_wildcards_;  // usually one: spi and if_id
};

/// Outbound SAs, to be found by their opposites.
class Opposites {
 public:
  /// The first of several counts.
  void add(const SecurityAssociation& outbound) {
    by_bond_.try_emplace(without_spi(bond_of(outbound)), &outbound);
  }

  const SecurityAssociation* find(const SecurityAssociation& inbound) const {
    Bond bond = without_spi(bond_of(inbound));
    std::swap(bond.source, bond.destination);
    const auto found = by_bond_.find(bond);
    return found == by_bond_.end() ? nullptr : found->second;
  }

 private:
  static Bond without_spi(Bond bond) {
    bond.spi = {};
    return bond;
  }

  std::unordered_map<Bond, const SecurityAssociation*, BondHash> by_bond_;
};

// --- Filling a row.

std::uint64_t seconds(BootTime time) {
  return static_cast<std::uint64_t>(std::chrono::floor<std::chrono::seconds>(time).count());
}

/// Whole seconds on the clock's face, as KLIPS counts; 0 for what came after `now` was read.
std::uint64_t seconds_since(BootTime then, BootTime now) {
  return then > now ? 0 : seconds(now) - seconds(then);
}

std::uint64_t limit(std::uint64_t value) {
  return value == engine::kUnlimited ? 0 : value;
}

void fill_life(SpiRow& row, const engine::Lifetime& lifetime, BootTime now) {
  const engine::LifetimeUsage usage = lifetime.usage();
  const engine::LifetimeLimits limits = lifetime.limits();
  row.bytes = {usage.bytes, usage.bytes, limit(limits.soft_bytes), limit(limits.hard_bytes)};
  row.packets = {usage.packets, usage.packets, limit(limits.soft_packets),
                 limit(limits.hard_packets)};
  const BootTime added = lifetime.added_at();
  row.addtime = {seconds(added), seconds_since(added, now), limits.soft_add_seconds,
                 limits.hard_add_seconds};
  row.usetime = {0, 0, limits.soft_use_seconds, limits.hard_use_seconds};
  if (const auto first_used = lifetime.first_used_at()) {
    row.usetime.stored = seconds(*first_used);
    row.usetime.current = seconds_since(*first_used, now);
  }
  if (const auto last_used = lifetime.last_used_at()) {
    row.idle_seconds = seconds_since(*last_used, now);
  }
}

/// Bit 0 stands for the highest number accepted, whatever the layout is.
std::uint64_t newest_64(const ReplayParams& replay) {
  if (replay.bitmap.empty()) return 0;
  if (replay.kind == ReplayKind::kLegacy) return replay.bitmap[0];
  const std::uint64_t ring = replay.window;
  std::uint64_t bits = 0;
  for (std::uint64_t age = 0; age < std::min<std::uint64_t>(64, ring); ++age) {
    if (age >= replay.in_sequence) break;  // there is no number 0
    const std::uint64_t position = (replay.in_sequence - age - 1) % ring;
    const std::uint64_t bit = replay.bitmap[position / 32] >> (position % 32) & 1;
    bits |= bit << age;
  }
  return bits;
}

void fill_replay(SpiRow& row, const SecurityAssociation& association) {
  const ReplayParams replay = association.replay_state();
  const engine::SaStatistics statistics = association.statistics();
  row.replay_window = replay.window;
  row.replay_errors = statistics.replay + statistics.replay_window;
  row.integrity_errors = statistics.integrity_failed;
  row.sequence = static_cast<std::uint32_t>(row.inbound ? replay.in_sequence : replay.out_sequence);
  if (row.inbound) row.bitmap = newest_64(replay);
}

std::uint32_t bits(std::size_t bytes) {
  return static_cast<std::uint32_t>(bytes * 8);
}

void fill_algorithms(SpiRow& row, const engine::CryptoParams& crypto) {
  if (crypto.aead) {
    const engine::AeadAlgorithm& aead = *engine::find_aead(crypto.aead->name);
    const std::uint32_t icv_bits = crypto.aead->icv_bits;
    row.cipher_id = icv_bits == 64   ? aead.transform_id_8
                    : icv_bits == 96 ? aead.transform_id_12
                                     : aead.transform_id_16;
    row.cipher_key_bits = bits(crypto.aead->key.size() - aead.salt_size);
    row.iv_size = aead.iv_size;
  }
  if (crypto.cipher) {
    const engine::CipherAlgorithm& cipher = *engine::find_cipher(crypto.cipher->name);
    row.cipher_id = cipher.transform_id;
    row.cipher_key_bits = bits(crypto.cipher->key.size());
    row.iv_size = cipher.iv_size;
  }
  if (crypto.mac) {
    const engine::MacAlgorithm& mac = *engine::find_mac(crypto.mac->name);
    row.mac_id = mac.transform_id;
    row.digest_bits = bits(mac.digest_size);
    row.mac_key_bits = bits(crypto.mac->key.size());
  }
  row.iv_size = std::min(row.iv_size, SpiRow::kLargestIv);
  for (std::size_t i = 0; i < row.iv_size; ++i) row.iv[i] = static_cast<std::byte>(0xa5 + i);
}

struct Relatives {
  explicit Relatives(const engine::SpdView& spd) : policies(spd) {}

  InboundPolicies policies;
  Opposites outbound;
};

void fill_encapsulation(SpiRow& row, const engine::SaConfig& params) {
  if (!params.encapsulation) return;
  row.encapsulation = SpiRow::Encapsulation::kNonEsp;
  row.encapsulation_source_port = params.encapsulation->source_port;
  row.encapsulation_destination_port = params.encapsulation->destination_port;
}

SpiRow make_row(const SecurityAssociation& association, KlipsPart part, bool inbound,
                const Relatives& relatives, BootTime now) {
  SpiRow row;
  row.said = said_of(association, part);
  row.inbound = inbound;
  row.source = association.params().source;
  row.refcount = 3;
  row.ref = ref_of(association, part);
  fill_life(row, association.lifetime(), now);
  if (part == KlipsPart::kTransform) {
    fill_algorithms(row, association.params().crypto);
    fill_replay(row, association);
    fill_encapsulation(row, association.params());
  }
  if (!inbound) return row;
  if (const SecurityAssociation* opposite = relatives.outbound.find(association)) {
    row.refhim = ref_of(*opposite, part);
  }
  if (part == KlipsPart::kTunnel) {
    if (const engine::Selector* selector = relatives.policies.find(association)) {
      row.policy = {without_host_bits(selector->source), without_host_bits(selector->destination)};
      row.flags = kFlagInflow;
    }
  }
  return row;
}

// --- The order of the listing.

struct Item {
  const SecurityAssociation* association = nullptr;
  KlipsPart part{};
  bool inbound = false;
  unsigned bucket = 0;
};

/// Newest first.
std::vector<Item> collect(const Snapshot& snapshot, Relatives& relatives) {
  std::vector<Item> items;
  items.reserve(2 * snapshot.sad.size());
  snapshot.sad.by_serial().descending([&](std::uint64_t, const engine::SaPtr& association) {
    if (!is_listed(*association)) return true;
    const bool inbound = snapshot.is_local(association->id().destination);
    const auto add = [&](KlipsPart part) {
      items.push_back({association.get(), part, inbound, spi_bucket(said_of(*association, part))});
    };
    if (has_tunnel_part(*association)) add(KlipsPart::kTunnel);
    add(KlipsPart::kTransform);
    if (!inbound) relatives.outbound.add(*association);
    return true;
  });
  return items;
}

/// By bucket; inside a bucket the order stays.
std::vector<Item> sorted_by_bucket(const std::vector<Item>& items) {
  std::array<std::size_t, kSpiBuckets + 1> begin{};
  for (const Item& item : items) ++begin[item.bucket + 1];
  for (std::size_t i = 0; i < kSpiBuckets; ++i) begin[i + 1] += begin[i];
  std::vector<Item> sorted(items.size());
  for (const Item& item : items) sorted[begin[item.bucket]++] = item;
  return sorted;
}

}  // namespace

unsigned spi_bucket(const Said& said) {
  std::uint32_t sum = __builtin_bswap32(static_cast<std::uint32_t>(said.spi));
  if (said.destination.family() == engine::Family::kIpv4) {
    sum += __builtin_bswap32(engine::load_be32(said.destination.storage().data()));
  }
  sum += static_cast<std::uint32_t>(said.protocol);
  return sum % kSpiBuckets;
}

std::string IpsecSpi::render(const engine::View& view) const {
  const std::shared_ptr<const Snapshot> snapshot = view.snapshot();
  const BootTime now = view.now();
  Relatives relatives(snapshot->spd);
  const std::vector<Item> items = sorted_by_bucket(collect(*snapshot, relatives));
  std::string out;
  out.reserve(items.size() * kTypicalLine);
  for (const Item& item : items) {
    append(out, make_row(*item.association, item.part, item.inbound, relatives, now));
  }
  return out;
}

}  // namespace xfrmfs::fs
