// SPDX-License-Identifier: Apache-2.0
#include "netio/worker.h"

#include <chrono>
#include <cstddef>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <pthread.h>

#include "netio/waiter.h"

namespace xfrmfs::netio {
namespace {

using engine::kBatch;

/// A batch being read, one kept by the wire port, and what the path may ask for.
constexpr std::size_t kPoolBuffers = kBatch + kMostKept + engine::OutboundPath::kSpareBuffers;

using std::chrono::milliseconds;

/// One thread serves both directions until it is busy for more than half of a short time, and again
/// when both together were busy for less than a third of a longer one. Between the two rates
/// nothing changes hands.
constexpr milliseconds kSplitWindow{2};
constexpr int kSplitPercent = 50;
constexpr milliseconds kJoinWindow{20};
constexpr int kJoinPercent = 30;

void name_this_thread(const std::string& name) noexcept {
  std::ignore = ::pthread_setname_np(::pthread_self(), name.c_str());  // only for the eyes
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

void Worker::run_inbound() noexcept {
  Waiter waiter(inbound_.doorbell, wire_.descriptors(), clear_.descriptors());
  BusyMeter& meter = inbound_.meter;
  LoadWindow load(kSplitWindow);
  while (true) {
    meter.tick();
    const bool both = !split_.load(std::memory_order_acquire);
    if (load.end(meter.now(), meter.total()).value_or(0) > kSplitPercent && both) {
      split();
      continue;
    }
    const auto ready = waiter.wait(both ? 2 : 1);
    meter.woke();
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (ready.rang) {
      inbound_.path->refresh();
      if (both) outbound_.path->refresh();
    }
    const auto [wire_ready, clear_ready] = ready.groups;
    const bool brought = wire_ready && move_inbound();
    if (wire_ready) waiter.served(Waiter::kFirst, brought);
    // What was brought in may have been answered already.
    const bool taken = both && (clear_ready || brought) && move_outbound();
    if (clear_ready) waiter.served(Waiter::kSecond, taken);
  }
}

void Worker::run_outbound() noexcept {
  Waiter waiter(outbound_.doorbell, clear_.descriptors());
  BusyMeter& meter = outbound_.meter;
  LoadWindow load(kJoinWindow);
  const auto busy = [&] { return meter.total() + inbound_.meter.total(); };
  bool mine = false;
  while (true) {
    meter.tick();
    if (mine && load.end(meter.now(), busy()).value_or(kJoinPercent) < kJoinPercent) join();
    const bool was_mine = std::exchange(mine, split_.load(std::memory_order_acquire));
    if (mine && !was_mine) load.begin(meter.now(), busy());
    const auto ready = mine ? waiter.wait(1, kJoinWindow) : waiter.wait(0);
    meter.woke();
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (!mine) continue;
    if (ready.rang) outbound_.path->refresh();
    if (ready.groups[Waiter::kFirst]) waiter.served(Waiter::kFirst, move_outbound());
  }
}

void Worker::split() noexcept {
  split_.store(true, std::memory_order_release);
  outbound_.doorbell.ring();
}

void Worker::join() noexcept {
  split_.store(false, std::memory_order_release);
  inbound_.doorbell.ring();
}

bool Worker::move_outbound() noexcept {
  OutboundHalf& half = outbound_;
  clear_.receive(half.pool, half.arrived);
  if (half.arrived.empty()) return false;
  half.path->process(half.arrived, half.pool, wire_, clear_);
  const std::size_t unsent = wire_.flush();
  if (unsent != 0) half.path->count_unsent(unsent);
  return true;
}

bool Worker::move_inbound() noexcept {
  InboundHalf& half = inbound_;
  wire_.receive(half.pool, half.arrived);
  if (half.arrived.empty()) return false;
  half.path->process(half.arrived, clear_);
  return true;
}

}  // namespace xfrmfs::netio
