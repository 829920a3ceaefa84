// SPDX-License-Identifier: Apache-2.0
#include "fs/ipsec_eroute.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "engine/sad/sad.h"
#include "engine/spd/spd.h"
#include "fs/klips_sa.h"
#include "fs/text.h"

namespace xfrmfs::fs {
namespace {

using engine::PolicyParams;
using engine::SecurityAssociation;
using engine::Selector;
using engine::Snapshot;
using engine::Template;

constexpr std::size_t kTypicalLine = 100;  // bytes

void append_side(std::string& out, const engine::Prefix& prefix, std::uint16_t port) {
  constexpr std::size_t kWidth = 18;
  const std::size_t start = out.size();
  const bool brackets = port != 0 && prefix.address.family() == engine::Family::kIpv6;
  if (brackets) out += '[';
  append_klips_subnet(out, prefix);
  if (brackets) out += ']';
  if (port != 0) {
    out += ':';
    append_decimal(out, port);
  }
  pad_from(out, start, kWidth);
}

std::uint16_t shown_port(const engine::PortMatch& match) {
  return static_cast<std::uint16_t>(match.port & match.mask);
}

ErouteRow row_for(const Selector& selector) {
  ErouteRow row;
  row.source = without_host_bits(selector.source);
  row.destination = without_host_bits(selector.destination);
  row.source_port = shown_port(selector.source_port);
  row.destination_port = shown_port(selector.destination_port);
  row.protocol = selector.protocol;
  return row;
}

/// The packet that stands for all that a row covers: its lowest addresses.
engine::Flow flow_for(const ErouteRow& row) {
  return {row.source.address, row.destination.address, row.protocol,
          row.source_port,    row.destination_port,    true};
}

/// The one whose SA names the route: the innermost that is KLIPS' IP-in-IP, or else the innermost.
const Template& naming_template(const engine::Templates& templates) {
  const auto tunnel = std::ranges::find(templates, engine::Mode::kTunnel, &Template::mode);
  return tunnel != templates.end() ? *tunnel : templates.front();
}

void route_by_template(ErouteRow& row, const PolicyParams& policy, const Snapshot& snapshot) {
  const engine::SadView::Choice choice = snapshot.sad.choose(
      naming_template(policy.templates), flow_for(row), policy.mark.value, policy.if_id);
  if (choice.association == nullptr) {
    const bool may_pass = std::ranges::all_of(policy.templates, &Template::optional);
    row.said.kind = may_pass ? Said::Kind::kPass : Said::Kind::kTrap;
    return;
  }
  const SecurityAssociation& association = *choice.association;
  row.said = said_of(association,
                     has_tunnel_part(association) ? KlipsPart::kTunnel : KlipsPart::kTransform);
  row.packets = association.lifetime().usage().packets;
}

ErouteRow row_for(const PolicyParams& policy, const Snapshot& snapshot) {
  ErouteRow row = row_for(policy.selector);
  if (policy.action == engine::PolicyAction::kBlock) {
    row.said.kind = Said::Kind::kDrop;
  } else if (policy.templates.empty()) {
    row.said.kind = Said::Kind::kPass;
  } else {
    route_by_template(row, policy, snapshot);
  }
  return row;
}

bool is_single_host(const engine::Prefix& prefix) {
  return prefix.length == engine::address_size(prefix.address.family()) * 8;
}

/// Does this SA keep the place of one that packets of a host pair are waiting for?
bool holds(const SecurityAssociation& association) {
  const Selector& selector = association.params().selector;
  return association.state() == engine::SaState::kLarval &&
         selector.family != engine::Family::kNone && is_single_host(selector.source) &&
         is_single_host(selector.destination);
}

std::vector<ErouteRow> collect(const Snapshot& snapshot) {
  std::vector<ErouteRow> rows;
  rows.reserve(snapshot.spd.size(engine::Direction::kOut));
  snapshot.spd.in_order(engine::Direction::kOut, engine::PolicyType::kMain,
                        [&](const engine::SecurityPolicy& policy) {
                          rows.push_back(row_for(policy.params(), snapshot));
                          return true;
                        });
  snapshot.sad.by_serial().ascending([&](std::uint64_t, const engine::SaPtr& association) {
    if (!holds(*association)) return true;
    rows.push_back(row_for(association->params().selector));
    rows.back().said.kind = Said::Kind::kHold;
    return true;
  });
  return rows;
}

}  // namespace

void append(std::string& out, const ErouteRow& row) {
  constexpr std::size_t kCountWidth = 10;
  const std::size_t start = out.size();
  append_decimal(out, static_cast<std::int32_t>(row.packets));  // as KLIPS: negative from 2^31
  pad_from(out, start, kCountWidth);
  out += ' ';
  append_side(out, row.source, row.source_port);
  out += " -> ";
  append_side(out, row.destination, row.destination_port);
  out += " => ";
  append_said(out, row.said);
  if (row.protocol != engine::Protocol{}) {
    out += ':';
    append_decimal(out, static_cast<unsigned>(row.protocol));
  }
  out += '\n';
}

bool radix_less(const ErouteRow& a, const ErouteRow& b) {
  // IpAddress compares by family, then by bytes. Longer prefixes are more specific.
  const auto key = [](const ErouteRow& row, const ErouteRow& other) {
    return std::tie(row.source.address, row.destination.address, row.protocol, row.source_port,
                    row.destination_port, other.source.length, other.destination.length);
  };
  return key(a, b) < key(b, a);
}

std::string IpsecEroute::render(const engine::View& view) const {
  const std::shared_ptr<const Snapshot> snapshot = view.snapshot();
  std::vector<ErouteRow> rows = collect(*snapshot);
  std::ranges::sort(rows, radix_less);
  std::string out;
  out.reserve(rows.size() * kTypicalLine);
  for (const ErouteRow& row : rows) append(out, row);
  return out;
}

}  // namespace xfrmfs::fs
