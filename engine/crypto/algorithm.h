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

/// The sizes that a key may have, in bytes.
struct KeySizes {
  std::uint16_t least, most;
  std::uint8_t step = 1;

  constexpr bool contains(std::size_t size) const {
    return size >= least && size <= most && (size - least) % step == 0;
  }
};

enum class AeadMode : std::uint8_t {
  kGcm,               // RFC 4106
  kCcm,               // RFC 4309
  kGmac,              // RFC 4543: the text is authenticated and stays clear
  kChaCha20Poly1305,  // RFC 7634
};

/// One key (salt at its end), one ICV.
struct AeadAlgorithm {
  std::string_view name;  // canonical, e.g. "rfc4106(gcm(aes))"
  KeySizes key_sizes;     // salt included
  std::uint8_t salt_size;
  std::span<const std::uint8_t> icv_sizes;  // bytes
  std::uint8_t iv_size;
  /// IANA ESP transform id for an ICV of 8, 12, 16 bytes: what old listings print.
  std::uint8_t transform_id_8, transform_id_12, transform_id_16;
  AeadMode mode;
  std::string_view library_name;  // of libcrypto; {} stands for the bits of the key, less the salt
};

enum class CipherStanding : std::uint8_t {
  kCurrent,
  kLegacy,  // libcrypto keeps it in its provider "legacy"
  kBroken,  // likewise, and refused unless permitted
};

enum class CipherMode : std::uint8_t {
  kCbc,
  kCtr,   // RFC 3686: a nonce of 4 bytes at the end of the key
  kNull,  // RFC 2410
};

/// A cipher that needs a MAC beside it.
struct CipherAlgorithm {
  std::string_view name;   // canonical, e.g. "cbc(aes)"
  std::string_view alias;  // also accepted, e.g. "aes"
  KeySizes key_sizes;      // nonce included
  std::uint8_t block_size;
  std::uint8_t iv_size;
  std::uint8_t transform_id;  // IANA
  CipherMode mode;
  std::string_view library_name;  // as above
  CipherStanding standing = CipherStanding::kCurrent;
};

struct MacAlgorithm {
  std::string_view name;  // canonical, e.g. "hmac(sha256)"
  std::string_view alias;
  KeySizes key_sizes;
  std::uint8_t digest_size;                 // bytes, untruncated
  std::uint8_t default_truncation;          // bytes
  std::uint8_t transform_id;                // IANA AH transform id; 0: there is none
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
  /// False for encryption alone.
  bool authenticated() const;
};

/// Names made canonical, defaults filled in, everything checked that can be checked without a key
/// schedule; in the kernel's order and with its errors. Nothing changes on failure.
std::expected<void, ControlError> resolve(CryptoParams& params,
                                          const CryptoPermissions& permissions = {});

/// The boxes of validated parameters.
BoxShape shape_of(const AeadAlgorithm& algorithm, const AeadParams& params);
BoxShape shape_of(const CipherAlgorithm& cipher, const MacParams& mac);

/// The same for a MAC that works alone: AH's.
std::expected<void, ControlError> resolve(MacParams& params);

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

/// For resolved ESP parameters. They must outlive the factory. Whatever resolve() refuses, with the
/// permissions of `backends`, is refused here too, so that a sealer for bad parameters cannot
/// exist. The library is the one that `backends` chose for the algorithm; without them, OpenSSL.
std::expected<std::unique_ptr<SealerFactory>, ControlError> make_sealer_factory(
    const CryptoParams& params, const CryptoBackends& backends = {});

/// Fills `out` from the operating system's cryptographic generator; ends the process if there is
/// none, because nothing weaker may take its place. Any thread.
void random_bytes(MutableBytes out) noexcept;

}  // namespace xfrmfs::engine
