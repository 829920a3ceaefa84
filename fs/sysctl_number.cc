// SPDX-License-Identifier: Apache-2.0
#include "fs/sysctl_number.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace xfrmfs::fs {
namespace {

using std::unexpected;

constexpr std::size_t kLongestText = 4095;  // a page, less its terminator
constexpr std::size_t kLongestNumber = 20;  // 2^64 in decimal has 20 digits
constexpr std::string_view kBlanks = " \t\n\v\f\r\xa0";
constexpr std::string_view kTerminators = " \t\n";

std::size_t count_blanks(std::string_view text) {
  return std::min(text.find_first_not_of(kBlanks), text.size());
}

bool is_hex_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/// Takes "0x" away if there is a digit behind it; the "0" of octal is a digit.
int take_base(std::string_view& text) {
  if (!text.starts_with('0')) return 10;
  if (text.size() > 2 && (text[1] == 'x' || text[1] == 'X') && is_hex_digit(text[2])) {
    text.remove_prefix(2);
    return 16;
  }
  return 8;
}

struct Scanned {
  bool negative = false;
  std::uint64_t magnitude = 0;
  std::size_t end = 0;  // of the number and the blanks around it
};

/// `text` is at most kLongestText long.
std::expected<Scanned, std::errc> scan(std::string_view text) {
  Scanned scanned;
  const std::size_t start = count_blanks(text);
  std::string_view rest = text.substr(start);
  if (rest.starts_with('-')) {
    scanned.negative = true;
    rest.remove_prefix(1);
  }
  const int base = take_base(rest);
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), scanned.magnitude, base);
  // from_chars would take a minus sign of its own if the type had one; it has none.
  if (error != std::errc{}) return unexpected(std::errc::invalid_argument);

  const auto number_end = static_cast<std::size_t>(end - text.data());
  if (number_end - start > kLongestNumber) return unexpected(std::errc::invalid_argument);
  if (number_end < text.size() && !kTerminators.contains(text[number_end])) {
    return unexpected(std::errc::invalid_argument);
  }
  scanned.end = number_end + count_blanks(text.substr(number_end));
  return scanned;
}

}  // namespace

std::expected<SysctlNumber, std::errc> parse_unsigned_sysctl(std::string_view text) {
  const auto scanned = scan(text.substr(0, kLongestText));
  if (!scanned) return unexpected(scanned.error());
  if (scanned->negative || scanned->magnitude > std::numeric_limits<std::uint32_t>::max()) {
    return unexpected(std::errc::invalid_argument);
  }
  return SysctlNumber{static_cast<std::int64_t>(scanned->magnitude), text.size()};
}

std::expected<SysctlNumber, std::errc> parse_signed_sysctl(std::string_view text) {
  const std::string_view seen = text.substr(0, kLongestText);
  const auto scanned = scan(seen);
  if (!scanned) return unexpected(scanned.error());
  const std::uint64_t limit =
      std::uint64_t{std::numeric_limits<std::int32_t>::max()} + (scanned->negative ? 1 : 0);
  if (scanned->magnitude > limit) return unexpected(std::errc::invalid_argument);
  const auto magnitude = static_cast<std::int64_t>(scanned->magnitude);
  // Text beyond what was looked at counts as taken, unless something in front of it was not.
  const std::size_t left = seen.size() - scanned->end;
  return SysctlNumber{scanned->negative ? -magnitude : magnitude, text.size() - left};
}

}  // namespace xfrmfs::fs
