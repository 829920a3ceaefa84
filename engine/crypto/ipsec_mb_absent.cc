// SPDX-License-Identifier: Apache-2.0
// libipsec-mb in a build without it.

#include "engine/crypto/ipsec_mb.h"

namespace xfrmfs::engine::ipsec_mb {

std::expected<std::shared_ptr<const Library>, std::string> Library::load() {
  return std::unexpected("this build is without it");
}

}  // namespace xfrmfs::engine::ipsec_mb
