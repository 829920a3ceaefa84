// SPDX-License-Identifier: Apache-2.0
// Two sources of packets for one batch: whom to ask, with few system calls and no starvation.
//
// Whoever had packets the last time is asked first. While that is so the other one is asked only
// now and then, for mostly it has none; what waits there still wakes the worker.

#pragma once

#include <cstddef>

#include "engine/packet/packet.h"

namespace xfrmfs::netio {

/// One thread.
class Turns {
 public:
  /// `first` and `second` add packets to `batch`.
  template <class Packet, class First, class Second>
  void receive(engine::Batch<Packet>& batch, const First& first, const Second& second) {
    const bool both = ++calls_ % kLookAround == 0;
    // The other one goes first then, or a busy source would fill every batch.
    bool ask_second = second_is_hot_ != both;
    for (int asked = 0; asked < 2; ++asked, ask_second = !ask_second) {
      if (batch.full() || (asked == 1 && !batch.empty() && !both)) return;
      const std::size_t before = batch.size();
      ask_second ? second() : first();
      if (batch.size() != before) second_is_hot_ = ask_second;
    }
  }

 private:
  static constexpr unsigned kLookAround = 4;

  unsigned calls_ = 0;
  bool second_is_hot_ = false;
};

}  // namespace xfrmfs::netio
