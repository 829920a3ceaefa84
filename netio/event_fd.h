// SPDX-License-Identifier: Apache-2.0
// A doorbell between threads: many ring, one waits for it in poll(2) or Asio.

#pragma once

#include <cstdint>
#include <tuple>

#include <sys/eventfd.h>

#include "netio/file_descriptor.h"

namespace xfrmfs::netio {

class EventFd {
 public:
  EventFd() : fd_(own_or_throw(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {}

  /// Any thread, any number of times: the waiter wakes at least once afterwards. Neither blocks
  /// nor allocates.
  void ring() noexcept {
    const std::uint64_t one = 1;
    // Fails only when the counter is full, and then the waiter is already being woken.
    std::ignore = ::write(fd_.get(), &one, sizeof one);
  }
  /// The waiter only: silent until the next ring().
  void quiet() noexcept {
    std::uint64_t rings;
    std::ignore = ::read(fd_.get(), &rings, sizeof rings);
  }
  /// Readable while it rings.
  int descriptor() const { return fd_.get(); }

 private:
  FileDescriptor fd_;
};

}  // namespace xfrmfs::netio
