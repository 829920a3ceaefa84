// SPDX-License-Identifier: Apache-2.0
#include "netio/next_hop_resolver.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

using std::chrono::milliseconds;

/// Pauses between looks, so that a storm of requests or routes leaves time for everything else.
constexpr milliseconds kRequestPause{5};
constexpr milliseconds kCrowdedPause{200};
constexpr milliseconds kChangePause{100};

FileDescriptor subscribe() {
  constexpr const char* kWhat = "rtnetlink notifications about routes";
  FileDescriptor fd = own_or_throw(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), kWhat);
  sockaddr_nl name{};  // without an address of its own a socket is told nothing
  name.nl_family = AF_NETLINK;
  sockaddr generic{};
  static_assert(sizeof generic >= sizeof name);
  std::memcpy(&generic, &name, sizeof name);
  if (::bind(fd.get(), &generic, sizeof name) != 0) throw_errno(kWhat);
  for (const int group :
       {RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
        RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP}) {
    // A kernel without IPv6 rules or next hop objects has nothing to tell about them.
    if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0 &&
        group == RTNLGRP_LINK) {
      throw_errno(kWhat);
    }
  }
  return fd;
}

int copy_of(int fd) {
  return own_or_throw(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "copy of a descriptor").release();
}

}  // namespace

NextHopResolver::NextHopResolver(asio::io_context& io, NextHopTable& table, Options options)
    : table_(table),
      options_(std::move(options)),
      asked_(io, copy_of(table.descriptor())),
      changes_(io, subscribe().release()),
      after_requests_(io),
      after_changes_(io),
      after_firewall_(io),
      period_(io) {
  look_at_firewall();
  if (options_.send == RawSend::kSocket) return;
  wait_for_requests();
  wait_for_changes();
  wait_for_period();
  if (options_.send == RawSend::kAuto && firewall_.descriptor() >= 0) {
    firewall_changes_.emplace(io, copy_of(firewall_.descriptor()));
    wait_for_firewall();
  }
}

// A handler that gets an error was cancelled: the resolver is being destroyed.

void NextHopResolver::wait_for_requests() {
  using Error = boost::system::error_code;
  asked_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const Error& error) {
    if (error) return;
    after_requests_.expires_after(answer_requests());
    after_requests_.async_wait([this](const Error& cancelled) {
      if (!cancelled) wait_for_requests();
    });
  });
}

void NextHopResolver::wait_for_changes() {
  using Error = boost::system::error_code;
  changes_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const Error& error) {
    if (error) return;
    after_changes_.expires_after(hear_changes());
    after_changes_.async_wait([this](const Error& cancelled) {
      if (!cancelled) wait_for_changes();
    });
  });
}

void NextHopResolver::wait_for_firewall() {
  using Error = boost::system::error_code;
  firewall_changes_->async_wait(asio::posix::stream_descriptor::wait_read,
                                [this](const Error& error) {
                                  if (error) return;
                                  firewall_.quiet();
                                  look_at_firewall();
                                  after_firewall_.expires_after(kChangePause);
                                  after_firewall_.async_wait([this](const Error& cancelled) {
                                    if (!cancelled) wait_for_firewall();
                                  });
                                });
}

void NextHopResolver::wait_for_period() {
  period_.expires_after(options_.period);
  period_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    look_at_firewall();
    if (!table_.empty()) {
      table_.forget_unused();
      table_.update([this](const Ends& ends, ResolvedHop& known) { known = resolve(ends); });
    }
    wait_for_period();
  });
}

NextHopResolver::Milliseconds NextHopResolver::answer_requests() {
  bool crowded = false;
  for (const Ends& ends : table_.take_requests()) crowded |= !table_.put(ends, resolve(ends));
  return crowded ? kCrowdedPause : kRequestPause;
}

NextHopResolver::Milliseconds NextHopResolver::hear_changes() {
  bool everything = false;
  std::vector<Neighbour> neighbours;
  std::array<std::byte, 16 * 1024> buffer;
  while (true) {
    const ssize_t size = ::recv(changes_.native_handle(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == ENOBUFS) {  // the kernel had to drop some
      everything = true;
      continue;
    }
    if (size <= 0) break;
    for (const RouteMessage& message :
         split_messages(engine::Bytes(buffer).first(static_cast<std::size_t>(size)))) {
      const bool is_neighbour = message.type == RTM_NEWNEIGH || message.type == RTM_DELNEIGH;
      if (!is_neighbour) {
        everything = true;
      } else if (const auto neighbour = read_neighbour(message.body)) {
        neighbours.push_back(*neighbour);
      }
    }
  }
  if (!everything && neighbours.empty()) return Milliseconds{0};
  const auto concerned = [&](const ResolvedHop& known) {
    return everything || std::ranges::any_of(neighbours, [&](const Neighbour& neighbour) {
             return neighbour.link == known.hop.link && neighbour.address == known.neighbour;
           });
  };
  table_.update([&](const Ends& ends, ResolvedHop& known) {
    if (concerned(known)) known = resolve(ends);
  });
  return everything ? kChangePause : Milliseconds{0};
}

void NextHopResolver::look_at_firewall() {
  table_.allow(options_.send == RawSend::kPacket ||
               (options_.send == RawSend::kAuto && !firewall_.sees_output()));
}

ResolvedHop NextHopResolver::resolve(const Ends& ends) noexcept try {
  return ask_kernel(ends);
} catch (const std::exception&) {
  return {};  // no memory: the raw socket tries its luck, and we again at the next change
}

ResolvedHop NextHopResolver::ask_kernel(const Ends& ends) {
  ResolvedHop found;
  int underlay = 0;
  if (!options_.underlay.empty()) {
    underlay = static_cast<int>(::if_nametoindex(options_.underlay.c_str()));
    if (underlay == 0) return found;
  }
  const auto route = requests_.route(ends.source, ends.destination, underlay);
  if (!route || !route->is_plain || (underlay != 0 && route->link != underlay)) return found;
  found.hop.link = route->link;
  found.neighbour =
      route->gateway.family() != engine::Family::kNone ? route->gateway : ends.destination;
  const auto link = requests_.link(route->link);
  if (!link || !link->is_up || !link->is_ethernet || !link->asks_neighbours) return found;
  found.hop.mtu = link->mtu;
  if (route->path_mtu != 0) found.hop.mtu = std::min(found.hop.mtu, route->path_mtu);

  const auto neighbour = requests_.neighbour(route->link, found.neighbour);
  if (!neighbour || neighbour->state == Neighbour::State::kUnknown) return found;
  found.hop.address = neighbour->link_layer_address;
  found.hop.way = neighbour->state == Neighbour::State::kReachable ? NextHop::Way::kDirect
                                                                   : NextHop::Way::kConfirm;
  return found;
}

}  // namespace xfrmfs::netio
