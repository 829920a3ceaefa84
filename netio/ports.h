// SPDX-License-Identifier: Apache-2.0
// The two sides of a worker: ClearPort (the TUN device) and WirePort (the network).
//
// Each is used by one lane: receive() by one of its threads, send() by the other, at the same
// time. receive() never blocks, readiness is polled on the descriptors; send() may wait a few
// milliseconds, once per batch, while the system's queue is full. Set-up failures throw
// std::system_error, per-packet failures are counted by the caller.

#pragma once

#include <cstddef>
#include <span>

#include "engine/packet/packet.h"

namespace xfrmfs::netio {

class ClearPort {
 public:
  virtual ~ClearPort() = default;
  /// Fills `batch` with buffers of `pool` until it is full or nothing is waiting.
  virtual void receive(engine::PacketPool& pool, engine::Batch<engine::ClearPacket>& batch) = 0;
  /// Writes the batch and empties it; the number of packets that the device refused.
  virtual std::size_t send(engine::Batch<engine::ClearPacket>& batch) = 0;
  /// What to poll for POLLIN before receive().
  virtual std::span<const int> descriptors() const = 0;
};

class WirePort {
 public:
  virtual ~WirePort() = default;
  virtual void receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) = 0;
  virtual std::size_t send(engine::Batch<engine::SealedPacket>& batch) = 0;
  virtual std::span<const int> descriptors() const = 0;

 protected:
  /// The one way to make a SealedPacket outside the engine: bytes that came from the wire.
  static engine::SealedPacket received(engine::PacketBytes bytes) {
    return engine::SealedPacket(std::move(bytes));
  }
};

}  // namespace xfrmfs::netio
