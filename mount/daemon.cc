// SPDX-License-Identifier: Apache-2.0
#include "mount/daemon.h"

#include <cerrno>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount/capability.h"
#include "mount/log.h"

namespace xfrmfs {
namespace {

using netio::FileDescriptor;
using netio::own_or_throw;
using netio::throw_errno;

/// Under a limit, locking future memory would make later allocations fail.
bool may_lock_all_memory() noexcept {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  return ::setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0 || has_capability(CAP_IPC_LOCK);
}

/// The status of a program that has ended before it was ready.
int status_of_failure(pid_t program) {
  int status = 0;
  while (::waitpid(program, &status, 0) < 0) {
    if (errno != EINTR) throw_errno("waitpid");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return WEXITSTATUS(status);
  if (WIFSIGNALED(status)) {
    log_error(fmt::format("ended by signal {} while starting", WTERMSIG(status)));
  } else {
    log_error("ended while starting");
  }
  return 1;
}

}  // namespace

bool Readiness::announce() {
  if (!caller_) return true;
  const FileDescriptor null = own_or_throw(::open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::dup2(null.get(), standard) < 0) throw_errno("/dev/null");
  }
  log_to_syslog();
  const FileDescriptor caller = std::exchange(caller_, FileDescriptor());
  const char ready = 1;
  return ::write(caller.get(), &ready, 1) == 1;
}

int run_in_background(const Program& program) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("pipe");
  FileDescriptor listening(ends[0]);
  FileDescriptor telling(ends[1]);

  const pid_t child = ::fork();
  if (child < 0) throw_errno("fork");
  if (child == 0) {
    listening = FileDescriptor();
    ::setsid();  // cannot fail: we lead no process group
    if (::chdir("/") != 0) throw_errno("/");
    Readiness readiness(std::move(telling));
    return program(readiness);
  }

  telling = FileDescriptor();
  char ready = 0;
  ssize_t size = 0;
  do {
    size = ::read(listening.get(), &ready, 1);
  } while (size < 0 && errno == EINTR);
  return size == 1 ? 0 : status_of_failure(child);
}

void keep_memory_private() noexcept {
  const rlimit none{0, 0};
  std::ignore = ::setrlimit(RLIMIT_CORE, &none);
  std::ignore = ::prctl(PR_SET_DUMPABLE, 0);
  if (may_lock_all_memory()) std::ignore = ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

}  // namespace xfrmfs
