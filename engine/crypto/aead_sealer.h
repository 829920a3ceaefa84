// SPDX-License-Identifier: Apache-2.0
// Sealers for algorithms that authenticate by themselves, all but CCM:
//
//   AES-GCM             RFC 4106   associated data: header
//   AES-GMAC            RFC 4543   associated data: header | IV 8 | text, which stays
//   clear ChaCha20-Poly1305   RFC 7634   salt 4   associated data: header
//
//   nonce  = salt 4 | IV 8
//   header = SPI 4 | sequence 4, or SPI 4 | high 4 | low 4 with ESN   (RFC 4106 §5)

#pragma once

#include <memory>

#include "engine/crypto/algorithm.h"

namespace xfrmfs::engine {

/// Not for AeadMode::kCcm. `params` belong to the row `algorithm`, were validated, and outlive the
/// factory. Null if the library lacks the cipher.
std::unique_ptr<SealerFactory> make_aead_factory(const AeadAlgorithm& algorithm,
                                                 const AeadParams& params);

}  // namespace xfrmfs::engine
