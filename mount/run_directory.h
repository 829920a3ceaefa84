// SPDX-License-Identifier: Apache-2.0
// /run/xfrmfs: where control sockets are that nobody gave a name.

#pragma once

#include <string>

namespace xfrmfs {

/// The path for the control socket of this process. Makes the directory, which nobody else may
/// write to, and removes what killed processes have left in it. Throws std::system_error.
std::string default_socket_path();

}  // namespace xfrmfs
