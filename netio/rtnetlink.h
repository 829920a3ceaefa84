// SPDX-License-Identifier: Apache-2.0
// What the kernel says about links, addresses and routes, and the little that we tell it
// (rtnetlink(7)).
//
// The peer is the kernel, but messages are still read with checked lengths.

#pragma once

#include <array>
#include <cstddef>
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
  bool is_ethernet = false;
  bool asks_neighbours = false;  // ARP or neighbour discovery
};

struct LinkAddress {
  int link = 0;  // its index
  engine::IpAddress address;
};

/// Where packets to one destination go.
struct Route {
  bool is_plain = false;       // to other hosts, one at a time, without encapsulation
  int link = 0;                // its index
  engine::IpAddress gateway;   // none: the destination is on the link
  std::uint32_t path_mtu = 0;  // 0: that of the link
};

/// A host on a link.
struct Neighbour {
  enum class State : std::uint8_t {
    kUnknown,    // not asked, not answered yet, or silent
    kDoubtful,   // was there; the kernel asks again when it has something to send
    kReachable,  // or being asked this moment
  };
  int link = 0;
  engine::IpAddress address;
  State state = State::kUnknown;
  std::array<std::byte, 6> link_layer_address{};  // unless kUnknown
};

/// One netlink message: its type and what follows the netlink header.
struct RouteMessage {
  std::uint16_t type = 0;
  engine::Bytes body;
};

/// The messages of one datagram. A body that does not fit into `datagram` ends the list.
std::vector<RouteMessage> split_messages(engine::Bytes datagram);

/// The value of the first attribute of this type, in any of the kernel's families of messages;
/// empty if there is none.
engine::Bytes find_attribute(engine::Bytes attributes, unsigned type);

/// Reads RTM_NEWLINK and RTM_DELLINK; nothing if it is too short or has no name.
std::optional<Link> read_link(engine::Bytes body);
/// Reads RTM_NEWADDR and RTM_DELADDR; nothing for other families.
std::optional<LinkAddress> read_address(engine::Bytes body);
/// Reads RTM_NEWROUTE; nothing if it is too short.
std::optional<Route> read_route(engine::Bytes body);
/// Reads RTM_NEWNEIGH and RTM_DELNEIGH; nothing for other families. A link-layer address that is
/// not one of Ethernet makes the neighbour unknown.
std::optional<Neighbour> read_neighbour(engine::Bytes body);

class RouteRequest;

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
  /// Nothing if there is none with this index.
  std::optional<Link> link(int index);
  /// Where packets with these addresses go, through `link` if that is not 0; nothing if nowhere.
  std::optional<Route> route(const engine::IpAddress& source, const engine::IpAddress& destination,
                             int link);
  /// Nothing if the kernel does not know it.
  std::optional<Neighbour> neighbour(int link, const engine::IpAddress& address);
  /// The link makes no IPv6 address for itself, and so sends nothing on its own. Nothing happens
  /// where there is no IPv6.
  void disable_ipv6_autoconfiguration(int link);
  /// How the kernel fills its packets for segmentation offload through the link: at most so many
  /// segments. False if it does not want to.
  bool limit_segments(int link, std::uint32_t segments);
  /// How many packets may wait for the link. False if the kernel does not want that.
  bool set_queue_length(int link, std::uint32_t packets);

 private:
  /// Sends a request and waits for its acknowledgement: 0 or an errno value.
  int change(RouteRequest& request);
  /// The body of the answer of type `expected`; nothing if the kernel answers with an error.
  std::optional<std::vector<std::byte>> ask(RouteRequest& request, std::uint16_t expected);
  bool set_link_number(int link, std::uint16_t attribute, std::uint32_t value);
  /// Sends a dump request whose body is `family` and zeros; calls `each` with every answer.
  template <class Each>
  void dump(std::uint16_t type, std::uint8_t family, const Each& each);

  FileDescriptor fd_;
  std::uint32_t sequence_ = 0;
};

}  // namespace xfrmfs::netio
