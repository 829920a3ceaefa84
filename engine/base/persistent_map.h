// SPDX-License-Identifier: Apache-2.0
// An ordered map from 64-bit keys whose every version stays valid and immutable.
//
// with() and without() return a new version that shares all but one path with the old one, so a
// snapshot of a table with a million rows costs a few hundred bytes to replace, and a reader walks
// its version without a lock. It is a radix tree: six key bits a level, from the top, paths with
// one child skipped.
//
//        inner (prefix 0x00.., shift 6)      bitmap says which of 64 children exist;
//         |- leaf 0x05                       values sit in leaves only
//         `- inner (prefix 0x40, shift 0)
//             |- leaf 0x41
//             `- leaf 0x7f
//
// Thread rule: a version is immutable; copies of it may be read and dropped on any thread.

#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace xfrmfs::engine {

template <class V>
class PersistentMap {
 public:
  using Key = std::uint64_t;

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  /// The value at `key`, or null; lives as long as this version.
  const V* find(Key key) const {
    const Node* node = root_.get();
    while (node != nullptr) {
      if (node->is_leaf()) return node->key == key ? &*node->value : nullptr;
      if (!node->covers(key)) return nullptr;
      node = node->child(digit(key, node->shift));
    }
    return nullptr;
  }

  /// This version with `value` at `key`, new or replaced.
  [[nodiscard]] PersistentMap with(Key key, V value) const {
    bool added = false;
    NodePtr leaf = std::make_shared<const Node>(key, std::move(value));
    PersistentMap next;
    next.root_ = insert(root_, std::move(leaf), key, added);
    next.size_ = size_ + (added ? 1 : 0);
    return next;
  }

  /// This version without `key`; the same if it was not there.
  [[nodiscard]] PersistentMap without(Key key) const {
    if (find(key) == nullptr) return *this;
    PersistentMap next;
    next.root_ = erase(root_, key);
    next.size_ = size_ - 1;
    return next;
  }

  /// The entry with the smallest key >= `from`, or nothing.
  std::optional<std::pair<Key, const V*>> first_from(Key from) const {
    return root_ ? lower(root_.get(), from) : std::nullopt;
  }

  /// The entry with the largest key <= `from`, or nothing.
  std::optional<std::pair<Key, const V*>> last_to(Key from) const {
    return root_ ? upper(root_.get(), from) : std::nullopt;
  }

  /// Calls visit(key, value) in ascending key order until it returns false.
  template <class Visit>
  void ascending(Visit&& visit) const {
    if (root_) walk<false>(*root_, visit);
  }

  /// Likewise in descending order.
  template <class Visit>
  void descending(Visit&& visit) const {
    if (root_) walk<true>(*root_, visit);
  }

 private:
  static constexpr unsigned kBits = 6;
  static constexpr std::uint8_t kLeaf = 0xff;
  static constexpr unsigned kTopShift = 60;  // the top digit has four bits only

  struct Node;
  using NodePtr = std::shared_ptr<const Node>;

  struct Node {
    Node(Key k, V v) : key(k), shift(kLeaf), value(std::move(v)) {}
    Node(Key prefix, std::uint8_t s, std::uint64_t map, std::vector<NodePtr> c)
        : key(prefix), shift(s), bitmap(map), children(std::move(c)) {}

    bool is_leaf() const { return shift == kLeaf; }
    /// Do the bits above this node's digit agree with `k`?
    bool covers(Key k) const { return above(k, shift) == above(key, shift); }
    std::size_t slot(unsigned d) const {
      return static_cast<std::size_t>(std::popcount(bitmap & ((std::uint64_t{1} << d) - 1)));
    }
    const Node* child(unsigned d) const {
      return (bitmap >> d & 1) != 0 ? children[slot(d)].get() : nullptr;
    }

    Key key;                        // leaf: the key; inner: any key below, bits above count
    std::uint8_t shift;             // position of the digit, or kLeaf
    std::uint64_t bitmap = 0;       // inner: which digits have a child
    std::vector<NodePtr> children;  // inner: in digit order, at least two
    std::optional<V> value;         // leaf
  };

  static unsigned digit(Key key, unsigned shift) {
    return static_cast<unsigned>(key >> shift) & ((1u << kBits) - 1);
  }
  static Key above(Key key, unsigned shift) {
    return shift >= kTopShift ? 0 : key >> (shift + kBits);
  }
  /// The highest digit in which two different keys differ.
  static unsigned split_shift(Key a, Key b) {
    const unsigned top_bit = 63u - static_cast<unsigned>(std::countl_zero(a ^ b));
    return top_bit / kBits * kBits;
  }

  static NodePtr pair_of(const NodePtr& a, const NodePtr& b) {
    const unsigned shift = split_shift(a->key, b->key);
    const unsigned da = digit(a->key, shift);
    const unsigned db = digit(b->key, shift);
    std::vector<NodePtr> children = da < db ? std::vector{a, b} : std::vector{b, a};
    const std::uint64_t bitmap = (std::uint64_t{1} << da) | (std::uint64_t{1} << db);
    return std::make_shared<const Node>(a->key, static_cast<std::uint8_t>(shift), bitmap,
                                        std::move(children));
  }

  static NodePtr insert(const NodePtr& node, NodePtr leaf, Key key, bool& added) {
    if (!node) {
      added = true;
      return leaf;
    }
    if (node->is_leaf() ? node->key == key : false) return leaf;
    if (node->is_leaf() || !node->covers(key)) {
      added = true;
      return pair_of(node, leaf);
    }
    const unsigned d = digit(key, node->shift);
    const std::size_t slot = node->slot(d);
    std::vector<NodePtr> children = grown_copy(*node, d, slot);
    children[slot] = insert(children[slot], std::move(leaf), key, added);
    return std::make_shared<const Node>(
        node->key, node->shift, node->bitmap | (std::uint64_t{1} << d), std::move(children));
  }

  /// The children of `node`, with an empty one at `slot` if digit `d` has none yet.
  static std::vector<NodePtr> grown_copy(const Node& node, unsigned d, std::size_t slot) {
    const bool there = (node.bitmap >> d & 1) != 0;
    std::vector<NodePtr> children;
    children.reserve(node.children.size() + (there ? 0 : 1));
    const auto at = node.children.begin() + static_cast<std::ptrdiff_t>(slot);
    children.insert(children.end(), node.children.begin(), at);
    if (!there) children.emplace_back();
    children.insert(children.end(), at, node.children.end());
    return children;
  }

  static NodePtr erase(const NodePtr& node, Key key) {
    if (node->is_leaf()) return nullptr;
    const unsigned d = digit(key, node->shift);
    const std::size_t slot = node->slot(d);
    const auto at = static_cast<std::ptrdiff_t>(slot);
    NodePtr child = erase(node->children[slot], key);
    if (!child && node->children.size() == 2) return node->children[1 - slot];
    std::vector<NodePtr> children = node->children;
    std::uint64_t bitmap = node->bitmap;
    if (child) {
      children[slot] = std::move(child);
    } else {
      children.erase(children.begin() + at);
      bitmap &= ~(std::uint64_t{1} << d);
    }
    // Any key below serves as the prefix; the old one may have been erased, its bits have not.
    return std::make_shared<const Node>(node->key, node->shift, bitmap, std::move(children));
  }

  template <bool kDescending, class Visit>
  static bool walk(const Node& node, Visit& visit) {
    if (node.is_leaf()) return visit(node.key, *node.value);
    const std::size_t n = node.children.size();
    for (std::size_t i = 0; i < n; ++i) {
      if (!walk<kDescending>(*node.children[kDescending ? n - 1 - i : i], visit)) return false;
    }
    return true;
  }

  using Entry = std::optional<std::pair<Key, const V*>>;

  static Entry edge(const Node* node, bool last) {
    while (!node->is_leaf()) {
      node = (last ? node->children.back() : node->children.front()).get();
    }
    return Entry({node->key, &*node->value});
  }

  static Entry lower(const Node* node, Key from) {
    if (node->is_leaf()) {
      return node->key >= from ? Entry({node->key, &*node->value}) : std::nullopt;
    }
    if (!node->covers(from)) {
      return above(node->key, node->shift) > above(from, node->shift) ? edge(node, false)
                                                                      : std::nullopt;
    }
    const unsigned d = digit(from, node->shift);
    std::size_t slot = node->slot(d);
    if ((node->bitmap >> d & 1) != 0) {
      if (const Entry entry = lower(node->children[slot].get(), from)) return entry;
      ++slot;
    }
    return slot < node->children.size() ? edge(node->children[slot].get(), false) : std::nullopt;
  }

  static Entry upper(const Node* node, Key from) {
    if (node->is_leaf()) {
      return node->key <= from ? Entry({node->key, &*node->value}) : std::nullopt;
    }
    if (!node->covers(from)) {
      return above(node->key, node->shift) < above(from, node->shift) ? edge(node, true)
                                                                      : std::nullopt;
    }
    const unsigned d = digit(from, node->shift);
    const std::size_t slot = node->slot(d);
    if ((node->bitmap >> d & 1) != 0) {
      if (const Entry entry = upper(node->children[slot].get(), from)) return entry;
    }
    return slot > 0 ? edge(node->children[slot - 1].get(), true) : std::nullopt;
  }

  NodePtr root_;
  std::size_t size_ = 0;
};

}  // namespace xfrmfs::engine
