// SPDX-License-Identifier: Apache-2.0
// Which engine is behind a mountpoint?  The source of its mount is the path of its control socket.

#pragma once

#include <string>

#include "fs/mountinfo.h"

namespace xfrmfs {

/// The mount of ours at this place, also if its engine has died. Throws std::runtime_error if there
/// is none that this process can see.
fs::MountEntry find_engine_mount(const std::string& mountpoint);

/// Where its engine listens. Throws likewise, also if the mount was given another source.
std::string find_control_socket(const std::string& mountpoint);

}  // namespace xfrmfs
