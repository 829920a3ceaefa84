// SPDX-License-Identifier: Apache-2.0
#include "netio/xfrm_sa_checks.h"

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <utility>

#include <fmt/core.h>
#include <linux/udp.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

using engine::ControlError;
using engine::Protocol;
using wire::Check;
using wire::family_of;
using wire::invalid;
using wire::kDirectionIn;
using wire::kDirectionOut;
using wire::kModeIptfs;
using wire::kNatKeepaliveInterval;
using wire::kSaDirection;
using wire::kSaPcpu;
using wire::load;
using wire::swapped;
using wire::u32_of;
using wire::u8_of;

constexpr std::uint32_t kLargestReplayBitmap = XFRMA_REPLAY_ESN_MAX / 32;  // words
constexpr std::initializer_list<unsigned> kIptfsOptions{
    wire::kIptfsDropTime,  wire::kIptfsReorderWindow, wire::kIptfsDontFragment,
    wire::kIptfsInitDelay, wire::kIptfsMaxQueueSize,  wire::kIptfsPacketSize};

bool any_of(const Attributes& attributes, std::initializer_list<unsigned> numbers) {
  return std::ranges::any_of(numbers, [&](unsigned n) { return attributes.has(n); });
}

Check check_addresses(const xfrm_usersa_info& info) {
  if (info.family != AF_INET && info.family != AF_INET6) return invalid("Invalid address family");
  std::uint16_t family = info.sel.family;
  if (family == AF_UNSPEC && (info.flags & XFRM_STATE_AF_UNSPEC) == 0) family = info.family;
  if (!family_of(family)) return invalid("Invalid address family in selector");
  return family == AF_UNSPEC ? std::nullopt : wire::check_prefixes(info.sel, *family_of(family));
}

Check check_esp(const xfrm_usersa_info& info, const Attributes& attributes) {
  const bool separate = any_of(attributes, {XFRMA_ALG_AUTH, XFRMA_ALG_AUTH_TRUNC, XFRMA_ALG_CRYPT});
  if (attributes.has(XFRMA_ALG_COMP)) return invalid("Invalid attribute for ESP: COMP");
  if (!separate && !attributes.has(XFRMA_ALG_AEAD)) {
    return invalid(
        "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD");
  }
  if (separate && attributes.has(XFRMA_ALG_AEAD)) {
    return invalid(
        "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT");
  }
  if (attributes.has(XFRMA_TFCPAD) && info.mode != XFRM_MODE_TUNNEL) {
    return invalid("TFC padding can only be used in tunnel mode");
  }
  if (info.mode != kModeIptfs && any_of(attributes, kIptfsOptions)) {
    return invalid("IP-TFS options can only be used in IP-TFS mode");
  }
  return std::nullopt;
}

Check check_ah(const Attributes& attributes) {
  if (!any_of(attributes, {XFRMA_ALG_AUTH, XFRMA_ALG_AUTH_TRUNC})) {
    return invalid("Missing required attribute for AH: AUTH_TRUNC or AUTH");
  }
  if (any_of(attributes, {XFRMA_ALG_AEAD, XFRMA_ALG_CRYPT, XFRMA_ALG_COMP, XFRMA_TFCPAD})) {
    return invalid("Invalid attributes for AH: AEAD, CRYPT, COMP, TFCPAD");
  }
  return std::nullopt;
}

Check check_comp(const xfrm_usersa_info& info, const Attributes& attributes) {
  if (!attributes.has(XFRMA_ALG_COMP)) return invalid("Missing required attribute for COMP: COMP");
  if (any_of(attributes, {XFRMA_ALG_AEAD, XFRMA_ALG_AUTH, XFRMA_ALG_AUTH_TRUNC, XFRMA_ALG_CRYPT,
                          XFRMA_TFCPAD})) {
    return invalid("Invalid attributes for COMP: AEAD, AUTH, AUTH_TRUNC, CRYPT, TFCPAD");
  }
  if (swapped(info.id.spi) >= 0x10000) {
    return invalid("SPI is too large for COMP (must be < 0x10000)");
  }
  return std::nullopt;
}

/// Mobile IPv6's headers, which a kernel keeps in the same table.
Check check_mobility(const Attributes& attributes) {
  if (any_of(attributes, {XFRMA_ALG_COMP, XFRMA_ALG_AUTH, XFRMA_ALG_AUTH_TRUNC, XFRMA_ALG_AEAD,
                          XFRMA_ALG_CRYPT, XFRMA_ENCAP, XFRMA_SEC_CTX, XFRMA_TFCPAD})) {
    return invalid("Invalid attributes for DSTOPTS/ROUTING");
  }
  if (!attributes.has(XFRMA_COADDR)) {
    return invalid("Missing required COADDR attribute for DSTOPTS/ROUTING");
  }
  return std::nullopt;
}

Check check_protocol(const xfrm_usersa_info& info, const Attributes& attributes) {
  switch (Protocol{info.id.proto}) {
    case Protocol::kEsp:
      return check_esp(info, attributes);
    case Protocol::kAh:
      return check_ah(attributes);
    case Protocol::kComp:
      return check_comp(info, attributes);
    case Protocol::kDestinationOptions:
    case Protocol::kRouting:
      return check_mobility(attributes);
    default:
      return invalid("Unsupported protocol");
  }
}

/// Is the key as long as it claims? All three structures begin with name and key length in bits.
bool key_fits(Bytes algorithm, std::size_t header) {
  const auto bits = load<std::uint32_t>(algorithm.subspan(offsetof(xfrm_algo, alg_key_len)));
  return (std::uint64_t{bits} + 7) / 8 <= algorithm.size() - header;
}

Check check_key_lengths(const Attributes& attributes) {
  if (attributes.has(XFRMA_ALG_AEAD) &&
      !key_fits(attributes.get(XFRMA_ALG_AEAD), sizeof(xfrm_algo_aead))) {
    return invalid("Invalid AEAD attribute length");
  }
  if (attributes.has(XFRMA_ALG_AUTH_TRUNC) &&
      !key_fits(attributes.get(XFRMA_ALG_AUTH_TRUNC), sizeof(xfrm_algo_auth))) {
    return invalid("Invalid AUTH_TRUNC attribute length");
  }
  for (const unsigned number : {XFRMA_ALG_AUTH, XFRMA_ALG_CRYPT, XFRMA_ALG_COMP}) {
    if (attributes.has(number) && !key_fits(attributes.get(number), sizeof(xfrm_algo))) {
      return invalid("Invalid AUTH/CRYPT/COMP attribute length");
    }
  }
  return std::nullopt;
}

/// A replay attribute must hold exactly the bitmap that it announces, or nothing of it: nobody
/// looks at these lengths again (CVE-2017-7184). A kernel would also take a longer one.
Check check_replay(const xfrm_usersa_info& info, const Attributes& attributes) {
  if (!attributes.has(XFRMA_REPLAY_ESN_VAL)) {
    if ((info.flags & XFRM_STATE_ESN) == 0) return std::nullopt;
    return invalid("Missing required attribute for ESN");
  }
  const Bytes content = attributes.get(XFRMA_REPLAY_ESN_VAL);
  const auto replay = load<xfrm_replay_state_esn>(content);
  if (replay.bmp_len > kLargestReplayBitmap) return invalid("ESN bitmap length must be <= 128");
  if (content.size() != sizeof replay && content.size() != sizeof replay + 4 * replay.bmp_len) {
    return invalid("ESN attribute is too short to fit the full bitmap length");
  }
  if (Protocol{info.id.proto} != Protocol::kEsp && Protocol{info.id.proto} != Protocol::kAh) {
    return invalid("ESN only supported for ESP and AH");
  }
  if (info.replay_window != 0) return invalid("ESN not compatible with legacy replay_window");
  return std::nullopt;
}

Check check_mode(const xfrm_usersa_info& info, const Attributes& attributes) {
  switch (info.mode) {
    case XFRM_MODE_TRANSPORT:
    case XFRM_MODE_TUNNEL:
    case XFRM_MODE_ROUTEOPTIMIZATION:
    case XFRM_MODE_BEET:
      return std::nullopt;
    case kModeIptfs:
      if (Protocol{info.id.proto} != Protocol::kEsp) {
        return invalid("IP-TFS mode only supported with ESP");
      }
      if (!attributes.has(kSaDirection)) {
        return invalid("IP-TFS mode requires in or out direction attribute");
      }
      return std::nullopt;
    default:
      return invalid("Unsupported mode");
  }
}

Check check_output_direction(const xfrm_usersa_info& info, const Attributes& attributes) {
  for (const auto& [flag, name] :
       {std::pair{XFRM_STATE_DECAP_DSCP, "DECAP_DSCP"}, std::pair{XFRM_STATE_ICMP, "ICMP"},
        std::pair{XFRM_STATE_WILDRECV, "WILDRECV"}}) {
    if ((info.flags & flag) != 0) {
      return invalid(fmt::format("Flag {} should not be set for output SA", name));
    }
  }
  if (info.replay_window != 0) return invalid("Replay window should be 0 for output SA");
  if (attributes.has(XFRMA_REPLAY_VAL)) {
    const auto replay = load<xfrm_replay_state>(attributes.get(XFRMA_REPLAY_VAL));
    if (replay.seq != 0 || replay.bitmap != 0) {
      return invalid("Replay seq and bitmap should be 0 for output SA");
    }
  }
  if (attributes.has(XFRMA_REPLAY_ESN_VAL)) {
    const auto replay = load<xfrm_replay_state_esn>(attributes.get(XFRMA_REPLAY_ESN_VAL));
    if (replay.replay_window != 0) return invalid("Replay window should be 0 for output SA");
    if (replay.seq != 0 || replay.seq_hi != 0 || replay.bmp_len != 0) {
      return invalid("Replay seq, seq_hi, bmp_len should be 0 for output SA");
    }
  }
  return std::nullopt;
}

Check check_input_direction(const xfrm_usersa_info& info, const Attributes& attributes) {
  if ((info.flags & XFRM_STATE_NOPMTUDISC) != 0) {
    return invalid("Flag NOPMTUDISC should not be set for input SA");
  }
  const std::uint32_t extra = u32_of(attributes, XFRMA_SA_EXTRA_FLAGS);
  if ((extra & XFRM_SA_XFLAG_DONT_ENCAP_DSCP) != 0) {
    return invalid("Flag DONT_ENCAP_DSCP should not be set for input SA");
  }
  if ((extra & XFRM_SA_XFLAG_OSEQ_MAY_WRAP) != 0) {
    return invalid("Flag OSEQ_MAY_WRAP should not be set for input SA");
  }
  if (attributes.has(XFRMA_REPLAY_VAL) &&
      load<xfrm_replay_state>(attributes.get(XFRMA_REPLAY_VAL)).oseq != 0) {
    return invalid("Replay oseq should be 0 for input SA");
  }
  if (attributes.has(XFRMA_REPLAY_ESN_VAL)) {
    const auto replay = load<xfrm_replay_state_esn>(attributes.get(XFRMA_REPLAY_ESN_VAL));
    if (replay.oseq != 0 || replay.oseq_hi != 0) {
      return invalid("Replay oseq and oseq_hi should be 0 for input SA");
    }
  }
  return std::nullopt;
}

Check check_newer_attributes(const xfrm_usersa_info& info, const Attributes& attributes) {
  const std::uint8_t direction = u8_of(attributes, kSaDirection);
  if (attributes.has(XFRMA_MTIMER_THRESH)) {
    if (!attributes.has(XFRMA_ENCAP)) {
      return invalid("MTIMER_THRESH attribute can only be set on ENCAP states");
    }
    if (direction == kDirectionOut) {
      return invalid("MTIMER_THRESH attribute should not be set on output SA");
    }
  }
  if (direction == kDirectionOut) {
    if (auto error = check_output_direction(info, attributes)) return error;
  }
  if (direction == kDirectionIn) {
    if (auto error = check_input_direction(info, attributes)) return error;
  }
  if (direction == 0 && attributes.has(kSaPcpu)) {
    return invalid("SA_PCPU only supported with SA_DIR");
  }
  return std::nullopt;
}

/// What a kernel without other transforms than ESP and AH says. Their modes are known to the engine.
Check check_available(const xfrm_usersa_info& info) {
  const Protocol protocol{info.id.proto};
  if (protocol == Protocol::kEsp || protocol == Protocol::kAh) return std::nullopt;
  return ControlError(EPROTONOSUPPORT, info.mode == XFRM_MODE_TUNNEL ? "Requested type not found"
                                                                     : "Requested mode not found");
}

/// What the engine would have to ignore, refused by name.
Check check_supported(const Attributes& attributes) {
  if (attributes.has(XFRMA_ENCAP)) {
    const auto type = load<xfrm_encap_tmpl>(attributes.get(XFRMA_ENCAP)).encap_type;
    if (type != UDP_ENCAP_ESPINUDP) {
      return invalid("Unsupported encapsulation type for ESP");
    }
  }
  for (const auto& [number, name] : {std::pair{unsigned{XFRMA_TFCPAD}, "TFCPAD"},
                                     {XFRMA_COADDR, "COADDR"},
                                     {XFRMA_OFFLOAD_DEV, "OFFLOAD_DEV"},
                                     {XFRMA_SEC_CTX, "SEC_CTX"},
                                     {XFRMA_SET_MARK, "SET_MARK"},
                                     {XFRMA_SET_MARK_MASK, "SET_MARK_MASK"},
                                     {XFRMA_MTIMER_THRESH, "MTIMER_THRESH"},
                                     {kNatKeepaliveInterval, "NAT_KEEPALIVE_INTERVAL"},
                                     {kSaPcpu, "SA_PCPU"}}) {
    if (attributes.has(number)) {
      return wire::unsupported_attribute(name);
    }
  }
  return std::nullopt;
}

}  // namespace

Check check_sa(const xfrm_usersa_info& info, const Attributes& attributes) {
  if (auto error = check_addresses(info)) return error;
  if (auto error = check_protocol(info, attributes)) return error;
  if (auto error = check_key_lengths(attributes)) return error;
  if (auto error = wire::check_security_context(attributes)) return error;
  if (auto error = check_replay(info, attributes)) return error;
  if (auto error = check_mode(info, attributes)) return error;
  if (auto error = check_newer_attributes(info, attributes)) return error;
  if (auto error = check_available(info)) return error;
  return check_supported(attributes);
}

}  // namespace xfrmfs::netio
