// SPDX-License-Identifier: Apache-2.0
#include "mount/mount_command.h"

#include <cerrno>
#include <csignal>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/core.h>

#include "fs/mountinfo.h"
#include "mount/capability.h"
#include "mount/daemon.h"
#include "mount/log.h"
#include "mount/service.h"
#include "netio/netns.h"

namespace xfrmfs {
namespace {

/// A mount made there is seen by nobody else, which is hardly what was meant.
void warn_of_private_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  const std::string mountinfo((std::istreambuf_iterator<char>(file)), {});
  const auto name = netio::name_from_netns_exec(mountinfo);
  if (!name) return;
  log_warning(fmt::format(
      "\"ip netns exec {0}\" hides the mount from all other programs; use --netns {0} instead",
      *name));
}

int serve(const MountOptions& options, Readiness& readiness) try {
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  keep_memory_private();
  // libfuse would ask fusermount3, which explains the refusal in a line of its own.
  if (::geteuid() == 0 && !has_capability(CAP_SYS_ADMIN)) {
    throw std::system_error(EPERM, std::generic_category(), "mounting needs CAP_SYS_ADMIN");
  }
  if (!options.netns.empty()) netio::enter_network_namespace(options.netns);
  Service service(options);
  service.run(readiness);
  return 0;
} catch (const std::exception& error) {
  log_error(error.what());
  return 1;
}

}  // namespace

int mount_command(MountOptions options) {
  options.mountpoint = fs::resolve_mountpoint(options.mountpoint);  // before anybody changes "."
  if (options.netns.empty()) warn_of_private_mounts();
  const auto program = [&options](Readiness& readiness) { return serve(options, readiness); };
  if (!options.foreground) return run_in_background(program);
  Readiness nobody;
  return program(nobody);
}

}  // namespace xfrmfs
