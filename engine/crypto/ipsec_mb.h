// SPDX-License-Identifier: Apache-2.0
// libipsec-mb behind a door without its header: what it offers here, as sealer factories.
//
// A build without the library has ipsec_mb_absent.cc in place of the other ipsec_mb_*.cc.

#pragma once

#include <cstddef>
#include <expected>
#include <memory>
#include <string>

#include "engine/crypto/algorithm.h"

namespace xfrmfs::engine::ipsec_mb {

/// The library, set up for this processor. const members: any thread.
class Library {
 public:
  /// Or a sentence why it cannot be used: not in this build, or a processor without AES
  /// instructions, where its tables are open to the cache's eyes.
  static std::expected<std::shared_ptr<const Library>, std::string> load();

  Library() = default;
  virtual ~Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  /// Null if it lacks the algorithm. The params belong to the row, were validated, and outlive the
  /// factory, as does the library.
  virtual std::unique_ptr<SealerFactory> make_aead_factory(const AeadAlgorithm& algorithm,
                                                           const AeadParams& params) const = 0;
  /// `single` does the runs that are shorter than `shortest_run`.
  virtual std::unique_ptr<SealerFactory> make_etm_factory(
      const CipherAlgorithm& cipher, const CipherParams& cipher_params, const MacAlgorithm& mac,
      const MacParams& mac_params, std::unique_ptr<SealerFactory> single,
      SealAndOpen<std::size_t> shortest_run) const = 0;
  /// Throws if memory is short.
  virtual std::unique_ptr<CryptoLane> make_lane() const = 0;
};

}  // namespace xfrmfs::engine::ipsec_mb
