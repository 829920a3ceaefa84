// SPDX-License-Identifier: Apache-2.0
// Which number does a write to a sysctl file mean, and how much of the text does it use up?
//
// The grammar is the kernel's, measured on Linux 6.18 (tests/fs/sysctl_number_test.cc holds the
// table):
//
//   text    = blanks number ( end | ( " " | TAB | LF ) anything )
//   number  = [ "-" ] ( decimal | "0" octal | ( "0x" | "0X" ) hexadecimal )
//   blanks  = any of " " TAB LF VT FF CR and byte 0xa0
//
// Only the first 4095 bytes are looked at. A number text of 21 or more characters, sign and "0x"
// included, is refused whatever its value.

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string_view>
#include <system_error>

namespace xfrmfs::fs {

struct SysctlNumber {
  std::int64_t value = 0;
  std::size_t taken = 0;  // bytes, as write(2) returns them
};

/// For 0 .. 2^32-1. No sign at all, not even on zero. Takes the whole text, whatever follows the
/// number. EINVAL for anything else, the empty text included.
std::expected<SysctlNumber, std::errc> parse_unsigned_sysctl(std::string_view text);

/// For -2^31 .. 2^31-1. Takes the number and the blanks around it; what follows is for the next
/// write, which will not be at offset 0 and therefore ignored.
std::expected<SysctlNumber, std::errc> parse_signed_sysctl(std::string_view text);

}  // namespace xfrmfs::fs
