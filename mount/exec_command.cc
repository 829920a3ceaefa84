// SPDX-License-Identifier: Apache-2.0
#include "mount/exec_command.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <expected>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mount/elf_program.h"
#include "mount/engine_mount.h"
#include "mount/log.h"
#include "netio/file_descriptor.h"
#include "netio/preload/protocol.h"

namespace xfrmfs {
namespace {

namespace stdfs = std::filesystem;

constexpr int kOwnFailure = 125;
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;

/// Why the command is not run, with the status that says so.
struct Refusal {
  int status;
  std::string reason;
};

// --- Which program is meant?  As execvp(3) looks for it.

/// An errno.
int try_file(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

std::expected<std::string, Refusal> find_program(const std::string& name) {
  int error = ENOENT;
  if (name.find('/') != std::string::npos) {
    error = try_file(name);
    if (error == 0) return name;
  } else if (!name.empty()) {
    const char* const variable = std::getenv("PATH");
    const std::string path = variable != nullptr ? variable : "/bin:/usr/bin";
    for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
      end = path.find(':', begin);
      const std::string folder = path.substr(begin, end - begin);
      const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
      const int found = try_file(candidate);
      if (found == 0) return candidate;
      if (found == EACCES) error = EACCES;
    }
  }
  const bool missing = error == ENOENT || error == ENOTDIR;
  return std::unexpected(Refusal{missing ? kNotFound : kCannotRun,
                                 fmt::format("cannot run \"{}\": {}", name, std::strerror(error))});
}

// --- Will it load the adapter?

/// Reads until `bytes` is full or the file ends; the number of bytes.
std::size_t read_at(int fd, std::uint64_t offset, std::span<std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size() && offset + done <= std::numeric_limits<off_t>::max()) {
    const ssize_t size =
        ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    done += static_cast<std::size_t>(size);
  }
  return done;
}

/// What runs a file that is no ELF: what its first line names, else the shell, as in execvp(3).
std::string interpreter_of(int fd) {
  constexpr std::size_t kLongestLine = 256;  // the kernel reads no more (execve(2))
  std::array<char, kLongestLine> bytes;
  const std::size_t size = read_at(fd, 0, std::as_writable_bytes(std::span(bytes)));
  std::string_view line(bytes.data(), size);
  if (!line.starts_with("#!")) return "/bin/sh";
  line = line.substr(2, line.find('\n') - 2);
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "/bin/sh";
  line.remove_prefix(begin);
  return std::string(line.substr(0, line.find_first_of(std::string_view(" \t\0", 3))));
}

/// The dynamic linker ignores LD_PRELOAD in programs that give privileges (ld.so(8)).
std::optional<std::string> check_privileges(int fd, const std::string& path) {
  struct stat status;
  if (::fstat(fd, &status) != 0) {
    return fmt::format("cannot inspect \"{}\": {}", path, std::strerror(errno));
  }
  const bool changes_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != ::geteuid();
  const bool changes_group = (status.st_mode & S_ISGID) != 0 && status.st_gid != ::getegid();
  const bool has_capabilities =
      ::getuid() != 0 && ::fgetxattr(fd, "security.capability", nullptr, 0) > 0;
  const char* const kind = changes_user       ? "set-user-ID"
                           : changes_group    ? "set-group-ID"
                           : has_capabilities ? "capabilities"
                                              : nullptr;
  if (kind == nullptr) return std::nullopt;
  return fmt::format("\"{}\" gains privileges ({}) and would ignore the adapter", path, kind);
}

/// Why the program would run past the adapter; nothing if it will not.
std::optional<std::string> check_program(std::string path) {
  constexpr int kMostInterpreters = 5;  // the kernel stops there too, with ELOOP
  for (int i = 0; i < kMostInterpreters; ++i) {
    const netio::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file) return fmt::format("cannot inspect \"{}\": {}", path, std::strerror(errno));
    const auto read_fully = [&file](std::uint64_t offset, std::span<std::byte> bytes) {
      return read_at(file.get(), offset, bytes) == bytes.size();
    };
    switch (classify_elf(read_fully)) {
      case ElfKind::kDynamic:
        return check_privileges(file.get(), path);
      case ElfKind::kStatic:
        return fmt::format("\"{}\" is statically linked and cannot load the adapter", path);
      case ElfKind::kForeign:
        return fmt::format("\"{}\" is of another architecture than the adapter", path);
      case ElfKind::kGo:
        return fmt::format("\"{}\" is a Go program and would run past the adapter", path);
      case ElfKind::kBroken:
        return fmt::format("\"{}\" is not a sound ELF file", path);
      case ElfKind::kNone:
        path = interpreter_of(file.get());
    }
  }
  return fmt::format("\"{}\": too many interpreters in a row", path);
}

// --- What does the program need to find the engine?

/// Beside this program, as built; else where it was installed, under whatever prefix that is.
std::expected<std::string, Refusal> find_adapter() {
  constexpr const char* kName = "libxfrmfs-preload.so";
  std::error_code error;
  const stdfs::path folder = stdfs::read_symlink("/proc/self/exe", error).parent_path();
  const stdfs::path beside = folder / kName;
  const stdfs::path installed = (folder / XFRMFS_LIBDIR_FROM_BINDIR / kName).lexically_normal();
  const stdfs::path path = stdfs::is_regular_file(beside, error) ? beside : installed;
  if (::access(path.c_str(), R_OK) != 0) {
    return std::unexpected(Refusal{
        kOwnFailure, fmt::format("adapter \"{}\": {}", path.string(), std::strerror(errno))});
  }
  if (path.string().find_first_of(" :$") != std::string::npos) {
    return std::unexpected(
        Refusal{kOwnFailure,
                fmt::format("adapter \"{}\": a blank, colon or $ in its path cannot be preloaded",
                            path.string())});
  }
  return path.string();
}

/// In front of what is preloaded anyway, and once.
std::string with_others(const std::string& adapter) {
  const char* const others = std::getenv("LD_PRELOAD");
  if (others == nullptr || *others == '\0') return adapter;
  const std::string_view list(others);
  if (list == adapter || list.starts_with(adapter + ":")) return others;
  return adapter + ":" + others;
}

Refusal prepare_and_run(const ExecOptions& options) {
  const std::string socket = find_control_socket(options.mountpoint);
  const auto adapter = find_adapter();
  if (!adapter) return adapter.error();
  const auto program = find_program(options.command.front());
  if (!program) return program.error();
  if (const auto reason = check_program(*program)) return {kCannotRun, *reason};

  ::setenv(netio::protocol::kSocketVariable, socket.c_str(), 1);
  ::setenv("LD_PRELOAD", with_others(*adapter).c_str(), 1);
  std::vector<std::string> arguments = options.command;
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  ::execvp(program->c_str(), pointers.data());
  return {errno == ENOENT ? kNotFound : kCannotRun,
          fmt::format("cannot run \"{}\": {}", *program, std::strerror(errno))};
}

}  // namespace

int exec_command(const ExecOptions& options) try {
  const Refusal refusal = prepare_and_run(options);
  log_error("exec: " + refusal.reason);
  return refusal.status;
} catch (const std::exception& error) {
  log_error(std::string("exec: ") + error.what());
  return kOwnFailure;
}

}  // namespace xfrmfs
