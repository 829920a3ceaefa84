// SPDX-License-Identifier: Apache-2.0
#include "engine/spd/selector.h"

namespace xfrmfs::engine {
namespace {

bool port_matches(const PortMatch& wanted, std::uint16_t port, bool known) {
  if (wanted.mask == 0) return true;
  return known && ((port ^ wanted.port) & wanted.mask) == 0;
}

}  // namespace

bool Selector::matches(const Flow& flow) const {
  if (family == Family::kNone) return true;
  return family == flow.family() && destination.contains(flow.destination) &&
         source.contains(flow.source) && (protocol == Protocol{} || protocol == flow.protocol) &&
         port_matches(destination_port, flow.destination_port, flow.ports_known) &&
         port_matches(source_port, flow.source_port, flow.ports_known);
}

}  // namespace xfrmfs::engine
