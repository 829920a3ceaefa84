// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071): headers, and the data of every segment of a train.

#pragma once

#include <cstdint>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

/// The checksum over `bytes`, starting from `sum`; folded, not inverted. Any thread.
std::uint16_t checksum_add(Bytes bytes, std::uint32_t sum = 0);

/// Fills in the checksum of a whole UDP packet, IP header without options or extensions in front
/// (RFC 768; over IPv6 it may not be left out, RFC 8200 §8.1).
void fill_udp_checksum(MutableBytes packet);

/// Folds a sum of 16-bit words.
constexpr std::uint16_t checksum_fold(std::uint64_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

}  // namespace xfrmfs::engine
