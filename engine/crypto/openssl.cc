// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/openssl.h"

#include <openssl/provider.h>

namespace xfrmfs::engine::openssl {
namespace {

/// libcrypto with the provider "legacy" and nothing else, apart from the library that all others
/// use: a provider loaded there would take the place of the default one. Null if there is none.
/// Never unloaded, because ciphers of static objects may outlive any owner.
OSSL_LIB_CTX* legacy_library() {
  static OSSL_LIB_CTX* const library = [] {
    OSSL_LIB_CTX* made = OSSL_LIB_CTX_new();
    if (made != nullptr && OSSL_PROVIDER_load(made, "legacy") == nullptr) {
      OSSL_LIB_CTX_free(made);
      made = nullptr;
    }
    ERR_clear_error();
    return made;
  }();
  return library;
}

Cipher fetch(OSSL_LIB_CTX* library, const std::string& name) {
  Cipher cipher(EVP_CIPHER_fetch(library, name.c_str(), nullptr));
  if (cipher == nullptr) ERR_clear_error();
  return cipher;
}

}  // namespace

Cipher fetch_cipher(const std::string& name) {
  return fetch(nullptr, name);
}

Cipher fetch_legacy_cipher(const std::string& name) {
  return has_legacy_provider() ? fetch(legacy_library(), name) : nullptr;
}

bool has_legacy_provider() {
  return legacy_library() != nullptr;
}

}  // namespace xfrmfs::engine::openssl
