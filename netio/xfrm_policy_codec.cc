// SPDX-License-Identifier: Apache-2.0
#include "netio/xfrm_policy_codec.h"

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

using engine::Direction;
using engine::Family;
using engine::LifetimeUsage;
using engine::Mode;
using engine::PolicyKey;
using engine::PolicyParams;
using engine::PolicyType;
using engine::Protocol;
using engine::Reqid;
using engine::Spi;
using engine::Template;
using engine::WallTime;
using wire::address_of;
using wire::Check;
using wire::family_of;
using wire::invalid;
using wire::load;
using wire::mark_of;
using wire::number_of;
using wire::put;
using wire::put_address;
using wire::refuse;
using wire::swapped;
using wire::u32_of;

Check check_policy_selector(const xfrm_selector& selector) {
  const auto family = family_of(selector.family);
  if (!family || *family == Family::kNone) return invalid("Invalid selector family");
  return wire::check_prefixes(selector, *family);
}

Check check_policy(const xfrm_userpolicy_info& info) {
  if (info.share > XFRM_SHARE_UNIQUE) return invalid("Invalid policy share");
  if (info.action > XFRM_POLICY_BLOCK) return invalid("Invalid policy action");
  if (auto error = check_policy_selector(info.sel)) return error;
  if (info.dir >= XFRM_POLICY_MAX) return invalid("Invalid policy direction");
  if (info.index != 0 && (info.index & 7) != info.dir) {
    return invalid("Policy index doesn't match direction");
  }
  return std::nullopt;
}

bool may_be_in_template(std::uint8_t protocol) {
  switch (Protocol{protocol}) {
    case Protocol::kEsp:
    case Protocol::kAh:
    case Protocol::kComp:
    case Protocol::kRouting:
    case Protocol::kDestinationOptions:
      return true;
    default:
      return false;
  }
}

/// `family` is that of the packets which this template gets to see.
Check check_template(const xfrm_user_tmpl& tmpl, std::uint16_t family, std::uint8_t direction) {
  if (tmpl.mode == XFRM_MODE_TUNNEL || tmpl.mode == XFRM_MODE_BEET) {
    if (tmpl.optional != 0 && direction == XFRM_POLICY_OUT) {
      return invalid("Mode in optional template not allowed in outbound policy");
    }
  } else if (tmpl.family != family) {
    return invalid("Mode in template doesn't support a family change");
  }
  if (tmpl.mode >= XFRM_MODE_MAX) {
    return invalid(fmt::format("Mode in template must be < XFRM_MODE_MAX ({})", XFRM_MODE_MAX));
  }
  if (tmpl.family != AF_INET && tmpl.family != AF_INET6) {
    return invalid("Invalid family in template");
  }
  if (!may_be_in_template(tmpl.id.proto)) return invalid("Invalid XFRM protocol in template");
  return std::nullopt;
}

Template template_of(const xfrm_user_tmpl& from) {
  const Family family = family_of(from.family).value_or(Family::kNone);
  return {.family = family,
          .source = address_of(family, from.saddr),
          .destination = address_of(family, from.id.daddr),
          .spi = Spi{swapped(from.id.spi)},
          .protocol = Protocol{from.id.proto},
          .reqid = Reqid{from.reqid},
          .mode = Mode{from.mode},
          .share = from.share,
          .optional = from.optional != 0,
          .auth_algorithms = from.aalgos,
          .cipher_algorithms = from.ealgos,
          .compression_algorithms = from.calgos};
}
void put_template(MutableBytes at, const Template& tmpl) {
  put_address(at, offsetof(xfrm_user_tmpl, id) + offsetof(xfrm_id, daddr), tmpl.destination);
  put(at, offsetof(xfrm_user_tmpl, id) + offsetof(xfrm_id, spi),
      swapped(std::to_underlying(tmpl.spi)));
  put(at, offsetof(xfrm_user_tmpl, id) + offsetof(xfrm_id, proto), tmpl.protocol);
  put(at, offsetof(xfrm_user_tmpl, family), number_of(tmpl.family));
  put_address(at, offsetof(xfrm_user_tmpl, saddr), tmpl.source);
  put(at, offsetof(xfrm_user_tmpl, reqid), tmpl.reqid);
  put(at, offsetof(xfrm_user_tmpl, mode), tmpl.mode);
  put(at, offsetof(xfrm_user_tmpl, share), tmpl.share);
  put(at, offsetof(xfrm_user_tmpl, optional), static_cast<std::uint8_t>(tmpl.optional ? 1 : 0));
  put(at, offsetof(xfrm_user_tmpl, aalgos), tmpl.auth_algorithms);
  put(at, offsetof(xfrm_user_tmpl, ealgos), tmpl.cipher_algorithms);
  put(at, offsetof(xfrm_user_tmpl, calgos), tmpl.compression_algorithms);
}

Decoded<engine::Templates> templates_of(const Attributes& attributes,
                                        const xfrm_userpolicy_info& info) {
  engine::Templates templates;
  if (!attributes.has(XFRMA_TMPL)) return templates;
  const Bytes content = attributes.get(XFRMA_TMPL);
  const std::size_t count = content.size() / sizeof(xfrm_user_tmpl);
  if (count > engine::kMaxTemplates) {
    return refuse(EINVAL, fmt::format("Template count must be <= XFRM_MAX_DEPTH ({})",
                                      engine::kMaxTemplates));
  }
  std::uint16_t family = info.sel.family;
  for (std::size_t i = 0; i < count; ++i) {
    auto tmpl = load<xfrm_user_tmpl>(content.subspan(i * sizeof(xfrm_user_tmpl)));
    if (tmpl.family == AF_UNSPEC) tmpl.family = info.sel.family;
    if (auto error = check_template(tmpl, family, info.dir)) {
      return std::unexpected(std::move(*error));
    }
    family = tmpl.family;
    templates.push_back(template_of(tmpl));
  }
  return templates;
}

/// Policies of a security context or of a device's hardware would be other policies.
Check check_policy_supported(const Attributes& attributes) {
  if (auto error = wire::check_security_context(attributes)) return error;
  for (const auto& [number, name] :
       {std::pair{XFRMA_SEC_CTX, "SEC_CTX"}, std::pair{XFRMA_OFFLOAD_DEV, "OFFLOAD_DEV"}}) {
    if (attributes.has(number)) {
      return wire::unsupported_attribute(name);
    }
  }
  return std::nullopt;
}
}  // namespace

Decoded<PolicyType> read_policy_type(const Attributes& attributes) {
  if (!attributes.has(XFRMA_POLICY_TYPE)) return PolicyType::kMain;
  switch (load<xfrm_userpolicy_type>(attributes.get(XFRMA_POLICY_TYPE)).type) {
    case XFRM_POLICY_TYPE_MAIN:
      return PolicyType::kMain;
    case XFRM_POLICY_TYPE_SUB:
      return PolicyType::kSub;
    default:
      return refuse(EINVAL, "Invalid policy type");
  }
}

Decoded<PolicyParams> read_policy(Bytes base, const Attributes& attributes) {
  const auto info = load<xfrm_userpolicy_info>(base);
  if (auto error = check_policy(info)) return std::unexpected(std::move(*error));
  if (auto error = check_policy_supported(attributes)) return std::unexpected(std::move(*error));
  const auto type = read_policy_type(attributes);
  if (!type) return std::unexpected(type.error());
  auto templates = templates_of(attributes, info);
  if (!templates) return std::unexpected(std::move(templates.error()));

  PolicyParams params;
  params.direction = Direction{info.dir};
  params.selector = wire::selector_of(info.sel, *family_of(info.sel.family));
  params.type = *type;
  params.action = engine::PolicyAction{info.action};
  params.priority = info.priority;
  params.index = info.index;
  params.mark = mark_of(attributes);
  params.if_id = u32_of(attributes, XFRMA_IF_ID);
  params.flags = info.flags;
  params.share = info.share;
  params.limits = wire::limits_of(info.lft);
  params.templates = std::move(*templates);
  return params;
}

Decoded<PolicyKey> read_policy_key(Bytes base, const Attributes& attributes) {
  const auto id = load<xfrm_userpolicy_id>(base);
  const auto type = read_policy_type(attributes);
  if (!type) return std::unexpected(type.error());
  if (id.dir >= XFRM_POLICY_MAX) return refuse(EINVAL, "Invalid policy direction");
  if (auto error = check_policy_supported(attributes)) return std::unexpected(std::move(*error));
  return PolicyKey{
      .direction = Direction{id.dir},
      .index = id.index,
      .type = *type,
      .selector = wire::selector_of(id.sel, family_of(id.sel.family).value_or(Family::kNone)),
      .mark = mark_of(attributes),
      .if_id = u32_of(attributes, XFRMA_IF_ID)};
}

void read_defaults(Bytes base, engine::DefaultActions& actions) {
  const auto wanted = load<xfrm_userpolicy_default>(base);
  for (const auto& [direction, value] :
       {std::pair{Direction::kIn, wanted.in}, std::pair{Direction::kForward, wanted.fwd},
        std::pair{Direction::kOut, wanted.out}}) {
    if (value == XFRM_USERPOLICY_BLOCK) actions[direction] = engine::DefaultAction::kBlock;
    if (value == XFRM_USERPOLICY_ACCEPT) actions[direction] = engine::DefaultAction::kAccept;
  }
}

Decoded<void> read_thresholds(const Attributes& attributes, HashThresholds& thresholds) {
  HashThresholds wanted = thresholds;
  for (const auto& [number, bits, widest, version] :
       {std::tuple{unsigned{XFRMA_SPD_IPV4_HTHRESH}, &wanted.ipv4, 32, 4},
        std::tuple{unsigned{XFRMA_SPD_IPV6_HTHRESH}, &wanted.ipv6, 128, 6}}) {
    if (!attributes.has(number)) continue;
    const auto from = load<xfrmu_spdhthresh>(attributes.get(number));
    if (from.lbits > widest || from.rbits > widest) {
      return refuse(
          EINVAL, fmt::format("Invalid hash threshold (must be <= {} for IPv{})", widest, version));
    }
    *bits = {.local = from.lbits, .remote = from.rbits};
  }
  thresholds = wanted;
  return {};
}

void write_policy(MessageBuilder& out, const engine::SecurityPolicy& policy, const Moment& now) {
  const PolicyParams& params = policy.params();
  const LifetimeUsage usage{.added = policy.added_wall(),
                            .first_used = policy.last_used_at()
                                              ? wire::wall_of(*policy.last_used_at(), now)
                                              : WallTime{}};

  const MutableBytes info = out.body(sizeof(xfrm_userpolicy_info));
  wire::put_selector(info.subspan(offsetof(xfrm_userpolicy_info, sel)), params.selector);
  wire::put_limits(info.subspan(offsetof(xfrm_userpolicy_info, lft)), params.limits);
  wire::put_usage(info.subspan(offsetof(xfrm_userpolicy_info, curlft)), usage);
  put(info, offsetof(xfrm_userpolicy_info, priority), params.priority);
  put(info, offsetof(xfrm_userpolicy_info, index), params.index);
  put(info, offsetof(xfrm_userpolicy_info, dir), params.direction);
  put(info, offsetof(xfrm_userpolicy_info, action), params.action);
  put(info, offsetof(xfrm_userpolicy_info, flags), params.flags);
  put(info, offsetof(xfrm_userpolicy_info, share), params.share);

  if (!params.templates.empty()) {
    const std::size_t size = sizeof(xfrm_user_tmpl);
    const MutableBytes all = out.attribute(XFRMA_TMPL, size * params.templates.size());
    for (std::size_t i = 0; i < params.templates.size(); ++i) {
      put_template(all.subspan(i * size, size), params.templates[i]);
    }
  }
  const MutableBytes type = out.attribute(XFRMA_POLICY_TYPE, sizeof(xfrm_userpolicy_type));
  put(type, offsetof(xfrm_userpolicy_type, type), params.type);
  wire::put_mark(out, params.mark);
  if (params.if_id != 0) out.attribute_u32(XFRMA_IF_ID, params.if_id);
}

void write_spd_info(MessageBuilder& out, Bytes base, const engine::SpdView& spd,
                    const HashThresholds& thresholds) {
  const auto count = [&](Direction d) { return static_cast<std::uint32_t>(spd.size(d)); };
  put(out.body(sizeof(std::uint32_t)), 0, load<std::uint32_t>(base));
  const MutableBytes counts = out.attribute(XFRMA_SPD_INFO, sizeof(xfrmu_spdinfo));
  put(counts, offsetof(xfrmu_spdinfo, incnt), count(Direction::kIn));
  put(counts, offsetof(xfrmu_spdinfo, outcnt), count(Direction::kOut));
  put(counts, offsetof(xfrmu_spdinfo, fwdcnt), count(Direction::kForward));
  const MutableBytes table = out.attribute(XFRMA_SPD_HINFO, sizeof(xfrmu_spdhinfo));
  // Of policies, kernels report the index of the last bucket; the fullest direction decides.
  const std::size_t fullest = std::max(
      {spd.size(Direction::kIn), spd.size(Direction::kOut), spd.size(Direction::kForward)});
  put(table, offsetof(xfrmu_spdhinfo, spdhcnt), wire::table_size(fullest) - 1);
  put(table, offsetof(xfrmu_spdhinfo, spdhmcnt), wire::kLargestTable);
  for (const auto& [number, bits] : {std::pair{XFRMA_SPD_IPV4_HTHRESH, thresholds.ipv4},
                                     std::pair{XFRMA_SPD_IPV6_HTHRESH, thresholds.ipv6}}) {
    const MutableBytes content =
        out.attribute(static_cast<std::uint16_t>(number), sizeof(xfrmu_spdhthresh));
    put(content, offsetof(xfrmu_spdhthresh, lbits), bits.local);
    put(content, offsetof(xfrmu_spdhthresh, rbits), bits.remote);
  }
}

void write_defaults(MessageBuilder& out, const engine::DefaultActions& actions) {
  const auto number = [&](Direction direction) -> std::uint8_t {
    return actions[direction] == engine::DefaultAction::kBlock ? XFRM_USERPOLICY_BLOCK
                                                               : XFRM_USERPOLICY_ACCEPT;
  };
  const MutableBytes base = out.body(sizeof(xfrm_userpolicy_default));
  put(base, offsetof(xfrm_userpolicy_default, in), number(Direction::kIn));
  put(base, offsetof(xfrm_userpolicy_default, fwd), number(Direction::kForward));
  put(base, offsetof(xfrm_userpolicy_default, out), number(Direction::kOut));
}

}  // namespace xfrmfs::netio
