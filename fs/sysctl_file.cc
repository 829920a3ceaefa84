// SPDX-License-Identifier: Apache-2.0
#include "fs/sysctl_file.h"

#include "fs/sysctl_number.h"
#include "fs/text.h"

namespace xfrmfs::fs {
namespace {

template <class T>
std::string line_of(const std::atomic<T>& setting) {
  std::string out;
  append_decimal(out, setting.load(std::memory_order_relaxed));
  out += '\n';
  return out;
}

/// `parsed` lies in the range of T.
template <class T>
std::expected<std::size_t, std::errc> store_in(
    std::atomic<T>& setting, const std::expected<SysctlNumber, std::errc>& parsed) {
  if (!parsed) return std::unexpected(parsed.error());
  setting.store(static_cast<T>(parsed->value), std::memory_order_relaxed);
  return parsed->taken;
}

}  // namespace

std::string UnsignedSysctl::render(const engine::View& view) const {
  return line_of(view.settings().*setting_);
}

std::expected<std::size_t, std::errc> UnsignedSysctl::store(const engine::View& view,
                                                            std::string_view text) const {
  if (text.empty()) return 0;
  return store_in(view.settings().*setting_, parse_unsigned_sysctl(text));
}

std::string SignedSysctl::render(const engine::View& view) const {
  return line_of(view.settings().*setting_);
}

std::expected<std::size_t, std::errc> SignedSysctl::store(const engine::View& view,
                                                          std::string_view text) const {
  if (text.empty()) return 0;
  return store_in(view.settings().*setting_, parse_signed_sysctl(text));
}

}  // namespace xfrmfs::fs
