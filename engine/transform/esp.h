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
#include <optional>

#include "engine/base/control_error.h"
#include "engine/base/slab.h"
#include "engine/base/types.h"
#include "engine/crypto/algorithm.h"
#include "engine/crypto/sealer.h"
#include "engine/transform/transform.h"

namespace xfrmfs::engine {

inline constexpr std::size_t kEspHeaderSize = 8;

/// Which unique IVs an SA uses: the sequence number xor this. A random one for each SA, so that an
/// SA made again with the same key starts somewhere else and no (key, IV) pair comes back after a
/// restart.
enum class IvOffset : std::uint64_t {};

class Esp final : public Transform {
 public:
  /// Sealers for `lanes` outbound and as many inbound threads. Refuses what resolve() refuses, and
  /// what the library refuses. `params` are resolved; they are not needed afterwards. Control
  /// thread. `backends` say which library works. `iv_offset` is chosen only to repeat known
  /// answers; without it, it is random.
  static std::expected<std::unique_ptr<Esp>, ControlError> create(
      Spi spi, bool extended, const CryptoParams& params, unsigned lanes,
      std::optional<IvOffset> iv_offset = std::nullopt, const CryptoBackends& backends = {});

  std::size_t head_size() const override { return head_size_; }
  std::size_t sealed_size(std::size_t payload_size) const override;
  std::size_t largest_payload(std::size_t size) const override;
  bool interleaves() const override { return interleaves_; }
  void prefetch(const Lane& lane, std::size_t size, FetchList& list) const noexcept override {
    prefetch_(opener(lane), size, list);
  }
  void seal(const Lane& lane, std::span<SealItem> run) noexcept override;
  void open(const Lane& lane, std::span<OpenItem> run) noexcept override;

  const BoxShape& shape() const { return shape_; }

  static void* operator new(std::size_t size) { return slab_allocate(size); }
  static void operator delete(void* memory, std::size_t size) { slab_free(memory, size); }

 private:
  Esp(Spi spi, const SealerFactory& factory, IvOffset iv_offset)
      : spi_(spi),
        shape_(factory.shape()),
        head_size_(static_cast<std::uint8_t>(kEspHeaderSize + shape_.iv_size)),
        interleaves_(factory.interleaves()),
        iv_offset_(static_cast<std::uint64_t>(iv_offset)) {}

  Sealer& sealer(const Lane& lane) const {
    return shared_ ? *shared_ : *sealers_[std::size_t{2} * lane.index];
  }
  Sealer& opener(const Lane& lane) const {
    return shared_ ? *shared_ : *sealers_[std::size_t{2} * lane.index + 1];
  }
  std::size_t text_size(std::size_t payload_size) const {
    const std::size_t mask = std::size_t{shape_.alignment} - 1;  // a power of two
    return (payload_size + kTrailerSize + mask) & ~mask;
  }
  bool frame(const Lane& lane, const SealItem& item, Box& box) const;
  void write_trailer(std::size_t pad, Protocol next_header, std::byte* at) const;
  void write_head(const Lane& lane, SeqNo sequence, std::byte* packet) const;
  void finish(const Box& box, SealItem& item) const;
  bool unframe(const OpenItem& item, Box& box) const;
  void judge(const Box& box, OpenItem& item) const;
  void seal_together(const Lane& lane, std::span<SealItem> run) const noexcept;
  void open_together(const Lane& lane, std::span<OpenItem> run) const noexcept;

  static constexpr std::size_t kTrailerSize = 2;  // pad length, next header

  const Spi spi_;
  const BoxShape shape_;
  const std::uint8_t head_size_;
  const bool interleaves_;
  const std::uint64_t iv_offset_;
  std::unique_ptr<Sealer> shared_;                      // the only one, for all lanes both ways
  std::unique_ptr<std::unique_ptr<Sealer>[]> sealers_;  // or sealer and opener of each lane
  Sealer::Prefetch prefetch_ = nullptr;
};

}  // namespace xfrmfs::engine
