// SPDX-License-Identifier: Apache-2.0
// IPComp (RFC 3173) with DEFLATE (RFC 2394).
//
//    0                   1                   2                   3
//   |  next header  |   flags, 0    |             CPI               |
//   |                     compressed payload ...                    |
//
// A payload that would not become smaller travels as it is, without this header (RFC 3173 §2.2).

#pragma once

#include <expected>
#include <memory>

#include "engine/base/control_error.h"
#include "engine/base/slab.h"
#include "engine/base/types.h"
#include "engine/transform/deflate.h"
#include "engine/transform/transform.h"

namespace xfrmfs::engine {

inline constexpr std::size_t kIpcompHeaderSize = 4;
/// Payloads that are smaller are not compressed (RFC 2394 §2.4; Linux's number).
inline constexpr std::size_t kIpcompThreshold = 90;

class Ipcomp final : public Transform {
 public:
  /// `cpi` in place of an SPI; it has 16 bits, and more are refused. `lanes`: for all lanes whose
  /// packets come here, never null. Control thread.
  static std::expected<std::unique_ptr<Ipcomp>, ControlError> create(
      Spi cpi, std::shared_ptr<DeflateLanes> lanes);

  std::size_t head_size() const override { return kIpcompHeaderSize; }
  /// Never more than there was.
  std::size_t sealed_size(std::size_t payload_size) const override { return payload_size; }
  std::size_t largest_payload(std::size_t size) const override { return size; }
  bool exact_size() const override { return false; }
  bool interleaves() const override { return false; }
  void prefetch(const Lane&, std::size_t, FetchList&) const noexcept override {}
  void seal(const Lane& lane, std::span<SealItem> run) noexcept override;
  void open(const Lane& lane, std::span<OpenItem> run) noexcept override;

  static void* operator new(std::size_t size) { return slab_allocate(size); }
  static void operator delete(void* memory, std::size_t size) { slab_free(memory, size); }

 private:
  Ipcomp(std::uint16_t cpi, std::shared_ptr<DeflateLanes> lanes)
      : cpi_(cpi), lanes_(std::move(lanes)) {}

  bool seal_one(DeflateLanes::Outbound& lane, SealItem& item) const;
  static OpenResult open_one(DeflateLanes::Inbound& lane, OpenItem& item);

  const std::uint16_t cpi_;
  const std::shared_ptr<DeflateLanes> lanes_;
};

}  // namespace xfrmfs::engine
