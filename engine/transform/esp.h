// SPDX-License-Identifier: Apache-2.0
// ESP (RFC 4303): header, padding, trailer, ICV, extended sequence numbers.
//
//    0                   1                   2                   3
//   |                             SPI                               |
//   |                  sequence number, low half                    |
//   |                  IV, BoxShape::iv_size bytes                  |  -+
//   |                          payload ...                          |   | encrypted
//   |     padding 1, 2, 3 ...       |  pad length   |  next header  |  -+
//   |                  ICV, BoxShape::icv_size bytes                |

#pragma once

#include <expected>
#include <memory>
#include <vector>

#include "engine/base/control_error.h"
#include "engine/base/types.h"
#include "engine/crypto/algorithm.h"
#include "engine/crypto/sealer.h"
#include "engine/transform/transform.h"

namespace xfrmfs::engine {

inline constexpr std::size_t kEspHeaderSize = 8;

class Esp final : public Transform {
 public:
  /// Sealers for `lanes` outbound and as many inbound threads. Refuses what the library refuses.
  /// `params` are resolved; their keys are not needed afterwards. Control thread.
  static std::expected<std::unique_ptr<Esp>, ControlError> create(Spi spi, bool extended,
                                                                  const CryptoParams& params,
                                                                  unsigned lanes);

  std::size_t sealed_size(std::size_t payload_size) const override;
  std::size_t largest_payload(std::size_t size) const override;
  void seal(const Lane& lane, std::span<SealItem> run) noexcept override;
  void open(const Lane& lane, std::span<OpenItem> run) noexcept override;

  const BoxShape& shape() const { return shape_; }

 private:
  Esp(Spi spi, BoxShape shape) : spi_(spi), shape_(shape) {}

  const Spi spi_;
  const BoxShape shape_;
  /// Unique IVs are the sequence number xor this: an SA made again with the same key starts
  /// somewhere else, so that a (key, IV) pair does not come back after a restart.
  std::uint64_t iv_offset_ = 0;
  std::vector<std::unique_ptr<Sealer>> sealers_;  // by lane
  std::vector<std::unique_ptr<Sealer>> openers_;
};

}  // namespace xfrmfs::engine
