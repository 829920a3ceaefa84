// SPDX-License-Identifier: Apache-2.0
#include "mount/log.h"

#include <cstdio>

#include <syslog.h>

namespace xfrmfs {
namespace {

bool to_syslog = false;

void log(int priority, const char* label, const std::string& line) noexcept {
  if (to_syslog) {
    ::syslog(priority, "%s%s", label, line.c_str());
  } else {
    std::fprintf(stderr, "xfrmfs: %s%s\n", label, line.c_str());
  }
}

}  // namespace

void log_error(const std::string& line) noexcept {
  log(LOG_ERR, "", line);
}
void log_warning(const std::string& line) noexcept {
  log(LOG_WARNING, "warning: ", line);
}
void log_notice(const std::string& line) noexcept {
  log(LOG_NOTICE, "", line);
}

void log_to_syslog() noexcept {
  ::openlog("xfrmfs", LOG_PID, LOG_DAEMON);
  to_syslog = true;
}

}  // namespace xfrmfs
