// SPDX-License-Identifier: Apache-2.0
// SaParams: everything that is configured about an SA. A plain value, validated by Engine::add_sa.
//
// What an SA keeps of it as long as it lives is the base, SaConfig; the rest says how it begins,
// and goes on in Lifetime and ReplayWindow.

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "engine/base/address.h"
#include "engine/base/types.h"
#include "engine/crypto/algorithm.h"
#include "engine/sad/lifetime.h"
#include "engine/spd/selector.h"

namespace xfrmfs::engine {

/// What names an SA: another source does not make another SA (RFC 4301 §4.1).
struct SaId {
  IpAddress destination;
  Protocol protocol = Protocol::kEsp;
  Spi spi{};
  Mark mark{};

  bool operator==(const SaId&) const = default;
};

/// XFRM_STATE_* of the control protocol, bit for bit.
enum SaFlag : std::uint8_t {
  kSaNoEcn = 1,
  kSaDecapDscp = 2,
  kSaNoPmtuDiscovery = 4,
  kSaWildRecv = 8,
  kSaIcmp = 16,
  kSaAnyFamily = 32,
  kSaAlign4 = 64,
  kSaEsn = 128,
};
/// XFRM_SA_XFLAG_*.
enum SaExtraFlag : std::uint32_t { kSaDontEncapDscp = 1, kSaOseqMayWrap = 2 };

/// How replay state is kept and shown; fixed when the SA is made.
enum class ReplayKind : std::uint8_t {
  kLegacy,  // 32-bit numbers, window 0 .. 32
  kBitmap,  // 32-bit numbers, window 0 .. 32 * bitmap_words
  kEsn,     // 64-bit numbers, window 1 .. 32 * bitmap_words
};

/// Replay protection as configured and, for a moved SA, where it stands.
struct ReplayParams {
  ReplayKind kind = ReplayKind::kLegacy;
  std::uint32_t window = 0;
  std::uint32_t bitmap_words = 0;  // kBitmap and kEsn: 32-bit words, 1 .. 128
  SeqNo out_sequence = 0;          // last number sent
  SeqNo in_sequence = 0;           // highest number accepted
  /// Which numbers were seen. Legacy: one word, bit 0 is in_sequence. Bitmap and ESN: circular,
  /// bit (n - 1) % window stands for number n, as in xfrm_replay_state_esn.
  std::vector<std::uint32_t> bitmap{};
};

/// ESP in UDP (RFC 3948), as XFRMA_ENCAP configures it: the ports of the outer UDP header.
struct UdpEncapsulation {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;

  bool operator==(const UdpEncapsulation&) const = default;
};

struct SaConfig {
  // Every packet looks at these: two cache lines, see SecurityAssociation.
  SaId id;
  Reqid reqid{};
  std::uint32_t if_id = 0;
  Mode mode = Mode::kTunnel;
  std::uint8_t flags = 0;  // SaFlag
  SaDirection direction = SaDirection::kAny;
  IpAddress source;
  std::uint32_t extra_flags = 0;  // SaExtraFlag

  Selector selector;
  std::optional<UdpEncapsulation> encapsulation;

  IpAddress original_address;  // of encapsulation: kept and shown; for transport mode behind a NAT
  std::uint32_t acquire_sequence = 0;  // the requester's seq; ties a larval SA to its ACQUIRE
  CryptoParams crypto;

  Family family() const { return id.destination.family(); }
};
static_assert(offsetof(SaConfig, selector) == 64 && offsetof(SaConfig, original_address) <= 128);

struct SaParams : SaConfig {
  ReplayParams replay;
  LifetimeLimits limits;
  LifetimeUsage usage;                                    // non-zero for a moved SA
  std::optional<std::uint32_t> aevent_threshold_packets;  // else from Settings at creation
  std::optional<std::uint32_t> aevent_interval_ms;        // likewise
};

}  // namespace xfrmfs::engine
