// SPDX-License-Identifier: Apache-2.0
// Key bytes: never copied by accident, never printed, wiped when they go.
//
// The process keeps them out of core dumps and swap as a whole (mount/daemon.cc), because cipher
// contexts hold key schedules too.

#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

class Secret {
 public:
  Secret() = default;
  explicit Secret(Bytes bytes) : bytes_(bytes.begin(), bytes.end()) {}
  ~Secret() { wipe(); }

  Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)) { other.bytes_.clear(); }
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      wipe();
      bytes_ = std::move(other.bytes_);
      other.bytes_.clear();
    }
    return *this;
  }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  /// A copy that somebody asked for.
  Secret clone() const { return Secret(bytes()); }
  Bytes bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }

 private:
  void wipe() {
    if (!bytes_.empty()) explicit_bzero(bytes_.data(), bytes_.size());
  }

  std::vector<std::byte> bytes_;
};

}  // namespace xfrmfs::engine
