// SPDX-License-Identifier: Apache-2.0
// IvSource: where unpredictable IVs come from (RFC 3602 §2.1).

#pragma once

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

/// A source of IVs that nobody can predict; one per thread.
class IvSource {
 public:
  virtual ~IvSource() = default;
  virtual void fill(MutableBytes iv) noexcept = 0;
};

}  // namespace xfrmfs::engine
