// SPDX-License-Identifier: Apache-2.0
// The clear side: a TUN device, one queue of it per lane (Linux, Documentation/networking/tuntap).
//
// What the host routes into the device arrives here; what is written here, the host receives. With
// offloads both are trains: the kernel neither cuts nor computes checksums for us, nor we for it.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "netio/file_descriptor.h"
#include "netio/ports.h"

namespace xfrmfs::netio {

/// What the device does with trains; depends on the kernel.
struct Offloads {
  bool header = false;    // packets have a virtio header: TCP trains can be written
  bool checksum = false;  // packets come without transport checksum
  bool tcp4 = false;      // TCP trains come, over IPv4
  bool tcp6 = false;
  bool ecn = false;  // also those with CWR in the first segment
  bool udp = false;  // UDP trains come and can be written

  /// E.g. "checksum,tcp4,tcp6,ecn,udp"; "off" if there is nothing.
  std::string text() const;
  bool operator==(const Offloads&) const = default;
};

/// One queue. receive(): one thread; deliver(): any thread, it keeps no state.
class TunQueue final : public ClearPort {
 public:
  TunQueue(FileDescriptor fd, const Offloads& offloads)
      : fd_(std::move(fd)), offloads_(offloads), polled_{fd_.get()} {}

  void receive(engine::PacketPool& pool, engine::Batch<engine::ClearPacket>& batch) override;
  engine::Joins joins() const noexcept override;
  bool deliver(const engine::ClearTrain& train) noexcept override;
  std::span<const int> descriptors() const override { return polled_; }

 private:
  FileDescriptor fd_;
  Offloads offloads_;
  std::array<int, 1> polled_;
};

/// The interface; it lives as long as this object. It sends nothing by itself: no IPv6 address of
/// its own, no router solicitation.
class TunInterface {
 public:
  struct Options {
    std::string name;
    unsigned queues = 1;
    std::uint32_t mtu = 0;
    bool offload = true;  // as far as the kernel can
  };

  /// Makes the interface in the calling thread's network namespace, down. Throws EBUSY if the name
  /// is taken.
  explicit TunInterface(const Options& options);

  void bring_up();

  ClearPort& queue(unsigned lane) { return *queues_[lane]; }
  const std::string& name() const { return name_; }
  int index() const { return index_; }
  const Offloads& offloads() const { return offloads_; }

 private:
  std::string name_;
  int index_ = 0;
  Offloads offloads_;
  std::vector<std::unique_ptr<TunQueue>> queues_;
};

}  // namespace xfrmfs::netio
