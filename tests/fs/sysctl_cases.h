// SPDX-License-Identifier: Apache-2.0
// What Linux 6.18 makes of texts written to net.core.xfrm_*: measured there.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace xfrmfs::fs {

struct SysctlResult {
  std::size_t taken = 0;  // what write(2) returns
  std::int64_t value = 0;
  bool operator==(const SysctlResult&) const = default;
};

inline void PrintTo(const SysctlResult& result, std::ostream* out) {
  *out << result.taken << " bytes, " << result.value;
}

struct SysctlCase {
  std::string text;
  std::optional<SysctlResult> for_unsigned;  // nothing: EINVAL
  std::optional<SysctlResult> for_signed;
};

inline void PrintTo(const SysctlCase& one, std::ostream* out) {
  *out << "text of " << one.text.size() << " bytes";
}

const std::vector<SysctlCase>& sysctl_cases();

}  // namespace xfrmfs::fs
