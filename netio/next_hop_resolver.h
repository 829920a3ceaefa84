// SPDX-License-Identifier: Apache-2.0
// Fills the table of next hops from the kernel's routes, links and neighbours (rtnetlink(7)), and
// keeps it true when they change. Control thread only.
//
// Frames are for what is plain: a unicast route without encapsulation, through an Ethernet device
// that resolves its neighbours, to one whose link-layer address the kernel knows. All else goes
// through the raw socket, which also makes the kernel look for the neighbour.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "netio/asio.h"
#include "netio/netfilter_probe.h"
#include "netio/next_hop.h"
#include "netio/rtnetlink.h"

namespace xfrmfs::netio {

/// How raw ESP packets leave.
enum class RawSend : std::uint8_t {
  kAuto,    // as frames while no firewall would see them on the usual way
  kPacket,  // as frames, past any firewall
  kSocket,  // through the raw socket
};

class NextHopResolver {
 public:
  struct Options {
    std::string underlay;  // interface; empty: any
    RawSend send = RawSend::kAuto;
    /// How often to look for what the kernel does not announce (a path MTU that it has learned, an
    /// iptables table), and to forget what nobody uses.
    std::chrono::milliseconds period{5'000};
  };

  /// Belongs to the calling thread's network namespace. `table` outlives it.
  NextHopResolver(asio::io_context& io, NextHopTable& table, Options options);

 private:
  using Milliseconds = std::chrono::milliseconds;

  void wait_for_requests();
  void wait_for_changes();
  void wait_for_firewall();
  void wait_for_period();
  /// How long not to look for more.
  Milliseconds answer_requests();
  Milliseconds hear_changes();
  void look_at_firewall();

  ResolvedHop resolve(const Ends& ends) noexcept;
  /// Throws std::system_error if the kernel cannot be asked.
  ResolvedHop ask_kernel(const Ends& ends);

  NextHopTable& table_;
  Options options_;
  Rtnetlink requests_;
  NetfilterProbe firewall_;
  asio::posix::stream_descriptor asked_;
  asio::posix::stream_descriptor changes_;
  std::optional<asio::posix::stream_descriptor> firewall_changes_;
  asio::steady_timer after_requests_;
  asio::steady_timer after_changes_;
  asio::steady_timer after_firewall_;
  asio::steady_timer period_;
};

}  // namespace xfrmfs::netio
