// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/mac.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "engine/crypto/algorithm.h"
#include "engine/crypto/sm3.h"
#include "tests/support/hex.h"
#include "tests/support/vector_file.h"

namespace xfrmfs::engine {
namespace {

using testing::to_hex;

TEST(MacTest, GivesPublishedValues) {
  std::size_t cases = 0;
  for (const char* file : {"vectors/rfc2202_hmac_sha1.txt", "vectors/rfc4231_hmac_sha2.txt",
                           "vectors/rfc4868_hmac_sha2.txt", "vectors/rfc2202_hmac_md5.txt",
                           "vectors/rfc2286_hmac_rmd160.txt", "vectors/rfc3566_xcbc_aes.txt",
                           "vectors/rfc4493_cmac_aes.txt"}) {
    for (const auto& vector : testing::read_vectors(file)) {
      SCOPED_TRACE(std::string(file) + " case " + vector.text("case") + " " +
                   vector.text("algorithm"));
      const auto mac = find_mac(vector.text("algorithm"))->make(vector.bytes("key"));
      ASSERT_NE(mac, nullptr);
      const auto data = vector.bytes("data");
      std::vector<std::byte> icv(vector.bytes("icv").size());
      for (std::size_t cut = 0; cut <= data.size(); ++cut) {  // the halves are one message
        const Bytes whole(data);
        ASSERT_TRUE(mac->compute(whole.first(cut), whole.subspan(cut), icv));
        ASSERT_EQ(to_hex(icv), vector.text("icv"));
      }
      ++cases;
    }
  }
  EXPECT_EQ(cases, 7U + 21U + 12U + 7U + 7U + 7U + 4U);
}

/// A key is hashed first only if it is longer than a block: one byte either way. The values are
/// those of Python's hmac module for a key of letters a and the message "edge".
TEST(MacTest, HashesKeysOnlyAboveABlock) {
  struct Case {
    const char* algorithm;
    std::size_t key_size;
    const char* icv;
  };
  for (const Case& c : {Case{"hmac(sha1)", 63, "671f1ffb8f437079da4f858ffd0476bfc90b4031"},
                        Case{"hmac(sha1)", 64, "c0a991917c8e57b4e9879543fce5556e96f5ade1"},
                        Case{"hmac(sha1)", 65, "fd0e885a35a29a6566f5919fac97f1aac60ca65b"},
                        Case{"hmac(sha256)", 63,
                             "49c7791f408500cfb0c82bdeeb0ba4f21af76bb9626eb50b17762941e529d3c4"},
                        Case{"hmac(sha256)", 64,
                             "0163adff1bf23070952df6d3687d0169f783a273484518d54d10466fa071ef7c"},
                        Case{"hmac(sha256)", 65,
                             "c215ffd9a4ee02953be969eae253d90f0d114299c1758522cad44a34637fb539"},
                        Case{"hmac(sha384)", 127,
                             "18eced8ff9fb3ab98116f887bb5ec3452de1881d0fe4816fc319f8330f391462"
                             "9f7fe1d1e12d99aa0bbade576e406cd7"},
                        Case{"hmac(sha384)", 128,
                             "9a6a38a47f6a54a54ee0b13ccba24c879aae7d2e23c19c8645f266a68d699610"
                             "9fa6df14d66346ae5510aa9372274c09"},
                        Case{"hmac(sha384)", 129,
                             "ac45e60a84cb538eac6716c6474ffc48ed373713a39919a611df1aa2f4009c4d"
                             "7389fe7d384f387671d5f61c7108fd20"},
                        Case{"hmac(sha512)", 127,
                             "0a5c72f479b1be014f98181182670c5bbda32c59641f598f684d5949219494c1"
                             "5c23d07ca3e003b831c8c76e0771aa3794554793a4dd5449b465dbc1593db32a"},
                        Case{"hmac(sha512)", 128,
                             "92a117b646088d58833dfc0fa9135b6b0ca123cf5a665203be7d597638ab072e"
                             "baa4dcf8f198bc6df0e87dcf25fed4ff11654bd417e1cc6ce0708d9f2dfd18ef"},
                        Case{"hmac(sha512)", 129,
                             "d7615099d34129113c957fd5993d8bb1d4062b755d49d51d802b3e29174abf6d"
                             "a7d46a6ef79518a4adb104a8ac50854608f5999644d5997247bbe6f250af89df"}}) {
    SCOPED_TRACE(std::string(c.algorithm) + " " + std::to_string(c.key_size));
    const std::vector<std::byte> key(c.key_size, std::byte{'a'});
    const auto mac = find_mac(c.algorithm)->make(key);
    std::vector<std::byte> icv(testing::from_hex(c.icv).size());
    ASSERT_TRUE(mac->compute(testing::from_hex("65646765"), {}, icv));
    EXPECT_EQ(to_hex(icv), c.icv);
  }
}

std::string sm3(Bytes data, std::size_t cut) {
  Sm3State state;
  std::array<unsigned char, kSm3Digest> digest;
  sm3_init(&state);
  sm3_update(&state, data.data(), cut);
  sm3_update(&state, data.data() + cut, data.size() - cut);
  sm3_final(digest.data(), &state);
  return to_hex(std::as_bytes(std::span(digest)));
}

/// GB/T 32905 appendix A.
TEST(Sm3Test, GivesPublishedDigests) {
  EXPECT_EQ(sm3(testing::from_hex("616263"), 1),
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
  std::string text;
  for (int i = 0; i < 16; ++i) text += "61626364";
  EXPECT_EQ(sm3(testing::from_hex(text), 7),
            "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732");
}

/// Where padding needs a block of its own and where it does not, as libcrypto has it.
TEST(Sm3Test, AgreesWithLibcryptoOnAllLengths) {
  std::array<unsigned char, kSm3Digest> wanted;
  for (std::size_t size = 0; size <= 200; ++size) {
    std::vector<std::byte> data(size);
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<std::byte>(i * 5 + size);
    ASSERT_EQ(EVP_Digest(data.data(), size, wanted.data(), nullptr, EVP_sm3(), nullptr), 1);
    for (const std::size_t cut : {std::size_t{0}, size / 3, size}) {
      ASSERT_EQ(sm3(data, cut), to_hex(std::as_bytes(std::span(wanted)))) << size;
    }
  }
}

TEST(MacTest, DoesNotGiveMoreThanTheDigest) {
  for (const char* const name : {"xcbc(aes)", "cmac(aes)"}) {
    const auto mac = find_mac(name)->make(std::vector<std::byte>(16));
    std::vector<std::byte> out(17);
    EXPECT_FALSE(mac->compute({}, {}, out));
    EXPECT_EQ(find_mac(name)->make(std::vector<std::byte>(15)), nullptr);
  }
  std::vector<std::byte> byte(1);
  EXPECT_FALSE(make_no_mac({})->compute({}, {}, byte));
  EXPECT_TRUE(make_no_mac({})->compute(byte, byte, {}));

  const auto mac = make_hmac_sha256({});
  std::vector<std::byte> out(33);
  EXPECT_FALSE(mac->compute({}, {}, out));
  out.resize(32);
  EXPECT_TRUE(mac->compute({}, {}, out));
  // HMAC-SHA256 of nothing under the empty key.
  EXPECT_EQ(to_hex(out), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

}  // namespace
}  // namespace xfrmfs::engine
