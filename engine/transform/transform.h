// SPDX-License-Identifier: Apache-2.0
// Transform: what one protocol does to a run of packets of one SA.
//
// A run is consecutive packets of one SA in one batch. A packet is sealed where it lies, with room
// for the protocol's header in front and for its trailer behind; or from its place in a train
// straight into the outgoing frame.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/bytes.h"
#include "engine/base/prefetch.h"
#include "engine/base/types.h"
#include "engine/crypto/iv_source.h"
#include "engine/crypto/sealer.h"

namespace xfrmfs::engine {

/// What a transform may use of the thread that calls it.
struct Lane {
  unsigned index = 0;  // which of the SA's per-thread sealers is ours
  IvSource* ivs = nullptr;
  CryptoLane* crypto = nullptr;  // this thread's in this direction; may be null, at a cost
};

/// One packet to seal.
struct SealItem {
  /// Where the protocol's packet goes; head_size() bytes of header come first.
  std::byte* packet = nullptr;
  std::size_t room = 0;  // bytes that may be written from `packet` on
  /// The clear payload: at packet + head_size(), to be sealed in place, or in other memory. Then
  /// kSealTail bytes behind it may be written (the trailer is put there first) and are not
  /// restored.
  std::byte* payload = nullptr;
  std::size_t size = 0;  // of the payload; result: of the protocol's packet
  Protocol next_header{};
  SeqNo sequence = 0;
  bool ok = false;  // result; if false, `size` is as it was and the packet undefined
  /// Result: the payload, as it was, begins at `packet`, and the header in front must name
  /// `next_header` instead of the protocol (RFC 3173 §2.2). Only if sizes are not exact.
  bool bare = false;
  /// The IP header in front of the protocol's packet with all extension headers between, complete
  /// but for its checksum. Looked at only if covers_ip_header().
  std::uint32_t ip_header_size = 0;
  const std::byte* ip_header = nullptr;
};

/// The longest padding and trailer behind a payload of any transform.
inline constexpr std::size_t kSealTail = 32;

enum class OpenResult : std::uint8_t { kOpened, kMalformed, kIntegrityFailed };

/// One packet to open. `data`, `size` go in as the protocol's packet and come out as its payload.
struct OpenItem {
  std::byte* data = nullptr;
  std::size_t size = 0;
  Protocol next_header{};  // result
  SeqNo sequence = 0;      // inferred by the replay window
  OpenResult result = OpenResult::kMalformed;
  /// The IP header in front as it came over the wire, all extension headers between included.
  /// Looked at only if covers_ip_header().
  std::uint32_t ip_header_size = 0;
  const std::byte* ip_header = nullptr;
  /// Where a payload goes that is larger than its packet, and bytes that may be written there. The
  /// packet itself may lie in it. Looked at only if sizes are not exact.
  std::byte* place = nullptr;
  std::size_t room = 0;
};

class Transform {
 public:
  virtual ~Transform() = default;

  /// Bytes of header in front of the payload. Any thread.
  virtual std::size_t head_size() const = 0;
  /// Size of the protocol's packet around a payload: exactly, or at most. Any thread.
  virtual std::size_t sealed_size(std::size_t payload_size) const = 0;
  /// Largest payload whose packet is no bigger than `size`; 0 if none is. Any thread.
  virtual std::size_t largest_payload(std::size_t size) const = 0;

  /// False: a packet may come out smaller than sealed_size(), or bare (SealItem::bare), and opens
  /// to something larger, for which its item has a place. Any thread.
  virtual bool exact_size() const { return true; }
  /// True: the IP header is protected too; items must have it. Any thread.
  virtual bool covers_ip_header() const { return false; }

  /// True: packets of a run are worked on at the same time, so that their payloads must not
  /// overlap, and long runs are faster. False: one after the other, in order. Any thread.
  virtual bool interleaves() const = 0;
  /// What a packet of this size needs of the keys. The lane's threads.
  virtual void prefetch(const Lane& lane, std::size_t size, FetchList& list) const noexcept = 0;

  /// The lane's outbound thread. Does not allocate, throw or lock.
  virtual void seal(const Lane& lane, std::span<SealItem> run) noexcept = 0;
  /// The lane's inbound thread. Does not allocate, throw or lock.
  virtual void open(const Lane& lane, std::span<OpenItem> run) noexcept = 0;
};

}  // namespace xfrmfs::engine
