// SPDX-License-Identifier: Apache-2.0
// Sealers for AES-CCM in ESP (RFC 4309), made of libcrypto's counter mode and a CbcMac (RFC 3610).
//
//   nonce           = salt 3 | IV 8
//   associated data = SPI 4 | sequence 4, or SPI 4 | high 4 | low 4 with ESN
//   counter block   = 3 | nonce 11 | block number 4; number 0 covers the ICV, the text follows
//   MAC             over  flags 1 | nonce 11 | length of the text 4,
//                         length of the associated data 2 | associated data | zeros,
//                         text | zeros
//
// libcrypto has CCM, but allocates when it finds a wrong ICV: anybody could make it.

#pragma once

#include <memory>

#include "engine/crypto/algorithm.h"

namespace xfrmfs::engine {

/// As make_aead_factory().
std::unique_ptr<SealerFactory> make_ccm_factory(const AeadAlgorithm& algorithm,
                                                const AeadParams& params);

}  // namespace xfrmfs::engine
