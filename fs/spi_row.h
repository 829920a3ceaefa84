// SPDX-License-Identifier: Apache-2.0
// One line of net/ipsec/spi/all, as Openswan 2.6.38 prints it. ipsec_spi.h tells where the values
// come from here.
//
//   esp0x1234@192.0.2.1 ESP_AES_HMAC_SHA1: dir=in  src=192.0.2.2 iv_bits=128bits iv=0xa5..
//   ooowin=32
//    seq=4 bit=0xf alen=160 aklen=160 eklen=128 life(c,s,h)=bytes(416,0,0)addtime(9,0,0) idle=1
//    natencap=none natsport=0 natdport=0 refcount=3 ref=1 refhim=0
//
//   text             unit, signedness                        printed
//   SAID             hexadecimal SPI                         always
//   PROTO_ENC_AUTH:  names; numbers without one are _IDN     always
//   dir=in , dir=out "in" has a blank behind it              always
//   src=             address                                 always
//   policy=S->D      subnets of the inner packet, inbound    tunnel part with a policy
//   iv_bits= iv=     bits; hexadecimal bytes                 there is an IV
//   ooowin=          numbers, unsigned                       cipher or MAC, and not 0
//   ooo_errs=        packets, unsigned                       likewise
//   seq=             32 bits, signed: negative from 2^31     likewise
//   bit=0x           64 bits, bit 0 is `seq`                 likewise
//   flags=0x..<>     KLIPS flag bits                         not 0
//   alen=            bits of the whole digest                not 0
//   aklen=           bits of the MAC's key                   not 0
//   auth_errs=       packets                                 not 0
//   eklen=           bits of the cipher's key                not 0
//   life(c,s,h)=     groups current, soft, hard: bytes,      a group: stored value above 1, or a
//                    addtime and usetime (s), packets        limit; the name itself always
//   idle=            s since the last packet                 used at least once
//   natencap= natsport= natdport=                            always
//   refcount= ref= refhim=                                   always

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/base/address.h"
#include "fs/klips_text.h"

namespace xfrmfs::fs {

struct SpiRow {
  struct Policy {
    engine::Prefix source;
    engine::Prefix destination;
  };

  /// One group of life(c,s,h). For times, `stored` is the second since boot in which the thing
  /// happened, and `current` the seconds since then; for amounts both are the amount.
  struct Life {
    std::uint64_t stored = 0;
    std::uint64_t current = 0;
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
  };

  enum class Encapsulation : std::uint8_t { kNone, kNonIke, kNonEsp };

  static constexpr std::size_t kLargestIv = 16;

  Said said{};
  std::uint8_t cipher_id = 0;  // IANA ESP transform; of comp: IPCOMP transform
  std::uint8_t mac_id = 0;     // IANA AH transform
  bool inbound = false;
  engine::IpAddress source{};
  std::optional<Policy> policy{};
  std::size_t iv_size = 0;  // bytes, up to kLargestIv
  std::array<std::byte, kLargestIv> iv{};
  std::uint32_t replay_window = 0;
  std::uint32_t replay_errors = 0;
  std::uint32_t sequence = 0;
  std::uint64_t bitmap = 0;
  std::uint32_t flags = 0;
  std::uint32_t digest_bits = 0;
  std::uint32_t mac_key_bits = 0;
  std::uint32_t integrity_errors = 0;
  std::uint32_t cipher_key_bits = 0;
  Life bytes{}, addtime{}, usetime{}, packets{};
  std::optional<std::uint64_t> idle_seconds{};
  Encapsulation encapsulation = Encapsulation::kNone;
  std::uint16_t encapsulation_source_port = 0;
  std::uint16_t encapsulation_destination_port = 0;
  std::uint32_t refcount = 0;
  std::int32_t ref = 0;
  std::int32_t refhim = 0;
};

/// Appends the line, with its newline.
void append(std::string& out, const SpiRow& row);

}  // namespace xfrmfs::fs
