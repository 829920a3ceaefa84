// SPDX-License-Identifier: Apache-2.0
#include "netio/rtnetlink.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

using engine::Bytes;
using engine::Family;
using engine::IpAddress;

/// A kernel struct at the front of `bytes`, or nothing if they are too few.
template <class Struct>
std::optional<Struct> front(Bytes bytes) {
  if (bytes.size() < sizeof(Struct)) return std::nullopt;
  Struct value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// What follows a struct of `size` bytes and its padding to 4.
Bytes behind(Bytes bytes, std::size_t size) {
  const std::size_t padded = NLMSG_ALIGN(size);
  return bytes.size() < padded ? Bytes() : bytes.subspan(padded);
}

/// Calls `each(type, value)` for the attributes in `bytes`; stops at one that does not fit.
template <class Each>
void for_each_attribute(Bytes bytes, const Each& each) {
  while (const auto head = front<rtattr>(bytes)) {
    if (head->rta_len < sizeof(rtattr) || head->rta_len > bytes.size()) return;
    each(head->rta_type, bytes.first(head->rta_len).subspan(sizeof(rtattr)));
    bytes = behind(bytes, head->rta_len);
  }
}

Family family_of(unsigned char address_family) {
  if (address_family == AF_INET) return Family::kIpv4;
  return address_family == AF_INET6 ? Family::kIpv6 : Family::kNone;
}

struct DefaultRoute {
  int link = 0;
  std::uint32_t metric = 0;
};

std::optional<DefaultRoute> read_default_route(Bytes body) {
  const auto head = front<rtmsg>(body);
  if (!head || head->rtm_dst_len != 0 || head->rtm_type != RTN_UNICAST) return std::nullopt;
  std::uint32_t table = head->rtm_table;
  DefaultRoute route;
  for_each_attribute(behind(body, sizeof *head), [&](std::uint16_t type, Bytes value) {
    if (type == RTA_OIF) route.link = front<int>(value).value_or(0);
    if (type == RTA_PRIORITY) route.metric = front<std::uint32_t>(value).value_or(0);
    if (type == RTA_TABLE) table = front<std::uint32_t>(value).value_or(table);
    if (type == RTA_MULTIPATH) {  // the first of several next hops speaks for all
      if (const auto hop = front<rtnexthop>(value)) route.link = hop->rtnh_ifindex;
    }
  });
  if (table != RT_TABLE_MAIN || route.link == 0) return std::nullopt;
  return route;
}

/// The error in NLMSG_ERROR, positive; 0 for an acknowledgement.
int error_in(Bytes body) {
  const auto error = front<nlmsgerr>(body);
  return error ? -error->error : EBADMSG;
}

}  // namespace

/// A request whose attributes are appended and nested; it knows its own length.
class RouteRequest {
 public:
  RouteRequest(std::uint16_t type, std::uint16_t flags) {
    head_.nlmsg_type = type;
    head_.nlmsg_flags = flags;
    append(&head_, sizeof head_);
  }

  void append(const void* data, std::size_t size) {
    std::memcpy(bytes_.data() + used_, data, size);
    used_ += NLMSG_ALIGN(size);
  }
  /// The nest begins here; finish with close().
  std::size_t open(std::uint16_t type) {
    const std::size_t start = used_;
    const rtattr attribute{0, type};
    append(&attribute, sizeof attribute);
    return start;
  }
  void close(std::size_t start) {
    const auto length = static_cast<std::uint16_t>(used_ - start);
    std::memcpy(bytes_.data() + start + offsetof(rtattr, rta_len), &length, sizeof length);
  }
  void address(std::uint16_t type, const IpAddress& address) {
    const Bytes bytes = address.bytes();
    const rtattr attribute{static_cast<std::uint16_t>(sizeof(rtattr) + bytes.size()), type};
    append(&attribute, sizeof attribute);
    append(bytes.data(), bytes.size());
  }
  void s32(std::uint16_t type, std::int32_t value) {
    const rtattr attribute{sizeof(rtattr) + sizeof value, type};
    append(&attribute, sizeof attribute);
    append(&value, sizeof value);
  }
  void u8(std::uint16_t type, std::uint8_t value) {
    const rtattr attribute{sizeof(rtattr) + 1, type};
    append(&attribute, sizeof attribute);
    append(&value, 1);
  }
  void u32(std::uint16_t type, std::uint32_t value) {
    const rtattr attribute{sizeof(rtattr) + sizeof value, type};
    append(&attribute, sizeof attribute);
    append(&value, sizeof value);
  }
  void send(int fd, std::uint32_t sequence) {
    head_.nlmsg_len = static_cast<std::uint32_t>(used_);
    head_.nlmsg_seq = sequence;
    std::memcpy(bytes_.data(), &head_, sizeof head_);
    if (::send(fd, bytes_.data(), used_, 0) < 0) throw_errno("rtnetlink request");
  }

 private:
  nlmsghdr head_{};
  std::array<std::byte, 128> bytes_{};
  std::size_t used_ = 0;
};

/// A request to change one link, its attributes to follow.
RouteRequest change_of(int link) {
  RouteRequest request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK);
  ifinfomsg body{};
  body.ifi_index = link;
  request.append(&body, sizeof body);
  return request;
}

std::vector<RouteMessage> split_messages(Bytes datagram) {
  std::vector<RouteMessage> messages;
  while (const auto head = front<nlmsghdr>(datagram)) {
    if (head->nlmsg_len < sizeof(nlmsghdr) || head->nlmsg_len > datagram.size()) break;
    messages.push_back(
        {head->nlmsg_type, datagram.first(head->nlmsg_len).subspan(sizeof(nlmsghdr))});
    datagram = behind(datagram, head->nlmsg_len);
  }
  return messages;
}

Bytes find_attribute(Bytes attributes, unsigned type) {
  Bytes found;
  for_each_attribute(attributes, [&](std::uint16_t here, Bytes value) {
    if (found.data() == nullptr && (here & NLA_TYPE_MASK) == type) found = value;
  });
  return found;
}

std::optional<Link> read_link(Bytes body) {
  const auto head = front<ifinfomsg>(body);
  if (!head) return std::nullopt;
  Link link{.index = head->ifi_index,
            .name = {},
            .mtu = 0,
            .is_up = (head->ifi_flags & IFF_UP) != 0,
            .is_loopback = (head->ifi_flags & IFF_LOOPBACK) != 0,
            .is_ethernet = head->ifi_type == ARPHRD_ETHER,
            .asks_neighbours = (head->ifi_flags & IFF_NOARP) == 0};
  for_each_attribute(behind(body, sizeof *head), [&](std::uint16_t type, Bytes value) {
    if (type == IFLA_MTU) link.mtu = front<std::uint32_t>(value).value_or(0);
    if (type == IFLA_IFNAME) {
      link.name.clear();
      for (const std::byte b : value) {
        if (b == std::byte{0}) break;
        link.name += std::to_integer<char>(b);
      }
    }
  });
  if (link.name.empty()) return std::nullopt;
  return link;
}

std::optional<LinkAddress> read_address(Bytes body) {
  const auto head = front<ifaddrmsg>(body);
  if (!head) return std::nullopt;
  const Family family = family_of(head->ifa_family);
  LinkAddress found{.link = static_cast<int>(head->ifa_index), .address = {}};
  bool has_local = false;
  for_each_attribute(behind(body, sizeof *head), [&](std::uint16_t type, Bytes value) {
    // On a point-to-point link IFA_ADDRESS is the peer's, and IFA_LOCAL is ours.
    if (type != IFA_LOCAL && (type != IFA_ADDRESS || has_local)) return;
    if (family == Family::kNone || value.size() < engine::address_size(family)) return;
    has_local = type == IFA_LOCAL;
    found.address = IpAddress::from(family, value.data());
  });
  if (found.address.family() == Family::kNone) return std::nullopt;
  return found;
}

std::optional<Route> read_route(Bytes body) {
  const auto head = front<rtmsg>(body);
  if (!head) return std::nullopt;
  Route route;
  route.is_plain = head->rtm_type == RTN_UNICAST;
  const Family family = family_of(head->rtm_family);
  for_each_attribute(behind(body, sizeof *head), [&](std::uint16_t type, Bytes value) {
    switch (type) {
      case RTA_OIF:
        route.link = front<int>(value).value_or(0);
        break;
      case RTA_GATEWAY:
        if (family != Family::kNone && value.size() >= engine::address_size(family)) {
          route.gateway = IpAddress::from(family, value.data());
        }
        break;
      case RTA_VIA: {  // a gateway of the other family
        const auto other = front<std::uint16_t>(value);
        const Bytes address = value.subspan(std::min(sizeof *other, value.size()));
        const Family other_family = other ? family_of(static_cast<std::uint8_t>(*other)) : family;
        route.is_plain &= other && other_family != Family::kNone &&
                          address.size() >= engine::address_size(other_family);
        if (route.is_plain) route.gateway = IpAddress::from(other_family, address.data());
        break;
      }
      case RTA_METRICS:
        for_each_attribute(value, [&](std::uint16_t metric, Bytes number) {
          if (metric == RTAX_MTU) route.path_mtu = front<std::uint32_t>(number).value_or(0);
        });
        break;
      case RTA_ENCAP_TYPE:
      case RTA_ENCAP:
      case RTA_NEWDST:  // MPLS
      case RTA_MULTIPATH:
        route.is_plain = false;
        break;
      default:
        break;
    }
  });
  return route;
}

std::optional<Neighbour> read_neighbour(Bytes body) {
  const auto head = front<ndmsg>(body);
  if (!head) return std::nullopt;
  const Family family = family_of(head->ndm_family);
  Neighbour neighbour;
  neighbour.link = head->ndm_ifindex;
  bool has_link_layer_address = false;
  for_each_attribute(behind(body, sizeof *head), [&](std::uint16_t type, Bytes value) {
    if (type == NDA_DST && family != Family::kNone &&
        value.size() >= engine::address_size(family)) {
      neighbour.address = IpAddress::from(family, value.data());
    }
    if (type == NDA_LLADDR && value.size() == neighbour.link_layer_address.size()) {
      std::ranges::copy(value, neighbour.link_layer_address.begin());
      has_link_layer_address = true;
    }
  });
  if (neighbour.address.family() == Family::kNone) return std::nullopt;
  constexpr unsigned kGood = NUD_REACHABLE | NUD_PERMANENT | NUD_DELAY | NUD_PROBE;
  if (!has_link_layer_address) return neighbour;
  if ((head->ndm_state & kGood) != 0) neighbour.state = Neighbour::State::kReachable;
  if ((head->ndm_state & NUD_STALE) != 0) neighbour.state = Neighbour::State::kDoubtful;
  return neighbour;
}

Rtnetlink::Rtnetlink()
    : fd_(own_or_throw(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE),
                       "rtnetlink socket")) {}

template <class Each>
void Rtnetlink::dump(std::uint16_t type, std::uint8_t family, const Each& each) {
  const ifinfomsg body{family, 0, 0, 0, 0, 0};  // as long as each request needs, or longer
  RouteRequest request(type, NLM_F_REQUEST | NLM_F_DUMP);
  request.append(&body, sizeof body);
  request.send(fd_.get(), ++sequence_);

  std::vector<std::byte> buffer(64 * 1024);  // more than the kernel puts into one datagram
  while (true) {
    const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw_errno("rtnetlink dump");
    for (const RouteMessage& message :
         split_messages(Bytes(buffer).first(static_cast<std::size_t>(size)))) {
      if (message.type == NLMSG_DONE) return;
      if (message.type == NLMSG_ERROR) {
        errno = error_in(message.body);
        throw_errno("rtnetlink dump");
      }
      each(message);
    }
  }
}

std::vector<Link> Rtnetlink::links() {
  std::vector<Link> links;
  dump(RTM_GETLINK, AF_UNSPEC, [&](const RouteMessage& message) {
    if (auto link = read_link(message.body)) links.push_back(std::move(*link));
  });
  return links;
}

std::vector<LinkAddress> Rtnetlink::addresses() {
  std::vector<LinkAddress> addresses;
  dump(RTM_GETADDR, AF_UNSPEC, [&](const RouteMessage& message) {
    if (const auto address = read_address(message.body)) addresses.push_back(*address);
  });
  return addresses;
}

std::optional<int> Rtnetlink::default_route_link() {
  for (const int family : {AF_INET, AF_INET6}) {
    std::optional<DefaultRoute> best;
    dump(RTM_GETROUTE, static_cast<std::uint8_t>(family), [&](const RouteMessage& message) {
      const auto route = read_default_route(message.body);
      if (route && (!best || route->metric < best->metric)) best = route;
    });
    if (best) return best->link;
  }
  return std::nullopt;
}

std::optional<std::vector<std::byte>> Rtnetlink::ask(RouteRequest& request,
                                                     std::uint16_t expected) {
  request.send(fd_.get(), ++sequence_);
  std::vector<std::byte> buffer(64 * 1024);
  while (true) {
    const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw_errno("rtnetlink answer");
    for (const RouteMessage& message :
         split_messages(Bytes(buffer).first(static_cast<std::size_t>(size)))) {
      if (message.type == NLMSG_ERROR) return std::nullopt;
      if (message.type != expected) continue;
      return std::vector<std::byte>(message.body.begin(), message.body.end());
    }
  }
}

std::optional<Link> Rtnetlink::link(int index) {
  RouteRequest request(RTM_GETLINK, NLM_F_REQUEST);
  ifinfomsg body{};
  body.ifi_index = index;
  request.append(&body, sizeof body);
  const auto answer = ask(request, RTM_NEWLINK);
  return answer ? read_link(*answer) : std::nullopt;
}

std::optional<Route> Rtnetlink::route(const IpAddress& source, const IpAddress& destination,
                                      int link) {
  RouteRequest request(RTM_GETROUTE, NLM_F_REQUEST);
  rtmsg body{};
  body.rtm_family = destination.family() == Family::kIpv4 ? AF_INET : AF_INET6;
  body.rtm_dst_len = static_cast<unsigned char>(8 * destination.bytes().size());
  body.rtm_src_len = static_cast<unsigned char>(8 * source.bytes().size());
  request.append(&body, sizeof body);
  request.address(RTA_DST, destination);
  request.address(RTA_SRC, source);
  if (link != 0) request.s32(RTA_OIF, link);
  const auto answer = ask(request, RTM_NEWROUTE);
  return answer ? read_route(*answer) : std::nullopt;
}

std::optional<Neighbour> Rtnetlink::neighbour(int link, const IpAddress& address) {
  RouteRequest request(RTM_GETNEIGH, NLM_F_REQUEST);
  ndmsg body{};
  body.ndm_family = address.family() == Family::kIpv4 ? AF_INET : AF_INET6;
  body.ndm_ifindex = link;
  request.append(&body, sizeof body);
  request.address(NDA_DST, address);
  const auto answer = ask(request, RTM_NEWNEIGH);
  return answer ? read_neighbour(*answer) : std::nullopt;
}

int Rtnetlink::change(RouteRequest& request) {
  request.send(fd_.get(), ++sequence_);
  std::array<std::byte, 4096> answer;
  const ssize_t size = ::recv(fd_.get(), answer.data(), answer.size(), 0);
  if (size < 0) throw_errno("rtnetlink answer");
  for (const RouteMessage& message :
       split_messages(Bytes(answer).first(static_cast<std::size_t>(size)))) {
    if (message.type == NLMSG_ERROR) return error_in(message.body);
  }
  return EBADMSG;
}

void Rtnetlink::disable_ipv6_autoconfiguration(int link) {
  RouteRequest request = change_of(link);
  const std::size_t families = request.open(IFLA_AF_SPEC);
  const std::size_t ipv6 = request.open(AF_INET6);
  request.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  request.close(ipv6);
  request.close(families);
  errno = change(request);
  if (errno != 0 && errno != EAFNOSUPPORT) throw_errno("IPv6 autoconfiguration");
}

bool Rtnetlink::set_link_number(int link, std::uint16_t attribute, std::uint32_t value) {
  RouteRequest request = change_of(link);
  request.u32(attribute, value);
  return change(request) == 0;
}

bool Rtnetlink::limit_segments(int link, std::uint32_t segments) {
  return set_link_number(link, IFLA_GSO_MAX_SEGS, segments);
}

bool Rtnetlink::set_queue_length(int link, std::uint32_t packets) {
  return set_link_number(link, IFLA_TXQLEN, packets);
}

}  // namespace xfrmfs::netio
