// SPDX-License-Identifier: Apache-2.0
// net/xfrm_stat: why packets were dropped, as in Linux 6.14 and later.
//
//   XfrmInError             	0
//   |----- name, 24 -------||  `- unsigned decimal, 64 bits: sum over all threads since the start
//                           `- one TAB
//
// 32 lines, no header. Lines are not one moment: each is added up when its turn comes.

#pragma once

#include <string>

#include "fs/virtual_file.h"

namespace xfrmfs::fs {

class XfrmStat : public VirtualFile {
 public:
  std::string render(const engine::View& view) const override;
};

}  // namespace xfrmfs::fs
