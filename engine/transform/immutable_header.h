// SPDX-License-Identifier: Apache-2.0
// The IP header as both ends of an SA see it: what AH protects of it (RFC 4302 §3.3.3.1, App. A).
//
// Fields that routers change are zero; those that change in a way that the sender can foresee have
// the value with which they arrive. What comes in is read before it is authenticated.

#pragma once

#include <cstddef>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

/// The longest header that is accepted: IPv6 with as many extension headers as
/// parse_ip_header() follows.
inline constexpr std::size_t kLongestImmutableHeader = 40 + 1024;

/// Writes header.size() bytes to `out`, which has room for them and does not overlap. `header` is
/// an IPv4 header with its options or an IPv6 header with all extension headers up to AH, as it is
/// on the wire; its checksum and next header are not looked at. False, and `out` is undefined, if
/// a length in it is wrong, or if it holds what cannot stand in front of AH or be foreseen: a
/// fragment header, a source route of an unknown type, two home addresses. Any thread; reads each
/// byte a bounded number of times.
bool write_immutable_header(Bytes header, MutableBytes out) noexcept;

}  // namespace xfrmfs::engine
