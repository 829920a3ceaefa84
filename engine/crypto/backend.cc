// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "engine/crypto/algorithm.h"
#include "engine/crypto/ipsec_mb.h"
#include "engine/crypto/self_test.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kLongRun = 32;

std::size_t index_of(Backend backend) {
  return static_cast<std::size_t>(backend);
}

std::optional<Backend> only_one(BackendPreference preference) {
  switch (preference) {
    case BackendPreference::kOpenssl:
      return Backend::kOpenssl;
    case BackendPreference::kIpsecMb:
      return Backend::kIpsecMb;
    case BackendPreference::kAuto:
      break;
  }
  return std::nullopt;
}

std::uint64_t sum(const BackendTrial& trial) {
  return std::uint64_t{trial.nanoseconds.seal} + trial.nanoseconds.open;
}

/// One library with one algorithm. `backends` has it do everything.
BackendTrial try_out(const TestedAlgorithm& algorithm, const CryptoBackends& backends,
                     CryptoLane* lane, SelfTest& test) {
  for (const KnownAnswer& answer : algorithm.answers) {
    const CryptoParams params = algorithm.params(answer);
    const auto factory = make_sealer_factory(params, backends);
    if (!factory || (*factory)->make_sealer(false) == nullptr) {
      return {.state = BackendTrial::State::kNotOffered};
    }
    if (!test.passes(**factory, lane, answer)) return {.state = BackendTrial::State::kWrong};
  }
  if (!algorithm.raced) return {.state = BackendTrial::State::kRight};
  const CryptoParams params = algorithm.params(algorithm.answers.front());
  return {.state = BackendTrial::State::kRight,
          .nanoseconds = test.time(**make_sealer_factory(params, backends), lane, kLongRun)};
}

/// From how many packets on `many`, for which any number up to its width takes as long as one,
/// beats `one`.
SealAndOpen<std::size_t> shortest_run(const TestedAlgorithm& algorithm, const CryptoBackends& one,
                                      const CryptoBackends& many, CryptoLane* lane,
                                      SelfTest& test) {
  const CryptoParams params = algorithm.params(algorithm.answers.front());
  const auto factory = make_sealer_factory(params, many);
  if (!(*factory)->interleaves()) return {1, 1};
  const auto alone = test.time(**make_sealer_factory(params, one), nullptr, 1);
  const auto any = test.time(**factory, lane, 1);
  return {any.seal / alone.seal + 1, any.open / alone.open + 1};
}

}  // namespace

std::string_view name_of(Backend backend) {
  return backend == Backend::kOpenssl ? "openssl" : "ipsec-mb";
}

std::optional<BackendPreference> parse_backend_preference(std::string_view text) {
  if (text == "auto") return BackendPreference::kAuto;
  if (text == name_of(Backend::kOpenssl)) return BackendPreference::kOpenssl;
  if (text == name_of(Backend::kIpsecMb)) return BackendPreference::kIpsecMb;
  return std::nullopt;
}

CryptoBackends::CryptoBackends() {
  std::ranges::transform(tested_algorithms(), table_.begin(), [](const TestedAlgorithm& tested) {
    return BackendChoice{.algorithm = tested.label};
  });
}

CryptoBackends CryptoBackends::select(BackendPreference preference,
                                      const CryptoPermissions& permissions) {
  using State = BackendTrial::State;
  std::array<CryptoBackends, kBackends.size()> candidates;  // each does everything
  for (CryptoBackends& all : candidates) all.permit({.broken_ciphers = true});
  const std::optional<Backend> wanted = only_one(preference);
  std::unique_ptr<CryptoLane> lane;
  bool available = false;
  if (wanted != Backend::kOpenssl) {
    auto library = ipsec_mb::Library::load();
    if (!library && wanted == Backend::kIpsecMb) {
      throw std::system_error(
          ENOTSUP, std::generic_category(),
          fmt::format("cryptographic library \"{}\": {}", name_of(*wanted), library.error()));
    }
    if (library) {
      CryptoBackends& all = candidates[index_of(Backend::kIpsecMb)];
      all.ipsec_mb_ = std::move(*library);
      for (BackendChoice& row : all.table_) row.chosen = Backend::kIpsecMb;
      lane = all.make_lane();
      available = true;
    }
  }

  CryptoBackends selected;
  selected.preference_ = preference;
  selected.permissions_ = permissions;
  SelfTest test;
  for (std::size_t i = 0; i < kAlgorithms; ++i) {
    BackendChoice& row = selected.table_[i];
    const TestedAlgorithm& algorithm = tested_algorithms()[i];
    row.chosen.reset();
    for (const Backend backend : kBackends) {
      BackendTrial& trial = row.trials[index_of(backend)];
      if (backend == Backend::kIpsecMb && !available) {
        if (wanted != Backend::kOpenssl) trial.state = State::kNotOffered;
        continue;
      }
      trial = try_out(algorithm, candidates[index_of(backend)], lane.get(), test);
      if (trial.state != State::kRight) continue;
      if (!row.chosen || backend == wanted ||
          (row.chosen != wanted && sum(trial) < sum(row.trials[index_of(*row.chosen)]))) {
        row.chosen = backend;
      }
    }
    row.forced = wanted && row.chosen == wanted;
    if (row.chosen != Backend::kIpsecMb) continue;
    selected.ipsec_mb_ = candidates[index_of(Backend::kIpsecMb)].ipsec_mb_;
    if (!row.forced && row.trials[index_of(Backend::kOpenssl)].state == State::kRight) {
      row.shortest_run = shortest_run(algorithm, candidates[index_of(Backend::kOpenssl)],
                                      candidates[index_of(Backend::kIpsecMb)], lane.get(), test);
    }
  }
  return selected;
}

std::unique_ptr<CryptoLane> CryptoBackends::make_lane() const {
  return ipsec_mb_ != nullptr ? ipsec_mb_->make_lane() : nullptr;
}

BackendUse CryptoBackends::use_for_aead(std::string_view name, std::size_t key_size) const {
  for (std::size_t i = 0; i < kAlgorithms; ++i) {
    const TestedAlgorithm& tested = tested_algorithms()[i];
    if (tested.mac.empty() && tested.cipher == name &&
        tested.answers.front().key_size == key_size) {
      return {table_[i].chosen, table_[i].shortest_run};
    }
  }
  return {};
}

BackendUse CryptoBackends::use_for_pair(std::string_view cipher, std::string_view mac) const {
  BackendUse others{.backend = Backend::kOpenssl};
  for (std::size_t i = 0; i < kAlgorithms; ++i) {
    const TestedAlgorithm& tested = tested_algorithms()[i];
    const bool same_cipher = tested.cipher == cipher;
    const bool same_mac = tested.mac == mac;
    if (same_cipher && same_mac) return {table_[i].chosen, table_[i].shortest_run};
    const BackendTrial& trial = table_[i].trials[index_of(Backend::kOpenssl)];
    if ((same_cipher || same_mac) && trial.state == BackendTrial::State::kWrong) {
      others.backend.reset();
    }
  }
  return others;
}

}  // namespace xfrmfs::engine
