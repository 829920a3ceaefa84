// SPDX-License-Identifier: Apache-2.0
// CryptoBackends: which library does the work of which algorithm in this engine.
//
// Every algorithm can be done by OpenSSL and many of them by libipsec-mb (github.com/intel/
// intel-ipsec-mb), which is faster where the processor has wide vectors. Which one is faster here
// is not guessed but measured at start, after each has given a known answer.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "engine/crypto/sealer.h"

namespace xfrmfs::engine {

namespace ipsec_mb {
class Library;
}

enum class Backend : std::uint8_t { kOpenssl, kIpsecMb };
inline constexpr std::array kBackends = {Backend::kOpenssl, Backend::kIpsecMb};
std::string_view name_of(Backend backend);  // "openssl", "ipsec-mb"

/// What is refused unless somebody asked for it.
struct CryptoPermissions {
  bool broken_ciphers = false;   // DES: its keys can be searched
  bool unauthenticated = false;  // encryption without integrity (CVE-2005-0039)
};

/// Whom to ask: the fastest, or one library only.
enum class BackendPreference : std::uint8_t { kAuto, kOpenssl, kIpsecMb };
/// "auto", "openssl", "ipsec-mb".
std::optional<BackendPreference> parse_backend_preference(std::string_view text);

/// One number for each of the two things a sealer does.
template <class T>
struct SealAndOpen {
  T seal{};
  T open{};
};

/// How one library did with one algorithm.
struct BackendTrial {
  enum class State : std::uint8_t {
    kNotTried,    // another one was asked for
    kNotOffered,  // the library is missing or lacks the algorithm
    kWrong,       // it gave a wrong answer and is never used
    kRight,
  };
  State state = State::kNotTried;
  /// Per packet of 1408 bytes in runs of 32; 0: not measured.
  SealAndOpen<std::uint32_t> nanoseconds{};
};

/// A row of the table.
struct BackendChoice {
  std::string_view algorithm;  // e.g. "aes-gcm-128", "aes-cbc hmac(sha256)"
  /// Nobody: no library gave the right answer.
  std::optional<Backend> chosen = Backend::kOpenssl;
  bool forced = false;  // chosen because it was asked for
  std::array<BackendTrial, kBackends.size()> trials{};
  /// Runs shorter than this are OpenSSL's all the same: working on many packets at a time is slow
  /// for a few.
  SealAndOpen<std::size_t> shortest_run{1, 1};
};

/// Who does the work of an SA.
struct BackendUse {
  std::optional<Backend> backend;  // nobody: there is no right one
  SealAndOpen<std::size_t> shortest_run{1, 1};
};

/// A value; any number of them in a process. const members: any thread.
class CryptoBackends {
 public:
  static constexpr std::size_t kAlgorithms = 27;

  /// OpenSSL for everything, nothing tried.
  CryptoBackends();
  /// Tries and measures; some tens of milliseconds. Throws std::system_error if one library only
  /// was asked for and it is not there. An algorithm that it lacks goes to OpenSSL.
  static CryptoBackends select(BackendPreference preference,
                               const CryptoPermissions& permissions = {});

  const CryptoPermissions& permissions() const { return permissions_; }
  void permit(const CryptoPermissions& permissions) { permissions_ = permissions; }

  std::span<const BackendChoice> table() const { return table_; }
  BackendPreference preference() const { return preference_; }

  /// For one thread in one direction; null if no chosen library needs any.
  std::unique_ptr<CryptoLane> make_lane() const;

  /// Who does an AEAD with a key of this size, salt included: as its row says.
  BackendUse use_for_aead(std::string_view name, std::size_t key_size) const;
  /// Who does a cipher with this MAC: as the row of the pair says. A pair without a row is
  /// OpenSSL's if it was not wrong in any other row about one of the two.
  BackendUse use_for_pair(std::string_view cipher, std::string_view mac) const;
  /// Null unless a row chose it.
  const ipsec_mb::Library* ipsec_mb() const { return ipsec_mb_.get(); }

 private:
  std::array<BackendChoice, kAlgorithms> table_;
  BackendPreference preference_ = BackendPreference::kOpenssl;
  CryptoPermissions permissions_;
  std::shared_ptr<const ipsec_mb::Library> ipsec_mb_;
};

}  // namespace xfrmfs::engine
