// SPDX-License-Identifier: Apache-2.0
// Messages for the operator: start, stop, refusal. One line each; to standard error, or to syslog
// once the program is in the background.

#pragma once

#include <string>

namespace xfrmfs {

/// Any thread.
void log_error(const std::string& line) noexcept;
void log_warning(const std::string& line) noexcept;
void log_notice(const std::string& line) noexcept;

/// From now on to syslog. Before any other thread logs.
void log_to_syslog() noexcept;

}  // namespace xfrmfs
