// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/algorithm.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <string>
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
    {"cipher unknown", {}, Spec{"cbc(des)", 8}, Spec{"hmac(sha1)", 20}, ENOSYS,
     "Requested CRYPT algorithm not found"},
    {"MAC is looked up before cipher", {}, Spec{"cbc(x)", 8}, Spec{"hmac(x)", 20}, ENOSYS,
     "Requested AUTH algorithm not found"},
    {"truncation is looked at before cipher", {}, Spec{"cbc(x)", 8}, Spec{"sha1", 20, 200}, EINVAL,
     kBadTruncation},

    {"authentication only", {}, {}, Spec{"hmac(sha256)", 32}, EINVAL,
     "ESP: AEAD or CRYPT must be provided"},
    {"encryption only", {}, Spec{"aes", 16}, {}, EINVAL,
     "algorithm \"cbc(aes)\": encryption without integrity is refused, AUTH or AUTH_TRUNC is "
     "missing"},
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
  EXPECT_EQ(find_mac(""), nullptr);
}

}  // namespace
}  // namespace xfrmfs::engine
