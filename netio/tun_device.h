// SPDX-License-Identifier: Apache-2.0
// The clear side: a TUN device, one queue of it per lane (Linux, Documentation/networking/tuntap).
//
// What the host routes into the device arrives here; what is written here, the host receives.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "netio/file_descriptor.h"
#include "netio/ports.h"

namespace xfrmfs::netio {

/// One queue. receive(): one thread; deliver(): any thread, it keeps no state.
class TunQueue final : public ClearPort {
 public:
  explicit TunQueue(FileDescriptor fd) : fd_(std::move(fd)), polled_{fd_.get()} {}

  void receive(engine::PacketPool& pool, engine::Batch<engine::ClearPacket>& batch) override;
  bool deliver(const engine::ClearTrain& train) noexcept override;
  std::span<const int> descriptors() const override { return polled_; }

 private:
  FileDescriptor fd_;
  std::array<int, 1> polled_;
};

/// The interface; it lives as long as this object. It sends nothing by itself: no IPv6 address of
/// its own, no router solicitation.
class TunInterface {
 public:
  /// Makes the interface in the calling thread's network namespace, down. Throws EBUSY if the name
  /// is taken.
  TunInterface(const std::string& name, unsigned queues, std::uint32_t mtu);

  void bring_up();

  ClearPort& queue(unsigned lane) { return *queues_[lane]; }
  const std::string& name() const { return name_; }
  int index() const { return index_; }

 private:
  std::string name_;
  int index_ = 0;
  std::vector<std::unique_ptr<TunQueue>> queues_;
};

}  // namespace xfrmfs::netio
