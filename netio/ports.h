// SPDX-License-Identifier: Apache-2.0
// The two sides of a worker: ClearPort (the TUN device) and WirePort (the network).
//
// Each is used by one lane: receive() by one of its threads, the sink by the other, at the same
// time. receive() never blocks, readiness is polled on the descriptors; flush() may wait a few
// milliseconds, once per batch, while the system's queue is full. Set-up failures throw
// std::system_error, per-packet failures are counted by the caller.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "engine/datapath.h"
#include "engine/packet/packet.h"

namespace xfrmfs::netio {

/// What receive() is content with: more bytes would push the first ones out of the cache.
inline constexpr std::size_t kEnoughBytes = 128 * 1024;

/// deliver() may be called by both threads of the lane.
class ClearPort : public engine::ClearSink {
 public:
  /// Fills `batch` with buffers of `pool` until it is full, nothing is waiting, or there are
  /// kEnoughBytes.
  virtual void receive(engine::PacketPool& pool, engine::Batch<engine::ClearPacket>& batch) = 0;
  /// What to poll for POLLIN before receive().
  virtual std::span<const int> descriptors() const = 0;
};

/// transmit() collects trains and sends when it has enough of them.
class WirePort : public engine::WireSink {
 public:
  /// As ClearPort::receive().
  virtual void receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) = 0;
  /// Sends what transmit() has collected. How many packets could not be sent since the last call;
  /// a train counts as its segments.
  virtual std::size_t flush() noexcept = 0;
  virtual std::span<const int> descriptors() const = 0;

 protected:
  /// The one way to make a SealedPacket outside the engine: bytes that came from the wire.
  /// `segment_size`: as SealedPacket has it.
  static engine::SealedPacket received(engine::PacketBytes bytes, std::uint16_t segment_size = 0) {
    return engine::SealedPacket(std::move(bytes), segment_size);
  }
};

/// A wire port keeps at most so many trains between transmit() and flush().
inline constexpr std::size_t kMostKept = engine::kBatch;

}  // namespace xfrmfs::netio
