// SPDX-License-Identifier: Apache-2.0
#include "netio/worker.h"

#include <cstddef>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include <poll.h>
#include <pthread.h>

namespace xfrmfs::netio {
namespace {

using engine::kBatch;

/// A batch being read, one kept by the wire port, and what the path may ask for.
constexpr std::size_t kPoolBuffers = kBatch + kMostKept + engine::OutboundPath::kSpareBuffers;

/// After two wake-ups in a row that brought no packet (the device is down, all buffers wait inside
/// the path): how long to look away from the descriptors, so that a lasting condition does not
/// spin. One is nothing: what came may have been a keep-alive.
constexpr int kPauseMs = 10;

/// Waits for packets or the doorbell.
class Waiter {
 public:
  Waiter(std::span<const int> descriptors, EventFd& doorbell) : doorbell_(doorbell) {
    polled_.push_back({.fd = doorbell.descriptor(), .events = POLLIN, .revents = 0});
    for (const int fd : descriptors) {
      polled_.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    }
  }

  /// True if the doorbell rang, or a pause ended: there may be something else to do than packets.
  bool wait() noexcept {
    const nfds_t count = paused_ ? 1 : polled_.size();
    const int ready = ::poll(polled_.data(), count, paused_ ? kPauseMs : -1);
    const bool pause_ended = paused_ && ready == 0;
    paused_ = false;
    if (ready <= 0) return pause_ended;
    if (polled_[0].revents == 0) return false;
    doorbell_.quiet();
    return true;
  }

  /// The wake-up brought no packet.
  void pause() noexcept { paused_ = true; }

 private:
  EventFd& doorbell_;
  std::vector<pollfd> polled_;  // the doorbell first
  bool paused_ = false;
};

void name_this_thread(const std::string& name) noexcept {
  std::ignore = ::pthread_setname_np(::pthread_self(), name.c_str());  // only for the eyes
}

/// Moves batches until `stopping`. `move` moves one and returns its size; `refresh` is called when
/// the doorbell rings.
template <class Move, class Refresh>
void run(Waiter waiter, const std::atomic<bool>& stopping, const Move& move,
         const Refresh& refresh) noexcept {
  bool in_vain = false;
  while (true) {
    const bool rang = waiter.wait();
    if (stopping.load(std::memory_order_relaxed)) return;
    if (rang) refresh();
    std::size_t moved = move();
    if (moved == 0 && !rang && std::exchange(in_vain, true)) waiter.pause();
    if (moved != 0) in_vain = false;
    while (moved == kBatch && !stopping.load(std::memory_order_relaxed)) moved = move();
  }
}

}  // namespace

Worker::Half::Half() : pool(kPoolBuffers) {}

Worker::Worker(unsigned lane, ClearPort& clear, WirePort& wire,
               std::unique_ptr<engine::OutboundPath> outbound,
               std::unique_ptr<engine::InboundPath> inbound, std::optional<CpuPair> cpus)
    : clear_(clear), wire_(wire) {
  outbound_.path = std::move(outbound);
  inbound_.path = std::move(inbound);
  const std::string outbound_name = fmt::format("xfrmfs/out{}", lane);
  const std::string inbound_name = fmt::format("xfrmfs/in{}", lane);
  try {
    outbound_thread_ = std::jthread([this, outbound_name] {
      name_this_thread(outbound_name);
      run_outbound();
    });
    inbound_thread_ = std::jthread([this, inbound_name] {
      name_this_thread(inbound_name);
      run_inbound();
    });
    if (cpus) {
      pin_thread(outbound_thread_.native_handle(), cpus->outbound, outbound_name);
      pin_thread(inbound_thread_.native_handle(), cpus->inbound, inbound_name);
    }
  } catch (...) {
    stop();
    throw;
  }
}

Worker::~Worker() {
  stop();
}

void Worker::stop() noexcept {
  stopping_.store(true, std::memory_order_relaxed);  // a flag that guards nothing
  nudge();
  outbound_thread_ = {};
  inbound_thread_ = {};
}

void Worker::nudge() noexcept {
  outbound_.doorbell.ring();
  inbound_.doorbell.ring();
}

void Worker::run_outbound() noexcept {
  run(
      Waiter(clear_.descriptors(), outbound_.doorbell), stopping_,
      [this] { return move_outbound(); }, [this] { outbound_.path->refresh(); });
}

void Worker::run_inbound() noexcept {
  run(
      Waiter(wire_.descriptors(), inbound_.doorbell), stopping_, [this] { return move_inbound(); },
      [this] { inbound_.path->refresh(); });
}

std::size_t Worker::move_outbound() noexcept {
  OutboundHalf& half = outbound_;
  clear_.receive(half.pool, half.arrived);
  const std::size_t arrived = half.arrived.size();
  if (arrived == 0) return 0;
  half.path->process(half.arrived, half.pool, wire_, clear_);
  const std::size_t unsent = wire_.flush();
  if (unsent != 0) half.path->count_unsent(unsent);
  return arrived;
}

std::size_t Worker::move_inbound() noexcept {
  InboundHalf& half = inbound_;
  wire_.receive(half.pool, half.arrived);
  const std::size_t arrived = half.arrived.size();
  if (arrived == 0) return 0;
  half.path->process(half.arrived, clear_);
  return arrived;
}

}  // namespace xfrmfs::netio
