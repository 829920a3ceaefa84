// SPDX-License-Identifier: Apache-2.0
// The threads of a lane between ports and paths that the test holds in its hands.
#include "netio/worker.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/loopback_ports.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::ClearPacket;
using engine::InboundPath;
using engine::kBatch;
using engine::OutboundPath;
using engine::PacketPool;
using engine::SealedPacket;
using test::LoopbackClearPort;
using test::LoopbackWirePort;
using test::PacketText;

PacketText text(std::string_view characters) {
  PacketText bytes;
  for (const char c : characters) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}

/// Waits until `happened`; false if it does not.
template <class Condition>
bool wait_until(const Condition& happened) {
  const auto deadline = std::chrono::steady_clock::now() + test::kPatience;
  while (!happened()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

/// What the paths have counted; it outlives them.
struct Tally {
  std::atomic<std::size_t> refreshes{0};
  std::atomic<std::size_t> unsent{0};
  std::atomic<std::size_t> cpus{0};                // that the threads may use, at each refresh
  std::atomic<std::thread::id> outbound, inbound;  // who moved the last packets

  void refresh() {
    cpus += allowed_cpus().size();
    ++refreshes;
  }
};

/// "Seals" by passing on; what begins with '!' becomes a reply.
class PassingOutbound final : public OutboundPath {
 public:
  explicit PassingOutbound(Tally& tally) : tally_(tally) {}

  void process(Batch<ClearPacket>& batch, PacketPool& /*spare*/, engine::WireSink& wire,
               engine::ClearSink& replies) noexcept override {
    tally_.outbound = std::this_thread::get_id();
    for (ClearPacket& packet : batch) {
      if (packet.data()[0] == std::byte{'!'}) {
        const engine::Bytes bytes = packet.bytes();
        std::ignore = replies.deliver({.pieces = {&bytes, 1}});
      } else {
        wire.transmit(LoopbackWirePort::make(std::move(packet)));
      }
    }
    batch.clear();
  }
  void refresh() noexcept override { tally_.refresh(); }
  void count_unsent(std::size_t packets) noexcept override { tally_.unsent += packets; }

 private:
  Tally& tally_;
};

class PassingInbound final : public InboundPath {
 public:
  explicit PassingInbound(Tally& tally) : tally_(tally) {}

  void process(Batch<SealedPacket>& batch, engine::ClearSink& clear) noexcept override {
    tally_.inbound = std::this_thread::get_id();
    for (SealedPacket& packet : batch) {
      const engine::Bytes bytes = packet.bytes();
      std::ignore = clear.deliver({.pieces = {&bytes, 1}});
    }
    batch.clear();
  }
  void refresh() noexcept override { tally_.refresh(); }

 private:
  Tally& tally_;
};

class WorkerTest : public testing::Test {
 protected:
  std::unique_ptr<Worker> start(ClearPort& clear, WirePort& wire) {
    return std::make_unique<Worker>(0, clear, wire, std::make_unique<PassingOutbound>(tally_),
                                    std::make_unique<PassingInbound>(tally_));
  }
  std::unique_ptr<Worker> start() { return start(clear_, wire_); }

  Tally tally_;
  LoopbackClearPort clear_;
  LoopbackWirePort wire_;
};

TEST_F(WorkerTest, MovesPacketsOutInOrder) {
  const auto worker = start();
  clear_.arrive(text("one"));
  clear_.arrive(text("two"));
  EXPECT_EQ(wire_.next_sent(), text("one"));
  EXPECT_EQ(wire_.next_sent(), text("two"));
}

TEST_F(WorkerTest, MovesPacketsInInOrder) {
  const auto worker = start();
  wire_.arrive(text("one"));
  wire_.arrive(text("two"));
  EXPECT_EQ(clear_.next_sent(), text("one"));
  EXPECT_EQ(clear_.next_sent(), text("two"));
}

TEST_F(WorkerTest, MovesMoreThanOneBatchPerWakeUp) {
  for (std::size_t i = 0; i < 5 * kBatch + 1; ++i) clear_.arrive(text("packet"));
  clear_.arrive(text("last"));
  const auto worker = start();
  for (std::size_t i = 0; i < 5 * kBatch + 1; ++i) ASSERT_EQ(wire_.next_sent(), text("packet"));
  EXPECT_EQ(wire_.next_sent(), text("last"));
}

TEST_F(WorkerTest, WritesRepliesBack) {
  const auto worker = start();
  clear_.arrive(text("!too big"));
  EXPECT_EQ(clear_.next_sent(), text("!too big"));
}

TEST_F(WorkerTest, CountsWhatTheWireRefuses) {
  wire_.refuse_everything();
  const auto worker = start();
  for (int i = 0; i < 3; ++i) clear_.arrive(text("packet"));
  EXPECT_TRUE(wait_until([this] { return tally_.unsent == 3; }));
}

TEST_F(WorkerTest, RefreshesBothPathsWhenNudged) {
  const auto worker = start();
  worker->nudge();
  EXPECT_TRUE(wait_until([this] { return tally_.refreshes >= 2; }));
}

TEST_F(WorkerTest, PinsItsThreads) {
  const int cpu = allowed_cpus().back();
  Worker worker(0, clear_, wire_, std::make_unique<PassingOutbound>(tally_),
                std::make_unique<PassingInbound>(tally_), CpuPair{cpu, cpu});
  worker.nudge();
  ASSERT_TRUE(wait_until([this] { return tally_.refreshes >= 2; }));
  EXPECT_EQ(tally_.cpus, tally_.refreshes);
}

TEST_F(WorkerTest, OneThreadServesBothDirectionsAtRest) {
  const auto worker = start();
  clear_.arrive(text("out"));
  wire_.arrive(text("in"));
  EXPECT_EQ(wire_.next_sent(), text("out"));
  EXPECT_EQ(clear_.next_sent(), text("in"));
  EXPECT_EQ(tally_.outbound.load(), tally_.inbound.load());
}

/// Always has a packet, until it is told to stop.
class FloodingWire final : public WirePort {
 public:
  FloodingWire() {
    always_.ring();
    descriptor_[0] = always_.descriptor();
  }
  void stop() { flooding_ = false; }
  std::size_t sent() const { return sent_; }

  void receive(PacketPool& pool, Batch<SealedPacket>& batch) override {
    if (flooding_) {
      batch.push(LoopbackWirePort::make(pool, text("in")));
    } else {
      always_.quiet();
    }
  }
  void transmit(SealedPacket /*train*/) noexcept override { ++sent_; }
  std::size_t flush() noexcept override { return 0; }
  std::span<const int> descriptors() const override { return descriptor_; }

 private:
  EventFd always_;
  int descriptor_[1];
  std::atomic<bool> flooding_{true};
  std::atomic<std::size_t> sent_{0};
};

TEST_F(WorkerTest, UnderLoadEachDirectionHasItsThreadAndAfterwardsOneHasBoth) {
  FloodingWire wire;
  const auto worker = start(clear_, wire);
  const auto one_thread_moves_both = [&] {
    const std::size_t before = wire.sent();
    clear_.arrive(text("out"));
    EXPECT_TRUE(wait_until([&] { return wire.sent() > before; }));
    return tally_.outbound.load() == tally_.inbound.load();
  };
  EXPECT_TRUE(wait_until([&] { return !one_thread_moves_both(); }));
  wire.stop();
  EXPECT_TRUE(wait_until(one_thread_moves_both));
}

TEST_F(WorkerTest, StopsWhilePacketsFlow) {
  for (int round = 0; round < 20; ++round) {
    auto worker = start();
    for (int i = 0; i < 200; ++i) {
      clear_.arrive(text("out"));
      wire_.arrive(text("in"));
    }
    ASSERT_EQ(wire_.next_sent(), text("out"));
    worker.reset();
  }
}

/// Says that something waits, and then nothing does: a TUN device that was taken away.
class BrokenPort final : public ClearPort {
 public:
  BrokenPort() {
    always_.ring();
    descriptor_[0] = always_.descriptor();
  }
  void receive(PacketPool& /*pool*/, Batch<ClearPacket>& /*batch*/) override { ++looks_; }
  bool deliver(const engine::ClearTrain& /*train*/) noexcept override { return true; }
  std::span<const int> descriptors() const override { return descriptor_; }
  std::size_t looks() const { return looks_; }

 private:
  EventFd always_;
  int descriptor_[1];
  std::atomic<std::size_t> looks_{0};
};

TEST_F(WorkerTest, DoesNotSpinOnDescriptorWithoutPackets) {
  BrokenPort broken;
  const auto begin = std::chrono::steady_clock::now();
  const auto worker = start(broken, wire_);
  ASSERT_TRUE(wait_until([&] { return broken.looks() >= 10; }));
  // After the first, each look is followed by a pause and one look after it: four pauses of 10 ms.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(40));
}

}  // namespace
}  // namespace xfrmfs::netio
