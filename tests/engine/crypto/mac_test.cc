// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/mac.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/crypto/algorithm.h"
#include "tests/support/hex.h"
#include "tests/support/vector_file.h"

namespace xfrmfs::engine {
namespace {

using testing::to_hex;

TEST(MacTest, GivesPublishedValues) {
  std::size_t cases = 0;
  for (const char* file : {"vectors/rfc2202_hmac_sha1.txt", "vectors/rfc4231_hmac_sha2.txt",
                           "vectors/rfc4868_hmac_sha2.txt"}) {
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
  EXPECT_EQ(cases, 7U + 21U + 12U);
}

TEST(MacTest, DoesNotGiveMoreThanTheDigest) {
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
