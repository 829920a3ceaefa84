// SPDX-License-Identifier: Apache-2.0
#include "netio/address_watch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <utility>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

constexpr std::uint32_t kUsualMtu = 1500;

FileDescriptor subscribe() {
  constexpr const char* kWhat = "rtnetlink notifications";
  FileDescriptor fd = own_or_throw(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), kWhat);
  sockaddr_nl name{};
  name.nl_family = AF_NETLINK;
  name.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  sockaddr generic{};
  static_assert(sizeof generic >= sizeof name);
  std::memcpy(&generic, &name, sizeof name);
  if (::bind(fd.get(), &generic, sizeof name) != 0) throw_errno(kWhat);
  return fd;
}

}  // namespace

std::optional<std::uint32_t> underlay_mtu(std::span<const Link> links, const std::string& underlay,
                                          std::optional<int> default_route_link, int tun) {
  if (!underlay.empty()) {
    const auto named = std::ranges::find(links, underlay, &Link::name);
    if (named == links.end()) return std::nullopt;
    return named->mtu;
  }
  std::optional<std::uint32_t> smallest;
  for (const Link& link : links) {
    if (link.index == tun || link.is_loopback || !link.is_up) continue;
    if (link.index == default_route_link) return link.mtu;
    if (!smallest || link.mtu < *smallest) smallest = link.mtu;
  }
  return smallest.value_or(kUsualMtu);
}

AddressWatch::AddressWatch(asio::io_context& io, engine::Engine& engine, Options options,
                           std::function<void()> on_change)
    : engine_(engine),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      notifications_(io, subscribe().release()) {
  look_at_links();
  look_at_addresses();
  wait();
}

void AddressWatch::wait() {
  notifications_.async_wait(asio::posix::stream_descriptor::wait_read,
                            [this](const boost::system::error_code& error) {
                              if (error) return;  // cancelled: we are being destroyed
                              hear();
                              wait();
                            });
}

void AddressWatch::hear() {
  bool links_changed = false;
  bool addresses_changed = false;
  std::array<std::byte, 16 * 1024> buffer;
  while (true) {
    const ssize_t size = ::recv(notifications_.native_handle(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == ENOBUFS) {  // the kernel had to drop some
      links_changed = addresses_changed = true;
      continue;
    }
    if (size <= 0) break;
    for (const RouteMessage& message :
         split_messages(engine::Bytes(buffer).first(static_cast<std::size_t>(size)))) {
      links_changed |= message.type == RTM_NEWLINK || message.type == RTM_DELLINK;
      addresses_changed |= message.type == RTM_NEWADDR || message.type == RTM_DELADDR;
    }
  }
  try {
    if (links_changed) look_at_links();
    if (addresses_changed && look_at_addresses()) on_change_();
  } catch (const std::system_error&) {
    // Out of memory in the kernel: what we know stays, and the next notification looks again.
  }
}

void AddressWatch::look_at_links() {
  const bool any = options_.underlay.empty();
  const auto mtu = underlay_mtu(requests_.links(), options_.underlay,
                                any ? requests_.default_route_link() : std::nullopt, options_.tun);
  if (mtu) engine_.settings().underlay_mtu.store(*mtu, std::memory_order_relaxed);
}

bool AddressWatch::look_at_addresses() {
  std::vector<engine::IpAddress> found;
  for (const LinkAddress& entry : requests_.addresses()) found.push_back(entry.address);
  std::ranges::sort(found);
  const auto repeated = std::ranges::unique(found);
  found.erase(repeated.begin(), repeated.end());
  if (found == known_) return false;
  known_ = found;
  engine_.set_local_addresses(std::move(found));
  engine_.publish();
  return true;
}

}  // namespace xfrmfs::netio
