// SPDX-License-Identifier: Apache-2.0
#include "engine/packet/packet.h"

namespace xfrmfs::engine {

// Buffers follow each other without rounding to a page, so that the heads of packets do not all
// fall into the same sets of the first-level cache.
PacketPool::PacketPool(std::size_t buffers)
    : size_(buffers), memory_(new std::byte[buffers * kBufferSize]) {
  free_.reserve(buffers);
  for (std::size_t i = buffers; i > 0; --i) free_.push_back(memory_.get() + (i - 1) * kBufferSize);
}

PacketPool::~PacketPool() {
  assert(free_.size() == size_);
}

}  // namespace xfrmfs::engine
