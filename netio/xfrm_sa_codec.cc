// SPDX-License-Identifier: Apache-2.0
#include "netio/xfrm_sa_codec.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <linux/udp.h>
#include <sys/socket.h>

#include "netio/xfrm_sa_checks.h"

namespace xfrmfs::netio {
namespace {

using engine::Family;
using engine::IpAddress;
using engine::Mode;
using engine::Protocol;
using engine::ReplayKind;
using engine::ReplayParams;
using engine::Reqid;
using engine::SaConfig;
using engine::SaDirection;
using engine::SaId;
using engine::SaParams;
using engine::Secret;
using engine::Spi;
using wire::address_of;
using wire::family_of;
using wire::load;
using wire::mark_of;
using wire::number_of;
using wire::put;
using wire::put_address;
using wire::refuse;
using wire::swapped;
using wire::u32_of;
using wire::u8_of;

/// A view of the message; as in a kernel, the last byte ends the name at the latest.
std::string_view name_of(Bytes algorithm) {
  const char* const name = reinterpret_cast<const char*>(algorithm.data());
  return {name, ::strnlen(name, sizeof(xfrm_algo::alg_name) - 1)};
}

Secret key_of(Bytes algorithm, std::size_t header) {
  const auto bits = load<std::uint32_t>(algorithm.subspan(offsetof(xfrm_algo, alg_key_len)));
  return Secret(algorithm.subspan(header, (std::size_t{bits} + 7) / 8));
}

engine::CryptoParams crypto_of(const Attributes& attributes) {
  engine::CryptoParams crypto;
  if (attributes.has(XFRMA_ALG_AEAD)) {
    const Bytes aead = attributes.get(XFRMA_ALG_AEAD);
    crypto.aead = {.name = name_of(aead),
                   .key = key_of(aead, sizeof(xfrm_algo_aead)),
                   .icv_bits = load<xfrm_algo_aead>(aead).alg_icv_len};
  }
  if (attributes.has(XFRMA_ALG_CRYPT)) {
    const Bytes cipher = attributes.get(XFRMA_ALG_CRYPT);
    crypto.cipher = {.name = name_of(cipher), .key = key_of(cipher, sizeof(xfrm_algo))};
  }
  if (attributes.has(XFRMA_ALG_AUTH_TRUNC)) {  // wins if both are there
    const Bytes mac = attributes.get(XFRMA_ALG_AUTH_TRUNC);
    crypto.mac = {.name = name_of(mac),
                  .key = key_of(mac, sizeof(xfrm_algo_auth)),
                  .truncation_bits = load<xfrm_algo_auth>(mac).alg_trunc_len};
  } else if (attributes.has(XFRMA_ALG_AUTH)) {
    const Bytes mac = attributes.get(XFRMA_ALG_AUTH);
    crypto.mac = {.name = name_of(mac), .key = key_of(mac, sizeof(xfrm_algo))};
  }
  return crypto;
}

void read_encapsulation(Family family, const Attributes& attributes, SaParams& params) {
  if (!attributes.has(XFRMA_ENCAP)) return;
  const auto encap = load<xfrm_encap_tmpl>(attributes.get(XFRMA_ENCAP));
  params.encapsulation = {.source_port = swapped(encap.encap_sport),
                          .destination_port = swapped(encap.encap_dport)};
  params.original_address = address_of(family, encap.encap_oa);
}

void put_encapsulation(MessageBuilder& out, const engine::SaConfig& params) {
  const MutableBytes content = out.attribute(XFRMA_ENCAP, sizeof(xfrm_encap_tmpl));
  put(content, offsetof(xfrm_encap_tmpl, encap_type), std::uint16_t{UDP_ENCAP_ESPINUDP});
  put(content, offsetof(xfrm_encap_tmpl, encap_sport), swapped(params.encapsulation->source_port));
  put(content, offsetof(xfrm_encap_tmpl, encap_dport),
      swapped(params.encapsulation->destination_port));
  put_address(content, offsetof(xfrm_encap_tmpl, encap_oa), params.original_address);
}

ReplayParams replay_of(const xfrm_usersa_info& info, const Attributes& attributes) {
  ReplayParams params;
  if (attributes.has(XFRMA_REPLAY_ESN_VAL)) {
    const Bytes content = attributes.get(XFRMA_REPLAY_ESN_VAL);
    const auto replay = load<xfrm_replay_state_esn>(content);
    const bool extended = (info.flags & XFRM_STATE_ESN) != 0;
    params.kind = extended ? ReplayKind::kEsn : ReplayKind::kBitmap;
    params.window = replay.replay_window;
    params.bitmap_words = replay.bmp_len;
    params.out_sequence = replay.oseq;
    params.in_sequence = replay.seq;
    if (extended) {
      params.out_sequence |= std::uint64_t{replay.oseq_hi} << 32;
      params.in_sequence |= std::uint64_t{replay.seq_hi} << 32;
    }
    params.bitmap.resize(replay.bmp_len);
    const Bytes words = content.subspan(sizeof replay);
    std::ranges::copy(words, std::as_writable_bytes(std::span(params.bitmap)).begin());
    return params;
  }
  params.kind = ReplayKind::kLegacy;
  params.window = info.replay_window;
  params.bitmap.resize(1);
  if (attributes.has(XFRMA_REPLAY_VAL)) {
    const auto replay = load<xfrm_replay_state>(attributes.get(XFRMA_REPLAY_VAL));
    params.out_sequence = replay.oseq;
    params.in_sequence = replay.seq;
    params.bitmap[0] = replay.bitmap;
  }
  return params;
}

void put_replay(MessageBuilder& out, const ReplayParams& replay) {
  const auto low = [](engine::SeqNo n) { return static_cast<std::uint32_t>(n); };
  const auto high = [](engine::SeqNo n) { return static_cast<std::uint32_t>(n >> 32); };
  const Bytes words = std::as_bytes(std::span(replay.bitmap));
  if (replay.kind == ReplayKind::kLegacy) {
    const MutableBytes content = out.attribute(XFRMA_REPLAY_VAL, sizeof(xfrm_replay_state));
    put(content, offsetof(xfrm_replay_state, oseq), low(replay.out_sequence));
    put(content, offsetof(xfrm_replay_state, seq), low(replay.in_sequence));
    const std::uint32_t bitmap = replay.bitmap.empty() ? 0 : replay.bitmap[0];
    put(content, offsetof(xfrm_replay_state, bitmap), bitmap);
    return;
  }
  const std::size_t header = sizeof(xfrm_replay_state_esn);
  const MutableBytes content =
      out.attribute(XFRMA_REPLAY_ESN_VAL, header + 4 * std::size_t{replay.bitmap_words});
  put(content, offsetof(xfrm_replay_state_esn, bmp_len), replay.bitmap_words);
  put(content, offsetof(xfrm_replay_state_esn, oseq), low(replay.out_sequence));
  put(content, offsetof(xfrm_replay_state_esn, seq), low(replay.in_sequence));
  put(content, offsetof(xfrm_replay_state_esn, oseq_hi), high(replay.out_sequence));
  put(content, offsetof(xfrm_replay_state_esn, seq_hi), high(replay.in_sequence));
  put(content, offsetof(xfrm_replay_state_esn, replay_window), replay.window);
  std::ranges::copy(words.first(std::min(words.size(), content.size() - header)),
                    content.subspan(header).begin());
}

/// xfrm_algo and its two longer forms: name, key length in bits, `extra` if the form has it, key.
void put_algorithm(MessageBuilder& out, std::uint16_t number, std::string_view name, Bytes key,
                   std::optional<std::uint32_t> extra) {
  static_assert(offsetof(xfrm_algo_auth, alg_trunc_len) == offsetof(xfrm_algo_aead, alg_icv_len));
  const std::size_t header = extra ? sizeof(xfrm_algo_auth) : sizeof(xfrm_algo);
  const MutableBytes content = out.attribute(number, header + key.size());
  std::memcpy(content.data(), name.data(), std::min(name.size(), sizeof(xfrm_algo::alg_name) - 1));
  put(content, offsetof(xfrm_algo, alg_key_len), static_cast<std::uint32_t>(8 * key.size()));
  if (extra) put(content, offsetof(xfrm_algo_auth, alg_trunc_len), *extra);
  std::ranges::copy(key, content.subspan(header).begin());
}

void put_crypto(MessageBuilder& out, const engine::CryptoParams& crypto) {
  if (const auto& aead = crypto.aead) {
    put_algorithm(out, XFRMA_ALG_AEAD, aead->name, aead->key.bytes(), aead->icv_bits);
  }
  if (const auto& mac = crypto.mac) {  // twice: for clients that know only the first
    put_algorithm(out, XFRMA_ALG_AUTH, mac->name, mac->key.bytes(), std::nullopt);
    put_algorithm(out, XFRMA_ALG_AUTH_TRUNC, mac->name, mac->key.bytes(), mac->truncation_bits);
  }
  if (const auto& cipher = crypto.cipher) {
    put_algorithm(out, XFRMA_ALG_CRYPT, cipher->name, cipher->key.bytes(), std::nullopt);
  }
}
}  // namespace

Decoded<SaParams> read_sa(Bytes base, const Attributes& attributes) {
  const auto info = load<xfrm_usersa_info>(base);
  if (auto error = check_sa(info, attributes)) return std::unexpected(std::move(*error));

  const Family family = *family_of(info.family);
  const bool any_family = info.sel.family == AF_UNSPEC && (info.flags & XFRM_STATE_AF_UNSPEC) != 0;
  const Family selector_family = any_family                     ? Family::kNone
                                 : info.sel.family == AF_UNSPEC ? family
                                                                : *family_of(info.sel.family);
  SaParams params;
  params.id = {.destination = address_of(family, info.id.daddr),
               .protocol = Protocol{info.id.proto},
               .spi = Spi{swapped(info.id.spi)},
               .mark = mark_of(attributes)};
  params.source = address_of(family, info.saddr);
  params.selector = wire::selector_of(info.sel, selector_family);
  params.mode = Mode{info.mode};
  params.direction = SaDirection{u8_of(attributes, wire::kSaDirection)};
  params.reqid = Reqid{info.reqid};
  params.flags = info.flags;
  params.extra_flags = u32_of(attributes, XFRMA_SA_EXTRA_FLAGS);
  params.replay = replay_of(info, attributes);
  params.crypto = crypto_of(attributes);
  read_encapsulation(family, attributes, params);
  params.limits = wire::limits_of(info.lft);
  if (attributes.has(XFRMA_LTIME_VAL)) {
    params.usage = wire::usage_of(load<xfrm_lifetime_cur>(attributes.get(XFRMA_LTIME_VAL)));
  }
  params.if_id = u32_of(attributes, XFRMA_IF_ID);
  params.acquire_sequence = info.seq;
  if (attributes.has(XFRMA_REPLAY_THRESH)) {
    params.aevent_threshold_packets = u32_of(attributes, XFRMA_REPLAY_THRESH);
  }
  if (attributes.has(XFRMA_ETIMER_THRESH)) {
    // A kernel takes its ticks; with HZ = 1000 those are what its documentation says.
    params.aevent_interval_ms = u32_of(attributes, XFRMA_ETIMER_THRESH);
  }
  return params;
}

Decoded<SpiRequest> read_spi_request(Bytes base, const Attributes& attributes) {
  const auto request = load<xfrm_userspi_info>(base);
  const xfrm_usersa_info& info = request.info;
  switch (Protocol{info.id.proto}) {
    case Protocol::kEsp:
    case Protocol::kAh:
      break;
    case Protocol::kComp:
      if (request.max >= 0x10000) return refuse(EINVAL, "IPCOMP SPI must be <= 65535");
      break;
    default:
      return refuse(EINVAL, "Invalid protocol, must be one of AH, ESP, IPCOMP");
  }
  if (request.min > request.max) return refuse(EINVAL, "Invalid SPI range: min > max");
  const auto family = family_of(info.family);
  if (!family || *family == Family::kNone) return refuse(EINVAL, "Invalid address family");
  if (attributes.has(wire::kSaPcpu)) {
    return std::unexpected(wire::unsupported_attribute("SA_PCPU"));
  }

  SpiRequest result;
  SaParams& params = result.params;
  params.id = {.destination = address_of(*family, info.id.daddr),
               .protocol = Protocol{info.id.proto},
               .spi = {},
               .mark = mark_of(attributes)};
  params.source = address_of(*family, info.saddr);
  const std::uint8_t width = *family == Family::kIpv4 ? 32 : 128;
  params.selector.family = *family;
  params.selector.source = {.address = params.source, .length = width};
  params.selector.destination = {.address = params.id.destination, .length = width};
  params.mode = Mode{info.mode};
  params.direction = SaDirection{u8_of(attributes, wire::kSaDirection)};
  params.reqid = Reqid{info.reqid};
  params.replay.bitmap.resize(1);
  params.if_id = u32_of(attributes, XFRMA_IF_ID);
  params.acquire_sequence = info.seq;
  result.low = request.min;
  result.high = request.max;
  return result;
}

Decoded<SaId> read_sa_id(Bytes base, const Attributes& attributes) {
  const auto id = load<xfrm_usersa_id>(base);
  switch (Protocol{id.proto}) {
    case Protocol::kEsp:
    case Protocol::kAh:
    case Protocol::kComp:
      break;
    default:  // named by its addresses; the engine has none of those
      return refuse(attributes.has(XFRMA_SRCADDR) ? ESRCH : EINVAL);
  }
  const auto family = family_of(id.family);
  if (!family || *family == Family::kNone) return refuse(ESRCH);
  return SaId{.destination = address_of(*family, id.daddr),
              .protocol = Protocol{id.proto},
              .spi = Spi{swapped(id.spi)},
              .mark = mark_of(attributes)};
}

std::optional<Protocol> read_flush_protocol(Bytes base) {
  const auto protocol = load<xfrm_usersa_flush>(base).proto;
  if (protocol == 0 || protocol == wire::kAnyIpsecProtocol) return std::nullopt;
  return Protocol{protocol};
}

bool SaFilter::accepts(const SaConfig& params) const {
  const auto agrees = [](const std::array<std::byte, 16>& a, const std::array<std::byte, 16>& b,
                         std::uint8_t bits) {
    return engine::same_prefix(IpAddress::from(Family::kIpv6, a.data()),
                               IpAddress::from(Family::kIpv6, b.data()), bits);
  };
  if (protocol && *protocol != params.id.protocol) return false;
  if (family != Family::kNone && family != params.family()) return false;
  return agrees(params.source.storage(), source, source_bits) &&
         agrees(params.id.destination.storage(), destination, destination_bits);
}

Decoded<SaFilter> read_sa_filter(const Attributes& attributes) {
  SaFilter filter;
  const std::uint8_t protocol = u8_of(attributes, XFRMA_PROTO);
  if (protocol != 0 && protocol != wire::kAnyIpsecProtocol) filter.protocol = Protocol{protocol};
  if (!attributes.has(XFRMA_ADDRESS_FILTER)) return filter;
  const auto from = load<xfrm_address_filter>(attributes.get(XFRMA_ADDRESS_FILTER));
  if (from.splen > 128 || from.dplen > 128) return refuse(EINVAL);
  filter.family = family_of(from.family).value_or(Family::kNone);
  std::memcpy(filter.source.data(), &from.saddr, filter.source.size());
  std::memcpy(filter.destination.data(), &from.daddr, filter.destination.size());
  filter.source_bits = from.splen;
  filter.destination_bits = from.dplen;
  return filter;
}

void write_sa(MessageBuilder& out, const engine::SecurityAssociation& association,
              const Moment& now) {
  const SaConfig& params = association.params();
  const ReplayParams replay = association.replay_state();
  const engine::SaStatistics statistics = association.statistics();
  const std::uint32_t window = replay.kind == ReplayKind::kLegacy ? replay.window : 0;

  const MutableBytes info = out.body(sizeof(xfrm_usersa_info));
  wire::put_selector(info.subspan(offsetof(xfrm_usersa_info, sel)), params.selector);
  const std::size_t id = offsetof(xfrm_usersa_info, id);
  put_address(info, id + offsetof(xfrm_id, daddr), params.id.destination);
  put(info, id + offsetof(xfrm_id, spi), swapped(std::to_underlying(params.id.spi)));
  put(info, id + offsetof(xfrm_id, proto), params.id.protocol);
  put_address(info, offsetof(xfrm_usersa_info, saddr), params.source);
  wire::put_limits(info.subspan(offsetof(xfrm_usersa_info, lft)), association.lifetime().limits());
  wire::put_usage(info.subspan(offsetof(xfrm_usersa_info, curlft)), association.lifetime().usage());
  const std::size_t stats = offsetof(xfrm_usersa_info, stats);
  put(info, stats + offsetof(xfrm_stats, replay_window), statistics.replay_window);
  put(info, stats + offsetof(xfrm_stats, replay), statistics.replay);
  put(info, stats + offsetof(xfrm_stats, integrity_failed), statistics.integrity_failed);
  put(info, offsetof(xfrm_usersa_info, seq), params.acquire_sequence);
  put(info, offsetof(xfrm_usersa_info, reqid), params.reqid);
  put(info, offsetof(xfrm_usersa_info, family), number_of(params.family()));
  put(info, offsetof(xfrm_usersa_info, mode), params.mode);
  put(info, offsetof(xfrm_usersa_info, replay_window), static_cast<std::uint8_t>(window));
  put(info, offsetof(xfrm_usersa_info, flags), params.flags);

  // In this order, for readers that compare with a kernel's.
  if (params.extra_flags != 0) out.attribute_u32(XFRMA_SA_EXTRA_FLAGS, params.extra_flags);
  if (const auto used = association.lifetime().last_used_at()) {
    const std::uint64_t seconds = wire::wall_number(wire::wall_of(*used, now));
    put(out.attribute(XFRMA_LASTUSED, sizeof seconds), 0, seconds);
  }
  put_crypto(out, params.crypto);
  if (params.encapsulation) put_encapsulation(out, params);
  wire::put_mark(out, params.id.mark);
  put_replay(out, replay);
  if (params.if_id != 0) out.attribute_u32(XFRMA_IF_ID, params.if_id);
  if (params.direction != SaDirection::kAny) {
    put(out.attribute(wire::kSaDirection, 1), 0, params.direction);
  }
}

void write_sad_info(MessageBuilder& out, Bytes base, const engine::SadView& sad) {
  put(out.body(sizeof(std::uint32_t)), 0, load<std::uint32_t>(base));
  out.attribute_u32(XFRMA_SAD_CNT, static_cast<std::uint32_t>(sad.size()));
  const MutableBytes table = out.attribute(XFRMA_SAD_HINFO, sizeof(xfrmu_sadhinfo));
  put(table, offsetof(xfrmu_sadhinfo, sadhcnt), wire::table_size(sad.size()));
  put(table, offsetof(xfrmu_sadhinfo, sadhmcnt), wire::kLargestTable);
}

}  // namespace xfrmfs::netio
