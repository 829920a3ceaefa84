// SPDX-License-Identifier: Apache-2.0
// Tells the engine which addresses are the host's own and how large the underlay's packets may be,
// now and whenever that changes (rtnetlink(7)).
//
// The kernel's notifications are only a doorbell: each burst of them, lost ones included, leads to
// one complete look. Control thread only.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "netio/asio.h"
#include "netio/rtnetlink.h"

namespace xfrmfs::netio {

/// The MTU that sealed packets meet: of the link named `underlay`; if that is empty, of the default
/// route's link, else the smallest of those that are up, else 1500. Neither loopback nor the link
/// with index `tun` counts. Nothing if there is no link of that name.
std::optional<std::uint32_t> underlay_mtu(std::span<const Link> links, const std::string& underlay,
                                          std::optional<int> default_route_link, int tun);

class AddressWatch {
 public:
  struct Options {
    std::string underlay;  // interface; empty: any
    int tun = 0;           // index of the TUN device, 0 if there is none
  };

  /// Looks once, so that the engine knows before packets flow. Belongs to the calling thread's
  /// network namespace. `on_change` is called after every later publication.
  AddressWatch(asio::io_context& io, engine::Engine& engine, Options options,
               std::function<void()> on_change);

 private:
  void wait();
  /// Reads all notifications that wait, and looks at what they are about.
  void hear();
  void look_at_links();
  /// True if the host's addresses have changed, and the engine knows.
  bool look_at_addresses();

  engine::Engine& engine_;
  Options options_;
  std::function<void()> on_change_;
  Rtnetlink requests_;
  asio::posix::stream_descriptor notifications_;
  std::vector<engine::IpAddress> known_;  // sorted
};

}  // namespace xfrmfs::netio
