// SPDX-License-Identifier: Apache-2.0
// libipsec-mb's manager with an owner, and what its sealers need of it. Nothing but the
// ipsec_mb_*.cc includes this.

#pragma once

#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/crypto/ipsec_mb.h"

namespace xfrmfs::engine::ipsec_mb {

/// The library's word for std::byte.
inline std::uint8_t* octets(std::byte* bytes) {
  return reinterpret_cast<std::uint8_t*>(bytes);
}
inline const std::uint8_t* octets(const std::byte* bytes) {
  return reinterpret_cast<const std::uint8_t*>(bytes);
}

struct Free {
  void operator()(IMB_MGR* manager) const noexcept { free_mb_mgr(manager); }
};

/// The library's functions for this processor and the state of jobs under way: 200 kB.
using Manager = std::unique_ptr<IMB_MGR, Free>;

enum class Width : std::uint8_t {
  kWide,    // the widest vectors there are
  kNarrow,  // 16 bytes, and the processor's own instructions for hashes
};

/// Null if memory is short.
Manager make_manager(Width width);

/// From how many packets on the wide code is the faster one.
struct WideFrom {
  std::size_t encrypt = 1;
  std::size_t decrypt = 1;
  std::size_t hash = 1;
};
/// For each hash that the library knows here.
using CbcWidths = std::array<WideFrom, 4>;
/// Some milliseconds.
CbcWidths measure_cbc_widths(const IMB_MGR& manager);

std::unique_ptr<SealerFactory> make_gcm_factory(const IMB_MGR& manager,
                                                const AeadAlgorithm& algorithm,
                                                const AeadParams& params);
std::unique_ptr<SealerFactory> make_chacha_factory(const IMB_MGR& manager,
                                                   const AeadAlgorithm& algorithm,
                                                   const AeadParams& params);
std::unique_ptr<SealerFactory> make_cbc_factory(
    const IMB_MGR& manager, const CipherAlgorithm& cipher, const CipherParams& cipher_params,
    const MacAlgorithm& mac, const MacParams& mac_params, const CbcWidths& widths,
    std::unique_ptr<SealerFactory> single, SealAndOpen<std::size_t> shortest_run);
std::unique_ptr<CryptoLane> make_cbc_lane();

}  // namespace xfrmfs::engine::ipsec_mb
