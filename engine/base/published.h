// SPDX-License-Identifier: Apache-2.0
// One writer replaces a value, many readers keep the one they have.
//
// RCU with reference counts, at batch granularity: a reader compares one generation number per
// batch and meets the mutex only when something changed. The writer keeps every value that it
// replaced until it is the last to hold it, so nothing is ever destroyed on a reader's thread.

#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace xfrmfs::engine {

template <class T>
class Published {
 public:
  explicit Published(std::shared_ptr<const T> first) : current_(std::move(first)) {}

  /// Goes up by one with every replacement. Any thread.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  /// Any thread. The mutex is a leaf, held for one pointer copy.
  std::shared_ptr<const T> get() const {
    const std::scoped_lock lock(mutex_);
    return current_;
  }

  /// The writer only.
  void replace(std::shared_ptr<const T> next) {
    {
      const std::scoped_lock lock(mutex_);
      std::swap(current_, next);
    }
    generation_.fetch_add(1, std::memory_order_release);  // pairs with generation()
    retired_.push_back(std::move(next));
    reclaim();
  }

  /// Lets go of replaced values that no reader holds any more; false if some are still held.
  /// The writer only.
  bool reclaim() {
    // A count of one cannot grow again: nobody else can reach the value. The destructor's own
    // decrement orders the readers' last use before the destruction.
    std::erase_if(retired_, [](const auto& value) { return value.use_count() == 1; });
    return retired_.empty();
  }

 private:
  std::atomic<std::uint64_t> generation_{1};
  mutable std::mutex mutex_;
  std::shared_ptr<const T> current_;
  std::deque<std::shared_ptr<const T>> retired_;
};

}  // namespace xfrmfs::engine
