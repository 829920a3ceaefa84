// SPDX-License-Identifier: Apache-2.0
// Transform: what one protocol does to a run of packets of one SA.
//
// A run is consecutive packets of one SA in one batch. Packets are worked on in place: the payload
// has head room for the protocol's header and tail room for its trailer.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/bytes.h"
#include "engine/base/types.h"
#include "engine/crypto/iv_source.h"

namespace xfrmfs::engine {

/// What a transform may use of the thread that calls it.
struct Lane {
  unsigned index = 0;  // which of the SA's per-thread sealers is ours
  IvSource* ivs = nullptr;
};

/// One packet to seal. `data`, `size` go in as the payload and come out as the protocol's packet.
struct SealItem {
  std::byte* data = nullptr;
  std::size_t size = 0;
  std::size_t headroom = 0;  // bytes that may be written in front of `data`
  std::size_t tailroom = 0;  // and behind data + size
  Protocol next_header{};
  SeqNo sequence = 0;
  bool ok = false;  // result; if false, data and size are as they were
  /// If not null: of the payload only the first `source_at` bytes are at `data`, the rest lies
  /// here and is sealed straight into its place behind them.
  const std::byte* source = nullptr;
  std::size_t source_at = 0;
};

enum class OpenResult : std::uint8_t { kOpened, kMalformed, kIntegrityFailed };

/// One packet to open. `data`, `size` go in as the protocol's packet and come out as its payload.
struct OpenItem {
  std::byte* data = nullptr;
  std::size_t size = 0;
  Protocol next_header{};  // result
  SeqNo sequence = 0;      // inferred by the replay window
  OpenResult result = OpenResult::kMalformed;
};

class Transform {
 public:
  virtual ~Transform() = default;

  /// Size of the protocol's packet around a payload, exactly. Any thread.
  virtual std::size_t sealed_size(std::size_t payload_size) const = 0;
  /// Largest payload whose packet is no bigger than `size`; 0 if none is. Any thread.
  virtual std::size_t largest_payload(std::size_t size) const = 0;

  /// The lane's outbound thread. Does not allocate, throw or lock.
  virtual void seal(const Lane& lane, std::span<SealItem> run) noexcept = 0;
  /// The lane's inbound thread. Does not allocate, throw or lock.
  virtual void open(const Lane& lane, std::span<OpenItem> run) noexcept = 0;
};

}  // namespace xfrmfs::engine
