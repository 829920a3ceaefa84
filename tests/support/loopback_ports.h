// SPDX-License-Identifier: Apache-2.0
// Ports whose other side is the test: what the test puts in arrives, what is sent the test sees.
//
// The test's side is for any thread; the port's side follows netio/ports.h.

#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "netio/event_fd.h"
#include "netio/ports.h"

namespace xfrmfs::test {

using PacketText = std::vector<std::byte>;

/// How long a test waits for what must happen before it gives up.
inline constexpr auto kPatience = std::chrono::seconds(20);

template <class Port, class Packet>
class LoopbackPort : public Port {
 public:
  LoopbackPort() { descriptor_[0] = waiting_.descriptor(); }

  // --- The test's side.

  void arrive(PacketText packet) {
    const std::scoped_lock lock(mutex_);
    arriving_.push_back(std::move(packet));
    waiting_.ring();
  }
  /// From now on the port refuses every packet.
  void refuse_everything() {
    const std::scoped_lock lock(mutex_);
    refusing_ = true;
  }
  /// The next packet that was sent; nothing if none comes in time.
  std::optional<PacketText> next_sent() {
    std::unique_lock lock(mutex_);
    if (!sent_something_.wait_for(lock, kPatience, [this] { return !sent_.empty(); })) return {};
    PacketText packet = std::move(sent_.front());
    sent_.pop_front();
    return packet;
  }

  /// A packet as it comes from a port of this kind.
  static Packet make(engine::PacketBytes bytes, std::uint16_t segment_size = 0) {
    if constexpr (std::is_same_v<Packet, engine::ClearPacket>) {
      return Packet(std::move(bytes));
    } else {
      return Port::received(std::move(bytes), segment_size);
    }
  }
  static Packet make(engine::PacketPool& pool, const PacketText& text) {
    engine::Buffer buffer = pool.take();
    std::ranges::copy(text, buffer.data() + engine::kHeadroom);
    return make(engine::PacketBytes(std::move(buffer), engine::kHeadroom, text.size()));
  }

  // --- The port's side.

  void receive(engine::PacketPool& pool, engine::Batch<Packet>& batch) override {
    const std::scoped_lock lock(mutex_);
    while (!batch.full() && !arriving_.empty() && pool.available() != 0) {
      batch.push(make(pool, arriving_.front()));
      arriving_.pop_front();
    }
    if (arriving_.empty()) waiting_.quiet();
  }
  std::span<const int> descriptors() const override { return descriptor_; }

 protected:
  /// False: refused.
  bool take(engine::Bytes packet) {
    const std::scoped_lock lock(mutex_);
    if (!refusing_) sent_.emplace_back(packet.begin(), packet.end());
    sent_something_.notify_all();
    return !refusing_;
  }

 private:
  netio::EventFd waiting_;  // rings while something arrives
  int descriptor_[1];
  std::mutex mutex_;  // guards what follows
  std::condition_variable sent_something_;
  std::deque<PacketText> arriving_;
  std::deque<PacketText> sent_;
  bool refusing_ = false;
};

class LoopbackClearPort final : public LoopbackPort<netio::ClearPort, engine::ClearPacket> {
 public:
  bool deliver(const engine::ClearTrain& train) noexcept override {
    return take(train.pieces.front());
  }
};

class LoopbackWirePort final : public LoopbackPort<netio::WirePort, engine::SealedPacket> {
 public:
  void transmit(engine::SealedPacket train) noexcept override {
    if (!take(std::as_const(train).bytes())) ++refused_;
  }
  std::size_t flush() noexcept override { return std::exchange(refused_, 0); }

 private:
  std::size_t refused_ = 0;
};

}  // namespace xfrmfs::test
