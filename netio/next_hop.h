// SPDX-License-Identifier: Apache-2.0
// Where does a frame to this destination go: through which link, to which link-layer address?
//
// The packet path asks and never waits: what it asks for in vain is noted down, and the control
// thread (netio/next_hop_resolver.h) fills it in. One table for all lanes; any number of threads
// read while one writes. An entry is read as a whole or not at all.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/base/address.h"
#include "netio/event_fd.h"

namespace xfrmfs::netio {

/// The outer addresses of a packet: what the system chooses a route by.
struct Ends {
  engine::IpAddress source;
  engine::IpAddress destination;
  bool operator==(const Ends&) const = default;
};

using LinkLayerAddress = std::array<std::byte, 6>;

struct NextHop {
  enum class Way : std::uint8_t {
    kSocket,   // through the raw socket: the system knows how, or why not
    kDirect,   // as a frame
    kConfirm,  // as a frame, but now and then through the raw socket: the system doubts the
               // neighbour, and asks it again only if it has something to send itself
  };
  Way way = Way::kSocket;
  int link = 0;  // its index
  LinkLayerAddress address{};
  std::uint32_t mtu = 0;  // of link and path
  bool operator==(const NextHop&) const = default;
};

/// What the control thread knows besides.
struct ResolvedHop {
  NextHop hop;
  engine::IpAddress neighbour;  // the gateway, or the destination itself; may be none
  bool operator==(const ResolvedHop&) const = default;
};

class NextHopTable {
 public:
  NextHopTable();

  // --- Packet path: any thread; neither waits nor allocates.

  /// Where a frame goes; nothing if the packet has to go through the raw socket this time.
  std::optional<NextHop> find(const Ends& ends) noexcept;

  // --- Control thread.

  /// False: find() finds nothing, whatever is known. It begins so.
  void allow(bool allowed) noexcept { allowed_.store(allowed, std::memory_order_relaxed); }
  bool allowed() const noexcept { return allowed_.load(std::memory_order_relaxed); }
  /// Readable when somebody asked for what is not there.
  int descriptor() const { return asked_.descriptor(); }
  /// What was asked for in vain since the last call.
  std::vector<Ends> take_requests();
  /// False if there is no room for one more.
  bool put(const Ends& ends, const ResolvedHop& resolved) noexcept;
  /// Calls `each` for all entries; it may change what is resolved.
  void update(const std::function<void(const Ends& ends, ResolvedHop& resolved)>& each);
  /// Removes what nobody has asked for since the last call.
  void forget_unused() noexcept;
  bool empty() const { return entries_ == 0; }

  static constexpr std::size_t kSets = 256;
  static constexpr std::size_t kWays = 4;
  static constexpr std::size_t kMostRequests = 64;

 private:
  static constexpr std::size_t kKeyWords = 4;
  using Key = std::array<std::uint64_t, kKeyWords>;
  struct Value {
    std::uint64_t where = 0;  // link, MTU
    std::uint64_t how = 0;    // link-layer address, family, way; 0: no entry
  };
  /// A sequence lock: odd while it is written. All words are atomic, so that reading them at the
  /// wrong moment is only useless.
  struct alignas(64) Slot {
    std::atomic<std::uint32_t> version{0};
    std::atomic<std::uint32_t> confirmed{0};  // when, in seconds
    std::array<std::atomic<std::uint64_t>, kKeyWords> key{};
    std::atomic<std::uint64_t> where{0};
    std::atomic<std::uint64_t> how{0};
    std::atomic<bool> used{false};
    engine::IpAddress neighbour;  // the control thread's
  };
  using Set = std::array<Slot, kWays>;

  static Key key_of(const Ends& ends);
  static Value value_of(engine::Family family, const NextHop& hop);
  static NextHop hop_of(const Value& value);
  Set& set_of(const Key& key, engine::Family family);
  /// Nothing if another key, or being written.
  static std::optional<Value> read(const Slot& slot, const Key& key, engine::Family family);
  static void write(Slot& slot, const Key& key, const Value& value) noexcept;
  void request(const Ends& ends) noexcept;

  std::vector<Set> sets_;
  std::atomic<bool> allowed_{false};
  std::size_t entries_ = 0;  // the control thread's

  EventFd asked_;
  std::atomic<bool> requests_full_{false};
  std::mutex requests_mutex_;  // the packet path only tries it
  std::array<Ends, kMostRequests> requests_;
  std::size_t request_count_ = 0;
};

}  // namespace xfrmfs::netio
