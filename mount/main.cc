// SPDX-License-Identifier: Apache-2.0
// The program: reads the command line and does what it says.

#include <cstdio>
#include <exception>
#include <variant>

#include "mount/exec_command.h"
#include "mount/log.h"
#include "mount/mount_command.h"
#include "mount/options.h"
#include "mount/status_command.h"
#include "mount/umount_command.h"

namespace {

using xfrmfs::Command;
using xfrmfs::ParseStop;

int stop(const ParseStop& stop) {
  std::FILE* const stream = stop.status == 0 ? stdout : stderr;
  std::fprintf(stream, "%s\n", stop.text.c_str());
  return stop.status;
}

int execute(const Command& command) {
  if (const auto* mount = std::get_if<xfrmfs::MountOptions>(&command)) {
    return xfrmfs::mount_command(*mount);
  }
  if (const auto* umount = std::get_if<xfrmfs::UmountOptions>(&command)) {
    return xfrmfs::umount_command(*umount);
  }
  if (const auto* status = std::get_if<xfrmfs::StatusOptions>(&command)) {
    return xfrmfs::status_command(*status);
  }
  return xfrmfs::exec_command(std::get<xfrmfs::ExecOptions>(command));
}

}  // namespace

int main(int argc, char* argv[]) try {
  const auto parsed = xfrmfs::parse_options(argc, argv);
  if (const auto* reason = std::get_if<ParseStop>(&parsed)) return stop(*reason);
  return execute(std::get<Command>(parsed));
} catch (const std::exception& error) {
  xfrmfs::log_error(error.what());
  return 1;
}
