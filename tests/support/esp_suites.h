// SPDX-License-Identifier: Apache-2.0
// Every combination of algorithms that ESP can have, with keys, and a way to seal what ESP would
// not: text with a forged trailer.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/types.h"
#include "engine/crypto/algorithm.h"
#include "engine/crypto/backend.h"
#include "engine/crypto/iv_source.h"
#include "engine/crypto/sealer.h"

namespace xfrmfs::testing {

/// Of the tests: DES is one of the suites.
inline constexpr engine::CryptoPermissions kLegacyPermitted{.broken_ciphers = true};

struct EspSuite {
  std::string name;             // e.g. "gcm_128_icv16", a valid name of a test
  engine::CryptoParams params;  // resolved
};

/// All of them, always in the same order; none of libcrypto's provider "legacy" if it is missing.
const std::vector<EspSuite>& esp_suites();

/// One way to have the work done.
struct EspBackend {
  std::string name;  // "openssl", "ipsec_mb", a valid name of a test
  engine::CryptoBackends backends;
  std::unique_ptr<engine::CryptoLane> lane;  // for one thread; may be null
};

/// All that this build and this processor have, each doing everything it can.
const std::vector<EspBackend>& esp_backends();

/// Seals any text under an SA's real keys, whatever its trailer says. The text must be a whole
/// number of cipher blocks, as the cipher demands. OpenSSL does it.
class EspForger {
 public:
  EspForger(const engine::CryptoParams& params, bool extended);

  const engine::BoxShape& shape() const { return shape_; }
  /// The whole ESP packet; its IV is zero.
  std::vector<std::byte> forge(engine::Spi spi, engine::SeqNo sequence,
                               std::span<const std::byte> text);

 private:
  engine::BoxShape shape_;
  std::unique_ptr<engine::Sealer> sealer_;
};

/// Hands out the bytes it was given, again and again.
class FixedIvs final : public engine::IvSource {
 public:
  explicit FixedIvs(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  void fill(engine::MutableBytes iv) noexcept override;

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace xfrmfs::testing
