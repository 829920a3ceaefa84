// SPDX-License-Identifier: Apache-2.0
// Too big: how large a packet may be, and the ICMP answer for a sender that exceeds it
// (RFC 4301 §8.2, RFC 1191, RFC 8201, RFC 4443 §3.2).

#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/packet/ip_header.h"
#include "engine/packet/packet.h"

namespace xfrmfs::engine {

inline constexpr std::size_t kIpv6MinimumMtu = 1280;

/// Turns `packet`, whose header is `header`, into the ICMP error that tells its sender to use
/// `mtu`, quoting as much of it as such a message may. False, and the packet unchanged, where no
/// error may be sent (RFC 1122 §3.2.2: about an ICMP error, a later fragment, a packet that was
/// not for one host or not from one).
///
/// The error claims to come from the packet's own destination: a local address would be refused
/// by the host as a martian when it arrives on the TUN device.
bool make_too_big(ClearPacket& packet, const IpHeader& header, std::size_t mtu);

}  // namespace xfrmfs::engine
