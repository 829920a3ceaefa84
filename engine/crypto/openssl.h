// SPDX-License-Identifier: Apache-2.0
// libcrypto's handles with an owner, and its errors as text. Nothing outside engine/crypto includes
// this.

#pragma once

#include <memory>
#include <string>

#include <openssl/err.h>
#include <openssl/evp.h>

#include <cstddef>

namespace xfrmfs::engine::openssl {

struct Free {
  void operator()(EVP_CIPHER* cipher) const noexcept { EVP_CIPHER_free(cipher); }
  void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};

/// Looked up once per SA: a fetch takes locks and searches providers.
using Cipher = std::unique_ptr<EVP_CIPHER, Free>;
/// Holds a key schedule; wiped by the library when freed.
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, Free>;

/// Null if the library does not know the name.
Cipher fetch_cipher(const std::string& name);
/// From the provider "legacy". Null if it cannot be loaded.
Cipher fetch_legacy_cipher(const std::string& name);
/// Loads it at the first call.
bool has_legacy_provider();

/// libcrypto's word for std::byte.
inline unsigned char* octets(std::byte* bytes) {
  return reinterpret_cast<unsigned char*>(bytes);
}
inline const unsigned char* octets(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

}  // namespace xfrmfs::engine::openssl
