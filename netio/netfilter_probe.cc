// SPDX-License-Identifier: Apache-2.0
#include "netio/netfilter_probe.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "netio/rtnetlink.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;

FileDescriptor open_netfilter(int flags) {
  return FileDescriptor(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_NETFILTER));
}

/// Nothing if the kernel does not tell.
FileDescriptor subscribe() {
  FileDescriptor fd = open_netfilter(SOCK_NONBLOCK);
  const int group = NFNLGRP_NFTABLES;
  sockaddr_nl name{};  // without an address of its own a socket is told nothing
  name.nl_family = AF_NETLINK;
  sockaddr generic{};
  static_assert(sizeof generic >= sizeof name);
  std::memcpy(&generic, &name, sizeof name);
  if (!fd || ::bind(fd.get(), &generic, sizeof name) != 0 ||
      ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
    return {};
  }
  return fd;
}

/// Of nf_tables; nothing if it cannot be told.
std::optional<bool> has_output_chains() {
  const FileDescriptor fd = open_netfilter(0);
  if (!fd) {  // a kernel without netfilter
    if (errno == EPROTONOSUPPORT || errno == EAFNOSUPPORT) return false;
    return std::nullopt;
  }
  struct {
    nlmsghdr head{};
    nfgenmsg body{};
  } request;
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.nfgen_family = NFPROTO_UNSPEC;
  if (::send(fd.get(), &request, sizeof request, 0) < 0) return std::nullopt;

  bool found = false;
  std::vector<std::byte> buffer(64 * 1024);
  while (true) {
    const ssize_t size = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return std::nullopt;
    for (const RouteMessage& message :
         split_messages(Bytes(buffer).first(static_cast<std::size_t>(size)))) {
      if (message.type == NLMSG_DONE) return found;
      if (message.type == NLMSG_ERROR) {
        nlmsgerr error{};
        if (message.body.size() < sizeof error) return std::nullopt;
        std::memcpy(&error, message.body.data(), sizeof error);
        if (error.error == -EINVAL || error.error == -EOPNOTSUPP) return false;  // no nf_tables
        return std::nullopt;
      }
      found = found || is_output_chain(message.body);
    }
  }
}

/// The files name the tables that exist; without iptables they do not exist themselves.
bool has_iptables() {
  for (const char* path :
       {"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"}) {
    const FileDescriptor fd(::open(path, O_RDONLY | O_CLOEXEC));
    if (!fd && errno == ENOENT) continue;
    char any;
    if (!fd || ::read(fd.get(), &any, 1) != 0) return true;
  }
  return false;
}

}  // namespace

bool is_output_chain(Bytes body) {
  nfgenmsg head;
  if (body.size() < sizeof head) return false;
  std::memcpy(&head, body.data(), sizeof head);
  if (head.nfgen_family != NFPROTO_INET && head.nfgen_family != NFPROTO_IPV4 &&
      head.nfgen_family != NFPROTO_IPV6) {
    return false;
  }
  const Bytes hook = find_attribute(body.subspan(sizeof head), NFTA_CHAIN_HOOK);
  const Bytes number = find_attribute(hook, NFTA_HOOK_HOOKNUM);
  if (number.size() < 4) return false;
  const std::uint32_t where = engine::load_be32(number.data());
  return where == NF_INET_LOCAL_OUT || where == NF_INET_POST_ROUTING;
}

NetfilterProbe::NetfilterProbe() : changes_(subscribe()) {}

bool NetfilterProbe::sees_output() {
  return has_iptables() || has_output_chains().value_or(true);
}

void NetfilterProbe::quiet() {
  std::array<std::byte, 4096> buffer;
  while (true) {
    const ssize_t size = ::recv(changes_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && (errno == ENOBUFS || errno == EINTR)) continue;
    if (size <= 0) return;
  }
}

}  // namespace xfrmfs::netio
