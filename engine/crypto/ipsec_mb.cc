// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/ipsec_mb.h"

#include <utility>

#include "engine/crypto/ipsec_mb_manager.h"

namespace xfrmfs::engine::ipsec_mb {
namespace {

class Present final : public Library {
 public:
  explicit Present(Manager manager)
      : manager_(std::move(manager)), widths_(measure_cbc_widths(*manager_)) {}

  std::unique_ptr<SealerFactory> make_aead_factory(const AeadAlgorithm& algorithm,
                                                   const AeadParams& params) const override {
    switch (algorithm.mode) {
      case AeadMode::kGcm:
        return make_gcm_factory(*manager_, algorithm, params);
      case AeadMode::kChaCha20Poly1305:
        return make_chacha_factory(*manager_, algorithm, params);
      case AeadMode::kCcm:
      case AeadMode::kGmac:
        break;
    }
    return nullptr;
  }
  std::unique_ptr<SealerFactory> make_etm_factory(
      const CipherAlgorithm& cipher, const CipherParams& cipher_params, const MacAlgorithm& mac,
      const MacParams& mac_params, std::unique_ptr<SealerFactory> single,
      SealAndOpen<std::size_t> shortest_run) const override {
    return make_cbc_factory(*manager_, cipher, cipher_params, mac, mac_params, widths_,
                            std::move(single), shortest_run);
  }
  std::unique_ptr<CryptoLane> make_lane() const override { return make_cbc_lane(); }

 private:
  const Manager manager_;  // for its functions; no job ever enters this one
  const CbcWidths widths_;
};

}  // namespace

Manager make_manager(Width width) {
  Manager manager(alloc_mb_mgr(0));
  if (manager == nullptr) return nullptr;
  if (width == Width::kWide) {
    init_mb_mgr_auto(manager.get(), nullptr);
  } else if ((manager->features & IMB_FEATURE_AVX) != 0) {
    init_mb_mgr_avx(manager.get());
  } else {
    init_mb_mgr_sse(manager.get());
  }
  return manager;
}

std::expected<std::shared_ptr<const Library>, std::string> Library::load() {
  constexpr std::uint64_t kNeeded = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
  Manager manager = make_manager(Width::kWide);
  if (manager == nullptr) return std::unexpected("it has no memory");
  if ((manager->features & kNeeded) != kNeeded) {
    return std::unexpected("this processor has no AES instructions");
  }
  if (const int error = imb_get_errno(manager.get()); error != 0) {
    return std::unexpected(imb_get_strerror(error));
  }
  return std::make_shared<const Present>(std::move(manager));
}

}  // namespace xfrmfs::engine::ipsec_mb
