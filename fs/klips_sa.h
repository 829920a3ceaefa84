// SPDX-License-Identifier: Apache-2.0
// How one SA of ours becomes SAs of KLIPS, and what those are called.
//
// A tunnel-mode ESP SA is two in KLIPS: the transform itself, and an IP-in-IP pseudo SA of the same
// destination whose SPI never travels. That SPI, and the reference numbers of both, are made from
// the SA's serial: stable as long as it lives, unique among 2^30 serials, in order of creation,
// with gaps where a serial went to a policy.
//
//   serial n   transform   esp0x<SPI>@dst           ref = 2n-1
//              tunnel      tun0x<0x1000 + n>@dst    ref = 2n

#pragma once

#include <cstdint>

#include "engine/sad/security_association.h"
#include "fs/klips_text.h"

namespace xfrmfs::fs {

enum class KlipsPart : std::uint8_t { kTransform, kTunnel };

/// KLIPS knows an SA from when it has keys until it expires.
inline bool is_listed(const engine::SecurityAssociation& association) {
  return association.state() == engine::SaState::kValid && association.transform() != nullptr;
}

inline bool has_tunnel_part(const engine::SecurityAssociation& association) {
  return association.params().mode == engine::Mode::kTunnel;
}

inline Said said_of(const engine::SecurityAssociation& association, KlipsPart part) {
  constexpr std::uint64_t kFirstTunnelSpi = 0x1000;
  const engine::SaId& id = association.id();
  Said said{.protocol = id.protocol, .spi = id.spi, .destination = id.destination};
  if (part == KlipsPart::kTunnel) {
    said.protocol = engine::Protocol::kIpip;
    said.spi = static_cast<engine::Spi>(kFirstTunnelSpi + association.serial());
  }
  return said;
}

inline std::int32_t ref_of(const engine::SecurityAssociation& association, KlipsPart part) {
  const std::uint64_t ref = 2 * association.serial() - (part == KlipsPart::kTransform ? 1 : 0);
  return static_cast<std::int32_t>(ref & 0x7fff'ffff);
}

}  // namespace xfrmfs::fs
