// SPDX-License-Identifier: Apache-2.0
// IPv4 and IPv6 addresses and prefixes, as values.

#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

enum class Family : std::uint8_t { kNone = 0, kIpv4 = 4, kIpv6 = 6 };

/// Bytes in an address of this family: 0, 4 or 16.
constexpr std::size_t address_size(Family family) {
  return family == Family::kIpv4 ? 4 : family == Family::kIpv6 ? 16 : 0;
}

/// An address, or none. Network byte order; bytes behind the family's size are zero.
class IpAddress {
 public:
  constexpr IpAddress() = default;

  /// The all-zero address of a family.
  static IpAddress any(Family family);
  /// `bytes` holds at least address_size(family) bytes.
  static IpAddress from(Family family, const std::byte* bytes) {
    IpAddress address;
    address.assign(family, bytes);
    return address;
  }
  /// Likewise. One store, so that a wide load right behind it need not wait.
  void assign(Family family, const std::byte* bytes) {
    using Vector = std::uint64_t __attribute__((vector_size(16)));
    Vector words = {0, 0};
    if (family == Family::kIpv4) {
      std::uint32_t word;
      std::memcpy(&word, bytes, sizeof word);
      words[0] = word;
    } else if (family == Family::kIpv6) {
      std::memcpy(&words, bytes, sizeof words);
    }
    std::memcpy(bytes_.data(), &words, sizeof words);
    family_ = family;
  }
  /// Dotted or colon text; nothing for anything else. For tests and options, not for packets.
  static std::optional<IpAddress> parse(std::string_view text);

  Family family() const { return family_; }
  Bytes bytes() const { return Bytes(bytes_).first(address_size(family_)); }
  const std::array<std::byte, 16>& storage() const { return bytes_; }
  bool is_any() const { return bytes_ == std::array<std::byte, 16>{}; }
  bool is_multicast() const;
  /// RFC 5952 text; empty for no address.
  std::string text() const;

  auto operator<=>(const IpAddress&) const = default;

 private:
  Family family_ = Family::kNone;
  std::array<std::byte, 16> bytes_{};
};

/// True if the first `length` bits of both agree. `length` above the family's width counts as it.
bool same_prefix(const IpAddress& a, const IpAddress& b, unsigned length);

struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;

  bool contains(const IpAddress& other) const { return same_prefix(address, other, length); }
  bool operator==(const Prefix&) const = default;
};

}  // namespace xfrmfs::engine
