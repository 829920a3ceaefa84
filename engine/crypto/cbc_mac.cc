// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/cbc_mac.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>

namespace xfrmfs::engine {

using openssl::octets;

CbcMac::CbcMac(Bytes key) : context_(EVP_CIPHER_CTX_new()) {
  const auto cipher = openssl::fetch_cipher(fmt::format("AES-{}-CBC", key.size() * 8));
  if (cipher == nullptr || context_ == nullptr ||
      EVP_CipherInit_ex2(context_.get(), cipher.get(), octets(key.data()), nullptr, 1, nullptr) !=
          1 ||
      EVP_CIPHER_CTX_set_padding(context_.get(), 0) != 1) {
    ERR_clear_error();
    context_.reset();
  }
}

CbcMac::~CbcMac() {
  OPENSSL_cleanse(value_.data(), value_.size());
  OPENSSL_cleanse(output_.data(), output_.size());
}

bool CbcMac::restart() noexcept {
  constexpr AesBlock kZero{};
  return EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, octets(kZero.data()), -1, nullptr) ==
         1;
}

bool CbcMac::absorb(Bytes blocks) noexcept {
  while (!blocks.empty()) {
    const Bytes some = blocks.first(std::min(blocks.size(), output_.size()));
    blocks = blocks.subspan(some.size());
    int written = 0;
    if (EVP_EncryptUpdate(context_.get(), octets(output_.data()), &written, octets(some.data()),
                          static_cast<int>(some.size())) != 1) {
      return false;
    }
    std::memcpy(value_.data(), output_.data() + some.size() - kAesBlock, kAesBlock);
  }
  return true;
}

}  // namespace xfrmfs::engine
