// SPDX-License-Identifier: Apache-2.0
// SAs that met a hard limit on the packet path, on their way to the control thread.
//
// Bounded: when it is full, the control thread is told to look at every SA instead, so nothing is
// lost and no worker waits or allocates. The SA itself carries the truth.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

#include "engine/base/attention.h"

namespace xfrmfs::engine {

class ExpiryQueue {
 public:
  struct Content {
    std::array<std::uint64_t, 64> serials{};
    std::size_t size = 0;
    bool overflowed = false;
  };

  /// Any worker. A limit is met once in an SA's life, so the lock (a leaf) is not on the path of
  /// ordinary packets.
  void push(std::uint64_t serial) noexcept {
    {
      const std::scoped_lock lock(mutex_);
      if (content_.size < content_.serials.size()) {
        content_.serials[content_.size++] = serial;
      } else {
        content_.overflowed = true;
      }
    }
    if (sink_ != nullptr) sink_->engine_needs_attention();
  }

  /// Everything since the last call. Control thread.
  Content take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(content_, Content{});
  }

  /// Before packets flow.
  void set_sink(AttentionSink* sink) { sink_ = sink; }

 private:
  std::mutex mutex_;
  Content content_;
  AttentionSink* sink_ = nullptr;
};

}  // namespace xfrmfs::engine
