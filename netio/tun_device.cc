// SPDX-License-Identifier: Apache-2.0
#include "netio/tun_device.h"

#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netio/rtnetlink.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Buffer;
using engine::ClearPacket;
using engine::kHeadroom;
using engine::kMaxTrain;
using engine::PacketBytes;
using engine::PacketPool;

ifreq request_for(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

FileDescriptor open_queue(const std::string& name, int flags) {
  constexpr const char* kTunPath = "/dev/net/tun";
  FileDescriptor fd = own_or_throw(::open(kTunPath, O_RDWR | O_NONBLOCK | O_CLOEXEC), kTunPath);
  ifreq request = request_for(name);
  request.ifr_flags = static_cast<short>(flags);
  if (::ioctl(fd.get(), TUNSETIFF, &request) == 0) return fd;
  if (errno == EBUSY || errno == EEXIST) {
    throw_errno(fmt::format("TUN device name \"{}\" is taken", name));
  }
  const char* const hint = errno == EPERM ? " (needs CAP_NET_ADMIN)" : "";
  throw_errno(fmt::format("TUN device \"{}\"{}", name, hint));
}

/// A socket only to ask the kernel about interfaces; they belong to its network namespace.
FileDescriptor interface_socket() {
  return own_or_throw(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
}

void ask_interface(unsigned long what, ifreq& request, const std::string& sentence) {
  if (::ioctl(interface_socket().get(), what, &request) != 0) throw_errno(sentence);
}

/// A route from an advertisement through the tunnel would be the peer's choice. Best effort: the
/// interface has no link-local address, so it solicits none; and /proc may be read-only.
void refuse_router_advertisements(const std::string& name) {
  const std::string path = fmt::format("/proc/sys/net/ipv6/conf/{}/accept_ra", name);
  const FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd) std::ignore = ::write(fd.get(), "0", 1);
}

}  // namespace

void TunQueue::receive(PacketPool& pool, Batch<ClearPacket>& batch) {
  while (!batch.full()) {
    Buffer buffer = pool.take();
    if (!buffer) return;
    const ssize_t size = ::read(fd_.get(), buffer.data() + kHeadroom, kMaxTrain);
    if (size <= 0) return;  // nothing waits, or the device is down or gone
    batch.push(ClearPacket(std::move(buffer), kHeadroom, static_cast<std::size_t>(size)));
  }
}

bool TunQueue::deliver(const engine::ClearTrain& train) noexcept {
  const engine::Bytes packet = train.pieces.front();
  return ::write(fd_.get(), packet.data(), packet.size()) >= 0;
}

TunInterface::TunInterface(const std::string& name, unsigned queues, std::uint32_t mtu)
    : name_(name) {
  const int flags = IFF_TUN | IFF_NO_PI | (queues > 1 ? IFF_MULTI_QUEUE : 0);
  for (unsigned lane = 0; lane < queues; ++lane) {
    // The first makes the device, and must not join one that is there; the others join it.
    const int exclusive = lane == 0 ? IFF_TUN_EXCL : 0;
    queues_.push_back(std::make_unique<TunQueue>(open_queue(name, flags | exclusive)));
  }

  ifreq request = request_for(name);
  ask_interface(SIOCGIFINDEX, request, fmt::format("index of \"{}\"", name));
  index_ = request.ifr_ifindex;
  Rtnetlink().disable_ipv6_autoconfiguration(index_);
  refuse_router_advertisements(name);
  request = request_for(name);
  request.ifr_mtu = static_cast<int>(mtu);
  ask_interface(SIOCSIFMTU, request, fmt::format("MTU {} of \"{}\"", mtu, name));
}

void TunInterface::bring_up() {
  ifreq request = request_for(name_);
  const std::string sentence = fmt::format("bringing \"{}\" up", name_);
  ask_interface(SIOCGIFFLAGS, request, sentence);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ask_interface(SIOCSIFFLAGS, request, sentence);
}

}  // namespace xfrmfs::netio
