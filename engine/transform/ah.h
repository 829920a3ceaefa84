// SPDX-License-Identifier: Apache-2.0
// AH (RFC 4302): the payload and what does not change of the header in front, authenticated.
//
//    0                   1                   2                   3
//   |  next header  | payload length|           reserved            |
//   |                             SPI                               |
//   |                  sequence number, low half                    |
//   |     ICV, then padding to a multiple of 8 bytes, or of 4       |
//   |                          payload ...                          |

#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <vector>

#include "engine/base/address.h"
#include "engine/base/control_error.h"
#include "engine/base/slab.h"
#include "engine/base/types.h"
#include "engine/crypto/algorithm.h"
#include "engine/transform/transform.h"

namespace xfrmfs::engine {

/// The smallest AH header that can be there: the part with SPI and sequence number.
inline constexpr std::size_t kAhFixedSize = 12;

/// What the length of the whole AH header is a multiple of.
enum class AhAlignment : std::uint8_t { k4 = 4, k8 = 8 };

/// IPv6 demands 8 (RFC 4302 §2.2). Linux takes 8 with IPv4 too, unless `align4`, SaFlag kSaAlign4,
/// says otherwise.
constexpr AhAlignment ah_alignment(Family outer, bool align4) {
  return outer == Family::kIpv4 && align4 ? AhAlignment::k4 : AhAlignment::k8;
}

class Ah final : public Transform {
 public:
  /// MACs for `lanes` outbound and as many inbound threads. A truncation of 0 bits is the
  /// algorithm's default. Refuses an unknown algorithm, an ICV that is no whole number of bytes,
  /// or longer than the digest, or empty; and what the library refuses. `params` are not needed
  /// afterwards. Control thread.
  static std::expected<std::unique_ptr<Ah>, ControlError> create(Spi spi, bool extended,
                                                                 const MacParams& params,
                                                                 AhAlignment alignment,
                                                                 unsigned lanes);

  std::size_t head_size() const override { return head_size_; }
  std::size_t sealed_size(std::size_t payload_size) const override {
    return head_size_ + payload_size;
  }
  std::size_t largest_payload(std::size_t size) const override {
    return size > head_size_ ? size - head_size_ : 0;
  }
  bool covers_ip_header() const override { return true; }
  bool interleaves() const override { return false; }
  void prefetch(const Lane&, std::size_t, FetchList&) const noexcept override {}
  void seal(const Lane& lane, std::span<SealItem> run) noexcept override;
  void open(const Lane& lane, std::span<OpenItem> run) noexcept override;

  std::size_t icv_size() const { return icv_size_; }

  static void* operator new(std::size_t size) { return slab_allocate(size); }
  static void operator delete(void* memory, std::size_t size) { slab_free(memory, size); }

 private:
  Ah(Spi spi, bool extended, std::size_t digest_size, std::size_t icv_size, AhAlignment alignment)
      : spi_(spi),
        extended_(extended),
        icv_size_(icv_size),
        head_size_(header_size(icv_size, alignment)),
        longer_head_size_(header_size(digest_size, alignment)) {}

  static std::size_t header_size(std::size_t icv_size, AhAlignment alignment) {
    const std::size_t mask = static_cast<std::size_t>(alignment) - 1;
    return (kAhFixedSize + icv_size + mask) & ~mask;
  }
  bool seal_one(Mac& mac, SealItem& item) const;
  OpenResult open_one(Mac& mac, OpenItem& item) const;
  bool authenticate(Mac& mac, Bytes covered, MutableBytes payload, SeqNo sequence,
                    MutableBytes icv) const;

  const Spi spi_;
  const bool extended_;
  const std::size_t icv_size_;
  const std::size_t head_size_;
  const std::size_t longer_head_size_;      // around an ICV that is not truncated
  std::vector<std::unique_ptr<Mac>> macs_;  // outbound and inbound of each lane
};

}  // namespace xfrmfs::engine
