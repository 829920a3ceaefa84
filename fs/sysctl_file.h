// SPDX-License-Identifier: Apache-2.0
// sys/net/core/xfrm_*: one number of the engine's settings, read and written as a kernel does it.
//
//   10
//   `- decimal: 0 .. 4294967295 for an unsigned setting, -2147483648 .. 2147483647 for a signed one
//
// What a write may contain is told in sysctl_number.h. The store is atomic; bad text leaves the
// old value.

#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <system_error>

#include "engine/base/settings.h"
#include "fs/virtual_file.h"

namespace xfrmfs::fs {

class UnsignedSysctl : public VirtualFile {
 public:
  using Setting = std::atomic<std::uint32_t> engine::Settings::*;
  explicit constexpr UnsignedSysctl(Setting setting) : setting_(setting) {}

  FileKind kind() const override { return FileKind::kUnsignedSetting; }
  std::string render(const engine::View& view) const override;
  std::expected<std::size_t, std::errc> store(const engine::View& view,
                                              std::string_view text) const override;

 private:
  Setting setting_;
};

class SignedSysctl : public VirtualFile {
 public:
  using Setting = std::atomic<std::int32_t> engine::Settings::*;
  explicit constexpr SignedSysctl(Setting setting) : setting_(setting) {}

  FileKind kind() const override { return FileKind::kSignedSetting; }
  std::string render(const engine::View& view) const override;
  std::expected<std::size_t, std::errc> store(const engine::View& view,
                                              std::string_view text) const override;

 private:
  Setting setting_;
};

}  // namespace xfrmfs::fs
