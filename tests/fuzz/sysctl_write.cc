// SPDX-License-Identifier: Apache-2.0
// Any bytes written to both kinds of sysctl file, against a second opinion about their grammar.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "fs/sysctl_file.h"
#include "tests/fuzz/require.h"
#include "tests/support/manual_clock.h"

namespace {

using namespace xfrmfs;
using testing::require;

struct Opinion {
  long long value = 0;
  std::size_t used = 0;  // number and blanks around it
};

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

bool is_blank(char c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == '\xa0';
}

/// The number is a word that ends at a blank, TAB, newline or the end; the word as a whole is one,
/// or there is none.
std::optional<Opinion> second_opinion(std::string_view text) {
  text = text.substr(0, 4095);
  std::size_t at = 0;
  while (at < text.size() && is_blank(text[at])) ++at;
  std::size_t end = at;
  while (end < text.size() && text[end] != ' ' && text[end] != '\t' && text[end] != '\n') ++end;
  std::string_view word = text.substr(at, end - at);
  if (word.size() > 20) return std::nullopt;

  const bool negative = !word.empty() && word[0] == '-';
  if (negative) word.remove_prefix(1);
  int base = 10;
  if (word.size() >= 3 && word[0] == '0' && (word[1] == 'x' || word[1] == 'X')) {
    base = 16;
    word.remove_prefix(2);
  } else if (word.size() >= 2 && word[0] == '0') {
    base = 8;
    word.remove_prefix(1);
  }
  if (word.empty()) return std::nullopt;
  long double value = 0;  // 18 hexadecimal digits fit; exact where it matters, below 2^33
  for (const char c : word) {
    if (digit_value(c) >= base) return std::nullopt;
    value = value * base + digit_value(c);
  }
  if (value > 0x1'0000'0000LL) return std::nullopt;
  while (end < text.size() && is_blank(text[end])) ++end;
  return Opinion{static_cast<long long>(value) * (negative ? -1 : 1), end};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t kBefore = 7;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const engine::Published<engine::Snapshot> published{std::make_shared<const engine::Snapshot>()};
  const engine::Counters counters;
  const testing::ManualClock clock;
  engine::Settings settings;
  settings.aevent_etime_100ms = kBefore;
  settings.larval_drop = kBefore;
  const engine::View view(published, counters, settings, clock);
  const fs::UnsignedSysctl unsigned_file(&engine::Settings::aevent_etime_100ms);
  const fs::SignedSysctl signed_file(&engine::Settings::larval_drop);
  const auto unsigned_taken = unsigned_file.store(view, text);
  const auto signed_taken = signed_file.store(view, text);

  if (text.empty()) {
    require(unsigned_taken == 0u && signed_taken == 0u);
    require(settings.aevent_etime_100ms == kBefore && settings.larval_drop == kBefore);
    return 0;
  }
  const auto opinion = second_opinion(text);
  // A minus sign is one even on zero, which is the one thing that the number does not show.
  const bool minus = text.find('-') < text.find_first_of("0123456789");

  const bool fits_unsigned =
      opinion && !minus && opinion->value >= 0 && opinion->value <= 0xffff'ffffLL;
  require(unsigned_taken.has_value() == fits_unsigned);
  require(settings.aevent_etime_100ms == (fits_unsigned ? opinion->value : kBefore));
  if (fits_unsigned) require(*unsigned_taken == size);

  const bool fits_signed =
      opinion && opinion->value >= -0x8000'0000LL && opinion->value <= 0x7fff'ffffLL;
  require(signed_taken.has_value() == fits_signed);
  require(settings.larval_drop == (fits_signed ? opinion->value : kBefore));
  // What lies behind the bytes that are looked at goes with them.
  const std::size_t unseen = size > 4095 ? size - 4095 : 0;
  const std::size_t left = fits_signed ? size - unseen - opinion->used : 0;
  if (fits_signed) require(*signed_taken == size - left);
  if (!unsigned_taken) require(unsigned_taken.error() == std::errc::invalid_argument);
  if (!signed_taken) require(signed_taken.error() == std::errc::invalid_argument);
  return 0;
}
