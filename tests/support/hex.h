// SPDX-License-Identifier: Apache-2.0
// Bytes as people write them.

#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace xfrmfs::testing {

/// Blanks are skipped; throws std::invalid_argument for anything else that is not hex.
std::vector<std::byte> from_hex(std::string_view text);
std::string to_hex(std::span<const std::byte> bytes);

}  // namespace xfrmfs::testing
