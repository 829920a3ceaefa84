// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/algorithm.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "engine/crypto/aead_sealer.h"
#include "engine/crypto/etm_sealer.h"
#include "engine/crypto/ipsec_mb.h"

namespace xfrmfs::engine {
namespace {

using std::unexpected;

constexpr std::array<std::uint8_t, 3> kAesKeySizes = {16, 24, 32};
constexpr std::array<std::uint8_t, 3> kAesKeyAndSaltSizes = {16 + 4, 24 + 4, 32 + 4};
constexpr std::array<std::uint8_t, 3> kGcmIcvSizes = {8, 12, 16};

// clang-format off
constexpr AeadAlgorithm kAeads[] = {
    // name                key sizes            salt ICV sizes     IV ids           library
    {"rfc4106(gcm(aes))",  kAesKeyAndSaltSizes, 4,   kGcmIcvSizes, 8, 18, 19, 20, "GCM"},
};

constexpr CipherAlgorithm kCiphers[] = {
    // name      alias  key sizes     block IV  id  library
    {"cbc(aes)", "aes", kAesKeySizes, 16,   16, 12, "CBC"},
};

constexpr MacAlgorithm kMacs[] = {
    // name          alias     digest default id
    {"hmac(sha1)",   "sha1",   20,    12,     3, make_hmac_sha1},    // RFC 2404
    {"hmac(sha256)", "sha256", 32,    12,     5, make_hmac_sha256},  // RFC 4868 says 16; see below
    {"hmac(sha384)", "",       48,    24,     6, make_hmac_sha384},  // RFC 4868
    {"hmac(sha512)", "",       64,    32,     7, make_hmac_sha512},
};
// clang-format on
// Linux truncates SHA-256 to 96 bits unless told otherwise, a habit older than RFC 4868, and its
// clients know; they ask for 128 bits explicitly.

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

ControlError wrong_cipher_key(const CipherAlgorithm& row, std::size_t size) {
  return {EINVAL, fmt::format("algorithm \"{}\": key is {} bytes, expected one of {}", row.name,
                              size, fmt::join(row.key_sizes, ", "))};
}

/// Attributes first, then names in the order AEAD, MAC, cipher, then what ESP makes of them: the
/// order in which a kernel looks, so that two mistakes at once get its answer.
std::expected<Choice, ControlError> choose(const CryptoParams& params) {
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
    choice.mac = find_mac(params.mac->name);
    choice.truncation_bits = params.mac->truncation_bits;
    if (choice.mac == nullptr) {
      return unexpected(ControlError(ENOSYS, choice.truncation_bits == 0
                                                 ? "Requested AUTH algorithm not found"
                                                 : "Requested AUTH_TRUNC algorithm not found"));
    }
    if (choice.truncation_bits > choice.mac->digest_size * 8U) {
      return invalid("Invalid length requested for truncated ICV");
    }
    if (choice.truncation_bits == 0) choice.truncation_bits = choice.mac->default_truncation * 8U;
  }
  if (params.cipher) {
    choice.cipher = find_cipher(params.cipher->name);
    if (choice.cipher == nullptr) {
      return unexpected(ControlError(ENOSYS, "Requested CRYPT algorithm not found"));
    }
  }

  if (choice.aead != nullptr) {
    if (!contains(choice.aead->key_sizes, params.aead->key.size())) {
      return invalid("Kernel was unable to initialize cryptographic operations");
    }
    return choice;
  }
  if (choice.cipher == nullptr) return invalid("ESP: AEAD or CRYPT must be provided");
  // Unlike a kernel: without integrity, flipped bits turn replies into an oracle (CVE-2005-0039).
  if (choice.mac == nullptr) {
    return invalid(fmt::format(
        "algorithm \"{}\": encryption without integrity is refused, AUTH or AUTH_TRUNC is missing",
        choice.cipher->name));
  }
  if (choice.truncation_bits < 8) {
    return invalid(fmt::format("algorithm \"{}\": truncation to {} bits leaves no ICV",
                               choice.mac->name, choice.truncation_bits));
  }
  if (!contains(choice.cipher->key_sizes, params.cipher->key.size())) {
    return unexpected(wrong_cipher_key(*choice.cipher, params.cipher->key.size()));
  }
  return choice;
}

/// Null if no library can.
std::unique_ptr<SealerFactory> aead_factory(const AeadAlgorithm& row, const AeadParams& params,
                                            const CryptoBackends& backends) {
  const BackendChoice* const choice = backends.find_aead(row.name, params.key.size());
  if (choice == nullptr || !choice->chosen) return nullptr;
  if (choice->chosen == Backend::kIpsecMb) {
    return backends.ipsec_mb()->make_aead_factory(row, params);
  }
  return make_aead_factory(row, params);
}

std::unique_ptr<SealerFactory> etm_factory(const Choice& rows, const CryptoParams& params,
                                           const CryptoBackends& backends) {
  const BackendChoice* const choice = backends.find_pair(rows.cipher->name, rows.mac->name);
  if (choice == nullptr || !choice->chosen) return nullptr;
  auto factory = make_etm_factory(*rows.cipher, *params.cipher, *rows.mac, *params.mac);
  if (factory == nullptr || choice->chosen == Backend::kOpenssl) return factory;
  return backends.ipsec_mb()->make_etm_factory(*rows.cipher, *params.cipher, *rows.mac, *params.mac,
                                               std::move(factory), choice->shortest_run);
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

std::expected<void, ControlError> resolve(CryptoParams& params) {
  const auto choice = choose(params);
  if (!choice) return unexpected(choice.error());
  if (params.aead) params.aead->name = choice->aead->name;
  if (params.cipher) params.cipher->name = choice->cipher->name;
  if (params.mac) {
    params.mac->name = choice->mac->name;
    params.mac->truncation_bits = choice->truncation_bits;
  }
  return {};
}

std::expected<std::unique_ptr<SealerFactory>, ControlError> make_sealer_factory(
    const CryptoParams& params, const CryptoBackends& backends) {
  const auto choice = choose(params);
  if (!choice) return unexpected(choice.error());
  auto factory = choice->aead != nullptr ? aead_factory(*choice->aead, *params.aead, backends)
                                         : etm_factory(*choice, params, backends);
  if (factory == nullptr) {
    return unexpected(ControlError(
        ENOSYS, fmt::format("algorithm \"{}\": not offered by the cryptographic library",
                            choice->aead != nullptr ? choice->aead->name : choice->cipher->name)));
  }
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
