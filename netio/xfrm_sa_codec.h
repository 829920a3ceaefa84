// SPDX-License-Identifier: Apache-2.0
// SAs in the language of NETLINK_XFRM <-> the engine's values.
//
// <linux/xfrm.h> decides what the bytes mean, and a kernel's copy_to_user_state_extra() in which
// order an SA's attributes are reported. Keys and algorithm names pass as they are: whether they
// are any good is the engine's affair.
//
// Pure functions. Requests come with attributes that already have their shape, and a `base` that
// holds at least the structure that is named; answers go into zeroed memory, field by field.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/sad/sa_params.h"
#include "engine/sad/sad.h"
#include "engine/sad/security_association.h"
#include "netio/netlink_message.h"
#include "netio/xfrm_wire.h"

namespace xfrmfs::netio {

/// xfrm_usersa_info of NEWSA and UPDSA. A feature that the engine does not have is refused, never
/// ignored: EOPNOTSUPP and the attribute's name.
Decoded<engine::SaParams> read_sa(Bytes base, const Attributes& attributes);

struct SpiRequest {
  engine::SaParams params;  // what a larval SA needs of xfrm_usersa_info
  std::uint32_t low = 0;
  std::uint32_t high = 0;
};
/// xfrm_userspi_info of ALLOCSPI.
Decoded<SpiRequest> read_spi_request(Bytes base, const Attributes& attributes);

/// xfrm_usersa_id of GETSA and DELSA. ESRCH for what cannot name an SA of ours.
Decoded<engine::SaId> read_sa_id(Bytes base, const Attributes& attributes);

/// xfrm_usersa_flush: one protocol, or nothing for all.
std::optional<engine::Protocol> read_flush_protocol(Bytes base);

/// Which SAs a listing is about.
struct SaFilter {
  std::optional<engine::Protocol> protocol;
  engine::Family family = engine::Family::kNone;  // none: any
  // Compared as 16 bytes, as they came.
  std::array<std::byte, 16> source{};
  std::array<std::byte, 16> destination{};
  std::uint8_t source_bits = 0;
  std::uint8_t destination_bits = 0;

  bool accepts(const engine::SaConfig& params) const;
};
/// XFRMA_PROTO and XFRMA_ADDRESS_FILTER of a GETSA dump.
Decoded<SaFilter> read_sa_filter(const Attributes& attributes);

/// The body of NEWSA: xfrm_usersa_info and all attributes of an SA, keys included.
void write_sa(MessageBuilder& out, const engine::SecurityAssociation& association,
              const Moment& now);

/// The body of NEWSADINFO. `base` is that of the request: its flags are sent back.
void write_sad_info(MessageBuilder& out, Bytes base, const engine::SadView& sad);

}  // namespace xfrmfs::netio
