// SPDX-License-Identifier: Apache-2.0
#include "fs/xfrm_stat.h"

#include <cstddef>

#include "engine/base/counters.h"
#include "fs/text.h"

namespace xfrmfs::fs {

std::string XfrmStat::render(const engine::View& view) const {
  constexpr std::size_t kNameWidth = 24;
  const engine::CounterSums sums = view.counters();
  std::string out;
  out.reserve(engine::kXfrmStatLines * (kNameWidth + sizeof "\t18446744073709551615\n"));
  for (std::size_t i = 0; i < engine::kXfrmStatLines; ++i) {
    const std::size_t start = out.size();
    out += engine::name(static_cast<engine::Mib>(i));
    pad_from(out, start, kNameWidth);
    out += '\t';
    append_decimal(out, sums[i]);
    out += '\n';
  }
  return out;
}

}  // namespace xfrmfs::fs
