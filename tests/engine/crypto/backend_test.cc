// SPDX-License-Identifier: Apache-2.0
// Which library works for whom, and that a wrong one is found out.

#include "engine/crypto/backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "engine/crypto/algorithm.h"
#include "engine/crypto/self_test.h"
#include "tests/support/esp_suites.h"

namespace xfrmfs::engine {
namespace {

using State = BackendTrial::State;

const BackendTrial& trial(const BackendChoice& row, Backend backend) {
  return row.trials[static_cast<std::size_t>(backend)];
}

const TestedAlgorithm& tested(const BackendChoice& row) {
  return *std::ranges::find(tested_algorithms(), row.algorithm, &TestedAlgorithm::label);
}

bool raced(const BackendChoice& row) {
  return tested(row).raced;
}

bool needs_legacy_provider(const BackendChoice& row) {
  const CipherAlgorithm* const cipher = find_cipher(tested(row).cipher);
  return cipher != nullptr && cipher->standing != CipherStanding::kCurrent;
}

bool has_ipsec_mb() {
  return testing::esp_backends().size() > 1;
}

TEST(BackendTest, ReadsPreferences) {
  EXPECT_EQ(parse_backend_preference("auto"), BackendPreference::kAuto);
  EXPECT_EQ(parse_backend_preference("openssl"), BackendPreference::kOpenssl);
  EXPECT_EQ(parse_backend_preference("ipsec-mb"), BackendPreference::kIpsecMb);
  EXPECT_EQ(parse_backend_preference(""), std::nullopt);
  EXPECT_EQ(parse_backend_preference("OpenSSL"), std::nullopt);
}

TEST(BackendTest, IsOpensslUnlessSelected) {
  const CryptoBackends backends;
  EXPECT_EQ(backends.make_lane(), nullptr);
  for (const BackendChoice& row : backends.table()) {
    EXPECT_FALSE(row.algorithm.empty());
    EXPECT_EQ(row.chosen, Backend::kOpenssl);
    EXPECT_FALSE(row.forced);
    for (const Backend backend : kBackends) EXPECT_EQ(trial(row, backend).state, State::kNotTried);
  }
}

TEST(BackendTest, TakesTheFasterOfThoseThatAreRight) {
  const auto backends = CryptoBackends::select(BackendPreference::kAuto);
  EXPECT_EQ(backends.preference(), BackendPreference::kAuto);
  for (const BackendChoice& row : backends.table()) {
    SCOPED_TRACE(row.algorithm);
    const BackendTrial& openssl = trial(row, Backend::kOpenssl);
    const BackendTrial& ipsec_mb = trial(row, Backend::kIpsecMb);
    EXPECT_FALSE(row.forced);
    if (openssl.state != State::kRight) {  // nothing else may be missing
      EXPECT_TRUE(needs_legacy_provider(row));
      EXPECT_EQ(openssl.state, State::kNotOffered);
      EXPECT_EQ(row.chosen, std::nullopt);
      continue;
    }
    EXPECT_EQ(openssl.nanoseconds.seal > 0, raced(row));
    EXPECT_EQ(openssl.nanoseconds.open > 0, raced(row));
    EXPECT_GE(row.shortest_run.seal, 1U);
    EXPECT_GE(row.shortest_run.open, 1U);
    if (!has_ipsec_mb() || !raced(row)) {
      EXPECT_EQ(ipsec_mb.state, State::kNotOffered);
      EXPECT_EQ(row.chosen, Backend::kOpenssl);
      continue;
    }
    EXPECT_EQ(ipsec_mb.state, State::kRight);
    const bool faster = ipsec_mb.nanoseconds.seal + ipsec_mb.nanoseconds.open <
                        openssl.nanoseconds.seal + openssl.nanoseconds.open;
    EXPECT_EQ(row.chosen, faster ? Backend::kIpsecMb : Backend::kOpenssl);
  }
}

TEST(BackendTest, CanBeForcedToOpenssl) {
  const auto backends = CryptoBackends::select(BackendPreference::kOpenssl);
  EXPECT_EQ(backends.make_lane(), nullptr);
  for (const BackendChoice& row : backends.table()) {
    EXPECT_EQ(trial(row, Backend::kIpsecMb).state, State::kNotTried);
    if (needs_legacy_provider(row)) continue;
    EXPECT_EQ(row.chosen, Backend::kOpenssl);
    EXPECT_TRUE(row.forced);
    EXPECT_EQ(trial(row, Backend::kOpenssl).state, State::kRight);
  }
}

TEST(BackendTest, CanBeForcedToIpsecMbOrSaysWhyNot) {
  if (has_ipsec_mb()) {
    const auto backends = CryptoBackends::select(BackendPreference::kIpsecMb);
    EXPECT_NE(backends.make_lane(), nullptr);
    for (const BackendChoice& row : backends.table()) {
      EXPECT_EQ(row.forced, raced(row));
      EXPECT_EQ(row.shortest_run.seal, 1U);
      if (needs_legacy_provider(row)) continue;
      EXPECT_EQ(row.chosen, raced(row) ? Backend::kIpsecMb : Backend::kOpenssl);
    }
    return;
  }
  try {
    std::ignore = CryptoBackends::select(BackendPreference::kIpsecMb);
    FAIL() << "there is no such library";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENOTSUP);
    EXPECT_NE(std::string(error.what()).find("cryptographic library \"ipsec-mb\": "),
              std::string::npos);
  }
}

TEST(BackendTest, KnowsWhoDoesEverySuite) {
  const CryptoBackends backends;
  for (const auto& suite : testing::esp_suites()) {
    const CryptoParams& params = suite.params;
    const BackendUse use = params.aead
                               ? backends.use_for_aead(params.aead->name, params.aead->key.size())
                               : backends.use_for_pair(params.cipher->name, params.mac->name);
    EXPECT_EQ(use.backend, Backend::kOpenssl) << suite.name;
  }
  EXPECT_EQ(backends.use_for_aead("rfc4106(gcm(aes))", 21).backend, std::nullopt);
}

/// No algorithm is used that was never tried.
TEST(BackendTest, HasARowForEveryAlgorithm) {
  const auto tested = [](std::string_view name) {
    return std::ranges::any_of(tested_algorithms(), [&](const TestedAlgorithm& row) {
      return row.cipher == name || row.mac == name;
    });
  };
  for (const auto& suite : testing::esp_suites()) {
    const CryptoParams& params = suite.params;
    EXPECT_TRUE(!params.aead || tested(params.aead->name)) << suite.name;
    EXPECT_TRUE(!params.cipher || tested(params.cipher->name)) << suite.name;
    EXPECT_TRUE(!params.mac || tested(params.mac->name)) << suite.name;
  }
}

/// Run a second time where libcrypto finds no provider (CMakeLists.txt).
TEST(LegacyProviderTest, IsMissedByNoOtherAlgorithm) {
  const char* const folder = std::getenv("OPENSSL_MODULES");
  const bool hidden = folder != nullptr && std::string(folder) == "/nonexistent";
  const auto backends =
      CryptoBackends::select(BackendPreference::kOpenssl, testing::kLegacyPermitted);
  for (const BackendChoice& row : backends.table()) {
    SCOPED_TRACE(row.algorithm);
    const TestedAlgorithm& algorithm = tested(row);
    const CryptoParams params = algorithm.params(algorithm.answers.front());
    const auto factory = make_sealer_factory(params, backends);
    const bool offered = row.chosen == Backend::kOpenssl;
    EXPECT_EQ(factory.has_value(), offered);
    EXPECT_TRUE(offered || needs_legacy_provider(row));
    if (offered) {
      EXPECT_FALSE(hidden && needs_legacy_provider(row));
      continue;
    }
    EXPECT_EQ(trial(row, Backend::kOpenssl).state, State::kNotOffered);
    EXPECT_EQ(factory.error().error, ENOSYS);
    EXPECT_EQ(factory.error().message,
              "algorithm \"" + std::string(algorithm.cipher) +
                  "\": not offered by the cryptographic library, whose provider \"legacy\" cannot "
                  "be loaded");
  }
}

/// What may be wrong with a library.
enum class Defect {
  kNone,
  kFails,
  kText,
  kIcv,
  kShortRuns,
  kLongRuns,
  kSource,
  kAcceptsAnything,
  kMisreads,
};

class DefectiveSealer final : public Sealer {
 public:
  DefectiveSealer(std::unique_ptr<Sealer> good, const BoxShape& shape, Defect defect)
      : good_(std::move(good)), shape_(shape), defect_(defect) {}

  void seal(std::span<Box> run, CryptoLane* lane) noexcept override {
    for (Box& box : run) {
      if (defect_ == Defect::kSource) box.source = nullptr;
    }
    good_->seal(run, lane);
    Box& box = run.back();
    std::byte* const text = box.packet + 8 + shape_.iv_size;
    if (defect_ == Defect::kFails) box.result = BoxResult::kFailed;
    if (defect_ == Defect::kText) text[3] ^= std::byte{1};
    if (defect_ == Defect::kIcv) text[box.text_size + shape_.icv_size - 1] ^= std::byte{0x80};
    if (defect_ == Defect::kShortRuns && run.size() == 1) text[0] ^= std::byte{1};
    if (defect_ == Defect::kLongRuns && run.size() > 16) text[0] ^= std::byte{1};
  }
  void open(std::span<Box> run, CryptoLane* lane) noexcept override {
    good_->open(run, lane);
    for (Box& box : run) {
      if (defect_ == Defect::kAcceptsAnything) box.result = BoxResult::kDone;
    }
    if (defect_ == Defect::kMisreads) run.back().packet[8 + shape_.iv_size] ^= std::byte{1};
  }

 private:
  const std::unique_ptr<Sealer> good_;
  const BoxShape shape_;
  const Defect defect_;
};

class DefectiveFactory final : public SealerFactory {
 public:
  DefectiveFactory(const SealerFactory& good, Defect defect) : good_(good), defect_(defect) {}

  BoxShape shape() const override { return good_.shape(); }
  std::unique_ptr<Sealer> make_sealer(bool extended) const override {
    return std::make_unique<DefectiveSealer>(good_.make_sealer(extended), shape(), defect_);
  }
  std::unique_ptr<Sealer> make_opener(bool extended) const override {
    return std::make_unique<DefectiveSealer>(good_.make_opener(extended), shape(), defect_);
  }

 private:
  const SealerFactory& good_;
  const Defect defect_;
};

TEST(SelfTestTest, FindsEveryDefect) {
  SelfTest test;
  for (const TestedAlgorithm& algorithm : tested_algorithms()) {
    for (const KnownAnswer& answer : algorithm.answers) {
      const CryptoParams params = algorithm.params(answer);
      const auto factory = make_sealer_factory(params, testing::esp_backends().front().backends);
      if (!factory) continue;  // libcrypto without its provider "legacy"
      for (const Defect defect :
           {Defect::kNone, Defect::kFails, Defect::kText, Defect::kIcv, Defect::kShortRuns,
            Defect::kLongRuns, Defect::kSource, Defect::kAcceptsAnything, Defect::kMisreads}) {
        EXPECT_EQ(test.passes(DefectiveFactory(**factory, defect), nullptr, answer),
                  defect == Defect::kNone)
            << algorithm.label << ", defect " << static_cast<int>(defect);
      }
    }
  }
}

/// Another key's packets are no known answer.
TEST(SelfTestTest, KnowsItsAnswers) {
  SelfTest test;
  for (const TestedAlgorithm& algorithm : tested_algorithms()) {
    const KnownAnswer& answer = algorithm.answers.front();
    const CryptoParams params = algorithm.params(answer);
    std::string other(answer.digest);
    other.back() = other.back() == '0' ? '1' : '0';
    const auto factory = make_sealer_factory(params, testing::esp_backends().front().backends);
    if (!factory) continue;  // libcrypto without its provider "legacy"
    EXPECT_FALSE(test.passes(**factory, nullptr, {answer.key_size, other}));
  }
}

}  // namespace
}  // namespace xfrmfs::engine
