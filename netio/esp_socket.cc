// SPDX-License-Identifier: Apache-2.0
#include "netio/esp_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include <linux/filter.h>

#include "engine/base/bytes.h"
#include "engine/packet/ip_header.h"
#include "netio/ancillary.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Buffer;
using engine::Bytes;
using engine::Family;
using engine::kBatch;
using engine::kHeadroom;
using engine::kIpv6HeaderSize;
using engine::kMaxTrain;
using engine::PacketBytes;
using engine::PacketPool;
using engine::SealedPacket;

constexpr int kReceiveBuffer = 4 << 20;  // bytes; 2000 packets of 1500, with the kernel's overhead
constexpr int kSendBuffer = 1 << 20;

void set_option(int fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd, level, option, &value, sizeof value) != 0) throw_errno(name);
}

/// The limits of the system bind only those without CAP_NET_ADMIN; who lacks it gets what it gets.
void set_buffer(int fd, int forced, int ordinary, int size) {
  if (::setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) == 0) return;
  std::ignore = ::setsockopt(fd, SOL_SOCKET, ordinary, &size, sizeof size);
}

FileDescriptor open_raw(int family, int protocol, const std::string& underlay) {
  const char* const text = family == AF_INET ? "IPv4" : "IPv6";
  FileDescriptor fd(::socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (!fd) {
    const char* const hint = errno == EPERM ? " (needs CAP_NET_RAW)" : "";
    throw_errno(fmt::format("raw {} socket for protocol {}{}", text, protocol, hint));
  }
  if (!underlay.empty() && ::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, underlay.c_str(),
                                        static_cast<socklen_t>(underlay.size())) != 0) {
    throw_errno(fmt::format("underlay \"{}\"", underlay));
  }
  return fd;
}

/// Lets through the packets whose SPI belongs to this lane; lane 0 also those too short to have
/// one, so that they are counted once. A raw IPv4 socket shows its filter the IP header, a raw IPv6
/// socket does not.
void attach_lane_filter(int fd, int family, const EspSocket::Options& options) {
  const auto& [lane, lanes, underlay, protocol] = options;
  if (lanes == 1) return;
  const unsigned spi_at = protocol == engine::Protocol::kAh ? 4 : 0;
  constexpr std::uint32_t kAll = std::numeric_limits<std::uint32_t>::max();
  const auto ip_header_size = family == AF_INET
                                  ? sock_filter(BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0))
                                  : sock_filter(BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 0));
  // clang-format off
  std::array<sock_filter, 10> program{{
      ip_header_size,
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, spi_at + 4, 0, 5),  // else to "too short"
      BPF_STMT(BPF_LD | BPF_W | BPF_IND, spi_at),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, lanes),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, lane, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kAll),
      BPF_STMT(BPF_RET | BPF_K, 0),                      // another lane's
      BPF_STMT(BPF_RET | BPF_K, lane == 0 ? kAll : 0),   // too short
  }};
  // clang-format on
  sock_fprog filter{};
  filter.len = static_cast<unsigned short>(program.size());
  filter.filter = program.data();
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) {
    throw_errno("filter of the ESP socket");
  }
}

FileDescriptor open_ipv4(const EspSocket::Options& options) {
  FileDescriptor fd = open_raw(AF_INET, static_cast<int>(options.protocol), options.underlay);
  attach_lane_filter(fd.get(), AF_INET, options);
  set_option(fd.get(), IPPROTO_IP, IP_HDRINCL, 1, "IP_HDRINCL");
  return fd;
}

FileDescriptor open_ipv6(const EspSocket::Options& options) {
  FileDescriptor fd = open_raw(AF_INET6, static_cast<int>(options.protocol), options.underlay);
  attach_lane_filter(fd.get(), AF_INET6, options);
  set_option(fd.get(), IPPROTO_IPV6, IPV6_HDRINCL, 1, "IPV6_HDRINCL");
  set_option(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
  set_option(fd.get(), IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT");
  set_option(fd.get(), IPPROTO_IPV6, IPV6_RECVTCLASS, 1, "IPV6_RECVTCLASS");
  return fd;
}

/// The outer header that the kernel kept for itself, from what it tells about it. Nothing if the
/// destination is missing.
std::optional<engine::OuterHeader> ipv6_header_of(msghdr& message, const sockaddr_in6& source,
                                                  engine::Protocol protocol) {
  engine::OuterHeader outer;
  outer.protocol = protocol;
  outer.source = to_address(Family::kIpv6, source.sin6_addr);
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != IPPROTO_IPV6) continue;
    if (c->cmsg_type == IPV6_PKTINFO && c->cmsg_len >= CMSG_LEN(sizeof(in6_pktinfo))) {
      outer.destination = to_address(Family::kIpv6, control_value<in6_pktinfo>(c).ipi6_addr);
    } else if (c->cmsg_type == IPV6_HOPLIMIT && c->cmsg_len >= CMSG_LEN(sizeof(int))) {
      outer.hop_limit = static_cast<std::uint8_t>(control_value<int>(c));
    } else if (c->cmsg_type == IPV6_TCLASS && c->cmsg_len >= CMSG_LEN(sizeof(int))) {
      outer.traffic_class = static_cast<std::uint8_t>(control_value<int>(c));
    }
  }
  if (outer.destination.family() == Family::kNone) return std::nullopt;
  return outer;
}

/// Sends one datagram that is larger than the link's MTU through a socket without the header
/// option, so that the kernel fragments it. The socket lives only for this: an open one would get
/// copies of all ESP packets that arrive. Far from the fast path, so it may allocate.
bool send_fragmented(const msghdr& whole, const std::string& underlay) noexcept try {
  const std::span pieces(whole.msg_iov, whole.msg_iovlen);
  std::vector<std::byte> datagram;
  for (const iovec& piece : pieces) {
    const auto* const bytes = static_cast<const std::byte*>(piece.iov_base);
    datagram.insert(datagram.end(), bytes, bytes + piece.iov_len);
  }
  const auto header = engine::parse_ip_header(datagram);
  if (!header) return false;
  const bool is_ipv4 = header->family == Family::kIpv4;
  if (is_ipv4 && header->dont_fragment) return false;

  const FileDescriptor fd =
      open_raw(is_ipv4 ? AF_INET : AF_INET6, static_cast<int>(header->protocol), underlay);
  iovec payload{datagram.data() + header->header_size, header->total_size - header->header_size};
  alignas(cmsghdr) std::array<std::byte, 128> control{};
  msghdr message{};
  message.msg_name = whole.msg_name;
  message.msg_namelen = whole.msg_namelen;
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control.data();

  const int hop_limit = header->hop_limit;
  const int traffic_class = header->traffic_class;
  if (is_ipv4) {
    set_option(fd.get(), IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, "IP_MTU_DISCOVER");
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, header->source.storage().data(), sizeof info.ipi_spec_dst);
    add_control(message, IPPROTO_IP, IP_PKTINFO, info);
    add_control(message, IPPROTO_IP, IP_TTL, hop_limit);
    add_control(message, IPPROTO_IP, IP_TOS, traffic_class);
  } else {
    set_option(fd.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER");
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, header->source.storage().data(), sizeof info.ipi6_addr);
    add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, info);
    add_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, hop_limit);
    add_control(message, IPPROTO_IPV6, IPV6_TCLASS, traffic_class);
  }
  return ::sendmsg(fd.get(), &message, 0) >= 0;
} catch (const std::exception&) {
  return false;  // counted as unsent, as any other refusal
}

}  // namespace

EspSocket::EspSocket(const Options& options)
    : underlay_(options.underlay), protocol_(options.protocol), ipv4_(open_ipv4(options)) {
  try {
    ipv6_ = open_ipv6(options);
  } catch (const std::system_error& error) {
    if (error.code().value() != EAFNOSUPPORT) throw;
  }
  for (const FileDescriptor* fd : {&ipv4_, &ipv6_}) {
    if (!*fd) continue;
    set_buffer(fd->get(), SO_RCVBUFFORCE, SO_RCVBUF, kReceiveBuffer);
    set_buffer(fd->get(), SO_SNDBUFFORCE, SO_SNDBUF, kSendBuffer);
    polled_[polled_count_++] = fd->get();
  }
}

void EspSocket::receive(PacketPool& pool, Batch<SealedPacket>& batch) {
  turns_.receive(
      batch, [&] { receive_from(Family::kIpv4, pool, batch); },
      [&] { receive_from(Family::kIpv6, pool, batch); });
}

EspSocket::Incoming::Incoming(Family family) {
  for (std::size_t i = 0; i < kBatch; ++i) {
    msghdr& head = heads[i].msg_hdr;
    head.msg_iov = &pieces[i];
    head.msg_iovlen = 1;
    if (family != Family::kIpv6) continue;
    head.msg_name = &names[i];
    head.msg_control = controls[i].bytes.data();
  }
}

// Each datagram gets a buffer of its own. Laying equal ones side by side, to make a train of them,
// would gain nothing: the copy out of the kernel costs what fetching the packet from the other
// processor's cache costs, wherever it goes; the pieces that such a message needs (the IP header
// apart, room for a larger datagram) cost more than the buffer; and what a train saves the engine
// it saves itself where outer headers are alike.
void EspSocket::receive_from(Family family, PacketPool& pool, Batch<SealedPacket>& batch) {
  const bool is_ipv4 = family == Family::kIpv4;
  if (!is_ipv4 && !ipv6_) return;
  const int fd = is_ipv4 ? ipv4_.get() : ipv6_.get();
  const std::size_t offset = kHeadroom + (is_ipv4 ? 0 : kIpv6HeaderSize);
  Incoming& incoming = is_ipv4 ? incoming_ipv4_ : incoming_ipv6_;
  std::size_t bytes = 0;
  std::size_t packets = 0;
  while (bytes < kEnoughBytes) {
    // Not more than may be wanted: preparing a message costs a few nanoseconds each.
    const std::size_t likely = 2 * std::max(incoming.last_count, packets);
    const std::size_t enough = (kEnoughBytes - bytes) / incoming.typical_size;
    const std::size_t wanted =
        std::min({likely, std::max<std::size_t>(enough, packets == 0), kBatch - batch.size()});
    std::array<Buffer, kBatch> buffers;
    std::size_t armed = 0;
    for (; armed < wanted; ++armed) {
      buffers[armed] = pool.take();
      if (!buffers[armed]) break;
      // With the header in front an IPv6 packet may exceed kMaxTrain by it; the buffer has room.
      incoming.pieces[armed] = {buffers[armed].data() + offset, kMaxTrain};
      msghdr& head = incoming.heads[armed].msg_hdr;
      if (head.msg_name != nullptr) head.msg_namelen = sizeof incoming.names[armed];
      if (head.msg_control != nullptr) head.msg_controllen = Incoming::kControlSize;
    }
    if (armed == 0) break;
    const int got =
        ::recvmmsg(fd, incoming.heads.data(), static_cast<unsigned>(armed), MSG_DONTWAIT, nullptr);
    if (got <= 0) break;
    const auto count = static_cast<std::size_t>(got);
    for (std::size_t i = 0; i < count; ++i) {
      bytes += incoming.heads[i].msg_len;
      SealedPacket packet = arrived(incoming, i, std::move(buffers[i]));
      if (packet) batch.push(std::move(packet));
    }
    packets += count;
    incoming.typical_size = bytes / packets + 1;
    if (count < armed) break;
  }
  if (packets != 0) incoming.last_count = packets;
}

SealedPacket EspSocket::arrived(Incoming& incoming, std::size_t i, Buffer buffer) const {
  const std::size_t size = incoming.heads[i].msg_len;
  msghdr& head = incoming.heads[i].msg_hdr;
  if (head.msg_name == nullptr) return received(PacketBytes(std::move(buffer), kHeadroom, size));
  const auto outer = ipv6_header_of(head, incoming.names[i], protocol_);
  if (!outer) return {};
  engine::write_outer_header(*outer, size, buffer.data() + kHeadroom);
  return received(PacketBytes(std::move(buffer), kHeadroom, kIpv6HeaderSize + size));
}

void EspSocket::transmit(SealedPacket train) noexcept {
  const auto cut = TrainCut::of(std::as_const(train).bytes(), train.segment_size());
  const bool is_ipv4 = cut && cut->header().family == Family::kIpv4;
  if (!cut || (!is_ipv4 && !ipv6_)) {
    unsent_ += cut ? cut->count() : 1;
    return;
  }
  sockaddr_in to_ipv4{};
  sockaddr_in6 to_ipv6{};
  const auto& destination = cut->header().destination.storage();
  Bytes to;
  if (is_ipv4) {
    to_ipv4.sin_family = AF_INET;
    std::memcpy(&to_ipv4.sin_addr, destination.data(), sizeof to_ipv4.sin_addr);
    to = std::as_bytes(std::span(&to_ipv4, 1));
  } else {
    to_ipv6.sin6_family = AF_INET6;
    std::memcpy(&to_ipv6.sin6_addr, destination.data(), sizeof to_ipv6.sin6_addr);
    to = std::as_bytes(std::span(&to_ipv6, 1));
  }
  DatagramQueue& queue = is_ipv4 ? outgoing_ipv4_ : outgoing_ipv6_;
  for (std::size_t i = 0; i < cut->count(); ++i) {
    if (!queue.has_room(cut->head_size())) send_queued();
    queue.add(to, *cut, i);
  }
  kept_.push(std::move(train));
  if (kept_.full()) send_queued();
}

std::size_t EspSocket::flush() noexcept {
  send_queued();
  waited_ = false;
  return std::exchange(unsent_, 0);
}

void EspSocket::send_queued() noexcept {
  send_queue(ipv4_.get(), outgoing_ipv4_);
  send_queue(ipv6_.get(), outgoing_ipv6_);
  kept_.clear();
}

void EspSocket::send_queue(int fd, DatagramQueue& queue) noexcept {
  queue.send(fd, waited_, [this](const msghdr& message) {
    if (errno != EMSGSIZE || !send_fragmented(message, underlay_)) ++unsent_;
  });
}

}  // namespace xfrmfs::netio
