// SPDX-License-Identifier: Apache-2.0
// An ordered map from 64-bit keys whose every copy stays as it was.
//
// A copy costs one reference. A change copies what other copies share on the path to the key, and
// works in place where nobody else does: a snapshot of a table with a million rows costs a few
// hundred bytes to replace, and many changes between two snapshots cost little more than one. A
// reader walks its copy without a lock. It is a radix tree: four key bits a level, from the top,
// paths with one child skipped, values in the lowest level.
//
//        inner (prefix 0x00.., shift 4)           bitmap says which of 16 slots there are;
//         |- leaf (prefix 0x00) [0x05]            slots are children, or values
//         `- leaf (prefix 0x40) [0x41, 0x4f]
//
// Thread rule: one thread changes a copy; other copies may be read and dropped on any thread.

#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace xfrmfs::engine {

template <class V>
class PersistentMap {
 public:
  using Key = std::uint64_t;

  PersistentMap() = default;
  PersistentMap(const PersistentMap& other) : root_(shared(other.root_)), size_(other.size_) {}
  PersistentMap(PersistentMap&& other) noexcept
      : root_(std::exchange(other.root_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  PersistentMap& operator=(PersistentMap other) noexcept {
    std::swap(root_, other.root_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~PersistentMap() { release(root_); }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  /// The value at `key`, or null; until this copy changes or goes.
  const V* find(Key key) const {
    const Node* node = root_;
    while (node != nullptr && node->covers(key)) {
      const unsigned d = digit(key, node->shift);
      if (!node->has(d)) return nullptr;
      if (node->is_leaf()) return &node->values()[node->slot(d)];
      node = node->children()[node->slot(d)];
    }
    return nullptr;
  }

  /// Puts `value` at `key`, new or replaced.
  void insert(Key key, V value) {
    bool added = false;
    root_ = insert(root_, key, std::move(value), added);
    size_ += added ? 1 : 0;
  }

  /// Takes out what is at `key`, if there is something.
  void erase(Key key) {
    if (find(key) == nullptr) return;
    root_ = erase(root_, key);
    --size_;
  }

  /// The entry with the smallest key >= `from`, or nothing.
  std::optional<std::pair<Key, const V*>> first_from(Key from) const {
    return root_ != nullptr ? lower(root_, from) : std::nullopt;
  }

  /// The entry with the largest key <= `from`, or nothing.
  std::optional<std::pair<Key, const V*>> last_to(Key from) const {
    return root_ != nullptr ? upper(root_, from) : std::nullopt;
  }

  /// Calls visit(key, value) in ascending key order until it returns false.
  template <class Visit>
  void ascending(Visit&& visit) const {
    if (root_ != nullptr) walk<false>(*root_, visit);
  }

  /// Likewise in descending order.
  template <class Visit>
  void descending(Visit&& visit) const {
    if (root_ != nullptr) walk<true>(*root_, visit);
  }

 private:
  static constexpr unsigned kBits = 4;
  static constexpr unsigned kFan = 1u << kBits;

  /// Slots follow it in memory.
  struct Node {
    std::atomic<std::uint32_t> holders{1};
    std::uint8_t shift;  // position of the digit; 0: a leaf
    std::uint8_t room;   // slots that there is memory for
    std::uint16_t bitmap = 0;
    Key prefix;  // any key below: the bits above the digit count

    Node(Key key, unsigned s, std::size_t slots)
        : shift(static_cast<std::uint8_t>(s)),
          room(static_cast<std::uint8_t>(slots)),
          prefix(key) {}

    bool is_leaf() const { return shift == 0; }
    bool covers(Key k) const { return above(k, shift) == above(prefix, shift); }
    bool has(unsigned d) const { return (bitmap >> d & 1) != 0; }
    std::size_t count() const { return static_cast<std::size_t>(std::popcount(bitmap)); }
    std::size_t slot(unsigned d) const {
      return static_cast<std::size_t>(std::popcount(bitmap & ((1u << d) - 1)));
    }
    V* values() { return std::launder(reinterpret_cast<V*>(this + 1)); }
    const V* values() const { return std::launder(reinterpret_cast<const V*>(this + 1)); }
    Node** children() { return std::launder(reinterpret_cast<Node**>(this + 1)); }
    Node* const* children() const { return std::launder(reinterpret_cast<Node* const*>(this + 1)); }
  };
  static_assert(alignof(V) <= alignof(Node) && alignof(Node*) <= alignof(Node));
  static_assert(sizeof(Node) % alignof(V) == 0);

  static unsigned digit(Key key, unsigned shift) {
    return static_cast<unsigned>(key >> shift) & (kFan - 1);
  }
  static Key above(Key key, unsigned shift) {
    return shift + kBits >= 64 ? 0 : key >> (shift + kBits);
  }
  /// The highest digit in which two different keys differ.
  static unsigned split_shift(Key a, Key b) {
    const unsigned top_bit = 63u - static_cast<unsigned>(std::countl_zero(a ^ b));
    return top_bit / kBits * kBits;
  }

  static Node* make(Key key, unsigned shift, std::size_t slots) {
    const std::size_t width = shift == 0 ? sizeof(V) : sizeof(Node*);
    slots = std::min<std::size_t>(std::bit_ceil(slots), kFan);
    return new (::operator new(sizeof(Node) + slots * width)) Node(key, shift, slots);
  }
  static Node* make_leaf(Key key, V&& value) {
    Node* leaf = make(key, 0, 1);
    new (leaf->values()) V(std::move(value));
    leaf->bitmap = static_cast<std::uint16_t>(1u << digit(key, 0));
    return leaf;
  }
  static Node* shared(Node* node) {
    if (node != nullptr) node->holders.fetch_add(1, std::memory_order_relaxed);
    return node;
  }
  static void free(Node* node) {
    node->~Node();
    ::operator delete(node);
  }
  static void release(Node* node) {
    if (node == nullptr || node->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const std::size_t n = node->count();
    if (node->is_leaf()) {
      std::destroy_n(node->values(), n);
    } else {
      std::for_each_n(node->children(), n, release);
    }
    free(node);
  }

  /// A node that only the caller holds, with what `node` has and memory for `slots`. The caller's
  /// reference to `node` is used up.
  static Node* owned(Node* node, std::size_t slots) {
    // Nobody can come to hold a node that only we hold; acquire: those who did are done with it.
    const bool mine = node->holders.load(std::memory_order_acquire) == 1;
    if (mine && node->room >= slots) return node;
    Node* copy = make(node->prefix, node->shift, slots);
    const std::size_t n = node->count();
    copy->bitmap = node->bitmap;
    if (!node->is_leaf()) {
      std::uninitialized_copy_n(node->children(), n, copy->children());
      if (!mine) std::for_each_n(copy->children(), n, shared);
    } else if (mine) {
      std::uninitialized_move_n(node->values(), n, copy->values());
      std::destroy_n(node->values(), n);
    } else {
      std::uninitialized_copy_n(std::as_const(*node).values(), n, copy->values());
    }
    if (mine) {
      free(node);
    } else {
      release(node);
    }
    return copy;
  }

  template <class T>
  static void open_gap(T* slots, std::size_t at, std::size_t n, T&& value) {
    if (at == n) {
      new (slots + n) T(std::move(value));
      return;
    }
    new (slots + n) T(std::move(slots[n - 1]));
    std::move_backward(slots + at, slots + n - 1, slots + n);
    slots[at] = std::move(value);
  }
  template <class T>
  static void close_gap(T* slots, std::size_t at, std::size_t n) {
    std::move(slots + at + 1, slots + n, slots + at);
    std::destroy_at(slots + n - 1);
  }

  /// Two nodes, or a node and a new leaf, that no longer share a prefix.
  static Node* pair_of(Node* a, Node* b) {
    const unsigned shift = split_shift(a->prefix, b->prefix);
    const unsigned da = digit(a->prefix, shift);
    const unsigned db = digit(b->prefix, shift);
    Node* pair = make(a->prefix, shift, 2);
    pair->bitmap = static_cast<std::uint16_t>(1u << da | 1u << db);
    new (pair->children()) Node*(da < db ? a : b);
    new (pair->children() + 1) Node*(da < db ? b : a);
    return pair;
  }

  /// All of these use up the caller's reference to `node` and give one to the result.
  static Node* insert(Node* node, Key key, V&& value, bool& added) {
    if (node == nullptr || !node->covers(key)) {
      added = true;
      Node* leaf = make_leaf(key, std::move(value));
      return node == nullptr ? leaf : pair_of(node, leaf);
    }
    const unsigned d = digit(key, node->shift);
    const std::size_t slot = node->slot(d);
    const std::size_t n = node->count();
    if (node->has(d)) {
      node = owned(node, n);
      if (node->is_leaf()) {
        node->values()[slot] = std::move(value);
      } else {
        node->children()[slot] = insert(node->children()[slot], key, std::move(value), added);
      }
      return node;
    }
    added = true;
    node = owned(node, n + 1);
    if (node->is_leaf()) {
      open_gap(node->values(), slot, n, std::move(value));
    } else {
      open_gap(node->children(), slot, n, make_leaf(key, std::move(value)));
    }
    node->bitmap = static_cast<std::uint16_t>(node->bitmap | 1u << d);
    return node;
  }

  /// `key` is there. Null if nothing is left.
  static Node* erase(Node* node, Key key) {
    const unsigned d = digit(key, node->shift);
    const std::size_t slot = node->slot(d);
    const std::size_t n = node->count();
    if (node->is_leaf() && n == 1) {
      release(node);
      return nullptr;
    }
    node = owned(node, n);
    if (!node->is_leaf()) {
      node->children()[slot] = erase(node->children()[slot], key);
      if (node->children()[slot] != nullptr) return node;
      if (n == 2) {
        Node* other = node->children()[1 - slot];
        free(node);
        return other;
      }
      close_gap(node->children(), slot, n);
    } else {
      close_gap(node->values(), slot, n);
    }
    node->bitmap = static_cast<std::uint16_t>(node->bitmap & ~(1u << d));
    return node;
  }

  using Entry = std::optional<std::pair<Key, const V*>>;

  /// Calls visit(digit, slot) for each slot of a node until it returns false.
  template <bool kDescending, class Visit>
  static bool each_slot(const Node& node, Visit&& visit) {
    std::size_t slot = kDescending ? node.count() : 0;
    for (unsigned i = 0; i < kFan; ++i) {
      const unsigned d = kDescending ? kFan - 1 - i : i;
      if (!node.has(d)) continue;
      if (!visit(d, kDescending ? --slot : slot++)) return false;
    }
    return true;
  }
  static Key key_at(const Node& leaf, unsigned d) { return above(leaf.prefix, 0) << kBits | d; }

  template <bool kDescending, class Visit>
  static bool walk(const Node& node, Visit& visit) {
    return each_slot<kDescending>(node, [&](unsigned d, std::size_t slot) {
      return node.is_leaf() ? visit(key_at(node, d), node.values()[slot])
                            : walk<kDescending>(*node.children()[slot], visit);
    });
  }

  static Entry edge(const Node* node, bool last) {
    while (!node->is_leaf()) node = node->children()[last ? node->count() - 1 : 0];
    const auto d = static_cast<unsigned>(last ? std::bit_width(node->bitmap) - 1
                                              : std::countr_zero(node->bitmap));
    return Entry({key_at(*node, d), &node->values()[node->slot(d)]});
  }

  static Entry lower(const Node* node, Key from) {
    if (!node->covers(from)) {
      return above(node->prefix, node->shift) > above(from, node->shift) ? edge(node, false)
                                                                         : std::nullopt;
    }
    const unsigned d = digit(from, node->shift);
    std::size_t slot = node->slot(d);
    if (node->has(d)) {
      if (node->is_leaf()) return Entry({from, &node->values()[slot]});
      if (const Entry entry = lower(node->children()[slot], from)) return entry;
      ++slot;
    }
    if (slot == node->count()) return std::nullopt;
    if (!node->is_leaf()) return edge(node->children()[slot], false);
    const unsigned next =
        d + 1 +
        static_cast<unsigned>(std::countr_zero(static_cast<unsigned>(node->bitmap) >> (d + 1)));
    return Entry({key_at(*node, next), &node->values()[slot]});
  }

  static Entry upper(const Node* node, Key from) {
    if (!node->covers(from)) {
      return above(node->prefix, node->shift) < above(from, node->shift) ? edge(node, true)
                                                                         : std::nullopt;
    }
    const unsigned d = digit(from, node->shift);
    const std::size_t slot = node->slot(d);
    if (node->has(d)) {
      if (node->is_leaf()) return Entry({from, &node->values()[slot]});
      if (const Entry entry = upper(node->children()[slot], from)) return entry;
    }
    if (slot == 0) return std::nullopt;
    if (!node->is_leaf()) return edge(node->children()[slot - 1], true);
    const auto before = static_cast<unsigned>(
        std::bit_width(static_cast<unsigned>(node->bitmap) & ((1u << d) - 1)) - 1);
    return Entry({key_at(*node, before), &node->values()[slot - 1]});
  }

  Node* root_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace xfrmfs::engine
