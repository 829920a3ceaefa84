// SPDX-License-Identifier: Apache-2.0
// `xfrmfs exec`: runs a program whose NETLINK_XFRM sockets lead to an engine.
//
// Which engine?  The one whose files are mounted at MOUNTPOINT: the source of that mount is the
// path of its control socket.  How?  The client adapter (netio/preload/) is preloaded.

#pragma once

#include "mount/options.h"

namespace xfrmfs {

/// Becomes the program. Returns only on failure, after one line on stderr, with the statuses of
/// env(1): 127 if there is no such program, 126 if it cannot be run or cannot be adapted, 125 for
/// everything else. A mount whose engine has died is no failure: the program then finds, as on a
/// kernel without XFRM, that the protocol is not supported.
[[nodiscard]] int exec_command(const ExecOptions& options);

}  // namespace xfrmfs
