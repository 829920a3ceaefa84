// SPDX-License-Identifier: Apache-2.0
// Reading tests/golden.

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace xfrmfs::fs {

/// The whole file; `name` is its path below tests/golden. Throws if it cannot be read.
std::string golden(const std::string& name);

/// Names of the files below tests/golden/klips that start so, sorted.
std::vector<std::string> klips_goldens(std::string_view start);

/// Without their newlines.
std::vector<std::string> lines_of(const std::string& text);

/// The words between blanks.
std::vector<std::string> words_of(const std::string& line);

}  // namespace xfrmfs::fs
