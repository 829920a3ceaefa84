// SPDX-License-Identifier: Apache-2.0
// Reads tests/golden/esp: what a Linux kernel put on the wire, with keys and plain text.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/types.h"
#include "engine/crypto/algorithm.h"

namespace xfrmfs::testing {

struct GoldenPacket {
  unsigned frame = 0;  // in the capture, from 1
  engine::SeqNo sequence = 0;
  engine::Protocol next_header{};
  unsigned pad_length = 0;
  std::vector<std::byte> payload;
  std::vector<std::byte> esp;  // from the ESP header to the ICV
};

/// One SA of a case and the packets it protected, in order.
struct GoldenSa {
  std::string name;  // of the case
  engine::Spi spi{};
  bool extended = false;
  engine::CryptoParams crypto;  // resolved
  std::vector<GoldenPacket> packets;
};

/// Two SAs per case. Throws if the files do not fit together.
std::vector<GoldenSa> read_golden_esp();

}  // namespace xfrmfs::testing
