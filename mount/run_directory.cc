// SPDX-License-Identifier: Apache-2.0
#include "mount/run_directory.h"

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include <fmt/core.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "netio/file_descriptor.h"

namespace xfrmfs {
namespace {

namespace files = std::filesystem;

constexpr const char* kDirectory = "/run/xfrmfs";
constexpr std::string_view kSuffix = ".sock";

void make_directory() {
  if (::mkdir(kDirectory, 0700) == 0) return;
  if (errno != EEXIST) netio::throw_errno(kDirectory);
  struct stat status{};
  if (::lstat(kDirectory, &status) != 0) netio::throw_errno(kDirectory);
  const bool is_private = (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  if (S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() && is_private) return;
  throw std::system_error(
      EPERM, std::generic_category(),
      fmt::format("{} is not a directory that only we can write to", kDirectory));
}

/// The process in whose name a socket is: 17 of "17.sock".
std::optional<pid_t> owner_of(const std::string& name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  const char* const end = name.data() + name.size() - kSuffix.size();
  pid_t owner = 0;
  const auto [stop, error] = std::from_chars(name.data(), end, owner);
  if (error != std::errc() || stop != end || owner <= 0) return std::nullopt;
  return owner;
}

bool refuses_connections(const files::path& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.string().copy(name.sun_path, sizeof name.sun_path - 1) < path.string().size()) {
    return false;
  }
  const netio::FileDescriptor fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  return fd && ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 &&
         errno == ECONNREFUSED;
}

/// False also for a process that has ended and that nobody has waited for yet.
bool is_running(pid_t process) {
  const netio::FileDescriptor fd(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  if (!fd) return errno != ESRCH;
  pollfd ended{.fd = fd.get(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 0;
}

/// Between bind(2) and listen(2) a living socket refuses connections, too; but then its process
/// runs.
void remove_dead_sockets() {
  std::error_code ignored;
  for (const auto& entry : files::directory_iterator(kDirectory, ignored)) {
    const auto owner = owner_of(entry.path().filename().string());
    if (!owner || is_running(*owner) || !refuses_connections(entry.path())) continue;
    files::remove(entry.path(), ignored);
  }
}

}  // namespace

std::string default_socket_path() {
  make_directory();
  remove_dead_sockets();
  return fmt::format("{}/{}{}", kDirectory, ::getpid(), kSuffix);
}

}  // namespace xfrmfs
