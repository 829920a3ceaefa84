// SPDX-License-Identifier: Apache-2.0
// Sinks that keep what the paths put into them, each packet of a train alone, as a receiver without
// offloads would see it.
//
// Written apart from the engine's own cutting and joining, so that one can judge the other.

#pragma once

#include <cstddef>
#include <vector>

#include "engine/datapath.h"

namespace xfrmfs::testing {

using PacketData = std::vector<std::byte>;

/// The datagrams of a sealed train: outer headers with right lengths, identifications that count
/// up, checksums of the IP headers right; the UDP checksum as it was.
std::vector<PacketData> split(const engine::SealedPacket& train);
/// The packets of a clear train, checksums complete.
std::vector<PacketData> split(const engine::ClearTrain& train);

/// Makes the checksum of a TCP or UDP packet right, whatever it was.
void fill_checksum(PacketData& packet);

class WireCollector final : public engine::WireSink {
 public:
  void transmit(engine::SealedPacket train) noexcept override {
    for (PacketData& packet : split(train)) packets.push_back(std::move(packet));
    sizes.push_back(train.segment_size());
    trains.push_back(std::move(train));
  }

  std::vector<PacketData> packets;
  std::vector<std::size_t> sizes;  // segment size of each train
  std::vector<engine::SealedPacket> trains;
};

class ClearCollector final : public engine::ClearSink {
 public:
  explicit ClearCollector(engine::Joins joins = {}) : joins_(joins) {}

  engine::Joins joins() const noexcept override { return joins_; }
  bool deliver(const engine::ClearTrain& train) noexcept override {
    for (PacketData& packet : split(train)) packets.push_back(std::move(packet));
    counts.push_back(train.packets());
    return true;
  }

  std::vector<PacketData> packets;
  std::vector<std::size_t> counts;  // packets in each train

 private:
  engine::Joins joins_;
};

}  // namespace xfrmfs::testing
