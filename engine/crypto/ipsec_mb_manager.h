// SPDX-License-Identifier: Apache-2.0
// libipsec-mb's manager with an owner, and what its sealers need of it. Nothing but the
// ipsec_mb_*.cc includes this.

#pragma once

#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>

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

/// Null if memory is short.
Manager make_manager();

std::unique_ptr<SealerFactory> make_gcm_factory(const IMB_MGR& manager,
                                                const AeadAlgorithm& algorithm,
                                                const AeadParams& params);
std::unique_ptr<SealerFactory> make_cbc_factory(
    const IMB_MGR& manager, const CipherAlgorithm& cipher, const CipherParams& cipher_params,
    const MacAlgorithm& mac, const MacParams& mac_params, std::unique_ptr<SealerFactory> single,
    SealAndOpen<std::size_t> shortest_run);
std::unique_ptr<CryptoLane> make_cbc_lane();

}  // namespace xfrmfs::engine::ipsec_mb
