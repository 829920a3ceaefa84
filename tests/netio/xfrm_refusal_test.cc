// SPDX-License-Identifier: Apache-2.0
// What is refused, with which errno and which sentence: the answers of Linux 6.18 to the same
// requests, except where a test says that we differ.

#include <cerrno>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "netio/xfrm_wire.h"
#include "tests/netio/handlers_fixture.h"

namespace xfrmfs::testing {
namespace {

struct Refused {
  const char* name;
  ByteVector request;
  int error;
  const char* text;
};

void PrintTo(const Refused& refused, std::ostream* out) {
  *out << refused.name;
}

class RefusalTest : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusalTest, AnswersLikeAKernelAndChangesNothing) {
  Handlers handlers;
  const Answer answer = handlers.ask_one(GetParam().request);
  ASSERT_TRUE(answer.is_error());
  EXPECT_EQ(answer.error(), GetParam().error) << answer.text();
  EXPECT_EQ(answer.text(), GetParam().text);
  EXPECT_EQ(handlers.sa_count(), 0u);
  EXPECT_EQ(handlers.policy_count(), 0u);
}

std::string name_of(const ::testing::TestParamInfo<Refused>& info) {
  return info.param.name;
}

/// NEWSA with a change to the usual one.
template <class Change>
ByteVector sa(Change change, std::initializer_list<TestAttribute> attributes) {
  xfrm_usersa_info info = sa_info();
  change(info);
  return message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info), attributes);
}
ByteVector sa(std::initializer_list<TestAttribute> attributes) {
  return sa([](auto&) {}, attributes);
}
ByteVector sa_of_protocol(std::uint8_t protocol, std::initializer_list<TestAttribute> attributes) {
  return sa([=](auto& info) { info.id.proto = protocol; }, attributes);
}
ByteVector sa_of_mode(std::uint8_t mode, std::initializer_list<TestAttribute> attributes) {
  return sa([=](auto& info) { info.mode = mode; }, attributes);
}

TestAttribute deflate() {
  return {XFRMA_ALG_COMP, algorithm("deflate", {})};
}
TestAttribute u32(unsigned number, std::uint32_t value = 0) {
  return attribute(static_cast<std::uint16_t>(number), value);
}
TestAttribute direction(std::uint8_t value) {
  return attribute(static_cast<std::uint16_t>(netio::wire::kSaDirection), value);
}
TestAttribute encapsulation(std::uint16_t type) {
  xfrm_encap_tmpl out{};
  out.encap_type = type;
  return attribute(XFRMA_ENCAP, out);
}
TestAttribute security_context(std::uint16_t length, std::uint16_t context_length) {
  ByteVector out = bytes_of(xfrm_user_sec_ctx{length, 8, 1, 1, context_length});
  out.resize(10);
  return {XFRMA_SEC_CTX, out};
}

constexpr const char* kNoMode = "Requested mode not found";
constexpr const char* kNoType = "Requested type not found";
constexpr const char* kKeyLength = "Invalid AUTH/CRYPT/COMP attribute length";

// clang-format off
std::vector<Refused> sa_refusals() {
  return {
      {"Family", sa([](auto& i) { i.family = 3; }, {cbc_aes(), hmac_sha256()}), EINVAL,
       "Invalid address family"},
      {"SelectorPrefix4", sa([](auto& i) { i.sel.prefixlen_d = 33; }, {gcm_aes()}), EINVAL,
       "Invalid prefix length in selector (must be <= 32 for IPv4)"},
      {"SelectorPrefix6",
       sa([](auto& i) { i.sel.family = AF_INET6; i.sel.prefixlen_s = 129; }, {gcm_aes()}), EINVAL,
       "Invalid prefix length in selector (must be <= 128 for IPv6)"},
      {"SelectorFamily", sa([](auto& i) { i.sel.family = 7; }, {gcm_aes()}), EINVAL,
       "Invalid address family in selector"},
      {"Protocol", sa_of_protocol(IPPROTO_UDP, {gcm_aes()}), EINVAL, "Unsupported protocol"},
      {"ProtocolIpip", sa_of_protocol(IPPROTO_IPIP, {gcm_aes()}), EINVAL, "Unsupported protocol"},
      {"AhWithoutAuth", sa_of_protocol(IPPROTO_AH, {}), EINVAL,
       "Missing required attribute for AH: AUTH_TRUNC or AUTH"},
      {"AhWithCrypt", sa_of_protocol(IPPROTO_AH, {hmac_sha256(), cbc_aes()}), EINVAL,
       "Invalid attributes for AH: AEAD, CRYPT, COMP, TFCPAD"},
      {"EspWithComp", sa({cbc_aes(), deflate()}), EINVAL, "Invalid attribute for ESP: COMP"},
      {"EspWithNothing", sa({}), EINVAL,
       "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD"},
      {"EspWithAeadAndCrypt", sa({gcm_aes(), cbc_aes()}), EINVAL,
       "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT"},
      {"TfcOutsideTunnel", sa_of_mode(XFRM_MODE_TRANSPORT, {gcm_aes(), u32(XFRMA_TFCPAD)}), EINVAL,
       "TFC padding can only be used in tunnel mode"},
      {"IptfsOptionElsewhere", sa({gcm_aes(), u32(netio::wire::kIptfsDropTime)}), EINVAL,
       "IP-TFS options can only be used in IP-TFS mode"},
      {"CompWithoutComp", sa_of_protocol(IPPROTO_COMP, {}), EINVAL,
       "Missing required attribute for COMP: COMP"},
      {"CompSpi",
       sa([](auto& i) { i.id.proto = IPPROTO_COMP; i.id.spi = htonl(0x10000); }, {deflate()}),
       EINVAL, "SPI is too large for COMP (must be < 0x10000)"},
      {"CompWithCrypt", sa_of_protocol(IPPROTO_COMP, {deflate(), cbc_aes()}), EINVAL,
       "Invalid attributes for COMP: AEAD, AUTH, AUTH_TRUNC, CRYPT, TFCPAD"},
      {"RoutingWithoutCareOfAddress", sa_of_protocol(IPPROTO_ROUTING, {}), EINVAL,
       "Missing required COADDR attribute for DSTOPTS/ROUTING"},
      {"DestinationOptionsWithCrypt", sa_of_protocol(IPPROTO_DSTOPTS, {cbc_aes()}), EINVAL,
       "Invalid attributes for DSTOPTS/ROUTING"},
      {"AeadKeyLength",
       sa({{XFRMA_ALG_AEAD, algorithm("rfc4106(gcm(aes))", key(20), 128, 161)}}), EINVAL,
       "Invalid AEAD attribute length"},
      {"AuthTruncKeyLength",
       sa({cbc_aes(), {XFRMA_ALG_AUTH_TRUNC, algorithm("hmac(sha1)", key(16), 96, 129)}}), EINVAL,
       "Invalid AUTH_TRUNC attribute length"},
      {"AuthKeyLength", sa({cbc_aes(), {XFRMA_ALG_AUTH, algorithm("hmac(sha1)", key(16), {}, 129)}}),
       EINVAL, kKeyLength},
      {"CryptKeyLength", sa({hmac_sha256(), {XFRMA_ALG_CRYPT, algorithm("cbc(aes)", key(16), {}, 129)}}),
       EINVAL, kKeyLength},
      {"CryptKeyLengthOverflow",
       sa({hmac_sha256(), {XFRMA_ALG_CRYPT, algorithm("cbc(aes)", key(16), {}, 0xffffffff)}}),
       EINVAL, kKeyLength},
      {"SecurityContextLength", sa({gcm_aes(), security_context(8, 2)}), EINVAL,
       "Invalid security context length"},
      {"EsnFlagAlone", sa([](auto& i) { i.flags = XFRM_STATE_ESN; }, {gcm_aes()}), EINVAL,
       "Missing required attribute for ESN"},
      {"EsnBitmapTooLong", sa({gcm_aes(), esn(129, 32, 129)}), EINVAL,
       "ESN bitmap length must be <= 128"},
      {"EsnBitmapOverflow", sa({gcm_aes(), esn(0x40000000, 32, 0)}), EINVAL,
       "ESN bitmap length must be <= 128"},
      {"EsnBitmapCutShort", sa({gcm_aes(), esn(2, 32, 1)}), EINVAL,
       "ESN attribute is too short to fit the full bitmap length"},
      {"EsnWithLegacyWindow",
       sa([](auto& i) { i.replay_window = 1; }, {gcm_aes(), esn(2, 32, 2)}), EINVAL,
       "ESN not compatible with legacy replay_window"},
      {"EsnForComp", sa_of_protocol(IPPROTO_COMP, {deflate(), esn(2, 32, 2)}), EINVAL,
       "ESN only supported for ESP and AH"},
      {"EsnWindowZero",
       sa([](auto& i) { i.flags = XFRM_STATE_ESN; }, {gcm_aes(), esn(2, 0, 2)}), EINVAL,
       "ESN replay window must be > 0"},
      {"EsnWindowTooLarge",
       sa([](auto& i) { i.flags = XFRM_STATE_ESN; }, {gcm_aes(), esn(2, 65, 2)}), EINVAL,
       "ESN replay window is too large for the chosen bitmap size"},
      {"WindowTooLargeWithoutEsn", sa({gcm_aes(), esn(2, 65, 2)}), EINVAL,
       "ESN replay window is too large for the chosen bitmap size"},
      {"ModeInTrigger", sa_of_mode(XFRM_MODE_IN_TRIGGER, {gcm_aes()}), EINVAL, "Unsupported mode"},
      {"ModeUnknown", sa_of_mode(6, {gcm_aes()}), EINVAL, "Unsupported mode"},
      {"IptfsWithoutDirection", sa_of_mode(netio::wire::kModeIptfs, {gcm_aes()}), EINVAL,
       "IP-TFS mode requires in or out direction attribute"},
      {"MtimerWithoutEncapsulation", sa({gcm_aes(), u32(XFRMA_MTIMER_THRESH)}), EINVAL,
       "MTIMER_THRESH attribute can only be set on ENCAP states"},
      {"OutWithWindow", sa([](auto& i) { i.replay_window = 3; }, {gcm_aes(), direction(2)}), EINVAL,
       "Replay window should be 0 for output SA"},
      {"OutWithFlag", sa([](auto& i) { i.flags = XFRM_STATE_WILDRECV; }, {gcm_aes(), direction(2)}),
       EINVAL, "Flag WILDRECV should not be set for output SA"},
      {"OutWithReplayState",
       sa({gcm_aes(), direction(2), attribute(XFRMA_REPLAY_VAL, xfrm_replay_state{0, 1, 0})}),
       EINVAL, "Replay seq and bitmap should be 0 for output SA"},
      {"InWithFlag", sa([](auto& i) { i.flags = XFRM_STATE_NOPMTUDISC; }, {gcm_aes(), direction(1)}),
       EINVAL, "Flag NOPMTUDISC should not be set for input SA"},
      {"InWithExtraFlag", sa({gcm_aes(), direction(1), u32(XFRMA_SA_EXTRA_FLAGS, 2)}), EINVAL,
       "Flag OSEQ_MAY_WRAP should not be set for input SA"},
      {"DirectionRange", sa({gcm_aes(), direction(3)}), ERANGE, "integer out of range"},
      {"DirectionSize", sa({gcm_aes(), u32(netio::wire::kSaDirection, 1)}), EINVAL,
       "invalid attribute length"},
      {"PcpuWithoutDirection", sa({gcm_aes(), u32(netio::wire::kSaPcpu)}), EINVAL,
       "SA_PCPU only supported with SA_DIR"},
      {"UnknownAead", sa({{XFRMA_ALG_AEAD, algorithm("rfc4106(gcm(nosuch))", key(20), 128)}}),
       ENOSYS, "Requested AEAD algorithm not found"},
      {"UnknownAeadIcv", sa({{XFRMA_ALG_AEAD, algorithm("rfc4106(gcm(aes))", key(20), 80)}}),
       ENOSYS, "Requested AEAD algorithm not found"},
      {"UnknownAuthTrunc", sa({cbc_aes(), {XFRMA_ALG_AUTH_TRUNC, algorithm("nosuch", key(16), 96)}}),
       ENOSYS, "Requested AUTH_TRUNC algorithm not found"},
      {"UnknownAuth", sa({cbc_aes(), {XFRMA_ALG_AUTH, algorithm("nosuch", key(16))}}), ENOSYS,
       "Requested AUTH algorithm not found"},
      {"UnknownCrypt", sa({hmac_sha256(), {XFRMA_ALG_CRYPT, algorithm("cbc(nosuch)", key(16))}}),
       ENOSYS, "Requested CRYPT algorithm not found"},
      {"Truncation", sa({cbc_aes(), {XFRMA_ALG_AUTH_TRUNC, algorithm("hmac(sha256)", key(32), 512)}}),
       EINVAL, "Invalid length requested for truncated ICV"},
      {"UnknownAlgorithmBeforeMode",
       sa_of_mode(XFRM_MODE_TRANSPORT, {{XFRMA_ALG_CRYPT, algorithm("cbc(nosuch)", key(16))}}),
       ENOSYS, "Requested CRYPT algorithm not found"},
      {"AeadKeySize", sa({{XFRMA_ALG_AEAD, algorithm("rfc4106(gcm(aes))", key(16), 128)}}), EINVAL,
       "Kernel was unable to initialize cryptographic operations"},
      {"AuthOnly", sa({hmac_sha256()}), EINVAL, "ESP: AEAD or CRYPT must be provided"},
      {"OldEncapsulationType", sa({gcm_aes(), encapsulation(1)}), EINVAL,
       "Unsupported encapsulation type for ESP"},
      {"EncapsulationType", sa({gcm_aes(), encapsulation(9)}), EINVAL,
       "Unsupported encapsulation type for ESP"},
      {"RouteOptimization", sa_of_mode(XFRM_MODE_ROUTEOPTIMIZATION, {gcm_aes()}), EPROTONOSUPPORT,
       kNoMode},
      // A kernel may have these modes and transforms; what it says without them:
      {"Beet", sa_of_mode(XFRM_MODE_BEET, {gcm_aes()}), EPROTONOSUPPORT, kNoMode},
      {"Comp", sa_of_protocol(IPPROTO_COMP, {deflate()}), EPROTONOSUPPORT, kNoType},
      {"ShortBody", message(XFRM_MSG_NEWSA, NLM_F_ACK, zeros(223)), EINVAL,
       "Invalid header length"},
  };
}

std::vector<Refused> unsupported() {
  constexpr auto kError = EOPNOTSUPP;
  return {
      {"Tfcpad", sa({gcm_aes(), u32(XFRMA_TFCPAD, 100)}), kError,
       "attribute TFCPAD is not supported"},
      {"CareOfAddress", sa({gcm_aes(), attribute(XFRMA_COADDR, address("10.1.1.1"))}), kError,
       "attribute COADDR is not supported"},
      {"OffloadDevice", sa({gcm_aes(), attribute(XFRMA_OFFLOAD_DEV, xfrm_user_offload{1, 1})}),
       kError, "attribute OFFLOAD_DEV is not supported"},
      {"SecurityContext", sa({gcm_aes(), security_context(10, 2)}), kError,
       "attribute SEC_CTX is not supported"},
      {"SetMark", sa({gcm_aes(), u32(XFRMA_SET_MARK, 1)}), kError,
       "attribute SET_MARK is not supported"},
      {"SetMarkMask", sa({gcm_aes(), u32(XFRMA_SET_MARK_MASK, 1)}), kError,
       "attribute SET_MARK_MASK is not supported"},
      {"NatKeepalive", sa({gcm_aes(), u32(netio::wire::kNatKeepaliveInterval, 20)}), kError,
       "attribute NAT_KEEPALIVE_INTERVAL is not supported"},
      {"MtimerWithEncapsulation",
       sa({gcm_aes(), encapsulation(2), u32(XFRMA_MTIMER_THRESH, 5)}), kError,
       "attribute MTIMER_THRESH is not supported"},
      // Stricter than a kernel, which would take a bitmap longer than it says it is.
      {"EsnBitmapTooMuch", sa({gcm_aes(), esn(2, 32, 3)}), EINVAL,
       "ESN attribute is too short to fit the full bitmap length"},
      {"Acquire", message(XFRM_MSG_ACQUIRE, NLM_F_ACK, zeros(280)), kError,
       "ACQUIRE requests are not supported"},
      {"Expire", message(XFRM_MSG_EXPIRE, NLM_F_ACK, zeros(232)), kError,
       "EXPIRE and POLEXPIRE requests are not supported"},
      {"Polexpire", message(XFRM_MSG_POLEXPIRE, NLM_F_ACK, zeros(176)), kError,
       "EXPIRE and POLEXPIRE requests are not supported"},
      {"NewAe", message(XFRM_MSG_NEWAE, NLM_F_ACK, zeros(48)), kError,
       "NEWAE and GETAE requests are not supported"},
      {"GetAe", message(XFRM_MSG_GETAE, 0, zeros(48)), kError,
       "NEWAE and GETAE requests are not supported"},
      {"Migrate", message(XFRM_MSG_MIGRATE, 0, zeros(64)), ENOPROTOOPT, "MIGRATE is not supported"},
  };
}

template <class Change>
ByteVector policy(Change change, std::initializer_list<TestAttribute> attributes = {}) {
  xfrm_userpolicy_info info = policy_info();
  change(info);
  return message(XFRM_MSG_NEWPOLICY, NLM_F_ACK, bytes_of(info), attributes);
}
template <class Change>
ByteVector policy_with(Change change) {
  xfrm_user_tmpl one = tmpl();
  change(one);
  return policy([](auto&) {}, {attribute(XFRMA_TMPL, one)});
}
ByteVector policy_with_templates(std::size_t count) {
  ByteVector all;
  for (std::size_t i = 0; i < count; ++i) {
    const ByteVector one = bytes_of(tmpl());
    all.insert(all.end(), one.begin(), one.end());
  }
  return policy([](auto&) {}, {{XFRMA_TMPL, all}});
}
TestAttribute policy_type(std::uint8_t type) {
  xfrm_userpolicy_type out{};
  out.type = type;
  return attribute(XFRMA_POLICY_TYPE, out);
}
ByteVector policy_id(std::uint16_t type, std::uint8_t direction,
                     std::initializer_list<TestAttribute> attributes = {}) {
  xfrm_userpolicy_id id{};
  id.dir = direction;
  return message(type, NLM_F_ACK, bytes_of(id), attributes);
}

std::vector<Refused> policy_refusals() {
  return {
      {"Share", policy([](auto& i) { i.share = 4; i.action = 9; }), EINVAL, "Invalid policy share"},
      {"Action", policy([](auto& i) { i.action = 2; i.sel.family = 0; }), EINVAL,
       "Invalid policy action"},
      {"Family", policy([](auto& i) { i.sel.family = 0; i.dir = 3; }), EINVAL,
       "Invalid selector family"},
      {"Prefix4", policy([](auto& i) { i.sel.prefixlen_s = 33; }), EINVAL,
       "Invalid prefix length in selector (must be <= 32 for IPv4)"},
      {"Prefix6", policy([](auto& i) { i.sel.family = AF_INET6; i.sel.prefixlen_d = 129; }), EINVAL,
       "Invalid prefix length in selector (must be <= 128 for IPv6)"},
      {"Direction", policy([](auto& i) { i.dir = 3; i.index = 8; }), EINVAL,
       "Invalid policy direction"},
      {"Index", policy([](auto& i) { i.index = 8; }), EINVAL,
       "Policy index doesn't match direction"},
      {"Type", policy([](auto&) {}, {policy_type(2)}), EINVAL, "Invalid policy type"},
      {"SevenTemplates", policy_with_templates(7), EINVAL,
       "Template count must be <= XFRM_MAX_DEPTH (6)"},
      {"OptionalTunnelOut", policy_with([](auto& t) { t.optional = 1; }), EINVAL,
       "Mode in optional template not allowed in outbound policy"},
      {"FamilyChange", policy_with([](auto& t) { t.mode = 0; t.family = AF_INET6; }), EINVAL,
       "Mode in template doesn't support a family change"},
      {"TemplateMode", policy_with([](auto& t) { t.mode = 5; }), EINVAL,
       "Mode in template must be < XFRM_MODE_MAX (5)"},
      {"TemplateFamily", policy_with([](auto& t) { t.family = 7; }), EINVAL,
       "Invalid family in template"},
      {"TemplateProtocol0", policy_with([](auto& t) { t.id.proto = 0; }), EINVAL,
       "Invalid XFRM protocol in template"},
      {"TemplateProtocol17", policy_with([](auto& t) { t.id.proto = 17; }), EINVAL,
       "Invalid XFRM protocol in template"},
      {"TemplateProtocol255", policy_with([](auto& t) { t.id.proto = 255; }), EINVAL,
       "Invalid XFRM protocol in template"},
      {"SecurityContext", policy([](auto&) {}, {security_context(10, 2)}), EOPNOTSUPP,
       "attribute SEC_CTX is not supported"},
      {"Offload", policy([](auto&) {}, {attribute(XFRMA_OFFLOAD_DEV, xfrm_user_offload{1, 1})}),
       EOPNOTSUPP, "attribute OFFLOAD_DEV is not supported"},
      {"GetDirection", policy_id(XFRM_MSG_GETPOLICY, 5), EINVAL, "Invalid policy direction"},
      {"DeleteDirection", policy_id(XFRM_MSG_DELPOLICY, 3), EINVAL, "Invalid policy direction"},
      {"GetType", policy_id(XFRM_MSG_GETPOLICY, 0, {policy_type(9)}), EINVAL,
       "Invalid policy type"},
      {"GetMissing", policy_id(XFRM_MSG_GETPOLICY, 1), ENOENT, ""},
      {"DeleteMissing", policy_id(XFRM_MSG_DELPOLICY, 1), ENOENT, ""},
      {"FlushType", message(XFRM_MSG_FLUSHPOLICY, NLM_F_ACK, {}, {policy_type(5)}), EINVAL,
       "Invalid policy type"},
      {"Threshold4", message(XFRM_MSG_NEWSPDINFO, NLM_F_ACK, zeros(4),
                             {attribute(XFRMA_SPD_IPV4_HTHRESH, xfrmu_spdhthresh{33, 1})}),
       EINVAL, "Invalid hash threshold (must be <= 32 for IPv4)"},
      {"Threshold6", message(XFRM_MSG_NEWSPDINFO, NLM_F_ACK, zeros(4),
                             {attribute(XFRMA_SPD_IPV6_HTHRESH, xfrmu_spdhthresh{33, 129})}),
       EINVAL, "Invalid hash threshold (must be <= 128 for IPv6)"},
      {"ShortDefaults", message(XFRM_MSG_SETDEFAULT, NLM_F_ACK, zeros(2)), EINVAL,
       "Invalid header length"},
  };
}

template <class Change>
ByteVector spi(std::uint8_t protocol, std::uint32_t low, std::uint32_t high, Change change) {
  xfrm_userspi_info request;
  std::memset(&request, 0, sizeof request);
  request.info = sa_info(0);
  request.info.id.proto = protocol;
  request.min = low;
  request.max = high;
  change(request.info);
  return message(XFRM_MSG_ALLOCSPI, 0, bytes_of(request));
}
ByteVector spi(std::uint8_t protocol, std::uint32_t low, std::uint32_t high) {
  return spi(protocol, low, high, [](auto&) {});
}
template <class Change>
ByteVector id_message(std::uint16_t type, Change change,
                      std::initializer_list<TestAttribute> attributes = {}) {
  xfrm_usersa_id id = sa_id();
  change(id);
  return message(type, NLM_F_ACK, bytes_of(id), attributes);
}

std::vector<Refused> other_refusals() {
  const auto other = [](auto& id) { id.proto = IPPROTO_IPIP; };
  return {
      {"SpiRange", spi(IPPROTO_ESP, 2, 1), EINVAL, "Invalid SPI range: min > max"},
      {"SpiComp", spi(IPPROTO_COMP, 0, 0x10000), EINVAL, "IPCOMP SPI must be <= 65535"},
      {"SpiProtocol", spi(IPPROTO_IPIP, 1, 2), EINVAL,
       "Invalid protocol, must be one of AH, ESP, IPCOMP"},
      {"SpiZero", spi(IPPROTO_ESP, 0, 0), ENOENT, "No SPI available in the requested range"},
      // A kernel makes a larval SA without family.
      {"SpiFamily", spi(IPPROTO_ESP, 1, 2, [](auto& i) { i.family = 3; }), EINVAL,
       "Invalid address family"},
      {"UpdateMissing", message(XFRM_MSG_UPDSA, NLM_F_ACK, bytes_of(sa_info()), {gcm_aes()}), ESRCH,
       ""},
      {"GetMissing", id_message(XFRM_MSG_GETSA, [](auto&) {}), ESRCH, ""},
      {"DeleteMissing", id_message(XFRM_MSG_DELSA, [](auto&) {}), ESRCH, ""},
      {"GetFamily", id_message(XFRM_MSG_GETSA, [](auto& id) { id.family = 0; }), ESRCH, ""},
      {"GetOtherProtocol", id_message(XFRM_MSG_GETSA, other), EINVAL, ""},
      {"GetOtherProtocolByAddress",
       id_message(XFRM_MSG_GETSA, other, {attribute(XFRMA_SRCADDR, address("10.9.0.1"))}), ESRCH,
       ""},
      {"ShortMark", id_message(XFRM_MSG_GETSA, [](auto&) {}, {{XFRMA_MARK, zeros(4)}}), ERANGE,
       "Attribute failed policy validation"},
      {"TypeBeyondTheLast", message(41, NLM_F_ACK, zeros(300)), EINVAL, ""},
      {"Report", message(XFRM_MSG_REPORT, 0, zeros(60)), EINVAL, ""},
      {"Mapping", message(XFRM_MSG_MAPPING, 0, zeros(64)), EINVAL, ""},
      {"NewSadInfo", message(XFRM_MSG_NEWSADINFO, 0, zeros(4)), EINVAL, ""},
  };
}
// clang-format on

INSTANTIATE_TEST_SUITE_P(Sa, RefusalTest, ::testing::ValuesIn(sa_refusals()), name_of);
INSTANTIATE_TEST_SUITE_P(Unsupported, RefusalTest, ::testing::ValuesIn(unsupported()), name_of);
INSTANTIATE_TEST_SUITE_P(Policy, RefusalTest, ::testing::ValuesIn(policy_refusals()), name_of);
INSTANTIATE_TEST_SUITE_P(Other, RefusalTest, ::testing::ValuesIn(other_refusals()), name_of);

/// Every attribute that a kernel knows has a shape, and a shorter one is not looked at (an
/// attribute without one was CVE-2023-3773).
TEST(AttributeShapesTest, CoverEveryNumber) {
  using Kind = netio::AttributeShape::Kind;
  const auto shapes = netio::attribute_shapes();
  ASSERT_GT(shapes.size(), std::size_t{XFRMA_MAX});
  ASSERT_EQ(shapes.size(), 42u);  // up to Linux 6.14
  for (std::size_t number = 1; number < shapes.size(); ++number) {
    if (number == XFRMA_PAD) continue;
    EXPECT_NE(shapes[number].kind, Kind::kUnused) << "attribute " << number;
    const bool is_flag = shapes[number].kind == Kind::kEmpty;
    EXPECT_EQ(shapes[number].size == 0, is_flag) << "attribute " << number;

    Handlers handlers;
    const auto wrong = zeros(is_flag ? 1 : shapes[number].size - 1u);
    const Answer answer = handlers.ask_one(
        id_message(XFRM_MSG_GETSA, [](auto&) {}, {{static_cast<std::uint16_t>(number), wrong}}));
    const bool is_old = number <= XFRMA_MAX || is_flag;
    EXPECT_EQ(answer.error(), is_old ? ERANGE : EINVAL) << "attribute " << number;
  }
}

}  // namespace
}  // namespace xfrmfs::testing
