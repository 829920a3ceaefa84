// SPDX-License-Identifier: Apache-2.0
// A hash table that one thread changes in place while others look things up, without a lock.
//
// A lookup touches one cache line of the table, whatever its size. A change touches one slot, or
// rebuilds one of 1024 shards, so it costs the same in a table of a million.
//
//     tables_[hash's top bits] -> | key value | key value | key value | key value | ...
//                                   one cache line; key 0: free, value V{}: taken out
//
// Thread rule. The writer fills a slot's value before its key (both release), and a reader loads
// the key before the value (both acquire), so a reader never meets a key whose value is not there.
// A slot may be given to another key between the two loads: visit() may show a value of another
// hash, and the visitor looks at what it got. A value that is in the table during a whole visit()
// is shown. A shard's old slots, when it is rebuilt, are put into the Garbage that the writer
// passes; they, and whatever the values point to, must outlive every visit() that was under way.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/prefetch.h"
#include "engine/base/slab.h"

namespace xfrmfs::engine {

/// What readers may still be looking at, in the order in which it was replaced.
using Garbage = std::vector<std::shared_ptr<const void>>;

/// V: a pointer, or a number of 64 bits; V{} is no value.
template <class V>
class ShardedIndex {
  static_assert(sizeof(V) == 8);

 public:
  ShardedIndex() {
    for (auto& table : tables_) table.store(word_of(kNothing.data(), 0), std::memory_order_relaxed);
  }
  ~ShardedIndex() {
    for (auto& table : tables_) {
      const Slots slots(table.load(std::memory_order_relaxed));
      if (slots.first != kNothing[0].slots.data()) free(slots);
    }
  }
  ShardedIndex(const ShardedIndex&) = delete;
  ShardedIndex& operator=(const ShardedIndex&) = delete;

  /// The line where a lookup of `hash` begins, and the next: a lookup goes on until it meets a free
  /// slot, a few slots behind. Any thread.
  void prefetch(std::uint64_t hash, FetchList& list) const noexcept {
    constexpr std::size_t kSlotsInLine = sizeof(Line) / sizeof(Slot);
    const Slots slots = slots_for(hash, std::memory_order_acquire);
    const std::size_t begin = position(hash) & slots.mask;
    list.add(&slots.first[begin]);
    list.add(&slots.first[(begin + kSlotsInLine) & slots.mask]);
  }

  /// Calls visit(value) for what is under `hash`, and perhaps for something else, until it returns
  /// false. Any thread.
  template <class Visit>
  void visit(std::uint64_t hash, Visit&& visit) const {
    const std::uint64_t key = key_of(hash);
    const Slots slots = slots_for(hash, std::memory_order_acquire);
    for (std::size_t i = position(hash) & slots.mask;; i = (i + 1) & slots.mask) {
      const std::uint64_t found = slots.first[i].key.load(std::memory_order_acquire);
      if (found == 0) return;
      if (found != key) continue;
      const V value = slots.first[i].value.load(std::memory_order_acquire);
      if (value != V{} && !visit(value)) return;
    }
  }

  // The writer only.

  std::size_t size() const { return size_; }

  /// Adds a value, whatever else is under `hash`.
  void insert(std::uint64_t hash, V value, Garbage& garbage) {
    const std::uint64_t key = key_of(hash);
    make_room(hash, garbage);
    const Slots slots = slots_for(hash);
    std::size_t i = position(hash) & slots.mask;
    while (slots.first[i].value.load(std::memory_order_relaxed) != V{}) i = (i + 1) & slots.mask;
    Count& count = counts_[shard(hash)];
    if (slots.first[i].key.load(std::memory_order_relaxed) == 0) ++count.used;
    ++count.live;
    ++size_;
    slots.first[i].value.store(value, std::memory_order_release);
    slots.first[i].key.store(key, std::memory_order_release);
  }

  /// Takes out `value`, which is under `hash`.
  void erase(std::uint64_t hash, V value, Garbage& garbage) {
    const Slots slots = slots_for(hash);
    std::size_t i = place_of(slots, hash, value);
    Count& count = counts_[shard(hash)];
    slots.first[i].value.store(V{}, std::memory_order_release);
    --count.live;
    --size_;
    // Nobody looks further than a free slot: what was taken out just before one can be free too.
    if (slots.first[(i + 1) & slots.mask].key.load(std::memory_order_relaxed) == 0) {
      while (slots.first[i].key.load(std::memory_order_relaxed) != 0 &&
             slots.first[i].value.load(std::memory_order_relaxed) == V{}) {
        slots.first[i].key.store(0, std::memory_order_release);
        --count.used;
        i = (i - 1) & slots.mask;
      }
    }
    if (slots.mask + 1 > kSmallest && count.live * 8 <= slots.mask) rebuild(hash, garbage);
  }

  /// Puts `value` in the place of `old`, which is under `hash`.
  void replace(std::uint64_t hash, V old, V value) {
    const Slots slots = slots_for(hash);
    slots.first[place_of(slots, hash, old)].value.store(value, std::memory_order_release);
  }

  /// The one value under `hash`, if only one is ever put there; or none.
  V get(std::uint64_t hash) const {
    V found{};
    visit(hash, [&](V value) {
      found = value;
      return false;
    });
    return found;
  }

 private:
  struct Slot {
    std::atomic<std::uint64_t> key{0};
    std::atomic<V> value{V{}};
  };
  struct alignas(64) Line {
    std::array<Slot, 4> slots;
  };
  /// A shard as its readers see it: address of the first slot, log2 of their number in the low six
  /// bits, so that both change at once.
  struct Slots {
    explicit Slots(std::uintptr_t word)
        : first(reinterpret_cast<Slot*>(word & ~std::uintptr_t{63})),
          mask((std::size_t{1} << (word & 63)) - 1) {}
    std::uintptr_t word() const {
      return reinterpret_cast<std::uintptr_t>(first) | static_cast<unsigned>(std::bit_width(mask));
    }

    Slot* first;
    std::size_t mask;
  };
  struct Count {
    std::uint32_t live = 0;
    std::uint32_t used = 0;  // live, or taken out and not free again
  };

  static constexpr unsigned kShardBits = 10;
  static constexpr std::size_t kShards = std::size_t{1} << kShardBits;
  static constexpr std::size_t kSmallest = 4;
  /// Where every shard begins: one free slot that is never filled.
  static inline const std::array<Line, 1> kNothing{};

  static std::uint64_t key_of(std::uint64_t hash) { return hash == 0 ? 1 : hash; }
  static std::size_t shard(std::uint64_t hash) {
    return static_cast<std::size_t>(hash >> (64 - kShardBits));
  }
  static std::size_t position(std::uint64_t hash) { return static_cast<std::size_t>(hash); }

  static std::uintptr_t word_of(const Line* lines, unsigned log2) {
    return reinterpret_cast<std::uintptr_t>(lines) | log2;
  }
  static Slots make(std::size_t size) {
    auto* lines = static_cast<Line*>(slab_allocate(size * sizeof(Slot)));
    std::uninitialized_value_construct_n(lines, size / kSmallest);
    return Slots(word_of(lines, static_cast<unsigned>(std::countr_zero(size))));
  }
  static void free(const Slots& slots) { slab_free(slots.first, (slots.mask + 1) * sizeof(Slot)); }

  Slots slots_for(std::uint64_t hash, std::memory_order order = std::memory_order_relaxed) const {
    return Slots(tables_[shard(hash)].load(order));
  }

  std::size_t place_of(const Slots& slots, std::uint64_t hash, V value) const {
    const std::uint64_t key = key_of(hash);
    std::size_t i = position(hash) & slots.mask;
    while (slots.first[i].key.load(std::memory_order_relaxed) != key ||
           slots.first[i].value.load(std::memory_order_relaxed) != value) {
      i = (i + 1) & slots.mask;
    }
    return i;
  }

  /// A quarter of the slots stays free, so that every search ends soon.
  void make_room(std::uint64_t hash, Garbage& garbage) {
    const std::size_t slots = slots_for(hash).mask + 1;
    if (slots < kSmallest || (counts_[shard(hash)].used + 1) * std::size_t{4} > slots * 3) {
      rebuild(hash, garbage);
    }
  }

  /// Moves what is in a shard into slots of which it fills less than half.
  void rebuild(std::uint64_t hash, Garbage& garbage) {
    const Slots old = slots_for(hash);
    Count& count = counts_[shard(hash)];
    const std::size_t size = std::max(kSmallest, std::bit_ceil(std::size_t{count.live} * 2 + 1));
    const Slots fresh = make(size);
    for (std::size_t i = 0; i <= old.mask; ++i) {
      const V value = old.first[i].value.load(std::memory_order_relaxed);
      if (value == V{}) continue;
      const std::uint64_t key = old.first[i].key.load(std::memory_order_relaxed);
      std::size_t to = position(key) & fresh.mask;
      while (fresh.first[to].value.load(std::memory_order_relaxed) != V{}) {
        to = (to + 1) & fresh.mask;
      }
      fresh.first[to].value.store(value, std::memory_order_relaxed);
      fresh.first[to].key.store(key, std::memory_order_relaxed);
    }
    count.used = count.live;
    tables_[shard(hash)].store(fresh.word(), std::memory_order_release);
    if (old.first != kNothing[0].slots.data()) {
      garbage.emplace_back(static_cast<const void*>(old.first), [old](const void*) { free(old); });
    }
  }

  std::array<std::atomic<std::uintptr_t>, kShards> tables_;
  std::array<Count, kShards> counts_;
  std::size_t size_ = 0;
};

}  // namespace xfrmfs::engine
