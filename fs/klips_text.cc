// SPDX-License-Identifier: Apache-2.0
#include "fs/klips_text.h"

#include <array>
#include <cstddef>
#include <string_view>

#include "fs/text.h"

namespace xfrmfs::fs {
namespace {

using engine::Family;
using engine::IpAddress;
using engine::Protocol;

constexpr std::size_t kGroups = 8;

struct ZeroRun {
  std::size_t begin = kGroups;  // none
  std::size_t end = kGroups;
};

ZeroRun leftmost_zero_run(const std::array<std::uint16_t, kGroups>& groups) {
  for (std::size_t i = 0; i + 1 < kGroups; ++i) {
    if (groups[i] != 0 || groups[i + 1] != 0) continue;
    std::size_t end = i + 2;
    while (end < kGroups && groups[end] == 0) ++end;
    return {i, end};
  }
  return {};
}

void append_ipv6(std::string& out, const IpAddress& address) {
  std::array<std::uint16_t, kGroups> groups;
  for (std::size_t i = 0; i < kGroups; ++i) {
    groups[i] = engine::load_be16(address.storage().data() + 2 * i);
  }
  const ZeroRun run = leftmost_zero_run(groups);
  for (std::size_t i = 0; i < kGroups;) {
    if (i == run.begin) {
      out += "::";
      i = run.end;
      continue;
    }
    if (i != 0 && i != run.end) out += ':';
    append_hex(out, groups[i]);
    ++i;
  }
}

void append_ipv4(std::string& out, const IpAddress& address) {
  for (std::size_t i = 0; i < 4; ++i) {
    if (i != 0) out += '.';
    append_decimal(out, std::to_integer<unsigned>(address.storage()[i]));
  }
}

void append_protocol(std::string& out, Protocol protocol) {
  switch (protocol) {
    case Protocol::kAh:
      out += "ah";
      return;
    case Protocol::kEsp:
      out += "esp";
      return;
    case Protocol::kIpip:
      out += "tun";
      return;
    case Protocol::kComp:
      out += "comp";
      return;
    default:
      out += "unk";
      append_decimal(out, static_cast<unsigned>(protocol));
  }
}

std::string_view shunt_name(Said::Kind kind) {
  switch (kind) {
    case Said::Kind::kPass:
      return "%pass";
    case Said::Kind::kDrop:
      return "%drop";
    case Said::Kind::kReject:
      return "%reject";
    case Said::Kind::kHold:
      return "%hold";
    case Said::Kind::kTrap:
      return "%trap";
    case Said::Kind::kTrapSubnet:
      return "%trapsubnet";
    case Said::Kind::kAssociation:
      break;
  }
  return {};
}

}  // namespace

void append_klips_address(std::string& out, const IpAddress& address) {
  if (address.family() == Family::kIpv6) {
    append_ipv6(out, address);
  } else {
    append_ipv4(out, address);
  }
}

void append_klips_subnet(std::string& out, const engine::Prefix& prefix) {
  append_klips_address(out, prefix.address);
  out += '/';
  append_decimal(out, prefix.length);
}

engine::Prefix without_host_bits(const engine::Prefix& prefix) {
  std::array<std::byte, 16> bytes = prefix.address.storage();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t first_bit = i * 8;
    if (first_bit >= prefix.length) {
      bytes[i] = std::byte{0};
    } else if (prefix.length - first_bit < 8) {
      bytes[i] &= static_cast<std::byte>(0xffu << (8 - (prefix.length - first_bit)));
    }
  }
  return {IpAddress::from(prefix.address.family(), bytes.data()), prefix.length};
}

void append_said(std::string& out, const Said& said) {
  if (said.kind != Said::Kind::kAssociation) {
    out += shunt_name(said.kind);
    return;
  }
  append_protocol(out, said.protocol);
  out += "0x";
  append_hex(out, static_cast<std::uint32_t>(said.spi));
  out += '@';
  append_klips_address(out, said.destination);
}

}  // namespace xfrmfs::fs
