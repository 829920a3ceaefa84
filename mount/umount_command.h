// SPDX-License-Identifier: Apache-2.0
// `xfrmfs umount`: takes the files away and waits until the engine behind them has ended.

#pragma once

#include "mount/options.h"

namespace xfrmfs {

/// 0 if mount, TUN device and sockets are gone; else 1 after one line on stderr. What a killed
/// daemon left behind is cleaned up. A busy mount stays as it was, unless the options say `lazy`:
/// then its files disappear now, and its engine ends with their last user: that is not waited for.
[[nodiscard]] int umount_command(const UmountOptions& options);

}  // namespace xfrmfs
