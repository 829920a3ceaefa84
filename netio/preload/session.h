// SPDX-License-Identifier: Apache-2.0
// A session: the descriptor that a program holds for a netlink socket.
//
// What is it, and how does one talk to the engine beside the netlink messages?  protocol.h.
//
// Nothing is remembered here. Whether a descriptor is a session, and which port id it has, is
// read from the names of its two ends, which the kernel keeps. So dup, fork, exec, close and
// descriptor passing need no care, and there is nothing to lock.
//
// No function allocates, logs, changes errno or enters the C library. Any thread, any signal
// handler. Errors are negative errnos.

#pragma once

#include <linux/netlink.h>

#include "netio/preload/protocol.h"

namespace xfrmfs::netio::preload {

enum class Kind {
  kForeign,  // none of our business
  kSession,
  kParked,  // was a session, see park()
};

Kind kind_of(int fd);

/// Asks the engine that listens at `path` for a session. `flags`: SOCK_CLOEXEC, SOCK_NONBLOCK.
/// -EPROTONOSUPPORT if no engine is there, or one that belongs neither to root nor to the caller;
/// -EPERM if the engine is not for the caller; else what ran out (-EMFILE, -ENFILE, -ENOBUFS, ...).
int open_session(const char* path, int flags);

/// bind(): port id 0 means one of the engine's and our choice. When it returns, no event of the
/// groups will be missed. -EADDRINUSE, -EINVAL, -EPERM as from netlink; -ECONNRESET: engine gone.
int bind_session(int fd, const sockaddr_nl& wanted);

/// The address that bind() gave it; all zeros but for the family before.
sockaddr_nl own_address(int fd);

/// One control call, answered. -ECONNRESET if the engine is gone.
int control_call(int fd, protocol::Op op, std::uint32_t arg0, std::uint32_t arg1);

/// What a receive call would meet now, without taking it.
enum class Waiting { kNothing, kMessage, kOverrun, kEnd };

Waiting waiting(int fd);

/// Takes the message that waiting() found.
void discard(int fd);

/// Puts a silent socket in the place of a session whose engine is gone.
///
/// A netlink socket never ends, and programs poll it on that belief: at end of file it would be
/// readable for ever. The parked one is never readable, refuses to send (EPIPE), keeps the port id
/// and the flags of the descriptor. Its far end stays open under a number that the program does
/// not know: one descriptor per lost session. If there is none left, nothing changes.
void park(int fd);

}  // namespace xfrmfs::netio::preload
