// SPDX-License-Identifier: Apache-2.0
#include "netio/guard_rules.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <unordered_set>
#include <utility>

namespace xfrmfs::netio {
namespace {

using engine::Family;
using engine::PolicyParams;
using engine::PortMatch;
using engine::Protocol;
using Where = GuardField::Where;

/// One way in which packets can match a policy.
struct Row {
  GuardShape shape;
  std::vector<std::uint8_t> key;
};

void look_at(Row& row, GuardField field, std::span<const std::uint8_t> value) {
  const std::size_t at = row.key.size();
  row.key.resize(at + (field.size + 3u) / 4 * 4);
  for (std::size_t i = 0; i < field.size; ++i) row.key[at + i] = value[i] & field.mask[i];
  row.shape.fields.push_back(field);
}

void look_at_address(Row& row, Where where, const engine::Prefix& prefix) {
  if (prefix.length == 0) return;
  GuardField field{.where = where};
  field.size = static_cast<std::uint8_t>(address_size(row.shape.family));
  for (unsigned i = 0; i < field.size; ++i) {
    const unsigned bits = prefix.length > i * 8 ? std::min(prefix.length - i * 8, 8u) : 0;
    field.mask[i] = static_cast<std::uint8_t>(0xff00u >> bits);
  }
  std::array<std::uint8_t, 16> value{};
  std::memcpy(value.data(), prefix.address.storage().data(), value.size());
  look_at(row, field, value);
}

void look_at_mark(Row& row, const engine::Mark& mark) {
  if (mark.mask == 0) return;
  GuardField field{.where = Where::kMark, .size = sizeof mark.mask};
  std::memcpy(field.mask.data(), &mark.mask, sizeof mark.mask);
  std::array<std::uint8_t, sizeof mark.value> value;
  std::memcpy(value.data(), &mark.value, sizeof value);
  look_at(row, field, value);
}

/// Where the flow of a packet has a number that selectors call a port: `size` bytes at `offset`
/// behind the IP headers, or always 0.
struct Place {
  std::uint8_t offset = 0;
  std::uint8_t size = 0;
};

/// False if no packet has such a port there.
bool look_at_port(Row& row, Place place, PortMatch port) {
  if (port.mask == 0) return true;
  const unsigned wanted = port.port & port.mask;
  if (wanted >> (place.size * 8) != 0) return false;
  GuardField field{.where = Where::kTransport, .offset = place.offset, .size = place.size};
  std::array<std::uint8_t, 2> value{};
  for (std::size_t i = 0; i < place.size; ++i) {
    const auto shift = (place.size - 1 - i) * 8;
    field.mask[i] = static_cast<std::uint8_t>(port.mask >> shift);
    value[i] = static_cast<std::uint8_t>(wanted >> shift);
  }
  // Also if no bit counts: a packet whose ports are not known has none that matches.
  field.size = std::max<std::uint8_t>(field.size, 1);
  look_at(row, field, value);
  return true;
}

/// The places of both ports in the packets of one protocol, in the manner of engine/packet/flow.cc.
struct Ports {
  Family family;  // kNone: both
  Protocol protocol;
  Place source;
  Place destination;
  std::uint16_t flags = 0;       // the first two bytes ...
  std::uint16_t flags_mask = 0;  // ... of which these bits must be so
};

constexpr std::uint16_t kGreChecksum = 0x8000;
constexpr std::uint16_t kGreKey = 0x2000;
constexpr Ports kPorts[] = {
    {Family::kNone, Protocol::kTcp, {0, 2}, {2, 2}},
    {Family::kNone, Protocol::kUdp, {0, 2}, {2, 2}},
    {Family::kNone, Protocol::kUdpLite, {0, 2}, {2, 2}},
    {Family::kNone, Protocol::kSctp, {0, 2}, {2, 2}},
    {Family::kNone, Protocol::kDccp, {0, 2}, {2, 2}},
    {Family::kIpv4, Protocol::kIcmp, {0, 1}, {1, 1}},
    {Family::kIpv6, Protocol::kIcmpv6, {0, 1}, {1, 1}},
    {Family::kIpv6, Protocol::kMobility, {2, 1}, {}},
    {Family::kNone, Protocol::kGre, {4, 2}, {6, 2}, kGreKey, kGreKey | kGreChecksum},
    {Family::kNone,
     Protocol::kGre,
     {8, 2},
     {10, 2},
     kGreKey | kGreChecksum,
     kGreKey | kGreChecksum},
};

GuardTest flags_test(const Ports& ports) {
  const auto high = [](std::uint16_t value) { return static_cast<std::uint8_t>(value >> 8); };
  GuardTest test{.field = {.where = Where::kTransport, .offset = 0, .size = 2}};
  test.field.mask[0] = high(ports.flags_mask);
  test.value[0] = high(ports.flags);
  return test;
}

/// All ways in which clear packets of the underlay can match; none if they cannot.
std::vector<Row> rows_of(const PolicyParams& policy) {
  const engine::Selector& selector = policy.selector;
  std::vector<Row> rows;
  if (policy.if_id != 0 || (policy.mark.value & ~policy.mark.mask) != 0) return rows;

  Row row;
  if (selector.family == Family::kNone) {  // every packet
    look_at_mark(row, policy.mark);
    for (const Family family : {Family::kIpv4, Family::kIpv6}) {
      row.shape.family = family;
      rows.push_back(row);
    }
    return rows;
  }
  row.shape.family = selector.family;
  row.shape.interface = static_cast<std::uint32_t>(selector.interface_index);
  if (selector.protocol != Protocol{}) row.shape.protocol = selector.protocol;
  look_at_address(row, Where::kSource, selector.source);
  look_at_address(row, Where::kDestination, selector.destination);
  look_at_mark(row, policy.mark);
  if (selector.source_port.mask == 0 && selector.destination_port.mask == 0) {
    rows.push_back(std::move(row));
    return rows;
  }
  for (const Ports& ports : kPorts) {
    if (ports.family != Family::kNone && ports.family != selector.family) continue;
    if (selector.protocol != Protocol{} && selector.protocol != ports.protocol) continue;
    Row one = row;
    one.shape.protocol = ports.protocol;
    if (ports.flags_mask != 0) one.shape.tests.push_back(flags_test(ports));
    if (look_at_port(one, ports.source, selector.source_port) &&
        look_at_port(one, ports.destination, selector.destination_port)) {
      rows.push_back(std::move(one));
    }
  }
  return rows;
}

/// What the policies that matched so far demand.
struct Demand {
  std::size_t templates = 0;  // counted up to one more than can be used
  bool mandatory = false;

  void add(const PolicyParams& policy) {
    templates = std::min(templates + policy.templates.size(), engine::kUsableTemplates + 1);
    for (const engine::Template& tmpl : policy.templates) mandatory |= !tmpl.optional;
  }
  GuardTarget target() const {
    if (templates > engine::kUsableTemplates) return GuardTarget::kBufferError;
    return mandatory ? GuardTarget::kTmplMismatch : GuardTarget::kPass;
  }
  auto operator<=>(const Demand&) const = default;
};

/// Fills a chain with policies in their order.
class ChainBuilder {
 public:
  void add(const PolicyParams& policy, GuardTarget target) {
    for (Row& row : rows_of(policy)) add(std::move(row), target);
  }

  GuardChain finish(GuardTarget otherwise) && {
    // What passes in the end needs no rule.
    while (otherwise == GuardTarget::kPass && !chain_.lookups.empty() &&
           std::ranges::all_of(chain_.lookups.back().elements, [](const GuardElement& element) {
             return element.target == GuardTarget::kPass;
           })) {
      chain_.lookups.pop_back();
    }
    chain_.otherwise = otherwise;
    return std::move(chain_);
  }

 private:
  void add(Row row, GuardTarget target) {
    const auto last = last_of_shape_.find(row.shape);
    std::size_t place = chain_.lookups.size();
    if (last != last_of_shape_.end() && may_move_to(last->second, target)) {
      place = last->second;
    } else {
      last_of_shape_.insert_or_assign(row.shape, place);
      chain_.lookups.push_back({.shape = std::move(row.shape), .elements = {}});
      keys_.emplace_back();
    }
    std::string text(row.key.begin(), row.key.end());
    if (!keys_[place].insert(std::move(text)).second) return;  // an earlier one decides
    chain_.lookups[place].elements.push_back({.key = std::move(row.key), .target = target});
    auto& users = lookups_with_[target];
    if (users < place + 1) users = place + 1;
  }

  /// Do all lookups behind this place lead to `target`?
  bool may_move_to(std::size_t place, GuardTarget target) const {
    return std::ranges::all_of(lookups_with_, [&](const auto& entry) {
      return entry.first == target || entry.second <= place + 1;
    });
  }

  GuardChain chain_;
  std::vector<std::unordered_set<std::string>> keys_;  // of each lookup
  std::map<GuardShape, std::size_t> last_of_shape_;    // the last lookup of each shape
  std::map<GuardTarget, std::size_t> lookups_with_;    // one more than the last such lookup
};

void add_main(ChainBuilder& chain, const engine::SpdView& spd, engine::Direction direction,
              Demand demand) {
  spd.in_order(direction, engine::PolicyType::kMain, [&](const engine::SecurityPolicy& policy) {
    Demand both = demand;
    both.add(policy.params());
    const bool blocks = policy.params().action == engine::PolicyAction::kBlock;
    chain.add(policy.params(), blocks ? GuardTarget::kPolBlock : both.target());
    return true;
  });
}

}  // namespace

GuardDirection guard_rules(const engine::SpdView& spd, engine::Direction direction,
                           engine::DefaultAction otherwise) {
  GuardDirection rules;
  ChainBuilder first;
  std::map<Demand, GuardTarget> after;  // chains for what sub policies demand
  spd.in_order(direction, engine::PolicyType::kSub, [&](const engine::SecurityPolicy& policy) {
    GuardTarget target = GuardTarget::kPolBlock;
    if (policy.params().action == engine::PolicyAction::kAllow) {
      Demand demand;
      demand.add(policy.params());
      const auto next = std::to_underlying(GuardTarget::kAfterSub) + after.size();
      target = after.try_emplace(demand, static_cast<GuardTarget>(next)).first->second;
    }
    first.add(policy.params(), target);
    return true;
  });
  rules.after_sub.resize(after.size());
  for (const auto& [demand, target] : after) {
    ChainBuilder chain;
    add_main(chain, spd, direction, demand);
    const auto place = std::to_underlying(target) - std::to_underlying(GuardTarget::kAfterSub);
    rules.after_sub[static_cast<std::size_t>(place)] = std::move(chain).finish(demand.target());
  }
  add_main(first, spd, direction, {});
  const bool block = otherwise == engine::DefaultAction::kBlock;
  rules.first = std::move(first).finish(block ? GuardTarget::kNoPols : GuardTarget::kPass);
  return rules;
}

}  // namespace xfrmfs::netio
