// SPDX-License-Identifier: Apache-2.0
#include "netio/xfrm_handlers.h"

#include <arpa/inet.h>
#include <linux/udp.h>
#include <cerrno>
#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/netio/handlers_fixture.h"

namespace xfrmfs::testing {
namespace {

using netio::Dump;

constexpr std::size_t kSaBase = sizeof(xfrm_usersa_info);
constexpr std::size_t kPolicyBase = sizeof(xfrm_userpolicy_info);

class XfrmHandlersTest : public ::testing::Test, public Handlers {
 protected:
  ByteVector get_sa(std::uint32_t spi = 0x100) {
    return message(XFRM_MSG_GETSA, 0, bytes_of(sa_id(spi)));
  }
  void expect_ack(const Answer& answer) {
    ASSERT_TRUE(answer.is_error());
    EXPECT_EQ(answer.error(), 0) << answer.text();
  }
  static std::vector<unsigned> numbers(const Answer& answer, std::size_t base) {
    std::vector<unsigned> out;
    for (const auto& [number, content] : answer.attributes(base)) out.push_back(number);
    return out;
  }
};

// --- SAs.

TEST_F(XfrmHandlersTest, ReportsAnSaAsItWasAdded) {
  xfrm_usersa_info info = sa_info(0x12345678);
  info.sel.family = AF_INET6;
  info.sel.daddr = address("2001:db8:2::");
  info.sel.saddr = address("2001:db8:1::");
  info.sel.prefixlen_d = 64;
  info.sel.prefixlen_s = 48;
  info.sel.dport = htons(443);
  info.sel.dport_mask = 0xffff;
  info.sel.sport = htons(1024);
  info.sel.sport_mask = htons(0xfc00);
  info.sel.proto = 6;
  info.sel.ifindex = 3;
  info.sel.user = 1000;
  info.lft = {.soft_byte_limit = 1,
              .hard_byte_limit = 2,
              .soft_packet_limit = 3,
              .hard_packet_limit = 4,
              .soft_add_expires_seconds = 5,
              .hard_add_expires_seconds = 6,
              .soft_use_expires_seconds = 7,
              .hard_use_expires_seconds = 8};
  info.seq = 99;
  info.reqid = 42;
  info.replay_window = 200;  // kept as 32
  info.flags = XFRM_STATE_NOECN | XFRM_STATE_DECAP_DSCP;
  const auto mark = xfrm_mark{0x1ff, 0xff};
  xfrm_encap_tmpl encapsulation{};
  encapsulation.encap_type = UDP_ENCAP_ESPINUDP;
  encapsulation.encap_sport = htons(4500);
  encapsulation.encap_dport = htons(14000);
  encapsulation.encap_oa.a4 = htonl(0xc0000201);
  expect_ack(ask_one(message(
      XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info),
      {cbc_aes(), hmac_sha256(), attribute(XFRMA_MARK, mark), attribute(XFRMA_ENCAP, encapsulation),
       attribute(XFRMA_IF_ID, std::uint32_t{9}), attribute(XFRMA_SA_EXTRA_FLAGS, std::uint32_t{1}),
       attribute(XFRMA_REPLAY_VAL, xfrm_replay_state{7, 8, 5})})));

  const Answer answer = ask_one(message(XFRM_MSG_GETSA, 0, bytes_of(sa_id(0x12345678)),
                                        {attribute(XFRMA_MARK, xfrm_mark{0xff, 0xff})}, 77));
  ASSERT_EQ(answer.type(), XFRM_MSG_NEWSA);
  EXPECT_EQ(answer.header.nlmsg_seq, 77u);
  EXPECT_EQ(answer.header.nlmsg_pid, kPortId);
  EXPECT_EQ(answer.header.nlmsg_flags, 0);

  xfrm_usersa_info expected = info;
  expected.replay_window = 32;
  expected.curlft.add_time = 1'700'000'000;
  const ByteVector wanted = bytes_of(expected);
  EXPECT_EQ(ByteVector(answer.body.begin(), answer.body.begin() + kSaBase), wanted)
      << "padding included";
  EXPECT_EQ(numbers(answer, kSaBase),
            (std::vector<unsigned>{XFRMA_SA_EXTRA_FLAGS, XFRMA_ALG_AUTH, XFRMA_ALG_AUTH_TRUNC,
                                   XFRMA_ALG_CRYPT, XFRMA_ENCAP, XFRMA_MARK, XFRMA_REPLAY_VAL,
                                   XFRMA_IF_ID}));
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ENCAP), bytes_of(encapsulation));
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_CRYPT), cbc_aes().content);
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_AUTH_TRUNC), hmac_sha256().content);
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_AUTH), algorithm("hmac(sha256)", key(32)));
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_MARK), bytes_of(xfrm_mark{0xff, 0xff}));
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_REPLAY_VAL), bytes_of(xfrm_replay_state{7, 8, 5}));
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_IF_ID), bytes_of(std::uint32_t{9}));
}

TEST_F(XfrmHandlersTest, AnswersAnAliasWithTheCanonicalNameAndTheDefaultTruncation) {
  expect_ack(ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(sa_info()),
                             {{XFRMA_ALG_CRYPT, algorithm("aes", key(16))},
                              {XFRMA_ALG_AUTH, algorithm("sha256", key(32))}})));
  const Answer answer = ask_one(get_sa());
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_CRYPT), cbc_aes().content);
  EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_AUTH_TRUNC),
            algorithm("hmac(sha256)", key(32), 96));
}

struct NamedAlgorithm {
  std::uint16_t attribute;
  const char* asked;
  const char* told;
  std::size_t key_size;
  std::uint32_t bits;  // of the ICV
};

// clang-format off
constexpr NamedAlgorithm kNamedAlgorithms[] = {
    {XFRMA_ALG_AEAD, "rfc4106(gcm(aes))", "rfc4106(gcm(aes))", 28, 64},
    {XFRMA_ALG_AEAD, "rfc4106(gcm(aes))", "rfc4106(gcm(aes))", 36, 96},
    {XFRMA_ALG_AEAD, "rfc4309(ccm(aes))", "rfc4309(ccm(aes))", 19, 64},
    {XFRMA_ALG_AEAD, "rfc4309(ccm(aes))", "rfc4309(ccm(aes))", 35, 128},
    {XFRMA_ALG_AEAD, "rfc4543(gcm(aes))", "rfc4543(gcm(aes))", 20, 128},
    {XFRMA_ALG_AEAD, "rfc7539esp(chacha20,poly1305)", "rfc7539esp(chacha20,poly1305)", 36, 128},
    {XFRMA_ALG_CRYPT, "ecb(cipher_null)", "ecb(cipher_null)", 0, 0},
    {XFRMA_ALG_CRYPT, "cipher_null", "ecb(cipher_null)", 0, 0},
    {XFRMA_ALG_CRYPT, "cbc(aes)", "cbc(aes)", 32, 0},
    {XFRMA_ALG_CRYPT, "aes", "cbc(aes)", 24, 0},
    {XFRMA_ALG_CRYPT, "rfc3686(ctr(aes))", "rfc3686(ctr(aes))", 20, 0},
    {XFRMA_ALG_CRYPT, "cbc(camellia)", "cbc(camellia)", 16, 0},
    {XFRMA_ALG_CRYPT, "camellia", "cbc(camellia)", 32, 0},
    {XFRMA_ALG_CRYPT, "cbc(sm4)", "cbc(sm4)", 16, 0},
    {XFRMA_ALG_CRYPT, "sm4", "cbc(sm4)", 16, 0},
    {XFRMA_ALG_CRYPT, "cbc(des3_ede)", "cbc(des3_ede)", 24, 0},
    {XFRMA_ALG_CRYPT, "des3_ede", "cbc(des3_ede)", 24, 0},
    {XFRMA_ALG_AUTH, "hmac(md5)", "hmac(md5)", 16, 96},
    {XFRMA_ALG_AUTH, "md5", "hmac(md5)", 16, 96},
    {XFRMA_ALG_AUTH, "hmac(sha1)", "hmac(sha1)", 20, 96},
    {XFRMA_ALG_AUTH, "sha1", "hmac(sha1)", 20, 96},
    {XFRMA_ALG_AUTH, "hmac(sha256)", "hmac(sha256)", 32, 96},
    {XFRMA_ALG_AUTH, "hmac(sha384)", "hmac(sha384)", 48, 192},
    {XFRMA_ALG_AUTH, "hmac(sha512)", "hmac(sha512)", 64, 256},
    {XFRMA_ALG_AUTH, "hmac(rmd160)", "hmac(rmd160)", 20, 96},
    {XFRMA_ALG_AUTH, "rmd160", "hmac(rmd160)", 20, 96},
    {XFRMA_ALG_AUTH, "hmac(sm3)", "hmac(sm3)", 32, 256},
    {XFRMA_ALG_AUTH, "sm3", "hmac(sm3)", 32, 256},
    {XFRMA_ALG_AUTH, "xcbc(aes)", "xcbc(aes)", 16, 96},
    {XFRMA_ALG_AUTH, "cmac(aes)", "cmac(aes)", 16, 96},
    {XFRMA_ALG_AUTH_TRUNC, "rmd160", "hmac(rmd160)", 20, 160},
    {XFRMA_ALG_AUTH_TRUNC, "cmac(aes)", "cmac(aes)", 16, 128},
    {XFRMA_ALG_AUTH_TRUNC, "sm3", "hmac(sm3)", 32, 96},
};
// clang-format on

/// A MAC is reported in both of its forms, with the truncation in bits; the others as they came.
TEST_F(XfrmHandlersTest, ReportsEveryAlgorithmByItsCanonicalName) {
  for (const NamedAlgorithm& row : kNamedAlgorithms) {
    SCOPED_TRACE(row.asked);
    Handlers fresh;
    const bool mac = row.attribute == XFRMA_ALG_AUTH || row.attribute == XFRMA_ALG_AUTH_TRUNC;
    const bool has_bits = row.attribute == XFRMA_ALG_AEAD || row.attribute == XFRMA_ALG_AUTH_TRUNC;
    const std::optional<std::uint32_t> bits = has_bits ? std::optional(row.bits) : std::nullopt;
    const TestAttribute asked{row.attribute, algorithm(row.asked, key(row.key_size), bits)};
    const auto request = [&](std::initializer_list<TestAttribute> attributes) {
      return message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(sa_info()), attributes);
    };
    expect_ack(fresh.ask_one(mac                                ? request({asked, cbc_aes()})
                             : row.attribute == XFRMA_ALG_CRYPT ? request({asked, hmac_sha256()})
                                                                : request({asked})));
    const Answer answer = fresh.ask_one(get_sa());
    EXPECT_EQ(answer.attribute(kSaBase, row.attribute),
              algorithm(row.told, key(row.key_size), bits));
    if (mac) {
      EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_AUTH), algorithm(row.told, key(row.key_size)));
      EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_AUTH_TRUNC),
                algorithm(row.told, key(row.key_size), row.bits));
    }
  }
}

TEST_F(XfrmHandlersTest, AuthTruncWinsOverAuth) {
  expect_ack(ask_one(
      message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(sa_info()),
              {cbc_aes(), hmac_sha256(), {XFRMA_ALG_AUTH, algorithm("hmac(sha1)", key(20))}})));
  EXPECT_EQ(ask_one(get_sa()).attribute(kSaBase, XFRMA_ALG_AUTH_TRUNC), hmac_sha256().content);
}

TEST_F(XfrmHandlersTest, ReportsAnAeadSaWithItsWindow) {
  for (const bool extended : {false, true}) {
    Handlers fresh;
    xfrm_usersa_info info = sa_info();
    if (extended) info.flags = XFRM_STATE_ESN;
    TestAttribute replay = esn(4, 128, 4);
    const auto state = xfrm_replay_state_esn{4, 5, 6, extended ? 7u : 0, extended ? 8u : 0, 128};
    std::memcpy(replay.content.data(), &state, sizeof state);
    replay.content[sizeof state + 4] = std::byte{0x21};
    EXPECT_EQ(fresh.ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info), {gcm_aes(), replay}))
                  .error(),
              0);
    const Answer answer = fresh.ask_one(get_sa());
    EXPECT_EQ(numbers(answer, kSaBase),
              (std::vector<unsigned>{XFRMA_ALG_AEAD, XFRMA_REPLAY_ESN_VAL}));
    EXPECT_EQ(answer.attribute(kSaBase, XFRMA_ALG_AEAD), gcm_aes().content);
    EXPECT_EQ(answer.attribute(kSaBase, XFRMA_REPLAY_ESN_VAL), replay.content);
    EXPECT_EQ(load<xfrm_usersa_info>(answer.body).replay_window, 0);
  }
}

TEST_F(XfrmHandlersTest, TakesAnEsnAttributeWithoutItsBitmap) {
  xfrm_usersa_info info = sa_info();
  info.flags = XFRM_STATE_ESN;
  expect_ack(
      ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info), {gcm_aes(), esn(2, 64, 0)})));
  EXPECT_EQ(ask_one(get_sa()).attribute(kSaBase, XFRMA_REPLAY_ESN_VAL), esn(2, 64, 2).content);
}

TEST_F(XfrmHandlersTest, LetsAnSaStartWhereItStoodElsewhere) {
  const xfrm_lifetime_cur used{
      .bytes = 5, .packets = 6, .add_time = 1'699'999'000, .use_time = 1'699'999'500};
  expect_ack(ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(sa_info()),
                             {gcm_aes(), attribute(XFRMA_LTIME_VAL, used)})));
  const Answer answer = ask_one(get_sa());
  EXPECT_EQ(bytes_of(load<xfrm_usersa_info>(answer.body).curlft), bytes_of(used));
}

TEST_F(XfrmHandlersTest, SurvivesTimesFarOutside) {
  const xfrm_lifetime_cur used{~0ull, ~0ull, ~0ull, ~0ull};
  xfrm_usersa_info info = sa_info();
  info.lft.hard_add_expires_seconds = info.lft.hard_use_expires_seconds = ~0ull;
  info.lft.soft_add_expires_seconds = info.lft.soft_use_expires_seconds = ~0ull >> 1;
  expect_ack(ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info),
                             {gcm_aes(), attribute(XFRMA_LTIME_VAL, used)})));
  engine.advance();
  EXPECT_EQ(ask_one(get_sa()).type(), XFRM_MSG_NEWSA);
}

TEST_F(XfrmHandlersTest, TellsWhenAnSaWasUsedLast) {
  ASSERT_EQ(ask_one(add_sa()).error(), 0);
  clock.advance(std::chrono::seconds(10));
  const auto association = engine.current().sad.by_serial().last_to(~0ull);
  ASSERT_TRUE(association);
  (*association->second)->lifetime().charge(100, 1, clock.boot_now());
  clock.advance(std::chrono::seconds(5));
  EXPECT_EQ(ask_one(get_sa()).attribute(kSaBase, XFRMA_LASTUSED),
            bytes_of(std::uint64_t{1'700'000'010}));
}

TEST_F(XfrmHandlersTest, RefusesADuplicateAndUpdatesLimits) {
  ASSERT_EQ(ask_one(add_sa()).error(), 0);
  const Answer duplicate = ask_one(add_sa());
  EXPECT_EQ(duplicate.error(), EEXIST);
  EXPECT_EQ(duplicate.text(), "");
  xfrm_usersa_info info = sa_info();
  info.lft.hard_byte_limit = 1234;
  EXPECT_EQ(ask_one(message(XFRM_MSG_UPDSA, NLM_F_ACK, bytes_of(info), {cbc_aes(), hmac_sha256()}))
                .error(),
            0);
  EXPECT_EQ(load<xfrm_usersa_info>(ask_one(get_sa()).body).lft.hard_byte_limit, 1234u);
}

TEST_F(XfrmHandlersTest, FindsAMarkedSaByItsMarkOnly) {
  expect_ack(ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(sa_info()),
                             {gcm_aes(), attribute(XFRMA_MARK, xfrm_mark{5, 0xff})})));
  const auto by_mark = [&](std::uint16_t type, std::uint32_t value) {
    return ask_one(message(type, NLM_F_ACK, bytes_of(sa_id()),
                           {attribute(XFRMA_MARK, xfrm_mark{value, ~0u})}));
  };
  EXPECT_EQ(ask_one(message(XFRM_MSG_DELSA, NLM_F_ACK, bytes_of(sa_id()))).error(), ESRCH);
  EXPECT_EQ(by_mark(XFRM_MSG_DELSA, 6).error(), ESRCH);
  EXPECT_EQ(by_mark(XFRM_MSG_DELSA, 0x105).error(), 0);
  EXPECT_EQ(sa_count(), 0u);
}

TEST_F(XfrmHandlersTest, AnswersAllocspiWithALarvalSa) {
  xfrm_userspi_info request;
  std::memset(&request, 0, sizeof request);
  request.info = sa_info(0);
  request.info.reqid = 5;
  request.min = request.max = 0x200;
  const Answer answer = ask_one(message(XFRM_MSG_ALLOCSPI, 0, bytes_of(request)));
  ASSERT_EQ(answer.type(), XFRM_MSG_NEWSA);
  EXPECT_EQ(answer.header.nlmsg_len, 256u);

  xfrm_usersa_info expected = sa_info(0x200);
  expected.reqid = 5;
  expected.sel.family = AF_INET;
  expected.sel.daddr = expected.id.daddr;
  expected.sel.saddr = expected.saddr;
  expected.sel.prefixlen_d = expected.sel.prefixlen_s = 32;
  expected.lft.hard_add_expires_seconds = 30;
  expected.curlft.add_time = 1'700'000'000;
  EXPECT_EQ(ByteVector(answer.body.begin(), answer.body.begin() + kSaBase), bytes_of(expected));
  EXPECT_EQ(numbers(answer, kSaBase), std::vector<unsigned>{XFRMA_REPLAY_VAL});

  xfrm_usersa_info filled = sa_info(0x200);
  expect_ack(ask_one(message(XFRM_MSG_UPDSA, NLM_F_ACK, bytes_of(filled), {gcm_aes()})));
  EXPECT_EQ(numbers(ask_one(get_sa(0x200)), kSaBase),
            (std::vector<unsigned>{XFRMA_ALG_AEAD, XFRMA_REPLAY_VAL}));
}

TEST_F(XfrmHandlersTest, FlushesOneProtocolOrAll) {
  for (std::uint32_t spi = 1; spi <= 3; ++spi) ask_one(add_sa(0x100 + spi));
  const auto flush = [&](std::uint8_t protocol) {
    const Answer answer = ask_one(message(XFRM_MSG_FLUSHSA, NLM_F_ACK, bytes_of(protocol)));
    EXPECT_EQ(answer.error(), 0);
    return sa_count();
  };
  EXPECT_EQ(flush(IPPROTO_AH), 3u);
  EXPECT_EQ(flush(IPPROTO_ESP), 0u);
  ask_one(add_sa());
  EXPECT_EQ(flush(0), 0u);
  EXPECT_EQ(flush(0), 0u);  // an empty table is flushed as well
}

TEST_F(XfrmHandlersTest, CountsSas) {
  for (std::uint32_t spi = 1; spi <= 8; ++spi) ask_one(add_sa(0x100 + spi));
  const Answer answer = ask_one(message(XFRM_MSG_GETSADINFO, 0, bytes_of(std::uint32_t{77})));
  ASSERT_EQ(answer.type(), XFRM_MSG_NEWSADINFO);
  EXPECT_EQ(answer.header.nlmsg_len, 40u);
  EXPECT_EQ(load<std::uint32_t>(answer.body), 77u);
  EXPECT_EQ(answer.attribute(4, XFRMA_SAD_CNT), bytes_of(std::uint32_t{8}));
  EXPECT_EQ(answer.attribute(4, XFRMA_SAD_HINFO), bytes_of(xfrmu_sadhinfo{16, 1048576}));
}

// --- Policies.

TEST_F(XfrmHandlersTest, ReportsAPolicyAsItWasAdded) {
  xfrm_userpolicy_info info = policy_info();
  info.sel.proto = 17;
  info.sel.dport = htons(53);
  info.sel.dport_mask = 0xffff;
  info.sel.ifindex = 2;
  info.sel.user = 7;
  info.lft.hard_use_expires_seconds = 9;
  info.priority = 100;
  info.index = 0x59;  // direction out
  info.flags = XFRM_POLICY_LOCALOK;
  info.share = XFRM_SHARE_UNIQUE;
  xfrm_user_tmpl inner = tmpl();
  inner.id.spi = htonl(0x500);
  inner.reqid = 3;
  inner.share = 1;
  xfrm_user_tmpl outer = tmpl();
  outer.family = 0;  // becomes the policy's
  outer.mode = XFRM_MODE_TRANSPORT;
  outer.optional = 1;
  outer.id.proto = IPPROTO_AH;
  outer.ealgos = 5;
  ByteVector templates = bytes_of(inner);
  const ByteVector second = bytes_of(outer);
  templates.insert(templates.end(), second.begin(), second.end());
  expect_ack(ask_one(message(XFRM_MSG_NEWPOLICY, NLM_F_ACK, bytes_of(info),
                             {{XFRMA_TMPL, templates},
                              attribute(XFRMA_MARK, xfrm_mark{0xf7, 0xf}),
                              attribute(XFRMA_IF_ID, std::uint32_t{3})})));

  xfrm_userpolicy_id id{};
  id.sel = info.sel;
  id.dir = info.dir;
  const Answer answer = ask_one(message(
      XFRM_MSG_GETPOLICY, 0, bytes_of(id),
      {attribute(XFRMA_MARK, xfrm_mark{7, 0xf}), attribute(XFRMA_IF_ID, std::uint32_t{3})}));
  ASSERT_EQ(answer.type(), XFRM_MSG_NEWPOLICY);
  xfrm_userpolicy_info expected = info;
  expected.curlft.add_time = 1'700'000'000;
  EXPECT_EQ(ByteVector(answer.body.begin(), answer.body.begin() + kPolicyBase), bytes_of(expected));
  EXPECT_EQ(numbers(answer, kPolicyBase),
            (std::vector<unsigned>{XFRMA_TMPL, XFRMA_POLICY_TYPE, XFRMA_MARK, XFRMA_IF_ID}));
  outer.family = AF_INET;
  ByteVector reported = bytes_of(inner);
  const ByteVector reported_second = bytes_of(outer);
  reported.insert(reported.end(), reported_second.begin(), reported_second.end());
  EXPECT_EQ(answer.attribute(kPolicyBase, XFRMA_TMPL), reported);
  EXPECT_EQ(answer.attribute(kPolicyBase, XFRMA_POLICY_TYPE), zeros(6));
  EXPECT_EQ(answer.attribute(kPolicyBase, XFRMA_MARK), bytes_of(xfrm_mark{7, 0xf}));
}

TEST_F(XfrmHandlersTest, PoliciesAreFoundBySelectorOrByIndex) {
  const xfrm_userpolicy_info info = policy_info();
  const ByteVector add = message(XFRM_MSG_NEWPOLICY, NLM_F_ACK, bytes_of(info));
  expect_ack(ask_one(add));
  EXPECT_EQ(ask_one(add).error(), EEXIST);
  expect_ack(ask_one(message(XFRM_MSG_UPDPOLICY, NLM_F_ACK, bytes_of(info))));
  EXPECT_EQ(policy_count(), 1u);

  xfrm_userpolicy_id id{};
  id.sel = info.sel;
  id.dir = info.dir;
  const Answer by_selector = ask_one(message(XFRM_MSG_GETPOLICY, 0, bytes_of(id)));
  ASSERT_EQ(by_selector.type(), XFRM_MSG_NEWPOLICY);
  xfrm_userpolicy_id by_index{};
  by_index.index = load<xfrm_userpolicy_info>(by_selector.body).index;
  by_index.dir = info.dir;
  EXPECT_NE(by_index.index, 0u);
  EXPECT_EQ(ask_one(message(XFRM_MSG_GETPOLICY, 0, bytes_of(by_index))).type(), XFRM_MSG_NEWPOLICY);
  expect_ack(ask_one(message(XFRM_MSG_DELPOLICY, NLM_F_ACK, bytes_of(by_index))));
  EXPECT_EQ(policy_count(), 0u);
}

TEST_F(XfrmHandlersTest, UpdpolicyCreatesAndFlushpolicyKnowsTypes) {
  const xfrm_userpolicy_type sub{.type = XFRM_POLICY_TYPE_SUB, .reserved1 = 0, .reserved2 = 0};
  expect_ack(ask_one(message(XFRM_MSG_UPDPOLICY, NLM_F_ACK, bytes_of(policy_info()))));
  expect_ack(ask_one(message(XFRM_MSG_UPDPOLICY, NLM_F_ACK, bytes_of(policy_info()),
                             {attribute(XFRMA_POLICY_TYPE, sub)})));
  EXPECT_EQ(policy_count(), 2u);
  expect_ack(ask_one(message(XFRM_MSG_FLUSHPOLICY, NLM_F_ACK, {})));
  EXPECT_EQ(policy_count(), 1u);
  expect_ack(
      ask_one(message(XFRM_MSG_FLUSHPOLICY, NLM_F_ACK, {}, {attribute(XFRMA_POLICY_TYPE, sub)})));
  EXPECT_EQ(policy_count(), 0u);
}

TEST_F(XfrmHandlersTest, ATemplateMayNameAnythingOfTheRightShape) {
  xfrm_user_tmpl odd = tmpl();
  odd.id.proto = IPPROTO_ROUTING;
  odd.mode = XFRM_MODE_IN_TRIGGER;
  expect_ack(ask_one(message(XFRM_MSG_NEWPOLICY, NLM_F_ACK, bytes_of(policy_info()),
                             {attribute(XFRMA_TMPL, odd)})));
}

TEST_F(XfrmHandlersTest, ATunnelChangesTheFamilyForTheTemplatesBehindIt) {
  xfrm_user_tmpl tunnel = tmpl();
  tunnel.family = AF_INET6;
  xfrm_user_tmpl transport = tmpl();
  transport.mode = XFRM_MODE_TRANSPORT;
  const auto add = [&](std::uint16_t family) {
    transport.family = family;
    ByteVector both = bytes_of(tunnel);
    const ByteVector second = bytes_of(transport);
    both.insert(both.end(), second.begin(), second.end());
    return ask_one(
        message(XFRM_MSG_UPDPOLICY, NLM_F_ACK, bytes_of(policy_info()), {{XFRMA_TMPL, both}}));
  };
  EXPECT_EQ(add(AF_INET6).error(), 0);
  EXPECT_EQ(add(AF_INET).text(), "Mode in template doesn't support a family change");
}

TEST_F(XfrmHandlersTest, KeepsAndCountsWhatItDoesNotUse) {
  expect_ack(ask_one(message(XFRM_MSG_NEWPOLICY, NLM_F_ACK, bytes_of(policy_info()))));
  const ByteVector get = message(XFRM_MSG_GETSPDINFO, 0, bytes_of(~0u));
  const Answer before = ask_one(get);
  ASSERT_EQ(before.type(), XFRM_MSG_NEWSPDINFO);
  EXPECT_EQ(before.header.nlmsg_len, 76u);
  EXPECT_EQ(before.attribute(4, XFRMA_SPD_INFO), bytes_of(xfrmu_spdinfo{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(before.attribute(4, XFRMA_SPD_HINFO), bytes_of(xfrmu_spdhinfo{7, 1048576}));
  EXPECT_EQ(before.attribute(4, XFRMA_SPD_IPV4_HTHRESH), bytes_of(xfrmu_spdhthresh{32, 32}));
  EXPECT_EQ(before.attribute(4, XFRMA_SPD_IPV6_HTHRESH), bytes_of(xfrmu_spdhthresh{128, 128}));

  const TestAttribute v4 = attribute(XFRMA_SPD_IPV4_HTHRESH, xfrmu_spdhthresh{24, 25});
  const TestAttribute bad = attribute(XFRMA_SPD_IPV6_HTHRESH, xfrmu_spdhthresh{0, 129});
  EXPECT_EQ(ask_one(message(XFRM_MSG_NEWSPDINFO, NLM_F_ACK, zeros(4), {v4, bad})).error(), EINVAL);
  EXPECT_EQ(ask_one(get).body, before.body) << "nothing of a refused request is kept";
  expect_ack(ask_one(message(XFRM_MSG_NEWSPDINFO, NLM_F_ACK, zeros(4), {v4})));
  EXPECT_EQ(ask_one(get).attribute(4, XFRMA_SPD_IPV4_HTHRESH), v4.content);
}

TEST_F(XfrmHandlersTest, SetsOnlyTheDefaultsThatAreNamed) {
  const auto defaults = [&] {
    const Answer answer = ask_one(message(XFRM_MSG_GETDEFAULT, 0, zeros(3)));
    EXPECT_EQ(answer.type(), XFRM_MSG_GETDEFAULT);
    EXPECT_EQ(answer.header.nlmsg_len, 20u);
    return answer.body;
  };
  const auto bytes = [](int in, int forward, int out) {
    return ByteVector{std::byte(in), std::byte(forward), std::byte(out), std::byte{0}};
  };
  EXPECT_EQ(defaults(), bytes(2, 2, 1));
  const auto set = [&](ByteVector values) {
    values.resize(3);
    return ask_one(message(XFRM_MSG_SETDEFAULT, NLM_F_ACK, values)).error();
  };
  EXPECT_EQ(set(bytes(1, 0, 2)), 0);
  EXPECT_EQ(defaults(), bytes(1, 2, 2));
  EXPECT_EQ(set(bytes(2, 1, 9)), 0);
  EXPECT_EQ(defaults(), bytes(2, 1, 2));
}

// --- Datagrams and acknowledgements.

TEST_F(XfrmHandlersTest, AppliesSeveralMessagesAndPublishesOnce) {
  const auto before = engine.view().snapshot();
  const auto result =
      handlers.handle(joined({message(XFRM_MSG_FLUSHSA, NLM_F_ACK, zeros(1)), add_sa(1), add_sa(1),
                              add_sa(2, 0), message(XFRM_MSG_SETDEFAULT, 0, zeros(3)), get_sa(2)}),
                      from, false);
  std::vector<int> seen;
  for (const auto& datagram : result.answers) {
    for (const Answer& answer : answers_in(datagram)) {
      seen.push_back(answer.is_error() ? answer.error() : -answer.type());
    }
  }
  EXPECT_EQ(seen, (std::vector<int>{0, 0, EEXIST, -XFRM_MSG_NEWSA}));
  EXPECT_TRUE(result.changed);
  EXPECT_EQ(before->sad.size(), 0u);
  EXPECT_EQ(engine.view().snapshot()->sad.size(), 2u) << "published when the answers are there";
}

TEST_F(XfrmHandlersTest, QuestionsAndFailuresPublishNothing) {
  for (const ByteVector& request : {get_sa(), message(XFRM_MSG_GETSADINFO, 0, zeros(4)),
                                    message(XFRM_MSG_FLUSHSA, NLM_F_ACK, zeros(1)),
                                    message(XFRM_MSG_DELSA, NLM_F_ACK, bytes_of(sa_id()))}) {
    EXPECT_FALSE(handlers.handle(request, from, false).changed);
  }
}

TEST_F(XfrmHandlersTest, AcknowledgesOnlyWhoAsks) {
  EXPECT_TRUE(ask(add_sa(1, 0)).empty());
  EXPECT_EQ(ask(add_sa(1, 0)).size(), 1u) << "but errors are always told";
  const auto both = ask(message(XFRM_MSG_GETSADINFO, NLM_F_ACK, zeros(4)));
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].type(), XFRM_MSG_NEWSADINFO);
  EXPECT_TRUE(both[1].is_error());
}

TEST_F(XfrmHandlersTest, WhatIsNoRequestIsAcknowledgedAndNothingElse) {
  expect_ack(ask_one(message(5, NLM_F_ACK, {})));
  EXPECT_TRUE(ask(message(5, 0, {})).empty());
  ByteVector no_request = add_sa();
  no_request[6] = std::byte{NLM_F_ACK};
  expect_ack(ask_one(no_request));
  EXPECT_EQ(sa_count(), 0u);
}

TEST_F(XfrmHandlersTest, WarnsOfJunkAndGoesOn) {
  ByteVector body = zeros(9);
  body[4] = std::byte{1};
  const Answer answer = ask_one(message(XFRM_MSG_FLUSHSA, NLM_F_ACK, body));
  EXPECT_EQ(answer.error(), 0);
  EXPECT_EQ(answer.text(), "bytes leftover after parsing attributes");
}

TEST_F(XfrmHandlersTest, WithoutPrivilegeNothingIsAnswered) {
  ASSERT_EQ(ask_one(add_sa()).error(), 0);
  from.privileged = false;
  for (std::uint16_t type = XFRM_MSG_BASE; type <= XFRM_MSG_MAX; ++type) {
    for (const unsigned flags : {0, NLM_F_DUMP}) {
      const Answer answer = ask_one(message(type, flags, zeros(300)));
      EXPECT_TRUE(answer.is_error());
      EXPECT_EQ(answer.error(), EPERM) << type;
    }
  }
  EXPECT_EQ(sa_count(), 1u);
}

// --- Listings.

class ListingTest : public XfrmHandlersTest {
 protected:
  ByteVector list(std::initializer_list<TestAttribute> attributes = {}) {
    return message(XFRM_MSG_GETSA, NLM_F_DUMP, {}, attributes, 33);
  }
  std::vector<std::uint32_t> spis(const std::vector<Answer>& answers) {
    std::vector<std::uint32_t> out;
    for (const Answer& answer : answers) {
      if (answer.type() == XFRM_MSG_NEWSA) {
        out.push_back(ntohl(load<xfrm_usersa_info>(answer.body).id.spi));
      }
    }
    return out;
  }
};

TEST_F(ListingTest, OfNothingIsItsEndMark) {
  for (const std::uint16_t type : {XFRM_MSG_GETSA, XFRM_MSG_GETPOLICY}) {
    const Answer answer = ask_one(message(type, NLM_F_DUMP | NLM_F_ACK, {}, {}, 33));
    EXPECT_EQ(answer.type(), NLMSG_DONE);
    EXPECT_EQ(answer.header.nlmsg_len, 20u);
    EXPECT_EQ(answer.header.nlmsg_flags, NLM_F_MULTI);
    EXPECT_EQ(answer.header.nlmsg_seq, 33u);
    EXPECT_EQ(answer.header.nlmsg_pid, kPortId);
    EXPECT_EQ(answer.error(), 0);
  }
}

TEST_F(ListingTest, OfAThousandComesInPartsNewestFirst) {
  std::vector<std::uint32_t> expected;
  for (std::uint32_t spi = 0x1000; spi < 0x1000 + 1000; ++spi) {
    ASSERT_TRUE(ask(add_sa(spi, 0)).empty());
    expected.insert(expected.begin(), spi);
  }
  auto result = handlers.handle(list(), from, false);
  ASSERT_TRUE(result.dump);
  EXPECT_TRUE(result.answers.empty());
  std::vector<Answer> all;
  std::size_t parts = 0;
  while (!result.dump->finished()) {
    const auto part = result.dump->next();
    EXPECT_LE(part.size(), Dump::kLargestPart);
    if (++parts == 10) {  // of what happens meanwhile, only what is gone matters
      ask(message(XFRM_MSG_DELSA, 0, bytes_of(sa_id(0x1000))));
      ask(add_sa(0x9999, 0));
    }
    for (const Answer& answer : answers_in(part)) {
      EXPECT_EQ(answer.header.nlmsg_flags, NLM_F_MULTI);
      EXPECT_EQ(answer.header.nlmsg_seq, 33u);
      all.push_back(answer);
    }
  }
  EXPECT_GT(parts, 100u);
  expected.pop_back();
  EXPECT_EQ(spis(all), expected);
  EXPECT_EQ(all.back().type(), NLMSG_DONE);
}

TEST_F(ListingTest, ShowsEverythingWhenNothingHappens) {
  for (std::uint32_t spi = 0x1000; spi < 0x1000 + 1000; ++spi) ask(add_sa(spi, 0));
  EXPECT_EQ(spis(ask(list())).size(), 1000u);
}

TEST_F(ListingTest, PausesWhereItFindsNothing) {
  for (std::uint32_t spi = 1; spi <= 3000; ++spi) ask(add_sa(spi, 0));
  auto result =
      handlers.handle(list({attribute(XFRMA_PROTO, std::uint8_t{IPPROTO_AH})}), from, false);
  std::size_t pauses = 0;
  while (result.dump->next().empty()) ++pauses;
  EXPECT_EQ(pauses, 2u);
  EXPECT_TRUE(result.dump->finished());
}

TEST_F(ListingTest, HasRoomForOneMessageOfAnySize) {
  const TestAttribute mac{XFRMA_ALG_AUTH_TRUNC, algorithm("hmac(sha256)", key(30000), 128)};
  for (std::uint32_t spi = 1; spi <= 3; ++spi) {
    expect_ack(
        ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(sa_info(spi)), {cbc_aes(), mac})));
  }
  const auto all = ask(list());
  EXPECT_EQ(spis(all), (std::vector<std::uint32_t>{3, 2, 1}));
  EXPECT_EQ(all[0].attribute(kSaBase, XFRMA_ALG_AUTH_TRUNC), mac.content);
}

TEST_F(ListingTest, OneAtATime) {
  ask(add_sa(1, 0));
  EXPECT_EQ(handlers.handle(list(), from, true).answers.size(), 1u);
  const auto answers = ask(joined({list(), list()}));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].error(), EBUSY);
}

TEST_F(ListingTest, FiltersByProtocolAndAddress) {
  xfrm_usersa_info other = sa_info(2);
  other.id.daddr = address("10.10.0.2");
  xfrm_usersa_info six = sa_info(3);
  six.family = AF_INET6;
  six.id.daddr = address("2001:db8::2");
  six.saddr = address("2001:db8::1");
  ask(add_sa(1, 0));
  for (const auto& info : {other, six}) {
    expect_ack(ask_one(message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info), {gcm_aes()})));
  }
  const auto by_protocol = [&](std::uint8_t protocol) {
    return spis(ask(list({attribute(XFRMA_PROTO, protocol)}))).size();
  };
  EXPECT_EQ(by_protocol(0), 3u);
  EXPECT_EQ(by_protocol(255), 3u);
  EXPECT_EQ(by_protocol(IPPROTO_ESP), 3u);
  EXPECT_EQ(by_protocol(IPPROTO_AH), 0u);

  const auto by_address = [&](std::uint16_t family, const char* source, std::uint8_t source_bits,
                              const char* destination, std::uint8_t destination_bits) {
    const xfrm_address_filter filter{.saddr = address(source),
                                     .daddr = address(destination),
                                     .family = family,
                                     .splen = source_bits,
                                     .dplen = destination_bits};
    return spis(ask(list({attribute(XFRMA_ADDRESS_FILTER, filter)})));
  };
  using Spis = std::vector<std::uint32_t>;
  EXPECT_EQ(by_address(AF_INET, "0.0.0.0", 0, "0.0.0.0", 0), (Spis{2, 1}));
  EXPECT_EQ(by_address(AF_INET6, "::", 0, "::", 0), Spis{3});
  EXPECT_EQ(by_address(AF_INET, "10.9.0.1", 32, "10.10.0.0", 16), Spis{2});
  EXPECT_EQ(by_address(AF_INET, "10.9.0.9", 32, "0.0.0.0", 0), Spis{});
  EXPECT_EQ(by_address(AF_INET6, "::", 0, "2001:db8::2", 128), Spis{3});
  EXPECT_EQ(by_address(AF_UNSPEC, "10.9.0.1", 32, "0.0.0.0", 0), (Spis{2, 1}));
}

TEST_F(ListingTest, SaysWhatIsWrongWithAFilterInItsEndMark) {
  ask(add_sa(1, 0));
  const xfrm_address_filter too_wide{
      .saddr = {}, .daddr = {}, .family = AF_INET, .splen = 129, .dplen = 0};
  const Answer wrong = ask_one(list({attribute(XFRMA_ADDRESS_FILTER, too_wide)}));
  EXPECT_EQ(wrong.type(), NLMSG_DONE);
  EXPECT_EQ(wrong.error(), EINVAL);
  const Answer too_short = ask_one(list({{XFRMA_ADDRESS_FILTER, zeros(35)}}));
  EXPECT_EQ(too_short.type(), NLMSG_DONE);
  EXPECT_EQ(too_short.error(), ERANGE);
}

TEST_F(ListingTest, OfPoliciesHasAllTypesAndDirections) {
  std::uint32_t priority = 0;
  for (std::uint8_t direction = 0; direction < XFRM_POLICY_MAX; ++direction) {
    for (std::uint8_t type = 0; type < XFRM_POLICY_TYPE_MAX; ++type) {
      xfrm_userpolicy_info info = policy_info();
      info.dir = direction;
      info.priority = ++priority;
      const xfrm_userpolicy_type wanted{.type = type, .reserved1 = 0, .reserved2 = 0};
      expect_ack(ask_one(message(XFRM_MSG_NEWPOLICY, NLM_F_ACK, bytes_of(info),
                                 {attribute(XFRMA_POLICY_TYPE, wanted)})));
    }
  }
  const auto all = ask(message(XFRM_MSG_GETPOLICY, NLM_F_DUMP, {}));
  ASSERT_EQ(all.size(), 7u);
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(load<xfrm_userpolicy_info>(all[i].body).priority, 6 - i);
    EXPECT_EQ(all[i].attribute(kPolicyBase, XFRMA_POLICY_TYPE)[0], std::byte(1 - i % 2));
  }
}

TEST_F(ListingTest, DumpFlagsElsewhereMeanNothing) {
  EXPECT_EQ(ask_one(message(XFRM_MSG_GETSADINFO, NLM_F_DUMP, zeros(4))).type(),
            XFRM_MSG_NEWSADINFO);
}

}  // namespace
}  // namespace xfrmfs::testing
