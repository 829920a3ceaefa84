// SPDX-License-Identifier: Apache-2.0
// `xfrmfs status`: asks a running engine what it is made of, and prints the answer.
//
// It goes the way of the client adapter, netio/preload/protocol.h: a rendezvous at the control
// socket, then one control call.

#pragma once

#include "mount/options.h"

namespace xfrmfs {

/// 0 after the report on stdout; else 1 after one line on stderr. An engine that is there and does
/// not answer is given up after two seconds at each step.
[[nodiscard]] int status_command(const StatusOptions& options);

}  // namespace xfrmfs
