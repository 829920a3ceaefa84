// SPDX-License-Identifier: Apache-2.0
// Foreground or background: when does the caller get its prompt back, and with which status?
//
// As with other FUSE programs: in the background the caller waits until everything works, and hears
// on standard error, in one line, why something did not.

#pragma once

#include <functional>

#include "netio/file_descriptor.h"

namespace xfrmfs {

/// How a program that has been started says that it works.
class Readiness {
 public:
  /// In the foreground there is nobody to tell.
  Readiness() = default;
  explicit Readiness(netio::FileDescriptor caller) : caller_(std::move(caller)) {}

  /// In the background: lets go of the caller's standard descriptors, moves messages to syslog and
  /// sends the caller on its way. Once. False if the caller has gone away, and so expects no mount.
  [[nodiscard]] bool announce();

 private:
  netio::FileDescriptor caller_;
};

using Program = std::function<int(Readiness&)>;

/// Runs `program` in a process of its own, in a session of its own, in "/". Returns in the caller,
/// with 0 once the program is ready, or with its status if it ends before; and in the new process,
/// with its status. To be called before there are threads.
int run_in_background(const Program& program);

/// Keys stay out of core dumps, and, where the system lets us, out of swap. They are then also out
/// of reach for debuggers of the same user (proc(5), dumpable).
void keep_memory_private() noexcept;

}  // namespace xfrmfs
