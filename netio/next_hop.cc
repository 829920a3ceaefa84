// SPDX-License-Identifier: Apache-2.0
#include "netio/next_hop.h"

#include <algorithm>
#include <cstring>

#include <time.h>

namespace xfrmfs::netio {
namespace {

using engine::Family;
using engine::IpAddress;

/// Of `how`: | link-layer address, 48 | family, 8 | way, 8 |
constexpr unsigned kFamilyShift = 8;
constexpr unsigned kAddressShift = 16;

constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio

std::uint32_t seconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint32_t>(now.tv_sec);
}

Family family_in(std::uint64_t how) {
  return static_cast<Family>(static_cast<std::uint8_t>(how >> kFamilyShift));
}

}  // namespace

NextHopTable::NextHopTable() : sets_(kSets) {}

NextHopTable::Key NextHopTable::key_of(const Ends& ends) {
  Key key;
  std::memcpy(key.data(), ends.source.storage().data(), 16);
  std::memcpy(key.data() + 2, ends.destination.storage().data(), 16);
  return key;
}

NextHopTable::Value NextHopTable::value_of(Family family, const NextHop& hop) {
  std::uint64_t address = 0;
  std::memcpy(&address, hop.address.data(), hop.address.size());
  return {.where = std::uint64_t{static_cast<std::uint32_t>(hop.link)} << 32 | hop.mtu,
          .how = address << kAddressShift |
                 std::uint64_t{static_cast<std::uint8_t>(family)} << kFamilyShift |
                 static_cast<std::uint8_t>(hop.way)};
}

NextHop NextHopTable::hop_of(const Value& value) {
  NextHop hop;
  hop.way = static_cast<NextHop::Way>(static_cast<std::uint8_t>(value.how));
  hop.link = static_cast<int>(value.where >> 32);
  hop.mtu = static_cast<std::uint32_t>(value.where);
  const std::uint64_t address = value.how >> kAddressShift;
  std::memcpy(hop.address.data(), &address, hop.address.size());
  return hop;
}

NextHopTable::Set& NextHopTable::set_of(const Key& key, Family family) {
  auto hash = static_cast<std::uint64_t>(family);
  for (const std::uint64_t word : key) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  }
  return sets_[hash % kSets];
}

// Each load acquires, so that none of them moves behind the second look at the version.
std::optional<NextHopTable::Value> NextHopTable::read(const Slot& slot, const Key& key,
                                                      Family family) {
  const std::uint32_t version = slot.version.load(std::memory_order_acquire);
  if (version % 2 != 0) return std::nullopt;
  for (std::size_t i = 0; i < kKeyWords; ++i) {
    if (slot.key[i].load(std::memory_order_acquire) != key[i]) return std::nullopt;
  }
  const Value value{.where = slot.where.load(std::memory_order_acquire),
                    .how = slot.how.load(std::memory_order_acquire)};
  if (slot.version.load(std::memory_order_relaxed) != version) return std::nullopt;
  if (family_in(value.how) != family) return std::nullopt;
  return value;
}

// Each store releases, so that none of them moves before the version becomes odd.
void NextHopTable::write(Slot& slot, const Key& key, const Value& value) noexcept {
  const std::uint32_t version = slot.version.load(std::memory_order_relaxed);
  slot.version.store(version + 1, std::memory_order_relaxed);
  for (std::size_t i = 0; i < kKeyWords; ++i) {
    slot.key[i].store(key[i], std::memory_order_release);
  }
  slot.where.store(value.where, std::memory_order_release);
  slot.how.store(value.how, std::memory_order_release);
  slot.version.store(version + 2, std::memory_order_release);
}

std::optional<NextHop> NextHopTable::find(const Ends& ends) noexcept {
  if (!allowed()) return std::nullopt;
  const Key key = key_of(ends);
  const Family family = ends.destination.family();
  for (Slot& slot : set_of(key, family)) {
    const auto value = read(slot, key, family);
    if (!value) continue;
    if (!slot.used.load(std::memory_order_relaxed)) {
      slot.used.store(true, std::memory_order_relaxed);
    }
    const NextHop hop = hop_of(*value);
    switch (hop.way) {
      case NextHop::Way::kSocket:
        return std::nullopt;
      case NextHop::Way::kDirect:
        return hop;
      case NextHop::Way::kConfirm:
        // Once in a second, of all lanes together.
        const std::uint32_t now = seconds_now();
        std::uint32_t last = slot.confirmed.load(std::memory_order_relaxed);
        if (last != now &&
            slot.confirmed.compare_exchange_strong(last, now, std::memory_order_relaxed)) {
          return std::nullopt;
        }
        return hop;
    }
  }
  request(ends);
  return std::nullopt;
}

void NextHopTable::request(const Ends& ends) noexcept {
  if (requests_full_.load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(requests_mutex_, std::try_to_lock);
  if (!lock || request_count_ == kMostRequests) return;
  const auto end = requests_.begin() + static_cast<std::ptrdiff_t>(request_count_);
  if (std::find(requests_.begin(), end, ends) != end) return;
  requests_[request_count_++] = ends;
  if (request_count_ == 1) asked_.ring();
  if (request_count_ == kMostRequests) requests_full_.store(true, std::memory_order_relaxed);
}

std::vector<Ends> NextHopTable::take_requests() {
  std::vector<Ends> taken;
  taken.reserve(kMostRequests);
  asked_.quiet();
  const std::scoped_lock lock(requests_mutex_);
  taken.assign(requests_.begin(), requests_.begin() + static_cast<std::ptrdiff_t>(request_count_));
  request_count_ = 0;
  requests_full_.store(false, std::memory_order_relaxed);
  return taken;
}

bool NextHopTable::put(const Ends& ends, const ResolvedHop& resolved) noexcept {
  const Key key = key_of(ends);
  const Family family = ends.destination.family();
  const Value value = value_of(family, resolved.hop);
  Slot* free = nullptr;
  for (Slot& slot : set_of(key, family)) {
    if (read(slot, key, family)) {
      write(slot, key, value);
      slot.neighbour = resolved.neighbour;
      return true;
    }
    if (slot.how.load(std::memory_order_relaxed) == 0) free = &slot;
  }
  if (free == nullptr) return false;
  free->used.store(true, std::memory_order_relaxed);
  free->confirmed.store(0, std::memory_order_relaxed);
  free->neighbour = resolved.neighbour;
  write(*free, key, value);
  ++entries_;
  return true;
}

void NextHopTable::update(
    const std::function<void(const Ends& ends, ResolvedHop& resolved)>& each) {
  for (Set& set : sets_) {
    for (Slot& slot : set) {
      const Value value{.where = slot.where.load(std::memory_order_relaxed),
                        .how = slot.how.load(std::memory_order_relaxed)};
      if (value.how == 0) continue;
      Key key;
      for (std::size_t i = 0; i < kKeyWords; ++i) {
        key[i] = slot.key[i].load(std::memory_order_relaxed);
      }
      const Family family = family_in(value.how);
      std::array<std::byte, 32> addresses;
      std::memcpy(addresses.data(), key.data(), addresses.size());
      const Ends ends{.source = IpAddress::from(family, addresses.data()),
                      .destination = IpAddress::from(family, addresses.data() + 16)};
      const ResolvedHop before{.hop = hop_of(value), .neighbour = slot.neighbour};
      ResolvedHop resolved = before;
      each(ends, resolved);
      slot.neighbour = resolved.neighbour;
      if (resolved.hop != before.hop) write(slot, key, value_of(family, resolved.hop));
    }
  }
}

void NextHopTable::forget_unused() noexcept {
  for (Set& set : sets_) {
    for (Slot& slot : set) {
      if (slot.how.load(std::memory_order_relaxed) == 0) continue;
      if (slot.used.exchange(false, std::memory_order_relaxed)) continue;
      write(slot, Key{}, Value{});
      --entries_;
    }
  }
}

}  // namespace xfrmfs::netio
