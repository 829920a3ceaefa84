// SPDX-License-Identifier: Apache-2.0
// net/ipsec/spi/all: the SAD as KLIPS lists it, one or two lines per SA (klips_sa.h), in the order
// of its hash table. spi_row.h shows a line; this is where its values come from.
//
//   names, sizes    algorithm table; AEAD key without salt
//   dir             in: the destination is one of the host's addresses
//   policy, flags=0x8   the inbound policy with a tunnel template that fits, first in order
//   iv              the run a5 a6 a7 ..: IVs are not kept
//   ooowin          the configured window, even above KLIPS' 64
//   seq             highest number accepted, or last sent; the low 32 bits
//   bit             the newest 64 numbers of the window, inbound only
//   ooo_errs        duplicates and packets left of the window; auth_errs: wrong ICVs
//   life            bytes of the inner packets on both lines (RFC 4301 §4.4.2.1), not of the
//                   packet after each transform; 0 s for an SA that has a limit but no use yet
//   natencap        nonesp on the ESP line of an SA with UDP encapsulation (RFC 3948)
//   refcount        3; ref: klips_sa.h; refhim: of an inbound SA, ref of the youngest outbound SA
//                   with the same reqid, mode, protocol and swapped addresses, or 0

#pragma once

#include <string>

#include "fs/klips_text.h"
#include "fs/virtual_file.h"

namespace xfrmfs::fs {

/// Where KLIPS keeps an SA: lower buckets are listed first, in one bucket the newest.
///
/// (SPI + destination + protocol) mod 257 on a little-endian machine, where the first two are the
/// words of the packet read as they lie in memory; the destination counts as 0 for IPv6.
unsigned spi_bucket(const Said& said);
inline constexpr unsigned kSpiBuckets = 257;

class IpsecSpi : public VirtualFile {
 public:
  std::string render(const engine::View& view) const override;
};

}  // namespace xfrmfs::fs
