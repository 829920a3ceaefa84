// SPDX-License-Identifier: Apache-2.0
#include "engine/base/address.h"

#include <cstring>

#include <arpa/inet.h>

namespace xfrmfs::engine {

IpAddress IpAddress::any(Family family) {
  IpAddress address;
  address.family_ = family;
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
  // What is behind a family's width is zero in both.
  const auto differ = [&](std::size_t at) {
    return load_be64(a.storage().data() + at) ^ load_be64(b.storage().data() + at);
  };
  if (length == 0) return true;
  if (length <= 64) return differ(0) >> (64 - length) == 0;
  if (differ(0) != 0) return false;
  return length >= 128 ? differ(8) == 0 : differ(8) >> (128 - length) == 0;
}

}  // namespace xfrmfs::engine
