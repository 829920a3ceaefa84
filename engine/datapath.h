// SPDX-License-Identifier: Apache-2.0
// Door 2: to push packets through the engine.
//
// One outbound path and one inbound path per lane, each for one thread. They take whole batches of
// trains: the clock is read once and the published snapshot compared once per batch; per packet
// they do not allocate, log, throw, lock across packets, or wait for a reader. What comes out goes
// into a sink at once, while it is in the cache.

#pragma once

#include <cstddef>
#include <memory>

#include "engine/packet/packet.h"

namespace xfrmfs::engine {

class Engine;

/// Where sealed trains go.
class WireSink {
 public:
  virtual ~WireSink() = default;
  /// Takes the train over. It may stay in the sink until whoever owns that flushes it.
  virtual void transmit(SealedPacket train) noexcept = 0;
};

/// Which joined segments a sink understands; without any it gets single packets only.
struct Joins {
  bool tcp = false;
  bool udp = false;
  /// A train has no more pieces than this: UDP_MAX_SEGMENTS, and as much as one send brings.
  static constexpr std::size_t kMostPieces = 64;
};

/// Where clear trains go.
class ClearSink {
 public:
  virtual ~ClearSink() = default;
  /// The same for as long as the sink lives.
  virtual Joins joins() const noexcept { return {}; }
  /// False if the device refused it. The bytes are the caller's again afterwards.
  virtual bool deliver(const ClearTrain& train) noexcept = 0;
};

/// A packet that comes out of neither sink was dropped and counted.
class OutboundPath {
 public:
  virtual ~OutboundPath() = default;
  /// RFC 4301 §5.1. `batch` is empty afterwards. `replies` gets ICMP errors for the senders.
  /// `spare` gives buffers for what a train becomes; it needs kSpareBuffers, beyond those that
  /// `wire` may keep. One thread.
  virtual void process(Batch<ClearPacket>& batch, PacketPool& spare, WireSink& wire,
                       ClearSink& replies) noexcept = 0;
  /// Lets go of an outdated snapshot when no packet comes to do it. The same thread.
  virtual void refresh() noexcept = 0;
  /// Packets that went into the sink and could not be sent. The same thread.
  virtual void count_unsent(std::size_t packets) noexcept = 0;

  static constexpr std::size_t kSpareBuffers = 6;  // one for each SA of a bundle, one that waits
};

class InboundPath {
 public:
  virtual ~InboundPath() = default;
  /// RFC 4301 §5.2. `batch` is empty afterwards; `clear` gets what may enter the TUN device.
  virtual void process(Batch<SealedPacket>& batch, ClearSink& clear) noexcept = 0;
  virtual void refresh() noexcept = 0;
};

}  // namespace xfrmfs::engine
