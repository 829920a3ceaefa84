// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071): headers, and the data of every segment of a train.

#pragma once

#include <cstdint>

#include "engine/base/bytes.h"
#include "engine/packet/ip_header.h"

namespace xfrmfs::engine {

/// The plain sum of native words, the last one filled up with zeros. Such sums can be added to each
/// other, and to further words of 16 or 32 bits as they lie in memory; checksum_fold() makes a
/// checksum of the result, again as it lies in memory. Of up to 1 GiB. Any thread.
std::uint64_t checksum_words(Bytes bytes);

/// The checksum over `bytes`, starting from `sum`; folded, not inverted. Any thread.
std::uint16_t checksum_add(Bytes bytes, std::uint32_t sum = 0);

/// Fills in the checksum of a whole UDP packet, IP header without options or extensions in front
/// (RFC 768; over IPv6 it may not be left out, RFC 8200 §8.1).
void fill_udp_checksum(MutableBytes packet);

/// Makes the checksum of a TCP or UDP packet anew; others, fragments and UDP packets without one
/// stay as they are. `header` is in front of `packet`, as parse_ip_header() found it.
void renew_transport_checksum(const IpHeader& header, MutableBytes packet);

/// Folds a sum of words; how often it must be folded is not worth a guess.
constexpr std::uint16_t checksum_fold(std::uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

}  // namespace xfrmfs::engine
