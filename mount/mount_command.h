// SPDX-License-Identifier: Apache-2.0
// `xfrmfs mount`: from options to a running service, in the foreground or behind the caller's back.

#pragma once

#include "mount/options.h"

namespace xfrmfs {

/// In the caller: 0 once the files can be read and packets flow, else 1 after one line on standard
/// error. In the process that serves: when it has ended. Throws what the set-up throws.
int mount_command(MountOptions options);

}  // namespace xfrmfs
