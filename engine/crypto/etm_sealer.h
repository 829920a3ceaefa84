// SPDX-License-Identifier: Apache-2.0
// Sealers that encrypt, then authenticate what was encrypted: a cipher in CBC (RFC 2451, RFC 3602,
// RFC 4312), AES in counter mode (RFC 3686), or none (RFC 2410), with a MAC.
//
//   counter block = nonce 4, the end of the key | IV 8 | block number 4, from 1   (RFC 3686 §4)
//
// The MAC covers SPI, sequence number, IV and ciphertext, and behind them, with extended sequence
// numbers, the high half that is not sent (RFC 4303 §2.2.1, §3.3.2.1).

#pragma once

#include <memory>

#include "engine/crypto/algorithm.h"

namespace xfrmfs::engine {

/// The params belong to the rows, were validated, and outlive the factory. Null if the library
/// lacks the cipher.
std::unique_ptr<SealerFactory> make_etm_factory(const CipherAlgorithm& cipher,
                                                const CipherParams& cipher_params,
                                                const MacAlgorithm& mac,
                                                const MacParams& mac_params);

}  // namespace xfrmfs::engine
