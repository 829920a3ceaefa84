// SPDX-License-Identifier: Apache-2.0
// RandomPool: unpredictable IVs (RFC 3602 §2.1) without a system call for each packet.

#pragma once

#include <array>
#include <cstddef>

#include "engine/crypto/iv_source.h"

namespace xfrmfs::engine {

/// Fetches kSize bytes at a time from the operating system's generator and hands each out once;
/// used bytes are wiped. One thread.
class RandomPool final : public IvSource {
 public:
  static constexpr std::size_t kSize = 4096;  // 256 IVs of 16 bytes

  RandomPool() = default;
  ~RandomPool() override;
  RandomPool(const RandomPool&) = delete;
  RandomPool& operator=(const RandomPool&) = delete;

  void fill(MutableBytes iv) noexcept override;

 private:
  std::array<std::byte, kSize> bytes_;
  std::size_t used_ = kSize;  // bytes in front that are gone
};

}  // namespace xfrmfs::engine
