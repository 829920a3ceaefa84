// SPDX-License-Identifier: Apache-2.0
#include "netio/xfrm_wire.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

using wire::kAttributes;
using wire::kDirectionIn;
using wire::kDirectionOut;
using wire::kIptfsDontFragment;
using wire::kIptfsDropTime;
using wire::kIptfsInitDelay;
using wire::kIptfsMaxQueueSize;
using wire::kIptfsPacketSize;
using wire::kIptfsReorderWindow;
using wire::kNatKeepaliveInterval;
using wire::kSaDirection;
using wire::kSaPcpu;

// The ABI of 64-bit kernels.
static_assert(sizeof(xfrm_usersa_info) == 224);
static_assert(sizeof(xfrm_userspi_info) == 232);
static_assert(sizeof(xfrm_usersa_id) == 24);
static_assert(sizeof(xfrm_userpolicy_info) == 168);
static_assert(sizeof(xfrm_userpolicy_id) == 64);
static_assert(sizeof(xfrm_user_tmpl) == 64);
static_assert(sizeof(xfrm_selector) == 56);
static_assert(sizeof(xfrm_lifetime_cfg) == 64);
static_assert(sizeof(xfrm_lifetime_cur) == 32);
static_assert(sizeof(xfrm_address_filter) == 36);
static_assert(sizeof(xfrm_encap_tmpl) == 24);
static_assert(sizeof(xfrm_replay_state) == 12);
static_assert(sizeof(xfrm_replay_state_esn) == 24);
static_assert(sizeof(xfrm_algo) == 68);
static_assert(sizeof(xfrm_algo_auth) == 72);
static_assert(sizeof(xfrm_algo_aead) == 72);
static_assert(sizeof(xfrm_userpolicy_type) == 6);
static_assert(sizeof(xfrmu_spdinfo) == 24);
static_assert(sizeof(xfrmu_spdhthresh) == 2);
static_assert(sizeof(xfrm_userpolicy_default) == 3);

static_assert(kAttributes <= Attributes::kLimit);

constexpr std::array<AttributeShape, kAttributes> make_shapes() {
  using Kind = AttributeShape::Kind;
  std::array<AttributeShape, kAttributes> shapes{};
  const auto at_least = [](std::size_t size) {
    return AttributeShape{.kind = Kind::kAtLeast, .size = static_cast<std::uint16_t>(size)};
  };
  const auto exactly = [](std::size_t size) {
    return AttributeShape{.kind = Kind::kExactly, .size = static_cast<std::uint16_t>(size)};
  };
  // clang-format off
  shapes[XFRMA_ALG_AUTH]        = at_least(sizeof(xfrm_algo));
  shapes[XFRMA_ALG_CRYPT]       = at_least(sizeof(xfrm_algo));
  shapes[XFRMA_ALG_COMP]        = at_least(sizeof(xfrm_algo));
  shapes[XFRMA_ENCAP]           = at_least(sizeof(xfrm_encap_tmpl));
  shapes[XFRMA_TMPL]            = at_least(sizeof(xfrm_user_tmpl));
  shapes[XFRMA_SA]              = at_least(sizeof(xfrm_usersa_info));
  shapes[XFRMA_POLICY]          = at_least(sizeof(xfrm_userpolicy_info));
  shapes[XFRMA_SEC_CTX]         = at_least(sizeof(xfrm_user_sec_ctx));
  shapes[XFRMA_LTIME_VAL]       = at_least(sizeof(xfrm_lifetime_cur));
  shapes[XFRMA_REPLAY_VAL]      = at_least(sizeof(xfrm_replay_state));
  shapes[XFRMA_REPLAY_THRESH]   = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_ETIMER_THRESH]   = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_SRCADDR]         = at_least(sizeof(xfrm_address_t));
  shapes[XFRMA_COADDR]          = at_least(sizeof(xfrm_address_t));
  shapes[XFRMA_LASTUSED]        = at_least(sizeof(std::uint64_t));
  shapes[XFRMA_POLICY_TYPE]     = at_least(sizeof(xfrm_userpolicy_type));
  shapes[XFRMA_MIGRATE]         = at_least(sizeof(xfrm_user_migrate));
  shapes[XFRMA_ALG_AEAD]        = at_least(sizeof(xfrm_algo_aead));
  shapes[XFRMA_KMADDRESS]       = at_least(sizeof(xfrm_user_kmaddress));
  shapes[XFRMA_ALG_AUTH_TRUNC]  = at_least(sizeof(xfrm_algo_auth));
  shapes[XFRMA_MARK]            = at_least(sizeof(xfrm_mark));
  shapes[XFRMA_TFCPAD]          = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_REPLAY_ESN_VAL]  = at_least(sizeof(xfrm_replay_state_esn));
  shapes[XFRMA_SA_EXTRA_FLAGS]  = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_PROTO]           = at_least(sizeof(std::uint8_t));
  shapes[XFRMA_ADDRESS_FILTER]  = at_least(sizeof(xfrm_address_filter));
  shapes[XFRMA_PAD]             = {};  // fills space before 64-bit values
  shapes[XFRMA_OFFLOAD_DEV]     = at_least(sizeof(xfrm_user_offload));
  shapes[XFRMA_SET_MARK]        = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_SET_MARK_MASK]   = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_IF_ID]           = at_least(sizeof(std::uint32_t));
  shapes[XFRMA_MTIMER_THRESH]   = at_least(sizeof(std::uint32_t));
  shapes[kSaDirection]          = {Kind::kSmall, 1, kDirectionIn, kDirectionOut};
  shapes[kNatKeepaliveInterval] = exactly(sizeof(std::uint32_t));
  shapes[kSaPcpu]               = exactly(sizeof(std::uint32_t));
  shapes[kIptfsDropTime]        = exactly(sizeof(std::uint32_t));
  shapes[kIptfsReorderWindow]   = exactly(sizeof(std::uint16_t));
  shapes[kIptfsDontFragment]    = {Kind::kEmpty, 0, 0, 0};
  shapes[kIptfsInitDelay]       = exactly(sizeof(std::uint32_t));
  shapes[kIptfsMaxQueueSize]    = exactly(sizeof(std::uint32_t));
  shapes[kIptfsPacketSize]      = exactly(sizeof(std::uint32_t));
  // clang-format on
  return shapes;
}

constexpr std::array<AttributeShape, kAttributes> kShapes = make_shapes();

constexpr AttributeShape kThresholdShape{.kind = AttributeShape::Kind::kAtLeast,
                                         .size = sizeof(xfrmu_spdhthresh)};
constexpr std::array<AttributeShape, XFRMA_SPD_MAX + 1> kSpdInfoShapes{
    AttributeShape{}, {}, {}, kThresholdShape, kThresholdShape};
static_assert(XFRMA_SPD_IPV4_HTHRESH == 3 && XFRMA_SPD_IPV6_HTHRESH == 4);

}  // namespace

std::span<const AttributeShape> attribute_shapes() {
  return kShapes;
}

std::span<const AttributeShape> spd_info_shapes() {
  return kSpdInfoShapes;
}

namespace wire {

using engine::ControlError;
using engine::Family;
using engine::IpAddress;
using engine::LifetimeLimits;
using engine::LifetimeUsage;
using engine::Mark;
using engine::Protocol;
using engine::Selector;
using engine::WallTime;

namespace {

constexpr std::uint32_t kSmallestTable = 8;

/// A wall time from outside. Beyond 2106 it is a mistake, and would overflow as nanoseconds.
WallTime wall_from(std::uint64_t seconds) {
  return WallTime(std::min<std::uint64_t>(seconds, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

std::uint32_t u32_of(const Attributes& attributes, unsigned number, std::uint32_t absent) {
  return attributes.has(number) ? load<std::uint32_t>(attributes.get(number)) : absent;
}

std::uint8_t u8_of(const Attributes& attributes, unsigned number) {
  return attributes.has(number) ? load<std::uint8_t>(attributes.get(number)) : std::uint8_t{0};
}

std::optional<Family> family_of(std::uint16_t number) {
  switch (number) {
    case AF_UNSPEC:
      return Family::kNone;
    case AF_INET:
      return Family::kIpv4;
    case AF_INET6:
      return Family::kIpv6;
    default:
      return std::nullopt;
  }
}

std::uint16_t number_of(Family family) {
  return family == Family::kIpv4 ? AF_INET : family == Family::kIpv6 ? AF_INET6 : AF_UNSPEC;
}

IpAddress address_of(Family family, const xfrm_address_t& from) {
  std::array<std::byte, sizeof from> bytes;
  std::memcpy(bytes.data(), &from, sizeof from);
  return IpAddress::from(family, bytes.data());
}

void put_address(MutableBytes at, std::size_t offset, const IpAddress& address) {
  std::ranges::copy(address.bytes(), at.begin() + static_cast<std::ptrdiff_t>(offset));
}

Mark mark_of(const Attributes& attributes) {
  if (!attributes.has(XFRMA_MARK)) return {};
  const auto mark = load<xfrm_mark>(attributes.get(XFRMA_MARK));
  return {.value = mark.v & mark.m, .mask = mark.m};
}

void put_mark(MessageBuilder& out, const Mark& mark) {
  if (mark == Mark{}) return;
  const MutableBytes content = out.attribute(XFRMA_MARK, sizeof(xfrm_mark));
  put(content, offsetof(xfrm_mark, v), mark.value);
  put(content, offsetof(xfrm_mark, m), mark.mask);
}

Selector selector_of(const xfrm_selector& from, Family family) {
  return {.family = family,
          .source = {.address = address_of(family, from.saddr), .length = from.prefixlen_s},
          .destination = {.address = address_of(family, from.daddr), .length = from.prefixlen_d},
          .source_port = {.port = swapped(from.sport), .mask = swapped(from.sport_mask)},
          .destination_port = {.port = swapped(from.dport), .mask = swapped(from.dport_mask)},
          .protocol = Protocol{from.proto},
          .interface_index = from.ifindex,
          .user = from.user};
}

void put_selector(MutableBytes at, const Selector& selector) {
  put_address(at, offsetof(xfrm_selector, daddr), selector.destination.address);
  put_address(at, offsetof(xfrm_selector, saddr), selector.source.address);
  put(at, offsetof(xfrm_selector, dport), swapped(selector.destination_port.port));
  put(at, offsetof(xfrm_selector, dport_mask), swapped(selector.destination_port.mask));
  put(at, offsetof(xfrm_selector, sport), swapped(selector.source_port.port));
  put(at, offsetof(xfrm_selector, sport_mask), swapped(selector.source_port.mask));
  put(at, offsetof(xfrm_selector, family), number_of(selector.family));
  put(at, offsetof(xfrm_selector, prefixlen_d), selector.destination.length);
  put(at, offsetof(xfrm_selector, prefixlen_s), selector.source.length);
  put(at, offsetof(xfrm_selector, proto), selector.protocol);
  put(at, offsetof(xfrm_selector, ifindex), selector.interface_index);
  put(at, offsetof(xfrm_selector, user), selector.user);
}

LifetimeLimits limits_of(const xfrm_lifetime_cfg& from) {
  return {.soft_bytes = from.soft_byte_limit,
          .hard_bytes = from.hard_byte_limit,
          .soft_packets = from.soft_packet_limit,
          .hard_packets = from.hard_packet_limit,
          .soft_add_seconds = from.soft_add_expires_seconds,
          .hard_add_seconds = from.hard_add_expires_seconds,
          .soft_use_seconds = from.soft_use_expires_seconds,
          .hard_use_seconds = from.hard_use_expires_seconds};
}

void put_limits(MutableBytes at, const LifetimeLimits& limits) {
  put(at, offsetof(xfrm_lifetime_cfg, soft_byte_limit), limits.soft_bytes);
  put(at, offsetof(xfrm_lifetime_cfg, hard_byte_limit), limits.hard_bytes);
  put(at, offsetof(xfrm_lifetime_cfg, soft_packet_limit), limits.soft_packets);
  put(at, offsetof(xfrm_lifetime_cfg, hard_packet_limit), limits.hard_packets);
  put(at, offsetof(xfrm_lifetime_cfg, soft_add_expires_seconds), limits.soft_add_seconds);
  put(at, offsetof(xfrm_lifetime_cfg, hard_add_expires_seconds), limits.hard_add_seconds);
  put(at, offsetof(xfrm_lifetime_cfg, soft_use_expires_seconds), limits.soft_use_seconds);
  put(at, offsetof(xfrm_lifetime_cfg, hard_use_expires_seconds), limits.hard_use_seconds);
}

std::uint64_t wall_number(WallTime time) {
  return static_cast<std::uint64_t>(time.count());
}

WallTime wall_of(engine::BootTime then, const Moment& now) {
  return now.wall - std::chrono::duration_cast<std::chrono::seconds>(now.boot - then);
}

LifetimeUsage usage_of(const xfrm_lifetime_cur& from) {
  return {.bytes = from.bytes,
          .packets = from.packets,
          .added = wall_from(from.add_time),
          .first_used = wall_from(from.use_time)};
}

void put_usage(MutableBytes at, const LifetimeUsage& usage) {
  put(at, offsetof(xfrm_lifetime_cur, bytes), usage.bytes);
  put(at, offsetof(xfrm_lifetime_cur, packets), usage.packets);
  put(at, offsetof(xfrm_lifetime_cur, add_time), wall_number(usage.added));
  put(at, offsetof(xfrm_lifetime_cur, use_time), wall_number(usage.first_used));
}

Check check_prefixes(const xfrm_selector& selector, Family family) {
  const unsigned widest = family == Family::kIpv4 ? 32 : 128;
  if (selector.prefixlen_d <= widest && selector.prefixlen_s <= widest) return std::nullopt;
  return ControlError(
      EINVAL, fmt::format("Invalid prefix length in selector (must be <= {} for IPv{})", widest,
                          family == Family::kIpv4 ? 4 : 6));
}

ControlError invalid(std::string text) {
  return {EINVAL, std::move(text)};
}

ControlError unsupported_attribute(const char* name) {
  return {EOPNOTSUPP, fmt::format("attribute {} is not supported", name)};
}

std::unexpected<ControlError> refuse(int error, std::string text) {
  return std::unexpected(ControlError(error, std::move(text)));
}

Check check_security_context(const Attributes& attributes) {
  if (!attributes.has(XFRMA_SEC_CTX)) return std::nullopt;
  const auto context = load<xfrm_user_sec_ctx>(attributes.get(XFRMA_SEC_CTX));
  const std::size_t length = sizeof context + context.ctx_len;
  if (context.len > attributes.get(XFRMA_SEC_CTX).size() || context.len != length) {
    return invalid("Invalid security context length");
  }
  return std::nullopt;
}

std::uint32_t table_size(std::size_t entries) {
  const std::size_t wanted = std::bit_ceil(std::min<std::size_t>(entries, kLargestTable - 1) + 1);
  return std::max(static_cast<std::uint32_t>(wanted), kSmallestTable);
}

}  // namespace wire
}  // namespace xfrmfs::netio
