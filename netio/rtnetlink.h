// SPDX-License-Identifier: Apache-2.0
// What the kernel says about links, addresses and routes, and the little that we tell it
// (rtnetlink(7)).
//
// The peer is the kernel, but messages are still read with checked lengths.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/address.h"
#include "netio/file_descriptor.h"

namespace xfrmfs::netio {

struct Link {
  int index = 0;
  std::string name;
  std::uint32_t mtu = 0;
  bool is_up = false;
  bool is_loopback = false;
};

struct LinkAddress {
  int link = 0;  // its index
  engine::IpAddress address;
};

/// One netlink message: its type and what follows the netlink header.
struct RouteMessage {
  std::uint16_t type = 0;
  engine::Bytes body;
};

/// The messages of one datagram. A body that does not fit into `datagram` ends the list.
std::vector<RouteMessage> split_messages(engine::Bytes datagram);

/// Reads RTM_NEWLINK and RTM_DELLINK; nothing if it is too short or has no name.
std::optional<Link> read_link(engine::Bytes body);
/// Reads RTM_NEWADDR and RTM_DELADDR; nothing for other families.
std::optional<LinkAddress> read_address(engine::Bytes body);

/// A socket to the kernel for requests that wait for their answer. Belongs to the network
/// namespace in which it was made. One thread.
class Rtnetlink {
 public:
  Rtnetlink();

  std::vector<Link> links();
  std::vector<LinkAddress> addresses();
  /// The index of the link that packets to anywhere leave through: of the IPv4 default route with
  /// the lowest metric, else of the IPv6 one.
  std::optional<int> default_route_link();
  /// The link makes no IPv6 address for itself, and so sends nothing on its own. Nothing happens
  /// where there is no IPv6.
  void disable_ipv6_autoconfiguration(int link);
  /// How the kernel fills its packets for segmentation offload through the link: at most so many
  /// segments. False if it does not want to.
  bool limit_segments(int link, std::uint32_t segments);

 private:
  /// Sends a request and waits for its acknowledgement: 0 or an errno value.
  template <class Request>
  int ask(Request& request);
  /// Sends a dump request whose body is `family` and zeros; calls `each` with every answer.
  template <class Each>
  void dump(std::uint16_t type, std::uint8_t family, const Each& each);

  FileDescriptor fd_;
  std::uint32_t sequence_ = 0;
};

}  // namespace xfrmfs::netio
