// SPDX-License-Identifier: Apache-2.0
// Door 2: to push packets through the engine.
//
// One outbound path and one inbound path per lane, each for one thread. They take whole batches:
// the clock is read once and the published snapshot compared once per batch; per packet they do
// not allocate, log, throw, lock across packets, or wait for a reader.

#pragma once

#include <memory>

#include "engine/packet/packet.h"

namespace xfrmfs::engine {

class Engine;

/// What came out of a batch of clear packets. A packet that is in neither was dropped and counted.
struct Outgoing {
  Batch<SealedPacket> sealed;  // for the wire
  Batch<ClearPacket> replies;  // for the TUN device: ICMP too big

  void clear() {
    sealed.clear();
    replies.clear();
  }
};

class OutboundPath {
 public:
  virtual ~OutboundPath() = default;
  /// RFC 4301 §5.1. `batch` is empty afterwards; results are appended in order. One thread.
  virtual void process(Batch<ClearPacket>& batch, Outgoing& out) noexcept = 0;
  /// Lets go of an outdated snapshot when no packet comes to do it. The same thread.
  virtual void refresh() noexcept = 0;
  /// A packet made by process() that the wire port could not send. The same thread.
  virtual void count_unsent(std::size_t packets) noexcept = 0;
};

class InboundPath {
 public:
  virtual ~InboundPath() = default;
  /// RFC 4301 §5.2. `batch` is empty afterwards; `clear` gets what may enter the TUN device.
  virtual void process(Batch<SealedPacket>& batch, Batch<ClearPacket>& clear) noexcept = 0;
  virtual void refresh() noexcept = 0;
  /// A packet that process() accepted and the TUN device refused. The same thread.
  virtual void count_undelivered(std::size_t packets) noexcept = 0;
};

}  // namespace xfrmfs::engine
