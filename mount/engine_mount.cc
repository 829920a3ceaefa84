// SPDX-License-Identifier: Apache-2.0
#include "mount/engine_mount.h"

#include <stdexcept>
#include <utility>

#include <fmt/core.h>

namespace xfrmfs {
namespace {

[[noreturn]] void refuse(const std::string& mountpoint) {
  throw std::runtime_error(
      fmt::format("\"{}\" is not a mount of xfrmfs, at least not here: one that was made under "
                  "\"ip netns exec\" or \"unshare\" is seen only there",
                  mountpoint));
}

}  // namespace

fs::MountEntry find_engine_mount(const std::string& mountpoint) {
  auto mount = fs::find_mount(mountpoint);
  if (!mount || !mount->is_ours()) refuse(mountpoint);
  return std::move(*mount);
}

std::string find_control_socket(const std::string& mountpoint) {
  fs::MountEntry mount = find_engine_mount(mountpoint);
  if (!mount.source.starts_with('/')) refuse(mountpoint);
  return std::move(mount.source);
}

}  // namespace xfrmfs
