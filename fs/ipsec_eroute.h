// SPDX-License-Identifier: Apache-2.0
// net/ipsec/eroute/all: the outbound SPD as KLIPS lists it, in the order of its radix tree, as
// Openswan 2.6.38 prints it.
//
//   16         192.0.2.0/24       -> 198.51.100.0/24:80 => tun0x1003@203.0.113.9:6
//   |--------| |----------------|    |----------------|    |                     |
//   packets,   source subnet,        destination,          SAID                  protocol, decimal,
//   10, 32     18; ":port" if        likewise                                    only if one is
//   bits,      there is one                                                      selected
//   signed
//
// IPv6 with a port is "[2001:db8::/64]:25". Columns grow if the text is wider.
//
//   policy                                     SAID
//   block                                      %drop
//   allow, no templates                        %pass
//   allow, an SA fits the tunnel template,     tun.. of that SA, or esp..
//     or without one the innermost template
//   allow, none fits                           %trap; %pass if every template is optional
//   larval SA for a single host pair           %hold
//
// packets are those of the SA, so they restart with every rekey, as in KLIPS; shunts have none.
// Priorities are not shown: the radix order decides.

#pragma once

#include <cstdint>
#include <string>

#include "engine/base/address.h"
#include "engine/base/types.h"
#include "fs/klips_text.h"
#include "fs/virtual_file.h"

namespace xfrmfs::fs {

struct ErouteRow {
  std::uint64_t packets = 0;
  engine::Prefix source{};
  engine::Prefix destination{};
  std::uint16_t source_port = 0;       // 0: any
  std::uint16_t destination_port = 0;  // 0: any
  engine::Protocol protocol{};         // 0: any
  Said said{};
};

/// Appends the line, with its newline.
void append(std::string& out, const ErouteRow& row);

/// Is `a` listed before `b`?  IPv4 first; then by the bytes of source, destination, protocol and
/// ports; of equal ones the more specific.
bool radix_less(const ErouteRow& a, const ErouteRow& b);

class IpsecEroute : public VirtualFile {
 public:
  std::string render(const engine::View& view) const override;
};

}  // namespace xfrmfs::fs
