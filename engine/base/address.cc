// SPDX-License-Identifier: Apache-2.0
#include "engine/base/address.h"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>

namespace xfrmfs::engine {

IpAddress IpAddress::any(Family family) {
  IpAddress address;
  address.family_ = family;
  return address;
}

IpAddress IpAddress::from(Family family, const std::byte* bytes) {
  IpAddress address;
  address.family_ = family;
  std::memcpy(address.bytes_.data(), bytes, address_size(family));
  return address;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated(text);
  IpAddress address;
  address.family_ = text.contains(':') ? Family::kIpv6 : Family::kIpv4;
  const int af = address.family_ == Family::kIpv6 ? AF_INET6 : AF_INET;
  if (inet_pton(af, terminated.c_str(), address.bytes_.data()) != 1) return std::nullopt;
  return address;
}

bool IpAddress::is_multicast() const {
  if (family_ == Family::kIpv4) return (bytes_[0] & std::byte{0xf0}) == std::byte{0xe0};
  return family_ == Family::kIpv6 && bytes_[0] == std::byte{0xff};
}

std::string IpAddress::text() const {
  if (family_ == Family::kNone) return {};
  char buffer[INET6_ADDRSTRLEN];
  inet_ntop(family_ == Family::kIpv6 ? AF_INET6 : AF_INET, bytes_.data(), buffer, sizeof buffer);
  return buffer;
}

bool same_prefix(const IpAddress& a, const IpAddress& b, unsigned length) {
  if (a.family() != b.family()) return false;
  const std::size_t bits = std::min<std::size_t>(length, address_size(a.family()) * 8);
  const std::size_t whole = bits / 8;
  if (std::memcmp(a.storage().data(), b.storage().data(), whole) != 0) return false;
  const unsigned rest = bits % 8;
  if (rest == 0) return true;
  const auto mask = static_cast<std::byte>(0xffu << (8 - rest));
  return (a.storage()[whole] & mask) == (b.storage()[whole] & mask);
}

}  // namespace xfrmfs::engine
