// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/algorithm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/esp_suites.h"

namespace xfrmfs::engine {
namespace {

Secret key(std::size_t size) {
  return Secret(std::vector<std::byte>(size, std::byte{0x11}));
}

struct Spec {
  const char* name = nullptr;
  std::size_t key_size = 0;
  std::uint32_t bits = 0;
};

CryptoParams make(std::optional<Spec> aead, std::optional<Spec> cipher, std::optional<Spec> mac) {
  CryptoParams params;
  if (aead) params.aead = AeadParams{aead->name, key(aead->key_size), aead->bits};
  if (cipher) params.cipher = CipherParams{cipher->name, key(cipher->key_size)};
  if (mac) params.mac = MacParams{mac->name, key(mac->key_size), mac->bits};
  return params;
}

struct Refusal {
  const char* what;
  std::optional<Spec> aead, cipher, mac;
  int error;
  const char* message;
};

constexpr const char* kGcm = "rfc4106(gcm(aes))";
constexpr const char* kCcm = "rfc4309(ccm(aes))";
constexpr const char* kGmac = "rfc4543(gcm(aes))";
constexpr const char* kChaCha = "rfc7539esp(chacha20,poly1305)";
constexpr const char* kNoCrypto = "Kernel was unable to initialize cryptographic operations";
constexpr const char* kBadTruncation = "Invalid length requested for truncated ICV";

// clang-format off
const Refusal kRefusals[] = {
    {"nothing", {}, {}, {}, EINVAL,
     "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD"},
    {"AEAD and cipher", Spec{kGcm, 20, 128}, Spec{"cbc(aes)", 16}, {}, EINVAL,
     "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT"},
    {"AEAD and MAC", Spec{kGcm, 20, 128}, {}, Spec{"hmac(sha1)", 20}, EINVAL,
     "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT"},

    {"AEAD unknown", Spec{"gcm(aes)", 20, 128}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"AEAD without name", Spec{"", 20, 128}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ICV of no length", Spec{kGcm, 20, 0}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ICV of 4 bytes", Spec{kGcm, 20, 32}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ICV of 15 bytes", Spec{kGcm, 20, 120}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ICV of 127 bits", Spec{kGcm, 20, 127}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ICV of 17 bytes", Spec{kGcm, 20, 136}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ICV of 2^31 + 128 bits", Spec{kGcm, 20, 0x80000080}, {}, {}, ENOSYS,
     "Requested AEAD algorithm not found"},
    {"unknown ICV before wrong key", Spec{kGcm, 3, 120}, {}, {}, ENOSYS,
     "Requested AEAD algorithm not found"},
    {"AEAD key empty", Spec{kGcm, 0, 128}, {}, {}, EINVAL, kNoCrypto},
    {"AEAD key without salt", Spec{kGcm, 16, 128}, {}, {}, EINVAL, kNoCrypto},
    {"AEAD key one short", Spec{kGcm, 19, 128}, {}, {}, EINVAL, kNoCrypto},
    {"AEAD key one long", Spec{kGcm, 21, 128}, {}, {}, EINVAL, kNoCrypto},
    {"AEAD key one long of 256", Spec{kGcm, 37, 128}, {}, {}, EINVAL, kNoCrypto},

    {"AUTH unknown", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha3)", 20}, ENOSYS,
     "Requested AUTH algorithm not found"},
    {"AUTH_TRUNC unknown", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha3)", 20, 96}, ENOSYS,
     "Requested AUTH_TRUNC algorithm not found"},
    {"truncation one above SHA-1", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha1)", 20, 161}, EINVAL,
     kBadTruncation},
    {"truncation above SHA-256", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha256)", 32, 264}, EINVAL,
     kBadTruncation},
    {"truncation above SHA-512", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha512)", 64, 520}, EINVAL,
     kBadTruncation},
    {"truncation to 7 bits", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha1)", 20, 7}, EINVAL,
     "algorithm \"hmac(sha1)\": truncation to 7 bits leaves no ICV"},
    {"cipher unknown", {}, Spec{"cbc(serpent)", 16}, Spec{"hmac(sha1)", 20}, ENOSYS,
     "Requested CRYPT algorithm not found"},
    {"DES", {}, Spec{"cbc(des)", 8}, Spec{"hmac(sha1)", 20}, ENOSYS,
     "algorithm \"cbc(des)\": broken, legacy ciphers are not permitted here"},
    {"DES by its alias, before a wrong key", {}, Spec{"des", 7}, Spec{"hmac(sha1)", 20}, ENOSYS,
     "algorithm \"cbc(des)\": broken, legacy ciphers are not permitted here"},
    {"CCM with another ICV", Spec{kCcm, 19, 80}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"GMAC cut short", Spec{kGmac, 20, 96}, {}, {}, ENOSYS, "Requested AEAD algorithm not found"},
    {"ChaCha20-Poly1305 cut short", Spec{kChaCha, 36, 64}, {}, {}, ENOSYS,
     "Requested AEAD algorithm not found"},
    {"MAC is looked up before cipher", {}, Spec{"cbc(x)", 8}, Spec{"hmac(x)", 20}, ENOSYS,
     "Requested AUTH algorithm not found"},
    {"truncation is looked at before cipher", {}, Spec{"cbc(x)", 8}, Spec{"sha1", 20, 200}, EINVAL,
     kBadTruncation},

    {"authentication only", {}, {}, Spec{"hmac(sha256)", 32}, EINVAL,
     "ESP: AEAD or CRYPT must be provided"},
    {"encryption only", {}, Spec{"aes", 16}, {}, EINVAL,
     "algorithm \"cbc(aes)\": encryption without integrity is refused, AUTH or AUTH_TRUNC is "
     "missing"},
    {"encryption with a MAC of nothing", {}, Spec{"aes", 16}, Spec{"digest_null", 0}, EINVAL,
     "algorithm \"cbc(aes)\": encryption without integrity is refused, AUTH or AUTH_TRUNC is "
     "missing"},
    {"a MAC of nothing cut short", {}, Spec{"aes", 16}, Spec{"digest_null", 0, 8}, EINVAL,
     kBadTruncation},
    {"neither encryption nor integrity", {}, Spec{"ecb(cipher_null)", 0}, {}, EINVAL,
     "ESP: neither encryption nor integrity"},
    {"neither, with a MAC of nothing", {}, Spec{"cipher_null", 0}, Spec{"digest_null", 0}, EINVAL,
     "ESP: neither encryption nor integrity"},
    {"truncation one above MD5", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(md5)", 16, 129}, EINVAL,
     kBadTruncation},
    {"truncation one above XCBC", {}, Spec{"cbc(aes)", 16}, Spec{"xcbc(aes)", 16, 129}, EINVAL,
     kBadTruncation},
    {"cipher key empty", {}, Spec{"cbc(aes)", 0}, Spec{"hmac(sha1)", 20}, EINVAL,
     "algorithm \"cbc(aes)\": key is 0 bytes, expected one of 16, 24, 32"},
    {"cipher key one short", {}, Spec{"cbc(aes)", 15}, Spec{"hmac(sha1)", 20}, EINVAL,
     "algorithm \"cbc(aes)\": key is 15 bytes, expected one of 16, 24, 32"},
    {"cipher key one long", {}, Spec{"cbc(aes)", 33}, Spec{"hmac(sha1)", 20}, EINVAL,
     "algorithm \"cbc(aes)\": key is 33 bytes, expected one of 16, 24, 32"},
};
// clang-format on

TEST(AlgorithmTest, RefusesWithErrnoAndSentence) {
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(refusal.what);
    CryptoParams params = make(refusal.aead, refusal.cipher, refusal.mac);
    const auto resolved = resolve(params);
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().error, refusal.error);
    EXPECT_EQ(resolved.error().message, refusal.message);
    const auto factory = make_sealer_factory(params);
    ASSERT_FALSE(factory);
    EXPECT_EQ(factory.error().message, refusal.message);
  }
}

struct KeySize {
  const char* name;
  std::vector<std::size_t> taken;  // all others up to 80 bytes are refused
  const char* expected;            // for the sentence
};

std::vector<std::size_t> from_to(std::size_t least, std::size_t most) {
  std::vector<std::size_t> sizes;
  for (std::size_t size = least; size <= most; ++size) sizes.push_back(size);
  return sizes;
}

constexpr std::size_t kLongestTried = 80;

// clang-format off
const KeySize kAeadKeys[] = {
    {kGcm, {20, 28, 36}, ""},
    {kCcm, {19, 27, 35}, ""},
    {kGmac, {20, 28, 36}, ""},
    {kChaCha, {36}, ""},
};
const KeySize kCipherKeys[] = {
    {"cbc(aes)", {16, 24, 32}, "one of 16, 24, 32"},
    {"rfc3686(ctr(aes))", {20, 28, 36}, "one of 20, 28, 36"},
    {"ecb(cipher_null)", {0}, "0"},
    {"cbc(camellia)", {16, 24, 32}, "one of 16, 24, 32"},
    {"cbc(sm4)", {16}, "16"},
    {"cbc(des3_ede)", {24}, "24"},
    {"cbc(cast5)", from_to(5, 16), "5 to 16"},
    {"cbc(blowfish)", from_to(5, 56), "5 to 56"},
    {"cbc(des)", {8}, "8"},
};
const KeySize kMacKeys[] = {
    {"hmac(md5)", from_to(0, kLongestTried), ""},
    {"hmac(sha1)", from_to(0, kLongestTried), ""},
    {"hmac(sha256)", from_to(0, kLongestTried), ""},
    {"hmac(sha384)", from_to(0, kLongestTried), ""},
    {"hmac(sha512)", from_to(0, kLongestTried), ""},
    {"hmac(rmd160)", from_to(0, kLongestTried), ""},
    {"hmac(sm3)", from_to(0, kLongestTried), ""},
    {"xcbc(aes)", {16}, "16"},
    {"cmac(aes)", {16}, "16"},
};
// clang-format on

template <class Make>
void expect_key_sizes(const KeySize& row, Make make_params) {
  SCOPED_TRACE(row.name);
  for (std::size_t size = 0; size <= kLongestTried; ++size) {
    SCOPED_TRACE(size);
    CryptoParams params = make_params(size);
    const auto resolved = resolve(params, testing::kLegacyPermitted);
    const bool taken = std::ranges::find(row.taken, size) != row.taken.end();
    ASSERT_EQ(resolved.has_value(), taken);
    if (!taken) {
      EXPECT_EQ(resolved.error().error, EINVAL);
      const std::string wanted = params.aead ? kNoCrypto
                                             : std::string("algorithm \"") + row.name +
                                                   "\": key is " + std::to_string(size) +
                                                   " bytes, expected " + row.expected;
      EXPECT_EQ(resolved.error().message, wanted);
      continue;
    }
    const auto& backends = testing::esp_backends().front().backends;
    if (const auto factory = make_sealer_factory(params, backends)) {
      EXPECT_NE((*factory)->make_sealer(false), nullptr);
    } else {  // of all that is taken, only this may be missing
      EXPECT_NE(factory.error().message.find("\"legacy\""), std::string::npos);
    }
  }
}

TEST(AlgorithmTest, TakesTheKeySizesOfAKernel) {
  for (const KeySize& row : kAeadKeys) {
    expect_key_sizes(row,
                     [&](std::size_t size) { return make(Spec{row.name, size, 128}, {}, {}); });
  }
  for (const KeySize& row : kCipherKeys) {
    expect_key_sizes(row, [&](std::size_t size) {
      return make({}, Spec{row.name, size}, Spec{"hmac(sha1)", 20});
    });
  }
  for (const KeySize& row : kMacKeys) {
    expect_key_sizes(row, [&](std::size_t size) {
      return make({}, Spec{"cbc(aes)", 16}, Spec{row.name, size});
    });
  }
}

TEST(AlgorithmTest, EncryptsWithoutIntegrityOnlyIfPermitted) {
  CryptoBackends backends;
  backends.permit({.unauthenticated = true});
  for (const bool named : {false, true}) {
    CryptoParams params = make({}, Spec{"aes", 16}, {});
    if (named) params.mac = MacParams{"digest_null", {}, 0};
    EXPECT_FALSE(resolve(params, testing::kLegacyPermitted));
    ASSERT_TRUE(resolve(params, backends.permissions()));
    EXPECT_FALSE(params.authenticated());
    const auto factory = make_sealer_factory(params, backends);
    ASSERT_TRUE(factory);
    EXPECT_EQ((*factory)->shape().icv_size, 0);
    std::vector<std::byte> packet(8 + 16 + 32, std::byte{0x55});
    const auto clear = packet;
    Box box{.packet = packet.data(), .text_size = 32};
    (*factory)->make_sealer(true)->seal({&box, 1}, nullptr);
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_FALSE(std::equal(packet.begin() + 24, packet.end(), clear.begin() + 24));
    (*factory)->make_opener(true)->open({&box, 1}, nullptr);
    EXPECT_EQ(box.result, BoxResult::kDone);
    EXPECT_EQ(packet, clear);
  }
  EXPECT_TRUE(make({}, Spec{"cipher_null", 0}, Spec{"sha1", 20}).authenticated());
  EXPECT_TRUE(make(Spec{kGmac, 20, 128}, {}, {}).authenticated());
  CryptoParams neither = make({}, Spec{"cipher_null", 0}, {});
  EXPECT_FALSE(resolve(neither, backends.permissions()));
}

TEST(AlgorithmTest, ChangesNothingWhenItRefuses) {
  CryptoParams params = make({}, Spec{"aes", 15}, Spec{"sha256", 32});
  ASSERT_FALSE(resolve(params));
  EXPECT_EQ(params.cipher->name, "aes");
  EXPECT_EQ(params.mac->name, "sha256");
  EXPECT_EQ(params.mac->truncation_bits, 0U);
}

struct Acceptance {
  const char* what;
  std::optional<Spec> aead, cipher, mac;
  const char* cipher_name;
  const char* mac_name;
  std::uint32_t truncation_bits;
  BoxShape shape;
};

// clang-format off
const Acceptance kAcceptances[] = {
    {"GCM 128 with 8", Spec{kGcm, 20, 64}, {}, {}, "", "", 0, {8, 8, 4, IvRule::kUnique}},
    {"GCM 192 with 12", Spec{kGcm, 28, 96}, {}, {}, "", "", 0, {8, 12, 4, IvRule::kUnique}},
    {"GCM 256 with 16", Spec{kGcm, 36, 128}, {}, {}, "", "", 0, {8, 16, 4, IvRule::kUnique}},
    {"CCM 128 with 8", Spec{kCcm, 19, 64}, {}, {}, "", "", 0, {8, 8, 4, IvRule::kUnique}},
    {"CCM 256 with 12", Spec{kCcm, 35, 96}, {}, {}, "", "", 0, {8, 12, 4, IvRule::kUnique}},
    {"GMAC", Spec{kGmac, 28, 128}, {}, {}, "", "", 0, {8, 16, 4, IvRule::kUnique}},
    {"ChaCha20-Poly1305", Spec{kChaCha, 36, 128}, {}, {}, "", "", 0, {8, 16, 4, IvRule::kUnique}},
    {"counter mode", {}, Spec{"rfc3686(ctr(aes))", 20}, Spec{"sha256", 32, 128},
     "rfc3686(ctr(aes))", "hmac(sha256)", 128, {8, 16, 4, IvRule::kUnique}},
    {"no encryption", {}, Spec{"cipher_null", 0}, Spec{"hmac(sha1)", 20},
     "ecb(cipher_null)", "hmac(sha1)", 96, {0, 12, 4, IvRule::kNone}},
    {"blocks of 8", {}, Spec{"des3_ede", 24}, Spec{"md5", 16},
     "cbc(des3_ede)", "hmac(md5)", 96, {8, 12, 8, IvRule::kUnpredictable}},
    {"default of RIPEMD-160", {}, Spec{"camellia", 32}, Spec{"rmd160", 20},
     "cbc(camellia)", "hmac(rmd160)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"default of SM3", {}, Spec{"sm4", 16}, Spec{"sm3", 32},
     "cbc(sm4)", "hmac(sm3)", 256, {16, 32, 16, IvRule::kUnpredictable}},
    {"default of XCBC", {}, Spec{"aes", 16}, Spec{"xcbc(aes)", 16},
     "cbc(aes)", "xcbc(aes)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"default of CMAC", {}, Spec{"aes", 16}, Spec{"cmac(aes)", 16},
     "cbc(aes)", "cmac(aes)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"default of SHA-1", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha1)", 20},
     "cbc(aes)", "hmac(sha1)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"default of SHA-256 is the kernel's", {}, Spec{"cbc(aes)", 24}, Spec{"hmac(sha256)", 32},
     "cbc(aes)", "hmac(sha256)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"SHA-256 as RFC 4868", {}, Spec{"cbc(aes)", 32}, Spec{"hmac(sha256)", 32, 128},
     "cbc(aes)", "hmac(sha256)", 128, {16, 16, 16, IvRule::kUnpredictable}},
    {"default of SHA-384", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha384)", 48},
     "cbc(aes)", "hmac(sha384)", 192, {16, 24, 16, IvRule::kUnpredictable}},
    {"default of SHA-512", {}, Spec{"cbc(aes)", 16}, Spec{"hmac(sha512)", 64},
     "cbc(aes)", "hmac(sha512)", 256, {16, 32, 16, IvRule::kUnpredictable}},
    {"aliases", {}, Spec{"aes", 16}, Spec{"sha1", 20},
     "cbc(aes)", "hmac(sha1)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"alias of SHA-256", {}, Spec{"aes", 16}, Spec{"sha256", 32},
     "cbc(aes)", "hmac(sha256)", 96, {16, 12, 16, IvRule::kUnpredictable}},
    {"whole digest", {}, Spec{"aes", 16}, Spec{"hmac(sha512)", 64, 512},
     "cbc(aes)", "hmac(sha512)", 512, {16, 64, 16, IvRule::kUnpredictable}},
    {"empty HMAC key", {}, Spec{"aes", 16}, Spec{"sha256", 0, 128},
     "cbc(aes)", "hmac(sha256)", 128, {16, 16, 16, IvRule::kUnpredictable}},
    {"HMAC key longer than a block", {}, Spec{"aes", 16}, Spec{"sha256", 200, 128},
     "cbc(aes)", "hmac(sha256)", 128, {16, 16, 16, IvRule::kUnpredictable}},
    {"shortest ICV", {}, Spec{"aes", 16}, Spec{"sha256", 32, 8},
     "cbc(aes)", "hmac(sha256)", 8, {16, 1, 16, IvRule::kUnpredictable}},
    {"bits that make no whole byte are kept and not sent", {}, Spec{"aes", 16},
     Spec{"sha256", 32, 100},
     "cbc(aes)", "hmac(sha256)", 100, {16, 12, 16, IvRule::kUnpredictable}},
};
// clang-format on

TEST(AlgorithmTest, AcceptsAndFillsIn) {
  for (const Acceptance& wanted : kAcceptances) {
    SCOPED_TRACE(wanted.what);
    CryptoParams params = make(wanted.aead, wanted.cipher, wanted.mac);
    ASSERT_TRUE(resolve(params));
    if (wanted.cipher) {
      EXPECT_EQ(params.cipher->name, wanted.cipher_name);
      EXPECT_EQ(params.mac->name, wanted.mac_name);
      EXPECT_EQ(params.mac->truncation_bits, wanted.truncation_bits);
    }
    for (const auto& backend : testing::esp_backends()) {
      const auto factory = make_sealer_factory(params, backend.backends);
      ASSERT_TRUE(factory);
      const BoxShape shape = (*factory)->shape();
      EXPECT_EQ(shape.iv_size, wanted.shape.iv_size);
      EXPECT_EQ(shape.icv_size, wanted.shape.icv_size);
      EXPECT_EQ(shape.alignment, wanted.shape.alignment);
      EXPECT_EQ(shape.iv_rule, wanted.shape.iv_rule);
      EXPECT_NE((*factory)->make_sealer(false), nullptr);
      EXPECT_NE((*factory)->make_opener(true), nullptr);
    }
  }
}

TEST(AlgorithmTest, KnowsAliases) {
  for (const auto& [alias, name] : {std::pair{"cast5", "cbc(cast5)"},
                                    {"blowfish", "cbc(blowfish)"},
                                    {"des", "cbc(des)"},
                                    {"cbc(cast5)", "cbc(cast5)"}}) {
    ASSERT_NE(find_cipher(alias), nullptr) << alias;
    EXPECT_EQ(find_cipher(alias)->name, name);
  }
  EXPECT_EQ(find_mac("cmac"), nullptr);
}

TEST(AlgorithmTest, ClonesKeysToo) {
  const CryptoParams params = make({}, Spec{"aes", 16}, Spec{"sha256", 32, 128});
  const CryptoParams copy = params.clone();
  EXPECT_FALSE(copy.aead);
  EXPECT_TRUE(std::ranges::equal(copy.cipher->key.bytes(), params.cipher->key.bytes()));
  EXPECT_TRUE(std::ranges::equal(copy.mac->key.bytes(), params.mac->key.bytes()));
  EXPECT_NE(copy.mac->key.bytes().data(), params.mac->key.bytes().data());
  EXPECT_EQ(copy.mac->truncation_bits, 128U);
  EXPECT_EQ(make(Spec{kGcm, 20, 96}, {}, {}).clone().aead->icv_bits, 96U);
}

TEST(AlgorithmTest, KnowsIanaNumbers) {
  EXPECT_EQ(find_aead(kGcm)->transform_id_16, 20);
  EXPECT_EQ(find_cipher("aes")->transform_id, 12);
  EXPECT_EQ(find_mac("sha256")->transform_id, 5);
  EXPECT_EQ(find_aead(kCcm)->transform_id_12, 15);
  EXPECT_EQ(find_aead(kGmac)->transform_id_16, 23);
  EXPECT_EQ(find_aead(kChaCha)->transform_id_16, 28);
  EXPECT_EQ(find_cipher("des3_ede")->transform_id, 3);
  EXPECT_EQ(find_cipher("cipher_null")->transform_id, 11);
  EXPECT_EQ(find_mac("md5")->transform_id, 2);
  EXPECT_EQ(find_mac(""), nullptr);
}

}  // namespace
}  // namespace xfrmfs::engine
