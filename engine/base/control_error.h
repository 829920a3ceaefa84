// SPDX-License-Identifier: Apache-2.0
// Why a change was refused: an errno for the program, a sentence for the human.

#pragma once

#include <string>
#include <utility>

namespace xfrmfs::engine {

struct ControlError {
  int error = 0;        // errno value, positive
  std::string message;  // becomes the extended acknowledgement; empty where a kernel says nothing

  ControlError(int e, std::string text) : error(e), message(std::move(text)) {}
  explicit ControlError(int e) : error(e) {}
};

}  // namespace xfrmfs::engine
