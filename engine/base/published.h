// SPDX-License-Identifier: Apache-2.0
// One writer replaces a value, many readers keep the one they have.
//
// RCU with reference counts, at batch granularity: a reader compares one generation number per
// batch and meets the mutex only when something changed. The writer keeps every value that it
// replaced until no reader holds it or an older one, so nothing is ever destroyed on a reader's
// thread.
//
// Letting go in order is what makes tables sound that are changed in place beside the value: a
// reader that holds generation G may meet anything that was in the tables at G or came later, and
// everything that G and its successors own, or that became garbage when one of them was replaced,
// outlives it. What is to be destroyed must be out of the tables before replace().

#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace xfrmfs::engine {

template <class T>
class Published {
 public:
  /// What readers of a replaced value may still be looking at besides it.
  using Garbage = std::vector<std::shared_ptr<const void>>;

  explicit Published(std::shared_ptr<const T> first) : current_(std::move(first)) {}

  /// Goes up by one with every replacement. Any thread.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  /// Any thread. The mutex is a leaf, held for one pointer copy.
  std::shared_ptr<const T> get() const {
    const std::scoped_lock lock(mutex_);
    return current_;
  }

  /// The writer only. `garbage` lives as long as the replaced value.
  void replace(std::shared_ptr<const T> next, Garbage garbage = {}) {
    {
      const std::scoped_lock lock(mutex_);
      std::swap(current_, next);
    }
    generation_.fetch_add(1, std::memory_order_release);  // pairs with generation()
    retired_.push_back({std::move(next), std::move(garbage)});
    reclaim();
  }

  /// Lets go of replaced values, oldest first, up to one that a reader still holds; false if there
  /// is one. The writer only.
  bool reclaim() {
    // A count of one cannot grow again: nobody else can reach the value. The destructor's own
    // decrement orders the readers' last use before the destruction of it and of what follows.
    while (!retired_.empty() && retired_.front().value.use_count() == 1) {
      retired_.front().value.reset();  // before its garbage
      retired_.pop_front();
    }
    return retired_.empty();
  }

  /// The oldest value that a reader may hold. The writer only.
  const T& oldest() const { return retired_.empty() ? *current_ : *retired_.front().value; }

 private:
  struct Retired {
    std::shared_ptr<const T> value;
    Garbage garbage;
  };

  std::atomic<std::uint64_t> generation_{1};
  mutable std::mutex mutex_;
  std::shared_ptr<const T> current_;
  std::deque<Retired> retired_;
};

}  // namespace xfrmfs::engine
