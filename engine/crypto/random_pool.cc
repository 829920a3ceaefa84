// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/random_pool.h"

#include <cstring>

#include "engine/crypto/algorithm.h"

namespace xfrmfs::engine {

RandomPool::~RandomPool() {
  explicit_bzero(bytes_.data(), bytes_.size());
}

void RandomPool::fill(MutableBytes iv) noexcept {
  if (iv.size() > kSize) {
    random_bytes(iv);
    return;
  }
  if (iv.size() > kSize - used_) {
    random_bytes(bytes_);
    used_ = 0;
  }
  std::memcpy(iv.data(), bytes_.data() + used_, iv.size());
  explicit_bzero(bytes_.data() + used_, iv.size());
  used_ += iv.size();
}

}  // namespace xfrmfs::engine
