// SPDX-License-Identifier: Apache-2.0
// The table of algorithms: kernel name, sizes, numbers, and how to build a Sealer.
//
// Names, key sizes and defaults are those that `ip xfrm` and IKE daemons send. One row per
// algorithm; everything that depends on which one it is asks the row.

#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/control_error.h"
#include "engine/base/secret.h"
#include "engine/crypto/backend.h"
#include "engine/crypto/mac.h"
#include "engine/crypto/sealer.h"

namespace xfrmfs::engine {

/// AEAD, RFC 4106 and kin: one key (salt at its end), one ICV.
struct AeadAlgorithm {
  std::string_view name;                    // canonical, e.g. "rfc4106(gcm(aes))"
  std::span<const std::uint8_t> key_sizes;  // bytes, salt included
  std::uint8_t salt_size;
  std::span<const std::uint8_t> icv_sizes;  // bytes
  std::uint8_t iv_size;
  /// IANA ESP transform id for an ICV of 8, 12, 16 bytes: what old listings print.
  std::uint8_t transform_id_8, transform_id_12, transform_id_16;
  std::string_view library_mode;  // libcrypto's cipher is "AES-<key bits>-<this>"
};

/// A cipher that needs a MAC beside it.
struct CipherAlgorithm {
  std::string_view name;                    // canonical, e.g. "cbc(aes)"
  std::string_view alias;                   // also accepted, e.g. "aes"
  std::span<const std::uint8_t> key_sizes;  // bytes
  std::uint8_t block_size;
  std::uint8_t iv_size;
  std::uint8_t transform_id;      // IANA
  std::string_view library_mode;  // libcrypto's cipher is "AES-<key bits>-<this>"
};

struct MacAlgorithm {
  std::string_view name;  // canonical, e.g. "hmac(sha256)"
  std::string_view alias;
  std::uint8_t digest_size;                 // bytes, untruncated
  std::uint8_t default_truncation;          // bytes
  std::uint8_t transform_id;                // IANA AH transform id
  std::unique_ptr<Mac> (*make)(Bytes key);  // null only if the library refuses the key
};

/// By canonical name or alias; null if there is no such row.
const AeadAlgorithm* find_aead(std::string_view name);
const CipherAlgorithm* find_cipher(std::string_view name);
const MacAlgorithm* find_mac(std::string_view name);

/// What an SA was configured with. Names are canonical, and the table's own, after resolve(); until
/// then they are views of whatever they were read from.
struct AeadParams {
  std::string_view name;
  Secret key;  // salt included
  std::uint32_t icv_bits = 0;
};
struct CipherParams {
  std::string_view name;
  Secret key;
};
struct MacParams {
  std::string_view name;
  Secret key;
  std::uint32_t truncation_bits = 0;  // 0: the default, filled in by resolve()
};

struct CryptoParams {
  std::optional<AeadParams> aead;
  std::optional<CipherParams> cipher;
  std::optional<MacParams> mac;

  CryptoParams clone() const;
};

/// Names made canonical, defaults filled in, everything checked that can be checked without a key
/// schedule; in the kernel's order and with its errors. Nothing changes on failure.
std::expected<void, ControlError> resolve(CryptoParams& params);

/// Builds the sealers of an SA. Made once per SA, used on the control thread only.
class SealerFactory {
 public:
  virtual ~SealerFactory() = default;
  virtual BoxShape shape() const = 0;
  /// True if its sealers work on several boxes of a run at a time: no box may then overlap another
  /// one's source.
  virtual bool interleaves() const { return false; }
  /// True if one sealer, made by make_sealer(), may serve all threads in both directions.
  virtual bool stateless() const { return false; }
  /// `extended`: with extended sequence numbers. Null if the library refuses the key.
  virtual std::unique_ptr<Sealer> make_sealer(bool extended) const = 0;  // for sealing
  virtual std::unique_ptr<Sealer> make_opener(bool extended) const = 0;  // for opening
};

/// For resolved ESP parameters. They must outlive the factory. Whatever resolve() refuses is
/// refused here too, so that a sealer for bad parameters cannot exist. The library is the one that
/// `backends` chose for the algorithm; without them, OpenSSL.
std::expected<std::unique_ptr<SealerFactory>, ControlError> make_sealer_factory(
    const CryptoParams& params, const CryptoBackends& backends = {});

/// Fills `out` from the operating system's cryptographic generator; ends the process if there is
/// none, because nothing weaker may take its place. Any thread.
void random_bytes(MutableBytes out) noexcept;

}  // namespace xfrmfs::engine
