// SPDX-License-Identifier: Apache-2.0
// The assertion of fuzz targets: on in every build.

#pragma once

#include <cstdlib>

namespace xfrmfs::testing {

inline void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace xfrmfs::testing
