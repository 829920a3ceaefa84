// SPDX-License-Identifier: Apache-2.0
#include "netio/tun_device.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "netio/rtnetlink.h"
#include "netio/virtio_header.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Buffer;
using engine::ClearPacket;
using engine::kHeadroom;
using engine::kMaxTrain;
using engine::PacketBytes;
using engine::PacketPool;

constexpr const char* kTunPath = "/dev/net/tun";

ifreq request_for(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

FileDescriptor open_queue(const std::string& name, int flags) {
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

// <linux/if_tun.h> of kernels before 6.2 does not know them.
constexpr unsigned kTunUso4 = 0x20;
constexpr unsigned kTunUso6 = 0x40;

/// What can be asked for, the best first; a kernel takes a set as a whole.
constexpr std::array<unsigned, 5> kOffloadSets{
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | kTunUso4 | kTunUso6,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
    TUN_F_CSUM | TUN_F_TSO4,
    TUN_F_CSUM,
};

bool knows_virtio_header() {
  const FileDescriptor fd(::open(kTunPath, O_RDWR | O_CLOEXEC));
  unsigned features = 0;
  return fd && ::ioctl(fd.get(), TUNGETFEATURES, &features) == 0 && (features & IFF_VNET_HDR) != 0;
}

/// For the whole device, through one of its queues, which have virtio headers.
Offloads turn_on_offloads(int fd) {
  const int header_size = sizeof(VirtioHeader);
  if (::ioctl(fd, TUNSETVNETHDRSZ, &header_size) != 0) throw_errno("size of virtio headers");
  Offloads active{.header = true};
  for (const unsigned set : kOffloadSets) {
    if (::ioctl(fd, TUNSETOFFLOAD, static_cast<unsigned long>(set)) != 0) continue;
    active.checksum = true;
    active.tcp4 = (set & TUN_F_TSO4) != 0;
    active.tcp6 = (set & TUN_F_TSO6) != 0;
    active.ecn = (set & TUN_F_TSO_ECN) != 0;
    active.udp = (set & kTunUso4) != 0;
    break;
  }
  return active;
}

/// Packets that wait for one queue. A TCP window that is forwarded as single packets comes at once;
/// the default of the kernel, 500, drops a tenth of them.
constexpr std::uint32_t kQueueLength = 2000;

/// So many packets as large as the MTU still fit into one sealed train: the payload of a UDP
/// datagram, cut by the kernel into at most 64 (UDP_SEGMENT).
std::uint32_t most_segments(std::uint32_t mtu) {
  constexpr std::uint32_t kMostSegments = 64;
  constexpr std::uint32_t kMostPayload = 65507;
  constexpr std::uint32_t kMostOverhead = 100;  // of sealing, per segment
  return std::clamp(kMostPayload / (mtu + kMostOverhead), 1U, kMostSegments);
}

}  // namespace

std::string Offloads::text() const {
  std::string text;
  for (const auto& [active, word] :
       {std::pair(checksum, "checksum"), std::pair(tcp4, "tcp4"), std::pair(tcp6, "tcp6"),
        std::pair(ecn, "ecn"), std::pair(udp, "udp")}) {
    if (!active) continue;
    if (!text.empty()) text += ',';
    text += word;
  }
  return text.empty() ? "off" : text;
}

void TunQueue::receive(PacketPool& pool, Batch<ClearPacket>& batch) {
  VirtioHeader header{};
  const std::size_t header_size = offloads_.header ? sizeof header : 0;
  for (std::size_t bytes = 0; bytes < kEnoughBytes && !batch.full();) {
    Buffer buffer = pool.take();
    if (!buffer) return;
    const std::array<iovec, 2> pieces{
        {{&header, header_size}, {buffer.data() + kHeadroom, kMaxTrain}}};
    const ssize_t got = ::readv(fd_.get(), pieces.data(), pieces.size());
    // Nothing waits, or the device is down or gone.
    if (got < static_cast<ssize_t>(header_size) || got == 0) return;
    const std::size_t size = static_cast<std::size_t>(got) - header_size;
    batch.push(read_train(header, PacketBytes(std::move(buffer), kHeadroom, size)));
    bytes += size;
  }
}

engine::Joins TunQueue::joins() const noexcept {
  return {.tcp = offloads_.header, .udp = offloads_.udp};
}

bool TunQueue::deliver(const engine::ClearTrain& train) noexcept {
  if (train.pieces.size() > engine::Joins::kMostPieces) return false;
  VirtioHeader header = header_for(train);
  std::array<iovec, 1 + engine::Joins::kMostPieces> pieces;
  std::size_t count = 0;
  if (offloads_.header) pieces[count++] = {&header, sizeof header};
  for (const engine::Bytes piece : train.pieces) {
    pieces[count++] = {const_cast<std::byte*>(piece.data()), piece.size()};
  }
  return ::writev(fd_.get(), pieces.data(), static_cast<int>(count)) >= 0;
}

TunInterface::TunInterface(const Options& options) : name_(options.name) {
  const bool with_header = options.offload && knows_virtio_header();
  const int flags = IFF_TUN | IFF_NO_PI | (options.queues > 1 ? IFF_MULTI_QUEUE : 0) |
                    (with_header ? IFF_VNET_HDR : 0);
  for (unsigned lane = 0; lane < options.queues; ++lane) {
    // The first makes the device, and must not join one that is there; the others join it.
    const int exclusive = lane == 0 ? IFF_TUN_EXCL : 0;
    FileDescriptor fd = open_queue(name_, flags | exclusive);
    if (with_header && lane == 0) offloads_ = turn_on_offloads(fd.get());
    queues_.push_back(std::make_unique<TunQueue>(std::move(fd), offloads_));
  }

  ifreq request = request_for(name_);
  ask_interface(SIOCGIFINDEX, request, fmt::format("index of \"{}\"", name_));
  index_ = request.ifr_ifindex;
  Rtnetlink kernel;
  kernel.disable_ipv6_autoconfiguration(index_);
  refuse_router_advertisements(name_);
  request = request_for(name_);
  request.ifr_mtu = static_cast<int>(options.mtu);
  ask_interface(SIOCSIFMTU, request, fmt::format("MTU {} of \"{}\"", options.mtu, name_));
  // Only for speed.
  std::ignore = kernel.limit_segments(index_, most_segments(options.mtu));
  std::ignore = kernel.set_queue_length(index_, kQueueLength);
}

void TunInterface::bring_up() {
  ifreq request = request_for(name_);
  const std::string sentence = fmt::format("bringing \"{}\" up", name_);
  ask_interface(SIOCGIFFLAGS, request, sentence);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ask_interface(SIOCSIFFLAGS, request, sentence);
}

}  // namespace xfrmfs::netio
