// SPDX-License-Identifier: Apache-2.0
// How KLIPS writes addresses, subnets and the names of SAs, as Openswan 2.6.38 does.
//
//   address   192.0.2.1   2001:db8::1     the leftmost run of zero groups is "::", not the longest
//   subnet    192.0.2.0/24
//   SAID      esp0x1234@192.0.2.1   tun0x1001@2001:db8::1   %trap

#pragma once

#include <cstdint>
#include <string>

#include "engine/base/address.h"
#include "engine/base/types.h"

namespace xfrmfs::fs {

/// IPv4: dotted decimal. IPv6: eight groups in lower-case hexadecimal without leading zeros, and
/// the leftmost run of two or more zero groups as "::". This is not RFC 5952, where the longest
/// run goes, and IPv4-mapped addresses are plain groups.
void append_klips_address(std::string& out, const engine::IpAddress& address);

/// "address/bits". Bits behind the prefix are printed as they are.
void append_klips_subnet(std::string& out, const engine::Prefix& prefix);

/// The prefix with the bits behind it cleared.
engine::Prefix without_host_bits(const engine::Prefix& prefix);

/// What KLIPS calls an SAID: the name of an SA, or of what happens where there is none.
struct Said {
  enum class Kind : std::uint8_t { kAssociation, kPass, kDrop, kReject, kHold, kTrap, kTrapSubnet };

  Kind kind = Kind::kAssociation;
  // Of an association:
  engine::Protocol protocol{};
  engine::Spi spi{};
  engine::IpAddress destination{};
};

void append_said(std::string& out, const Said& said);

}  // namespace xfrmfs::fs
