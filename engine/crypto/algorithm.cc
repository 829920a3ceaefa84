// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/algorithm.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

#include "engine/crypto/aead_sealer.h"
#include "engine/crypto/ccm_sealer.h"
#include "engine/crypto/etm_sealer.h"
#include "engine/crypto/ipsec_mb.h"
#include "engine/crypto/openssl.h"

namespace xfrmfs::engine {
namespace {

using std::unexpected;

constexpr std::string_view kNoMac = "digest_null";

constexpr KeySizes kAes = {16, 32, 8};
constexpr KeySizes plus(const KeySizes& sizes, std::uint16_t salt) {
  return {static_cast<std::uint16_t>(sizes.least + salt),
          static_cast<std::uint16_t>(sizes.most + salt), sizes.step};
}
constexpr KeySizes exactly(std::uint16_t size) {
  return {size, size};
}
constexpr KeySizes kAny = {0, std::numeric_limits<std::uint16_t>::max()};

constexpr std::uint8_t kLeastAlignment = 4;  // RFC 4303 §2.4
constexpr std::array<std::uint8_t, 3> kShortIcvs = {8, 12, 16};
constexpr std::array<std::uint8_t, 1> kWholeIcv = {16};

// clang-format off
constexpr AeadAlgorithm kAeads[] = {
    // name                          key           salt ICVs        IV ESP ids      mode
    {"rfc4106(gcm(aes))",            plus(kAes, 4), 4,  kShortIcvs, 8, 18, 19, 20, AeadMode::kGcm,
     "AES-{}-GCM"},
    {"rfc4309(ccm(aes))",            plus(kAes, 3), 3,  kShortIcvs, 8, 14, 15, 16, AeadMode::kCcm,
     "AES-{}-CTR"},
    {"rfc4543(gcm(aes))",            plus(kAes, 4), 4,  kWholeIcv,  8, 23, 23, 23, AeadMode::kGmac,
     "AES-{}-GCM"},
    {"rfc7539esp(chacha20,poly1305)", exactly(32 + 4), 4, kWholeIcv, 8, 28, 28, 28,
     AeadMode::kChaCha20Poly1305, "ChaCha20-Poly1305"},
};

constexpr CipherAlgorithm kCiphers[] = {
    // name               alias          key           block IV  id  mode
    {"cbc(aes)",          "aes",         kAes,          16,  16, 12, CipherMode::kCbc,
     "AES-{}-CBC"},
    {"rfc3686(ctr(aes))", "",            plus(kAes, 4), 1,   8,  13, CipherMode::kCtr,
     "AES-{}-CTR"},
    {"ecb(cipher_null)",  "cipher_null", exactly(0),    1,   0,  11, CipherMode::kNull, ""},
    {"cbc(camellia)",     "camellia",    kAes,          16,  16, 22, CipherMode::kCbc,
     "CAMELLIA-{}-CBC"},
    {"cbc(sm4)",          "sm4",         exactly(16),   16,  16, 24, CipherMode::kCbc, "SM4-CBC"},
    {"cbc(des3_ede)",     "des3_ede",    exactly(24),   8,   8,  3,  CipherMode::kCbc,
     "DES-EDE3-CBC"},
    {"cbc(cast5)",        "cast5",       {5, 16},       8,   8,  6,  CipherMode::kCbc, "CAST5-CBC",
     CipherStanding::kLegacy},
    {"cbc(blowfish)",     "blowfish",    {5, 56},       8,   8,  7,  CipherMode::kCbc, "BF-CBC",
     CipherStanding::kLegacy},
    {"cbc(des)",          "des",         exactly(8),    8,   8,  2,  CipherMode::kCbc, "DES-CBC",
     CipherStanding::kBroken},
};

constexpr MacAlgorithm kMacs[] = {
    // name          alias     key          digest default id
    {"hmac(md5)",    "md5",    kAny,        16,    12,     2,   make_hmac_md5},     // RFC 2403
    {"hmac(sha1)",   "sha1",   kAny,        20,    12,     3,   make_hmac_sha1},    // RFC 2404
    {"hmac(sha256)", "sha256", kAny,        32,    12,     5,   make_hmac_sha256},  // see below
    {"hmac(sha384)", "",       kAny,        48,    24,     6,   make_hmac_sha384},  // RFC 4868
    {"hmac(sha512)", "",       kAny,        64,    32,     7,   make_hmac_sha512},
    {"hmac(rmd160)", "rmd160", kAny,        20,    12,     8,   make_hmac_rmd160},  // RFC 2857
    {"hmac(sm3)",    "sm3",    kAny,        32,    32,     10,  make_hmac_sm3},
    {"xcbc(aes)",    "",       exactly(16), 16,    12,     9,   make_xcbc_aes},     // RFC 3566
    {"cmac(aes)",    "",       exactly(16), 16,    12,     0,   make_cmac_aes},     // RFC 4494
    {kNoMac,         "",       kAny,        0,     0,      251, make_no_mac},
};
// clang-format on
// Linux truncates SHA-256 to 96 bits unless told otherwise, a habit older than RFC 4868, which says
// 128, and its clients know; they ask for 128 bits explicitly.

template <class Row>
const Row* find(std::span<const Row> rows, std::string_view name) {
  if (name.empty()) return nullptr;
  for (const Row& row : rows) {
    if (row.name == name) return &row;
    if constexpr (requires { row.alias; }) {
      if (row.alias == name) return &row;
    }
  }
  return nullptr;
}

/// The rows that parameters mean, and the truncation with its default filled in.
struct Choice {
  const AeadAlgorithm* aead = nullptr;
  const CipherAlgorithm* cipher = nullptr;
  const MacAlgorithm* mac = nullptr;
  std::uint32_t truncation_bits = 0;
};

bool contains(std::span<const std::uint8_t> sizes, std::size_t size) {
  return std::ranges::find(sizes, size) != sizes.end();
}

/// "16", "one of 16, 24, 32", "5 to 56".
std::string text_of(const KeySizes& sizes) {
  if (sizes.least == sizes.most) return fmt::to_string(sizes.least);
  if (sizes.step == 1) return fmt::format("{} to {}", sizes.least, sizes.most);
  std::string text = fmt::format("one of {}", sizes.least);
  for (unsigned size = sizes.least + sizes.step; size <= sizes.most; size += sizes.step) {
    text += fmt::format(", {}", size);
  }
  return text;
}

std::expected<void, ControlError> check_key(std::string_view name, const KeySizes& sizes,
                                            std::size_t size) {
  if (sizes.contains(size)) return {};
  return unexpected(ControlError(
      EINVAL,
      fmt::format("algorithm \"{}\": key is {} bytes, expected {}", name, size, text_of(sizes))));
}

std::expected<void, ControlError> choose_mac(const MacParams& params, Choice& choice) {
  choice.mac = find_mac(params.name);
  choice.truncation_bits = params.truncation_bits;
  if (choice.mac == nullptr) {
    return unexpected(ControlError(ENOSYS, choice.truncation_bits == 0
                                               ? "Requested AUTH algorithm not found"
                                               : "Requested AUTH_TRUNC algorithm not found"));
  }
  if (choice.truncation_bits > choice.mac->digest_size * 8U) {
    return unexpected(ControlError(EINVAL, "Invalid length requested for truncated ICV"));
  }
  if (choice.truncation_bits == 0) choice.truncation_bits = choice.mac->default_truncation * 8U;
  return {};
}

/// Attributes first, then names in the order AEAD, MAC, cipher, then what ESP makes of them: the
/// order in which a kernel looks, so that two mistakes at once get its answer.
std::expected<Choice, ControlError> choose(const CryptoParams& params,
                                           const CryptoPermissions& permissions) {
  const auto invalid = [](std::string text) {
    return unexpected(ControlError(EINVAL, std::move(text)));
  };
  if (!params.aead && !params.cipher && !params.mac) {
    return invalid(
        "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD");
  }
  if (params.aead && (params.cipher || params.mac)) {
    return invalid(
        "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT");
  }

  Choice choice;
  if (params.aead) {
    choice.aead = find_aead(params.aead->name);
    const std::uint32_t bits = params.aead->icv_bits;
    if (choice.aead == nullptr || bits % 8 != 0 || !contains(choice.aead->icv_sizes, bits / 8)) {
      return unexpected(ControlError(ENOSYS, "Requested AEAD algorithm not found"));
    }
  }
  if (params.mac) {
    if (const auto good = choose_mac(*params.mac, choice); !good) return unexpected(good.error());
  }
  if (params.cipher) {
    choice.cipher = find_cipher(params.cipher->name);
    if (choice.cipher == nullptr) {
      return unexpected(ControlError(ENOSYS, "Requested CRYPT algorithm not found"));
    }
    if (choice.cipher->standing == CipherStanding::kBroken && !permissions.broken_ciphers) {
      return unexpected(ControlError(
          ENOSYS, fmt::format("algorithm \"{}\": broken, legacy ciphers are not permitted here",
                              choice.cipher->name)));
    }
  }

  if (choice.aead != nullptr) {
    if (!choice.aead->key_sizes.contains(params.aead->key.size())) {
      return invalid("Kernel was unable to initialize cryptographic operations");
    }
    return choice;
  }
  if (choice.cipher == nullptr) return invalid("ESP: AEAD or CRYPT must be provided");
  if (choice.mac == nullptr) choice.mac = find_mac(kNoMac);
  if (choice.mac->digest_size == 0) {
    if (choice.cipher->mode == CipherMode::kNull) {  // RFC 4303 §5
      return invalid("ESP: neither encryption nor integrity");
    }
    // Unlike a kernel: without integrity, flipped bits turn replies into an oracle (CVE-2005-0039).
    if (!permissions.unauthenticated) {
      return invalid(
          fmt::format("algorithm \"{}\": encryption without integrity is refused, AUTH or "
                      "AUTH_TRUNC is missing",
                      choice.cipher->name));
    }
  } else if (choice.truncation_bits < 8) {
    return invalid(fmt::format("algorithm \"{}\": truncation to {} bits leaves no ICV",
                               choice.mac->name, choice.truncation_bits));
  }
  const std::size_t mac_key = params.mac ? params.mac->key.size() : 0;
  if (auto good = check_key(choice.mac->name, choice.mac->key_sizes, mac_key); !good) {
    return unexpected(good.error());
  }
  const std::size_t cipher_key = params.cipher->key.size();
  if (auto good = check_key(choice.cipher->name, choice.cipher->key_sizes, cipher_key); !good) {
    return unexpected(good.error());
  }
  return choice;
}

/// Null if no library can.
std::unique_ptr<SealerFactory> aead_factory(const AeadAlgorithm& row, const AeadParams& params,
                                            const CryptoBackends& backends) {
  const BackendUse use = backends.use_for_aead(row.name, params.key.size());
  if (!use.backend) return nullptr;
  if (use.backend == Backend::kIpsecMb) return backends.ipsec_mb()->make_aead_factory(row, params);
  return row.mode == AeadMode::kCcm ? make_ccm_factory(row, params)
                                    : make_aead_factory(row, params);
}

std::unique_ptr<SealerFactory> etm_factory(const Choice& rows, const CryptoParams& params,
                                           const CryptoBackends& backends) {
  static const MacParams no_mac{.name = kNoMac, .key = {}};
  const MacParams& mac = params.mac ? *params.mac : no_mac;
  const BackendUse use = backends.use_for_pair(rows.cipher->name, rows.mac->name);
  if (!use.backend) return nullptr;
  auto factory = make_etm_factory(*rows.cipher, *params.cipher, *rows.mac, mac);
  if (factory == nullptr || use.backend == Backend::kOpenssl) return factory;
  return backends.ipsec_mb()->make_etm_factory(*rows.cipher, *params.cipher, *rows.mac, mac,
                                               std::move(factory), use.shortest_run);
}

ControlError not_offered(const Choice& rows) {
  const bool legacy = rows.cipher != nullptr && rows.cipher->standing != CipherStanding::kCurrent &&
                      !openssl::has_legacy_provider();
  return {ENOSYS, fmt::format("algorithm \"{}\": not offered by the cryptographic library{}",
                              rows.aead != nullptr ? rows.aead->name : rows.cipher->name,
                              legacy ? ", whose provider \"legacy\" cannot be loaded" : "")};
}

}  // namespace

const AeadAlgorithm* find_aead(std::string_view name) {
  return find(std::span<const AeadAlgorithm>(kAeads), name);
}
const CipherAlgorithm* find_cipher(std::string_view name) {
  return find(std::span<const CipherAlgorithm>(kCiphers), name);
}
const MacAlgorithm* find_mac(std::string_view name) {
  return find(std::span<const MacAlgorithm>(kMacs), name);
}

CryptoParams CryptoParams::clone() const {
  CryptoParams copy;
  if (aead) copy.aead = AeadParams{aead->name, aead->key.clone(), aead->icv_bits};
  if (cipher) copy.cipher = CipherParams{cipher->name, cipher->key.clone()};
  if (mac) copy.mac = MacParams{mac->name, mac->key.clone(), mac->truncation_bits};
  return copy;
}

bool CryptoParams::authenticated() const {
  return aead || (mac && mac->name != kNoMac);
}

BoxShape shape_of(const AeadAlgorithm& algorithm, const AeadParams& params) {
  return {.iv_size = algorithm.iv_size,
          .icv_size = static_cast<std::uint8_t>(params.icv_bits / 8),
          .alignment = kLeastAlignment,
          .iv_rule = IvRule::kUnique};
}

BoxShape shape_of(const CipherAlgorithm& cipher, const MacParams& mac) {
  const IvRule rule = cipher.mode == CipherMode::kCbc   ? IvRule::kUnpredictable
                      : cipher.mode == CipherMode::kCtr ? IvRule::kUnique
                                                        : IvRule::kNone;
  return {.iv_size = cipher.iv_size,
          .icv_size = static_cast<std::uint8_t>(mac.truncation_bits / 8),
          .alignment = std::max(kLeastAlignment, cipher.block_size),
          .iv_rule = rule};
}

std::expected<void, ControlError> resolve(CryptoParams& params,
                                          const CryptoPermissions& permissions) {
  const auto choice = choose(params, permissions);
  if (!choice) return unexpected(choice.error());
  if (params.aead) params.aead->name = choice->aead->name;
  if (params.cipher) params.cipher->name = choice->cipher->name;
  if (params.mac) {
    params.mac->name = choice->mac->name;
    params.mac->truncation_bits = choice->truncation_bits;
  }
  return {};
}

std::expected<void, ControlError> resolve(MacParams& params) {
  Choice choice;
  if (const auto good = choose_mac(params, choice); !good) return unexpected(good.error());
  params.name = choice.mac->name;
  params.truncation_bits = choice.truncation_bits;
  return {};
}

std::expected<std::unique_ptr<SealerFactory>, ControlError> make_sealer_factory(
    const CryptoParams& params, const CryptoBackends& backends) {
  const auto choice = choose(params, backends.permissions());
  if (!choice) return unexpected(choice.error());
  auto factory = choice->aead != nullptr ? aead_factory(*choice->aead, *params.aead, backends)
                                         : etm_factory(*choice, params, backends);
  if (factory == nullptr) return unexpected(not_offered(*choice));
  return factory;
}

void random_bytes(MutableBytes out) noexcept {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    if (got > 0) {
      out = out.subspan(static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      std::abort();
    }
  }
}

}  // namespace xfrmfs::engine
