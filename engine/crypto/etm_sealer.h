// SPDX-License-Identifier: Apache-2.0
// Sealers that encrypt, then authenticate what was encrypted: AES-CBC (RFC 3602) with a MAC.
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
