// SPDX-License-Identifier: Apache-2.0
#include "netio/guard_table.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include <fmt/core.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>

#include "engine/packet/ip_header.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::Family;
using engine::Mib;
using engine::Protocol;

// Input: behind filters (0), mandatory access control (50) and source NAT (100), where a kernel
// would look at its policies, and before connection tracking confirms the connection. Forward:
// before all filters, because a kernel asks its policies first (net/ipv4/ip_forward.c).
constexpr std::int32_t kInputPriority = 200;
constexpr std::int32_t kForwardPriority = -200;

constexpr std::uint16_t kIkePorts[] = {4500, 500};  // RFC 7296 §2
constexpr std::uint8_t kLinkLocalHops = 255;        // RFC 4861 §6.1, §7.1: not from afar
constexpr std::uint8_t kRouterSolicitation = 133;
constexpr std::uint8_t kRedirect = 137;
constexpr std::uint32_t kLoopback = 1;       // index, in any network namespace
constexpr std::size_t kMapMessage = 60'000;  // an attribute has at most 65531 bytes

constexpr std::string_view kSides[] = {"input", "forward"};

struct Reason {
  GuardTarget target;
  std::string_view name;
  Mib mib;
};
constexpr Reason kReasons[] = {
    {GuardTarget::kTmplMismatch, "tmpl_mismatch", Mib::kInTmplMismatch},
    {GuardTarget::kNoPols, "no_pols", Mib::kInNoPols},
    {GuardTarget::kPolBlock, "pol_block", Mib::kInPolBlock},
    {GuardTarget::kBufferError, "buffer_error", Mib::kInBufferError},
};

std::string reason_name(std::string_view side, const Reason& reason) {
  return fmt::format("{}_{}", side, reason.name);
}

/// The chain that a target leads to; empty: none, the packet passes.
std::string chain_of(std::string_view side, GuardTarget target) {
  if (target == GuardTarget::kPass) return {};
  for (const Reason& reason : kReasons) {
    if (reason.target == target) return reason_name(side, reason);
  }
  return fmt::format("{}_after_sub_{}", side,
                     std::to_underlying(target) - std::to_underlying(GuardTarget::kAfterSub));
}

// --- Words of the nft program for what a key consists of, so that it can show our maps.

constexpr std::uint32_t kTypeBits = 6;
constexpr std::uint32_t kTypeIpv4 = 7, kTypeIpv6 = 8, kTypePort = 13, kTypeIcmpType = 14,
                        kTypeMobility = 17, kTypeMark = 19, kTypeIcmpv6Type = 29,
                        kTypeIcmpCode = 32, kTypeIcmpv6Code = 33;

std::uint32_t nft_type_of(const GuardShape& shape, const GuardField& field) {
  switch (field.where) {
    case GuardField::Where::kSource:
    case GuardField::Where::kDestination:
      return shape.family == Family::kIpv4 ? kTypeIpv4 : kTypeIpv6;
    case GuardField::Where::kMark:
      return kTypeMark;
    case GuardField::Where::kTransport:
      break;
  }
  if (field.size == 2) return kTypePort;
  if (shape.protocol == Protocol::kIcmp) return field.offset == 0 ? kTypeIcmpType : kTypeIcmpCode;
  if (shape.protocol == Protocol::kIcmpv6) {
    return field.offset == 0 ? kTypeIcmpv6Type : kTypeIcmpv6Code;
  }
  return kTypeMobility;
}

// --- Rules.

template <class T>
Bytes bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// One rule: its expressions, in the order of the calls.
class Rule {
 public:
  /// Calls `fill` with the rule, which is part of the chain then.
  template <class Fill>
  static void add(NftBatch& batch, std::string_view table, std::string_view chain,
                  const Fill& fill) {
    batch.message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    batch.text(NFTA_RULE_TABLE, table);
    batch.text(NFTA_RULE_CHAIN, chain);
    batch.nest(NFTA_RULE_EXPRESSIONS, [&] { fill(Rule(batch)); });
  }

  void load_meta(std::uint32_t key, std::uint32_t to = NFT_REG32_00) const {
    expression("meta", [&] {
      batch_.u32(NFTA_META_DREG, to);
      batch_.u32(NFTA_META_KEY, key);
    });
  }
  void load(std::uint32_t base, std::uint32_t offset, std::uint32_t size,
            std::uint32_t to = NFT_REG32_00) const {
    expression("payload", [&] {
      batch_.u32(NFTA_PAYLOAD_DREG, to);
      batch_.u32(NFTA_PAYLOAD_BASE, base);
      batch_.u32(NFTA_PAYLOAD_OFFSET, offset);
      batch_.u32(NFTA_PAYLOAD_LEN, size);
    });
  }
  /// Nothing if no bit would change.
  void mask(Bytes mask, std::uint32_t in = NFT_REG32_00) const {
    if (std::ranges::all_of(mask, [](std::byte b) { return b == std::byte{0xff}; })) return;
    expression("bitwise", [&] {
      batch_.u32(NFTA_BITWISE_SREG, in);
      batch_.u32(NFTA_BITWISE_DREG, in);
      batch_.u32(NFTA_BITWISE_LEN, static_cast<std::uint32_t>(mask.size()));
      batch_.nest(NFTA_BITWISE_MASK, [&] { batch_.bytes(NFTA_DATA_VALUE, mask); });
      const std::array<std::byte, 16> zeros{};
      batch_.nest(NFTA_BITWISE_XOR,
                  [&] { batch_.bytes(NFTA_DATA_VALUE, Bytes(zeros).first(mask.size())); });
    });
  }
  void compare(Bytes value, std::uint32_t how = NFT_CMP_EQ) const {
    expression("cmp", [&] {
      batch_.u32(NFTA_CMP_SREG, NFT_REG32_00);
      batch_.u32(NFTA_CMP_OP, how);
      batch_.nest(NFTA_CMP_DATA, [&] { batch_.bytes(NFTA_DATA_VALUE, value); });
    });
  }
  void is_family(Family family) const {
    load_meta(NFT_META_NFPROTO);
    compare(bytes_of<std::uint8_t>(family == Family::kIpv4 ? NFPROTO_IPV4 : NFPROTO_IPV6));
  }
  void is_protocol(Protocol protocol) const {
    load_meta(NFT_META_L4PROTO);
    const auto number = std::to_underlying(protocol);
    if (protocol != Protocol::kGre && protocol != Protocol::kMobility) {
      return compare(bytes_of(number));
    }
    // The nft program, up to 1.0.6 at least, aborts when it is to show what a rule looks at in
    // headers of these protocols, unless it does not notice that it is about them.
    compare(bytes_of(number), NFT_CMP_GTE);
    compare(bytes_of(number), NFT_CMP_LTE);
  }
  void came_through(std::uint32_t interface) const {
    load_meta(NFT_META_IIF);
    compare(bytes_of(interface));
  }
  /// What is in the registers from the first one on decides.
  void look_up(std::string_view map) const {
    expression("lookup", [&] {
      batch_.text(NFTA_LOOKUP_SET, map);
      batch_.u32(NFTA_LOOKUP_SREG, NFT_REG32_00);
      batch_.u32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
    });
  }
  void count(std::string_view counter) const {
    expression("objref", [&] {
      batch_.u32(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
      batch_.text(NFTA_OBJREF_IMM_NAME, counter);
    });
  }
  /// On to a chain; an empty name: accepted.
  void go_to(std::string_view chain) const {
    expression("immediate", [&] {
      batch_.u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      batch_.nest(NFTA_IMMEDIATE_DATA, [&] { verdict(batch_, chain); });
    });
  }
  void drop() const {
    expression("immediate", [&] {
      batch_.u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      batch_.nest(NFTA_IMMEDIATE_DATA, [&] {
        batch_.nest(NFTA_DATA_VERDICT, [&] { batch_.u32(NFTA_VERDICT_CODE, NF_DROP); });
      });
    });
  }

  static void verdict(NftBatch& batch, std::string_view chain) {
    batch.nest(NFTA_DATA_VERDICT, [&] {
      if (chain.empty()) return batch.u32(NFTA_VERDICT_CODE, NF_ACCEPT);
      batch.u32(NFTA_VERDICT_CODE, static_cast<std::uint32_t>(NFT_GOTO));
      batch.text(NFTA_VERDICT_CHAIN, chain);
    });
  }

 private:
  explicit Rule(NftBatch& batch) : batch_(batch) {}

  template <class Fill>
  void expression(std::string_view name, const Fill& fill) const {
    batch_.nest(NFTA_LIST_ELEM, [&] {
      batch_.text(NFTA_EXPR_NAME, name);
      batch_.nest(NFTA_EXPR_DATA, fill);
    });
  }

  NftBatch& batch_;
};

std::uint32_t padded(const GuardField& field) {
  return (field.size + 3u) / 4 * 4;
}

void load_field(const Rule& rule, Family family, const GuardField& field, std::uint32_t to) {
  const bool v4 = family == Family::kIpv4;
  switch (field.where) {
    case GuardField::Where::kSource:
      rule.load(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 12 : 8, field.size, to);
      break;
    case GuardField::Where::kDestination:
      rule.load(NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, field.size, to);
      break;
    case GuardField::Where::kTransport:
      rule.load(NFT_PAYLOAD_TRANSPORT_HEADER, field.offset, field.size, to);
      break;
    case GuardField::Where::kMark:
      rule.load_meta(NFT_META_MARK, to);
      break;
  }
  rule.mask(std::as_bytes(std::span(field.mask)).first(field.size), to);
}

/// Everything that a packet must be to be looked up; leaves the key in the registers.
void match_shape(const Rule& rule, const GuardShape& shape) {
  rule.is_family(shape.family);
  if (shape.interface != 0) rule.came_through(shape.interface);
  if (shape.protocol) rule.is_protocol(*shape.protocol);
  for (const GuardTest& test : shape.tests) {
    load_field(rule, shape.family, test.field, NFT_REG32_00);
    rule.compare(std::as_bytes(std::span(test.value)).first(test.field.size));
  }
  std::uint32_t to = NFT_REG32_00;
  for (const GuardField& field : shape.fields) {
    load_field(rule, shape.family, field, to);
    to += padded(field) / 4;
  }
}

/// As nf_tables counts: one field as it is, several padded.
std::size_t key_size(const GuardShape& shape) {
  if (shape.fields.size() == 1) return shape.fields.front().size;
  std::size_t size = 0;
  for (const GuardField& field : shape.fields) size += padded(field);
  return size;
}

/// A map of the table in one direction.
struct Map {
  std::string_view table;
  std::string_view side;
  std::string_view name;
  std::size_t key_size = 0;
};

using Elements = std::vector<const GuardElement*>;

/// NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM, as many messages as the elements need.
void change_elements(NftBatch& batch, unsigned type, const Map& map, const Elements& elements) {
  const bool adds = type == NFT_MSG_NEWSETELEM;
  auto element = elements.begin();
  while (element != elements.end()) {
    batch.message(type, adds ? NLM_F_CREATE : 0);
    batch.text(NFTA_SET_ELEM_LIST_TABLE, map.table);
    batch.text(NFTA_SET_ELEM_LIST_SET, map.name);
    batch.nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
      for (; element != elements.end() && batch.message_size() < kMapMessage; ++element) {
        batch.nest(NFTA_LIST_ELEM, [&] {
          const Bytes key = std::as_bytes(std::span((*element)->key)).first(map.key_size);
          batch.nest(NFTA_SET_ELEM_KEY, [&] { batch.bytes(NFTA_DATA_VALUE, key); });
          if (!adds) return;
          batch.nest(NFTA_SET_ELEM_DATA,
                     [&] { Rule::verdict(batch, chain_of(map.side, (*element)->target)); });
        });
      }
    });
  }
}

void add_map(NftBatch& batch, const Map& map, std::uint32_t id, const GuardLookup& lookup) {
  std::uint32_t type = 0;
  for (const GuardField& field : lookup.shape.fields) {
    type = type << kTypeBits | nft_type_of(lookup.shape, field);
  }
  batch.message(NFT_MSG_NEWSET, NLM_F_CREATE);
  batch.text(NFTA_SET_TABLE, map.table);
  batch.text(NFTA_SET_NAME, map.name);
  batch.u32(NFTA_SET_FLAGS, NFT_SET_MAP);
  batch.u32(NFTA_SET_KEY_TYPE, type);
  batch.u32(NFTA_SET_KEY_LEN, static_cast<std::uint32_t>(map.key_size));
  batch.u32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
  batch.u32(NFTA_SET_ID, id);
  Elements all;
  for (const GuardElement& element : lookup.elements) all.push_back(&element);
  change_elements(batch, NFT_MSG_NEWSETELEM, map, all);
}

/// Makes a map that holds the elements of `before` hold those of `after`.
void update_map(NftBatch& batch, const Map& map, const GuardLookup& before,
                const GuardLookup& after) {
  const auto text = [](const GuardElement& element) {
    return std::string(element.key.begin(), element.key.end());
  };
  std::unordered_map<std::string, const GuardElement*> gone;
  for (const GuardElement& element : before.elements) gone.emplace(text(element), &element);
  Elements come;
  for (const GuardElement& element : after.elements) {
    const auto same = gone.find(text(element));
    if (same != gone.end() && same->second->target == element.target) {
      gone.erase(same);
    } else {
      come.push_back(&element);
    }
  }
  Elements go;
  for (const auto& [key, element] : gone) go.push_back(element);
  change_elements(batch, NFT_MSG_DELSETELEM, map, go);
  change_elements(batch, NFT_MSG_NEWSETELEM, map, come);
}

/// Do these have the same rules, but for the content of maps?
bool same_rules(const GuardChain& a, const GuardChain& b) {
  return a.otherwise == b.otherwise &&
         std::ranges::equal(a.lookups, b.lookups, [](const GuardLookup& x, const GuardLookup& y) {
           if (x.shape != y.shape) return false;
           return !x.shape.fields.empty() || x.elements.front().target == y.elements.front().target;
         });
}

bool same_rules(const GuardDirection& a, const GuardDirection& b) {
  return a.refuses() && b.refuses() && same_rules(a.first, b.first) &&
         std::ranges::equal(a.after_sub, b.after_sub, [](const GuardChain& x, const GuardChain& y) {
           return same_rules(x, y);
         });
}

/// All chains: the one with the hook first.
std::vector<const GuardChain*> chains_of(const GuardDirection& rules) {
  std::vector<const GuardChain*> chains{&rules.first};
  for (const GuardChain& chain : rules.after_sub) chains.push_back(&chain);
  return chains;
}

/// What never has to be protected, or cannot be.
void add_exemptions(NftBatch& batch, std::string_view table, std::string_view chain, bool for_host,
                    const GuardTable::Options& options) {
  const auto pass = [&](const auto& match) {
    Rule::add(batch, table, chain, [&](const Rule& rule) {
      match(rule);
      rule.go_to({});
    });
  };
  pass([&](const Rule& rule) { rule.came_through(static_cast<std::uint32_t>(options.tun_index)); });
  if (!for_host) return;
  for (const Protocol protocol : {Protocol::kEsp, Protocol::kAh, Protocol::kComp}) {
    pass([&](const Rule& rule) { rule.is_protocol(protocol); });
  }
  std::vector<std::uint16_t> ports(std::begin(kIkePorts), std::end(kIkePorts));
  if (options.udp_port != 0 && std::ranges::find(ports, options.udp_port) == ports.end()) {
    ports.push_back(options.udp_port);
  }
  for (const std::uint16_t port : ports) {
    pass([&](const Rule& rule) {
      rule.is_protocol(Protocol::kUdp);
      rule.load(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
      const std::array<std::uint8_t, 2> wire{static_cast<std::uint8_t>(port >> 8),
                                             static_cast<std::uint8_t>(port)};
      rule.compare(std::as_bytes(std::span(wire)));
    });
  }
  pass([](const Rule& rule) { rule.came_through(kLoopback); });
  pass([](const Rule& rule) {
    rule.is_family(Family::kIpv6);
    rule.is_protocol(Protocol::kIcmpv6);
    rule.load(NFT_PAYLOAD_NETWORK_HEADER, 7, 1);
    rule.compare(bytes_of(kLinkLocalHops));
    rule.load(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1);
    rule.compare(bytes_of(kRouterSolicitation), NFT_CMP_GTE);
    rule.compare(bytes_of(kRedirect), NFT_CMP_LTE);
  });
}

void add_chain(NftBatch& batch, std::string_view table, std::string_view chain) {
  batch.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
  batch.text(NFTA_CHAIN_TABLE, table);
  batch.text(NFTA_CHAIN_NAME, chain);
}

}  // namespace

std::string guard_table_name(std::string_view tun) {
  std::string name = "xfrmfs_";
  for (const char c : tun) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-' || c == '.';
    name += plain ? std::string(1, c) : fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  return name;
}

GuardTable::GuardTable(Options options)
    : options_(std::move(options)), name_(guard_table_name(options_.tun)) {
  // A predecessor that was just killed may have given back its TUN device before its table.
  constexpr int kTries = 200;
  int error = EPERM;
  for (int i = 0; i < kTries && (error == EPERM || error == EBUSY); ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    error = make();
  }
  if (error != 0) {
    throw std::system_error(error, std::generic_category(),
                            fmt::format("nf_tables table \"{}\"", name_));
  }
}

GuardTable::~GuardTable() {
  NftBatch batch = nftables_.batch();
  batch.message(NFT_MSG_DELTABLE, 0);
  batch.text(NFTA_TABLE_NAME, name_);
  std::ignore = nftables_.apply(batch);  // if not now, then with the socket
}

int GuardTable::restore() {
  input_ = forward_ = {};
  seen_ = {};
  return make();
}

int GuardTable::make() {
  // Made, so that it can be removed; then made as it shall be. Before Linux 5.12 nobody owns it.
  const auto make_with = [this](std::uint32_t flags) {
    NftBatch batch = nftables_.batch();
    for (const bool last : {false, true}) {
      batch.message(NFT_MSG_NEWTABLE, NLM_F_CREATE);
      batch.text(NFTA_TABLE_NAME, name_);
      batch.u32(NFTA_TABLE_FLAGS, last ? flags : 0);
      if (last) break;
      batch.message(NFT_MSG_DELTABLE, 0);
      batch.text(NFTA_TABLE_NAME, name_);
    }
    for (const std::string_view side : kSides) {
      for (const Reason& reason : kReasons) {
        const std::string name = reason_name(side, reason);
        batch.message(NFT_MSG_NEWOBJ, NLM_F_CREATE);
        batch.text(NFTA_OBJ_TABLE, name_);
        batch.text(NFTA_OBJ_NAME, name);
        batch.u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        batch.nest(NFTA_OBJ_DATA, [&] { batch.u64(NFTA_COUNTER_PACKETS, 0); });
        add_chain(batch, name_, name);
        Rule::add(batch, name_, name, [&](const Rule& rule) {
          rule.count(name);
          rule.drop();
        });
      }
    }
    return nftables_.apply(batch);
  };
  const int error = make_with(NFT_TABLE_F_OWNER);
  return error == EOPNOTSUPP || error == EINVAL ? make_with(0) : error;
}

/// A hook stays while it is needed: one that comes as another one goes could miss a packet.
void GuardTable::remove_rules(NftBatch& batch, const Side& side, bool keeps_hook) {
  for (const std::string& chain : side.chains) {
    batch.message(NFT_MSG_DELRULE, 0);
    batch.text(NFTA_RULE_TABLE, name_);
    batch.text(NFTA_RULE_CHAIN, chain);
  }
  for (const std::string& map : side.maps) {
    batch.message(NFT_MSG_DELSET, 0);
    batch.text(NFTA_SET_TABLE, name_);
    batch.text(NFTA_SET_NAME, map);
  }
  for (const std::string& chain : side.chains) {
    if (keeps_hook && chain == side.chains.front()) continue;
    batch.message(NFT_MSG_DELCHAIN, 0);
    batch.text(NFTA_CHAIN_TABLE, name_);
    batch.text(NFTA_CHAIN_NAME, chain);
  }
}

GuardTable::Side GuardTable::add_rules(NftBatch& batch, std::string_view chain, unsigned hook,
                                       const GuardDirection& rules, bool has_hook) {
  Side side;
  if (!rules.refuses()) return side;
  const bool for_host = hook == NF_INET_LOCAL_IN;
  const std::vector<const GuardChain*> contents = chains_of(rules);
  side.chains.emplace_back(chain);
  if (!has_hook) {
    add_chain(batch, name_, chain);
    batch.text(NFTA_CHAIN_TYPE, "filter");
    batch.u32(NFTA_CHAIN_POLICY, NF_ACCEPT);
    batch.nest(NFTA_CHAIN_HOOK, [&] {
      batch.u32(NFTA_HOOK_HOOKNUM, hook);
      const std::int32_t priority = for_host ? kInputPriority : kForwardPriority;
      batch.u32(NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority));
    });
  }
  for (std::size_t i = 0; i < rules.after_sub.size(); ++i) {
    side.chains.push_back(fmt::format("{}_after_sub_{}", chain, i));
    add_chain(batch, name_, side.chains.back());
  }
  add_exemptions(batch, name_, chain, for_host, options_);
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const std::string& name = side.chains[i];
    for (const GuardLookup& lookup : contents[i]->lookups) {
      std::string map;
      if (!lookup.shape.fields.empty()) {
        map = fmt::format("{}_{}", chain, side.maps.size());
        const Map made{
            .table = name_, .side = chain, .name = map, .key_size = key_size(lookup.shape)};
        add_map(batch, made, static_cast<std::uint32_t>(side.maps.size() + 1), lookup);
        side.maps.push_back(map);
      }
      Rule::add(batch, name_, name, [&](const Rule& rule) {
        match_shape(rule, lookup.shape);
        if (!map.empty()) return rule.look_up(map);
        rule.go_to(chain_of(chain, lookup.elements.front().target));
      });
    }
    if (contents[i]->otherwise == GuardTarget::kPass) continue;
    Rule::add(batch, name_, name,
              [&](const Rule& rule) { rule.go_to(chain_of(chain, contents[i]->otherwise)); });
  }
  return side;
}

/// Policies of a kind that is there already change nothing but elements of maps.
void GuardTable::update_maps(NftBatch& batch, std::string_view chain, const Side& side,
                             const GuardDirection& rules) {
  const auto before = chains_of(side.rules);
  const auto after = chains_of(rules);
  auto name = side.maps.begin();
  for (std::size_t i = 0; i < before.size(); ++i) {
    for (std::size_t k = 0; k < before[i]->lookups.size(); ++k) {
      const GuardLookup& old = before[i]->lookups[k];
      if (old.shape.fields.empty()) continue;
      const Map map{
          .table = name_, .side = chain, .name = *name++, .key_size = key_size(old.shape)};
      update_map(batch, map, old, after[i]->lookups[k]);
    }
  }
}

int GuardTable::replace(GuardRules rules) {
  NftBatch batch = nftables_.batch();
  const auto change = [&](Side& side, std::string_view chain, unsigned hook,
                          const GuardDirection& wanted) {
    if (same_rules(side.rules, wanted)) {
      update_maps(batch, chain, side, wanted);
      return Side{.chains = side.chains, .maps = side.maps, .rules = {}};
    }
    remove_rules(batch, side, wanted.refuses());
    return add_rules(batch, chain, hook, wanted, !side.chains.empty());
  };
  Side input = change(input_, kSides[0], NF_INET_LOCAL_IN, rules.input);
  Side forward = change(forward_, kSides[1], NF_INET_FORWARD, rules.forward);
  if (!batch.empty()) {
    if (const int error = nftables_.apply(batch); error != 0) return error;
  }
  input_ = std::move(input);
  input_.rules = std::move(rules.input);
  forward_ = std::move(forward);
  forward_.rules = std::move(rules.forward);
  return 0;
}

int GuardTable::collect(engine::CounterBlock& counters) {
  const auto packets = nftables_.counters(name_);
  if (!packets) return packets.error();
  std::size_t i = 0;
  for (const std::string_view side : kSides) {
    for (const Reason& reason : kReasons) {
      const auto found = packets->find(reason_name(side, reason));
      if (found == packets->end()) return ENOENT;
      counters.bump(reason.mib, found->second - seen_[i]);
      seen_[i++] = found->second;
    }
  }
  return 0;
}

}  // namespace xfrmfs::netio
