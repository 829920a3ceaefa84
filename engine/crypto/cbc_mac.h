// SPDX-License-Identifier: Apache-2.0
// CbcMac: the chain of AES blocks of which XCBC-MAC, CMAC and CCM are made. By itself it protects
// nothing but messages of one length.
//
// libcrypto's CBC makes the chain; its other output is of no use.

#pragma once

#include <array>
#include <cstddef>

#include "engine/base/bytes.h"
#include "engine/crypto/openssl.h"

namespace xfrmfs::engine {

inline constexpr std::size_t kAesBlock = 16;
using AesBlock = std::array<std::byte, kAesBlock>;

/// For one thread. Nothing but the constructor allocates.
class CbcMac {
 public:
  /// A key of 16, 24 or 32 bytes.
  explicit CbcMac(Bytes key);
  ~CbcMac();
  CbcMac(const CbcMac&) = delete;
  CbcMac& operator=(const CbcMac&) = delete;

  /// False if the library refused the key.
  bool usable() const { return context_ != nullptr; }
  /// A new message; false, as below, if the library failed.
  bool restart() noexcept;
  /// Whole blocks.
  bool absorb(Bytes blocks) noexcept;
  /// Of everything absorbed; undefined for nothing.
  const AesBlock& value() const { return value_; }

 private:
  openssl::CipherContext context_;
  AesBlock value_{};
  std::array<std::byte, 32 * kAesBlock> output_{};
};

}  // namespace xfrmfs::engine
