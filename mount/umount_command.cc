// SPDX-License-Identifier: Apache-2.0
#include "mount/umount_command.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <exception>
#include <expected>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/core.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/mountinfo.h"
#include "mount/engine_mount.h"
#include "mount/log.h"
#include "netio/file_descriptor.h"

namespace xfrmfs {
namespace {

namespace stdfs = std::filesystem;
using netio::FileDescriptor;
using std::chrono::milliseconds;

/// The end of a mount ends its daemon at once; longer takes one whose mount lives on elsewhere.
constexpr milliseconds kPatience{2000};
/// For draining the workers and taking the devices apart.
constexpr milliseconds kMorePatience{8000};

// --- The daemon behind the mount, found through its control socket.

struct Daemon {
  pid_t pid;
  FileDescriptor process;
};

/// Or an errno: why it is not to be found.
std::expected<Daemon, int> find_daemon(const std::string& socket_path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) {
    return std::unexpected(ENAMETOOLONG);
  }
  socket_path.copy(address.sun_path, socket_path.size());
  const FileDescriptor connection(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  // The kernel completes the connection; only a full queue would make us wait.
  constexpr timeval kLimit = {.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDTIMEO, &kLimit, sizeof(kLimit));
  if (::connect(connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return std::unexpected(errno);
  }
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return std::unexpected(errno);
  }
  if (peer.pid <= 0) return std::unexpected(ESRCH);  // not in our PID namespace
  FileDescriptor process(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
  if (!process) return std::unexpected(errno);
  return Daemon{peer.pid, std::move(process)};
}

bool ends_within(const Daemon& daemon, milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left < milliseconds::zero()) return false;
    pollfd end = {.fd = daemon.process.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&end, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

/// Waits until it has ended, with devices and sockets.
void see_end_of(const Daemon& daemon, const std::string& place) {
  if (ends_within(daemon, kPatience)) return;
  // Another mount namespace keeps a copy of the mount. Without the one asked for, the engine is to
  // end.
  ::syscall(SYS_pidfd_send_signal, daemon.process.get(), SIGTERM, nullptr, 0);
  if (ends_within(daemon, kMorePatience)) return;
  throw std::runtime_error(
      fmt::format("unmounted \"{}\", but its daemon still runs (process {})", place, daemon.pid));
}

// --- What a killed daemon left.

void remove_dead_mount(const fs::MountEntry& mount) {
  fs::unmount(mount.mountpoint, fs::Unmount::kLazily);
  // Nobody listens there, as we have just seen. Only remove what a daemon of ours may have made.
  struct stat status;
  if (::lstat(mount.source.c_str(), &status) != 0) return;
  if (!S_ISSOCK(status.st_mode) || status.st_uid != ::geteuid()) return;
  if (::unlink(mount.source.c_str()) != 0 && errno != ENOENT) {
    netio::throw_errno(fmt::format("cannot remove the control socket \"{}\"", mount.source));
  }
}

// --- Who keeps a mount busy?

bool lies_in(const stdfs::path& link, const std::string& place) {
  std::error_code error;
  const std::string target = stdfs::read_symlink(link, error).string();
  return !error && (target == place || target.starts_with(place + "/"));
}

/// What a process has to do with the files; nothing for most.
std::optional<std::string> use_by(const stdfs::path& process, const std::string& place) {
  for (const char* const folder : {"cwd", "root"}) {
    if (lies_in(process / folder, place)) return "works in it";
  }
  std::error_code error;
  for (const auto& file : stdfs::directory_iterator(process / "fd", error)) {
    if (lies_in(file.path(), place)) return "has one of its files open";
  }
  return std::nullopt;
}

std::optional<std::string> find_user(const std::string& place) {
  std::error_code error;
  for (const auto& entry : stdfs::directory_iterator("/proc", error)) {
    const std::string pid = entry.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto use = use_by(entry.path(), place);
    if (!use) continue;
    std::string name;
    std::getline(std::ifstream(entry.path() / "comm"), name);
    return fmt::format("process {} ({}) {}", pid, name, *use);
  }
  return std::nullopt;
}

void unmount_if_idle(const std::string& place) try {
  fs::unmount(place, fs::Unmount::kIfIdle);
} catch (const std::system_error& error) {
  // fusermount3 does not tell why it failed.
  if (error.code().value() != EBUSY && error.code().value() != EPERM) throw;
  const auto user = find_user(place);
  if (!user) throw;
  throw std::system_error(EBUSY, std::generic_category(),
                          fmt::format("cannot unmount \"{}\": {}", place, *user));
}

/// False: somebody works in it, and it lives on until he leaves.
bool unmount(const UmountOptions& options, const std::string& place) try {
  unmount_if_idle(place);
  return true;
} catch (const std::system_error&) {
  if (!options.lazy) throw;
  fs::unmount(place, fs::Unmount::kLazily);
  return false;
}

void unmount_and_wait(const UmountOptions& options) {
  const fs::MountEntry mount = find_engine_mount(options.mountpoint);
  const auto daemon = find_daemon(mount.source);
  const int error = daemon ? 0 : daemon.error();
  if ((error == ECONNREFUSED || error == ENOENT) && fs::is_dead(mount.mountpoint)) {
    remove_dead_mount(mount);
    return;
  }
  if (!unmount(options, mount.mountpoint)) return;
  if (!daemon) {
    throw std::system_error(
        error, std::generic_category(),
        fmt::format("unmounted \"{}\", but cannot watch its daemon end", mount.mountpoint));
  }
  see_end_of(*daemon, mount.mountpoint);
}

}  // namespace

int umount_command(const UmountOptions& options) try {
  unmount_and_wait(options);
  return 0;
} catch (const std::exception& error) {
  log_error(std::string("umount: ") + error.what());
  return 1;
}

}  // namespace xfrmfs
