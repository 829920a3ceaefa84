// SPDX-License-Identifier: Apache-2.0
// Packets on their way through the engine: who owns the bytes, and are they clear or sealed.
//
// A *train* is one buffer with up to 64 KiB of one flow: a single packet, or what segmentation
// offload makes of several. Then it looks like one large packet: the headers once, their lengths
// those of the whole, and behind them the data of all segments, `segment_size` bytes each, the last
// maybe less. It is the unit of work everywhere.
//
//   |<- kHeadroom ->|<------------ up to kMaxTrain ------------>|<- kTailroom ->|
//   |  outer headers, ESP header, IV    packet      padding, trailer, ICV       |
//
//   clear     | IP | TCP or UDP | data | data | ... |          segment_size: of the data
//   sealed    | IP | UDP, maybe | ESP  | ESP  | ... |          segment_size: of an ESP packet
//
// ClearPacket and SealedPacket are different types so that clear text cannot reach the wire by
// mistake: a wire port takes only SealedPacket, and those come from the end of the outbound path
// or from the wire itself.
//
// Thread rule: a pool, its buffers and the packets in them belong to one thread.

#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/bytes.h"

namespace xfrmfs::netio {
class WirePort;
}

namespace xfrmfs::engine {

/// Room for five nested transforms: (40 IPv6 + 8 UDP + 8 ESP + 16 IV) * 5, rounded up.
inline constexpr std::size_t kHeadroom = 384;
inline constexpr std::size_t kMaxTrain = 65535;
/// 255 padding + 2 trailer + 64 ICV, for five, cut to what alignment padding really needs:
/// (15 padding + 2 trailer + 64 ICV) * 5, rounded up.
inline constexpr std::size_t kTailroom = 448;
inline constexpr std::size_t kBufferSize = kHeadroom + kMaxTrain + 1 + kTailroom;

class PacketPool;

/// The only handle on a piece of memory of kBufferSize bytes. Returns it to its pool.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        memory_(std::exchange(other.memory_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~Buffer();

  explicit operator bool() const { return memory_ != nullptr; }
  MutableBytes bytes() { return {memory_, kBufferSize}; }
  std::byte* data() { return memory_; }
  const std::byte* data() const { return memory_; }

 private:
  friend class PacketPool;
  Buffer(PacketPool* pool, std::byte* memory) : pool_(pool), memory_(memory) {}

  PacketPool* pool_ = nullptr;
  std::byte* memory_ = nullptr;
};

/// A fixed number of buffers, allocated once. Outlives them all.
class PacketPool {
 public:
  explicit PacketPool(std::size_t buffers);
  ~PacketPool();
  PacketPool(const PacketPool&) = delete;
  PacketPool& operator=(const PacketPool&) = delete;

  /// An empty handle when all are in use.
  Buffer take() {
    if (free_.empty()) return {};
    std::byte* memory = free_.back();
    free_.pop_back();
    return {this, memory};
  }
  std::size_t available() const { return free_.size(); }

 private:
  friend class Buffer;
  void give_back(std::byte* memory) noexcept { free_.push_back(memory); }  // never above capacity

  [[maybe_unused]] std::size_t size_;  // for the check that every buffer came back
  std::unique_ptr<std::byte[]> memory_;
  std::vector<std::byte*> free_;
};

inline Buffer::~Buffer() {
  if (memory_ != nullptr) pool_->give_back(memory_);
}

/// What both kinds of packet are made of: a buffer and the part of it that is the train.
class PacketBytes {
 public:
  PacketBytes() = default;
  PacketBytes(Buffer buffer, std::size_t offset, std::size_t length)
      : buffer_(std::move(buffer)),
        offset_(static_cast<std::uint32_t>(offset)),
        length_(static_cast<std::uint32_t>(length)) {
    assert(offset + length <= kBufferSize);
  }

  explicit operator bool() const { return static_cast<bool>(buffer_); }
  /// The train, from its first IP header on.
  MutableBytes bytes() { return {buffer_.data() + offset_, length_}; }
  Bytes bytes() const { return {buffer_.data() + offset_, length_}; }
  std::byte* data() { return buffer_.data() + offset_; }
  const std::byte* data() const { return buffer_.data() + offset_; }
  std::size_t size() const { return length_; }
  /// Unused bytes in front of the train and behind it.
  std::size_t headroom() const { return offset_; }
  std::size_t tailroom() const { return kBufferSize - offset_ - length_; }

  /// Other borders within the same buffer; `start` may point into the head room.
  void reframe(std::byte* start, std::size_t length) {
    assert(start >= buffer_.data() && start + length <= buffer_.data() + kBufferSize);
    offset_ = static_cast<std::uint32_t>(start - buffer_.data());
    length_ = static_cast<std::uint32_t>(length);
  }

 private:
  Buffer buffer_;
  std::uint32_t offset_ = 0;
  std::uint32_t length_ = 0;
};

/// What the headers of a clear train's segments need besides lengths.
enum class Cut : std::uint8_t {
  kWhole,  // a single packet
  kTcp,    // sequence numbers, flags, checksum
  kUdp,    // checksum
};

/// A train of unprotected packets, from the TUN device to the engine. The transport checksum of a
/// single packet is complete, that of a train is not looked at.
class ClearPacket : public PacketBytes {
 public:
  using PacketBytes::PacketBytes;
  explicit ClearPacket(PacketBytes bytes) : PacketBytes(std::move(bytes)) {}
  ClearPacket(PacketBytes bytes, Cut cut, std::uint16_t segment_size)
      : PacketBytes(std::move(bytes)), cut_(cut), segment_size_(segment_size) {}

  Cut cut() const { return cut_; }
  /// Data bytes in each segment but the last; of no meaning for kWhole.
  std::uint16_t segment_size() const { return segment_size_; }

 private:
  Cut cut_ = Cut::kWhole;
  std::uint16_t segment_size_ = 0;
};

/// A train of protected packets: one outer header, then ESP packets of equal size.
class SealedPacket : public PacketBytes {
 public:
  SealedPacket() = default;

  /// Size of each ESP packet but the last; 0: there is one.
  std::uint16_t segment_size() const { return segment_size_; }

 private:
  friend class Outbound;         // engine/path/outbound.cc: sealed just now
  friend class netio::WirePort;  // received from the wire, so sealed by whoever sent it
  explicit SealedPacket(PacketBytes bytes, std::uint16_t segment_size = 0)
      : PacketBytes(std::move(bytes)), segment_size_(segment_size) {}

  std::uint16_t segment_size_ = 0;
};

/// Clear packets on their way into the TUN device, as one: consecutive segments of one flow, their
/// checksums verified, or a single packet as it is. A view: valid during the call that gets it.
struct ClearTrain {
  /// Headers and data of the first segment, then the data of the following ones.
  std::span<const Bytes> pieces;
  Cut cut = Cut::kWhole;
  /// The rest only if not kWhole. The IP and UDP lengths are those of the whole; the transport
  /// checksum holds the folded sum of the pseudo header, not inverted (virtio: NEEDS_CSUM).
  bool ipv6 = false;
  std::uint16_t transport_offset = 0;  // size of the IP header
  std::uint16_t header_size = 0;       // IP and transport
  std::uint16_t segment_size = 0;

  /// For the counters.
  std::size_t packets() const { return pieces.size(); }
};

/// Up to kBatch packets, in order. Storage is reused; nothing allocates.
inline constexpr std::size_t kBatch = 64;

template <class Packet>
class Batch {
 public:
  bool full() const { return size_ == kBatch; }
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  Packet& operator[](std::size_t i) { return packets_[i]; }
  const Packet& operator[](std::size_t i) const { return packets_[i]; }
  Packet* begin() { return packets_.data(); }
  Packet* end() { return packets_.data() + size_; }

  /// The batch must not be full.
  void push(Packet packet) {
    assert(!full());
    packets_[size_++] = std::move(packet);
  }
  void clear() {
    for (std::size_t i = 0; i < size_; ++i) packets_[i] = Packet();
    size_ = 0;
  }

 private:
  std::array<Packet, kBatch> packets_;
  std::size_t size_ = 0;
};

}  // namespace xfrmfs::engine
