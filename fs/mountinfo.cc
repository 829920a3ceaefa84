// SPDX-License-Identifier: Apache-2.0
#include "fs/mountinfo.h"

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ranges>
#include <system_error>

#include <spawn.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

namespace xfrmfs::fs {
namespace {

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

/// Blank, TAB, newline and backslash are written as \040 and so on.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && text.size() - i > 3 && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      const int code = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      out += static_cast<char>(code);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (const auto part : std::views::split(text, separator)) {
    parts.emplace_back(part.begin(), part.end());
  }
  return parts;
}

/// 36 35 98:0 /root /mount/point rw,noatime master:1 - type source rw
///                  4                      any number ^ of optional fields
std::optional<MountEntry> parse_line(std::string_view line) {
  constexpr std::size_t kMountpoint = 4;
  constexpr std::size_t kFirstOptional = 6;
  const std::vector<std::string_view> fields = split(line, ' ');
  std::size_t dash = kFirstOptional;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (fields.size() < 3 || dash > fields.size() - 3) return std::nullopt;
  return MountEntry{unescape(fields[kMountpoint]), unescape(fields[dash + 1]),
                    unescape(fields[dash + 2])};
}

/// Runs fusermount3, which is set-user-id root. True if it succeeded.
bool run_fusermount(const std::string& mountpoint, Unmount how) {
  std::string program = "fusermount3";
  std::string options = how == Unmount::kLazily ? "-uqz" : "-uq";
  std::string end_of_options = "--";
  std::string place = mountpoint;
  char* arguments[] = {program.data(), options.data(), end_of_options.data(), place.data(),
                       nullptr};
  pid_t child = 0;
  if (posix_spawnp(&child, program.c_str(), nullptr, nullptr, arguments, environ) != 0) {
    return false;
  }
  int status = 0;
  while (waitpid(child, &status, 0) == -1) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  for (const std::string_view line : split(text, '\n')) {
    if (auto entry = parse_line(line)) entries.push_back(std::move(*entry));
  }
  return entries;
}

std::vector<MountEntry> list_mounts() {
  std::ifstream file("/proc/self/mountinfo", std::ios::binary);
  if (!file) fail(errno, "cannot read /proc/self/mountinfo");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  return parse_mountinfo(text);
}

std::optional<MountEntry> find_mount(const std::string& path) {
  const std::string place = resolve_mountpoint(path);
  std::optional<MountEntry> topmost;  // a later line lies on top of an earlier one
  for (MountEntry& entry : list_mounts()) {
    if (entry.mountpoint == place) topmost = std::move(entry);
  }
  return topmost;
}

std::string resolve_mountpoint(const std::string& path) {
  namespace stdfs = std::filesystem;
  std::error_code error;
  const stdfs::path whole = stdfs::canonical(path, error);
  if (!error) return whole.string();
  const int reason = error.value();
  if (reason != ENOTCONN) fail(reason, fmt::format("mount point \"{}\"", path));

  // Dead: only the folder it lies in can still be followed.
  stdfs::path lexical = stdfs::absolute(path).lexically_normal();
  if (!lexical.has_filename()) lexical = lexical.parent_path();
  const stdfs::path folder = stdfs::canonical(lexical.parent_path(), error);
  if (error) fail(error.value(), fmt::format("mount point \"{}\"", path));
  return (folder / lexical.filename()).string();
}

bool is_dead(const std::string& mountpoint) {
  struct statfs unused;
  return statfs(mountpoint.c_str(), &unused) == -1 && errno == ENOTCONN;
}

void unmount(const std::string& mountpoint, Unmount how) {
  const int flags = UMOUNT_NOFOLLOW | (how == Unmount::kLazily ? MNT_DETACH : 0);
  if (umount2(mountpoint.c_str(), flags) == 0) return;
  const int error = errno;
  if (error == EPERM && run_fusermount(mountpoint, how)) return;
  fail(error, fmt::format("cannot unmount \"{}\"", mountpoint));
}

}  // namespace xfrmfs::fs
