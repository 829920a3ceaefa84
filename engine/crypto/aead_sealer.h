// SPDX-License-Identifier: Apache-2.0
// Sealers for ciphers that authenticate by themselves: AES-GCM in ESP, RFC 4106.
//
//   nonce            = salt 4 | IV 8                          (RFC 4106 §4)
//   associated data  = SPI 4 | sequence 4, or SPI 4 | high 4 | low 4 with ESN   (§5)

#pragma once

#include <memory>

#include "engine/crypto/algorithm.h"

namespace xfrmfs::engine {

/// `params` belong to the row `algorithm`, were validated, and outlive the factory. Null if the
/// library lacks the cipher.
std::unique_ptr<SealerFactory> make_aead_factory(const AeadAlgorithm& algorithm,
                                                 const AeadParams& params);

}  // namespace xfrmfs::engine
