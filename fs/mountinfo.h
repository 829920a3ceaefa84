// SPDX-License-Identifier: Apache-2.0
// Which mounts of ours exist, where, and are they alive?  proc_pid_mountinfo(5) decides.
//
// A mount whose daemon was killed stays behind: every access ends with ENOTCONN, but
// /proc/self/mountinfo still lists it, and that is how it is found.

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace xfrmfs::fs {

/// The type under which our mounts are listed.
inline constexpr std::string_view kMountType = "fuse.xfrmfs";

struct MountEntry {
  std::string mountpoint;
  std::string fstype;
  std::string source;

  bool is_ours() const { return fstype == kMountType; }
  bool operator==(const MountEntry&) const = default;
};

/// The lines of a mountinfo file, in its order; lines that make no sense are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

/// All mounts that this process can see. Throws std::system_error if there is no procfs.
std::vector<MountEntry> list_mounts();

/// The mount at exactly this place, the topmost if there are several; also one that is dead.
/// `path` may be relative and go through symbolic links.
std::optional<MountEntry> find_mount(const std::string& path);

/// `path` as mountinfo would list it. Works for a dead mount, whose own name stat(2) refuses.
/// Throws std::system_error if the folder it lies in does not exist.
std::string resolve_mountpoint(const std::string& path);

/// Nobody answers there any more. Asks the file system, so its daemon must not be who calls.
bool is_dead(const std::string& mountpoint);

enum class Unmount { kIfIdle, kLazily };

/// Takes the topmost mount off this place: lazily, it disappears although it is in use. A user
/// without privilege goes through fusermount3. Throws std::system_error naming the place.
void unmount(const std::string& mountpoint, Unmount how);

}  // namespace xfrmfs::fs
