// SPDX-License-Identifier: Apache-2.0
#include "netio/udp_encap_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <linux/filter.h>
#include <netinet/udp.h>
#include <poll.h>

#include "engine/packet/ip_header.h"

namespace xfrmfs::netio {
namespace {

using engine::Batch;
using engine::Buffer;
using engine::Bytes;
using engine::kBatch;
using engine::kHeadroom;
using engine::kIpv4HeaderSize;
using engine::kIpv6HeaderSize;
using engine::kUdpHeaderSize;
using engine::PacketBytes;
using engine::PacketPool;
using engine::SealedPacket;

/// Of an IPv4 datagram, and so of all that one UDP_SEGMENT call sends.
constexpr std::size_t kMostPayload = 65535 - kIpv4HeaderSize - kUdpHeaderSize;
/// Of an IPv6 datagram; with its headers it may exceed kMaxTrain, but not the buffer.
constexpr std::size_t kMostReceived = 65535 - kUdpHeaderSize;
constexpr std::size_t kMostSegments = 64;  // of UDP_SEGMENT; younger kernels take more
/// So much is sent at once: a train while it is in the cache, but no system call for less.
constexpr std::size_t kSendAt = 48 * 1024;

constexpr int kReceiveBuffer = 8 << 20;  // bytes, with the kernel's overhead
constexpr int kSendBuffer = 2 << 20;
constexpr int kSendPatienceMs = 10;

void set_option(int fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd, level, option, &value, sizeof value) != 0) throw_errno(name);
}

/// The limits of the system bind only those without CAP_NET_ADMIN; who lacks it gets what it gets.
void set_buffer(int fd, int forced, int ordinary, int size) {
  if (::setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) == 0) return;
  std::ignore = ::setsockopt(fd, SOL_SOCKET, ordinary, &size, sizeof size);
}

void bind_to(int fd, int family, std::uint16_t port) {
  sockaddr_in6 name{};
  socklen_t size = sizeof name;
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(port);
  if (family == AF_INET) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_port = htons(port);
    size = sizeof any;
    std::memcpy(&name, &any, size);
  }
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), size) != 0) {
    throw_errno(fmt::format("UDP port {}", port));
  }
}

/// Among sockets that share a port the program names the receiver by its place. It sees the UDP
/// payload; a load beyond that ends it with 0: what has no SPI is for the first lane.
void spread_over_lanes(int fd, unsigned lanes) {
  std::array<sock_filter, 3> program{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, lanes),
      BPF_STMT(BPF_RET | BPF_A, 0),
  }};
  sock_fprog filter{};
  filter.len = static_cast<unsigned short>(program.size());
  filter.filter = program.data();
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter) != 0) {
    throw_errno("filter of the UDP socket");
  }
}

bool is_ipv4(const SealedPacket& train) {
  return (train.data()[0] >> 4) == std::byte{4};
}

std::size_t ip_header_size(const SealedPacket& train) {
  return is_ipv4(train) ? kIpv4HeaderSize : kIpv6HeaderSize;
}

bool may_fragment(const SealedPacket& train) {
  constexpr std::byte kDontFragment{0x40};
  return !is_ipv4(train) || (train.data()[6] & kDontFragment) == std::byte{0};
}

Bytes payload_of(const SealedPacket& train) {
  return train.bytes().subspan(ip_header_size(train) + kUdpHeaderSize);
}

std::size_t first_segment(const SealedPacket& train) {
  return train.segment_size() != 0 ? train.segment_size() : payload_of(train).size();
}

std::size_t segments_in(const SealedPacket& train) {
  const std::size_t segment = first_segment(train);
  return segment == 0 ? 1 : (payload_of(train).size() + segment - 1) / segment;
}

/// Whether the kernel would give both the same headers: addresses, ports, hop limit and traffic
/// class. Both are of one family, and as to fragmentation of one opinion.
bool same_headers(const SealedPacket& a, const SealedPacket& b) {
  const auto same = [&](std::size_t from, std::size_t size) {
    return std::memcmp(a.data() + from, b.data() + from, size) == 0;
  };
  if (is_ipv4(a)) return same(1, 1) && same(8, 1) && same(12, 8 + 4);
  return same(0, 4) && same(7, 1) && same(8, 32 + 4);
}

}  // namespace

UdpEncapSocket::Messages::Messages() {
  for (std::size_t i = 0; i < kBatch; ++i) {
    msghdr& head = heads[i].msg_hdr;
    head.msg_name = &names[i];
    head.msg_namelen = sizeof names[i];
    head.msg_iov = &pieces[i];
    head.msg_iovlen = 1;
    head.msg_control = controls[i].bytes.data();
  }
}

UdpEncapSocket::UdpEncapSocket(const Options& options) : port_(options.port) {
  open(ipv4_, AF_INET, options);
  try {
    open(ipv6_, AF_INET6, options);
  } catch (const std::system_error& error) {
    if (error.code().value() != EAFNOSUPPORT) throw;
  }
}

void UdpEncapSocket::open(Side& side, int family, const Options& options) {
  const char* const text = family == AF_INET ? "IPv4" : "IPv6";
  side.fd = own_or_throw(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP),
                         fmt::format("UDP socket, {}", text));
  const int fd = side.fd.get();
  if (family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
  if (!options.underlay.empty() &&
      ::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options.underlay.c_str(),
                   static_cast<socklen_t>(options.underlay.size())) != 0) {
    throw_errno(fmt::format("underlay \"{}\"", options.underlay));
  }
  // The first lane takes the port for itself and then lets the others in; so it fails if another
  // program is there that would share it.
  if (options.lane != 0) set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  bind_to(fd, family, options.port);
  if (options.lanes > 1) set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  if (options.lane != 0) spread_over_lanes(fd, options.lanes);

  if (family == AF_INET) {
    set_option(fd, IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO");
    set_option(fd, IPPROTO_IP, IP_RECVTOS, 1, "IP_RECVTOS");
    set_option(fd, IPPROTO_IP, IP_RECVTTL, 1, "IP_RECVTTL");
    set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, "IP_MTU_DISCOVER");
  } else {
    set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1, "IPV6_RECVTCLASS");
    set_option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT");
    set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER");
  }
  const int on = 1;
  std::ignore = ::setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);  // only for speed
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, kReceiveBuffer);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, kSendBuffer);
  polled_[polled_count_++] = fd;
}

void UdpEncapSocket::receive(PacketPool& pool, Batch<SealedPacket>& batch) {
  turns_.receive(
      batch, [&] { receive_from(ipv4_, pool, batch); }, [&] { receive_from(ipv6_, pool, batch); });
}

void UdpEncapSocket::receive_from(Side& side, PacketPool& pool, Batch<SealedPacket>& batch) {
  if (!side.fd) return;
  Messages& messages = side.received;
  const bool ipv4 = &side == &ipv4_;
  const std::size_t payload_at =
      kHeadroom + (ipv4 ? kIpv4HeaderSize : kIpv6HeaderSize) + kUdpHeaderSize;
  for (std::size_t bytes = 0; bytes < kEnoughBytes && !batch.full();) {
    std::array<Buffer, kBatch> buffers;
    // Not more than may be wanted: preparing a message costs a few nanoseconds each.
    const std::size_t likely = std::min(2 * side.last_count, kEnoughBytes / side.typical_size);
    const std::size_t wanted =
        std::min(kBatch - batch.size(), std::clamp<std::size_t>(likely, 2, kBatch));
    std::size_t armed = 0;
    for (; armed < wanted; ++armed) {
      buffers[armed] = pool.take();
      if (!buffers[armed]) break;
      messages.pieces[armed] = {buffers[armed].data() + payload_at, kMostReceived};
      messages.heads[armed].msg_hdr.msg_namelen = sizeof messages.names[armed];
      messages.heads[armed].msg_hdr.msg_controllen = UdpControl::kSize;
    }
    if (armed == 0) return;
    const int got = ::recvmmsg(side.fd.get(), messages.heads.data(), static_cast<unsigned>(armed),
                               MSG_DONTWAIT, nullptr);
    if (got <= 0) return;
    const auto count = static_cast<std::size_t>(got);
    std::size_t arrived = 0;
    for (std::size_t i = 0; i < count; ++i) {
      arrived += messages.heads[i].msg_len;
      const Bytes payload(buffers[i].data() + payload_at, messages.heads[i].msg_len);
      const auto arrival = read_arrival(messages.heads[i].msg_hdr);
      if (!arrival) continue;
      const auto esp = esp_in_udp(payload, arrival->segment_size);
      if (!esp) continue;
      const std::size_t udp_size = kUdpHeaderSize + esp->size;
      engine::write_outer_header(arrival->outer, udp_size, buffers[i].data() + kHeadroom);
      std::byte* const udp = buffers[i].data() + payload_at - kUdpHeaderSize;
      engine::store_be16(udp, arrival->source_port);
      engine::store_be16(udp + 2, port_);
      engine::store_be16(udp + 4, static_cast<std::uint16_t>(udp_size));
      engine::store_be16(udp + 6, 0);
      batch.push(received(
          PacketBytes(std::move(buffers[i]), kHeadroom, payload_at - kHeadroom + esp->size),
          esp->segment_size));
    }
    bytes += arrived;
    side.last_count = count;
    side.typical_size = arrived / count + 1;
    if (count < armed) return;
  }
}

bool UdpEncapSocket::takes(const SealedPacket& train) const noexcept {
  constexpr auto kUdp = static_cast<std::byte>(engine::Protocol::kUdp);
  const Bytes bytes = train.bytes();
  if (bytes.size() >= kIpv4HeaderSize + kUdpHeaderSize && bytes[0] == std::byte{0x45}) {
    return ipv4_.fd && bytes[9] == kUdp && engine::load_be16(&bytes[kIpv4HeaderSize]) == port_;
  }
  return bytes.size() >= kIpv6HeaderSize + kUdpHeaderSize && (bytes[0] >> 4) == std::byte{6} &&
         ipv6_.fd && bytes[6] == kUdp && engine::load_be16(&bytes[kIpv6HeaderSize]) == port_;
}

void UdpEncapSocket::transmit(SealedPacket train) noexcept {
  if (!takes(train)) {
    ++unsent_;
    return;
  }
  if (kept_.full()) send_kept();
  kept_bytes_ += train.size();
  kept_.push(std::move(train));
  if (kept_bytes_ >= kSendAt) send_kept();
}

std::size_t UdpEncapSocket::flush() noexcept {
  send_kept();
  waited_ = false;
  return std::exchange(unsent_, 0);
}

void UdpEncapSocket::send_kept() noexcept {
  for (std::size_t next = 0; next < kept_.size();) next = send_run(next);
  kept_.clear();
  kept_bytes_ = 0;
}

std::size_t UdpEncapSocket::send_run(std::size_t first) noexcept {
  const bool ipv4 = is_ipv4(kept_[first]);
  const bool fragments = may_fragment(kept_[first]);
  Side& side = ipv4 ? ipv4_ : ipv6_;
  if (fragments != side.fragments) {
    // "Probe" looks at the link's MTU alone: what the path carries the engine knows.
    const int mode = fragments ? IP_PMTUDISC_DONT : IP_PMTUDISC_PROBE;
    std::ignore = ::setsockopt(side.fd.get(), IPPROTO_IP, IP_MTU_DISCOVER, &mode, sizeof mode);
    side.fragments = fragments;
  }
  std::size_t messages = 0;
  std::size_t next = first;
  for (; next < kept_.size(); ++next) {
    SealedPacket& train = kept_[next];
    if (is_ipv4(train) != ipv4 || may_fragment(train) != fragments) break;
    const Bytes payload = payload_of(train);
    sent_.pieces[next] = {const_cast<std::byte*>(payload.data()), payload.size()};
    if (messages == 0 || !extend(messages - 1, train, kept_[next - 1])) {
      sent_.heads[messages].msg_hdr.msg_iov = &sent_.pieces[next];
      begin(messages++, train);
    }
  }
  send_messages(side, messages);
  return next;
}

void UdpEncapSocket::begin(std::size_t message, SealedPacket& train) noexcept {
  msghdr& head = sent_.heads[message].msg_hdr;
  head.msg_iovlen = 1;
  write_departure(train, head);
  const std::size_t size = payload_of(train).size();
  const std::size_t segment = first_segment(train);
  outgoing_[message] = {.segment_size = segment,
                        .segments = segments_in(train),
                        .size = size,
                        .closed = segment == 0 || size % segment != 0};
}

bool UdpEncapSocket::extend(std::size_t message, const SealedPacket& train,
                            const SealedPacket& previous) noexcept {
  Outgoing& outgoing = outgoing_[message];
  const std::size_t size = payload_of(train).size();
  const std::size_t segments = segments_in(train);
  const bool fits = first_segment(train) == outgoing.segment_size ||
                    (segments == 1 && size != 0 && size < outgoing.segment_size);
  if (outgoing.closed || !fits || outgoing.size + size > kMostPayload ||
      outgoing.segments + segments > kMostSegments || !same_headers(train, previous)) {
    return false;
  }
  ++sent_.heads[message].msg_hdr.msg_iovlen;
  outgoing.segments += segments;
  outgoing.size += size;
  outgoing.closed = size % outgoing.segment_size != 0;
  return true;
}

void UdpEncapSocket::send_messages(Side& side, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    if (outgoing_[i].segments == 1) continue;
    add_segment_size(sent_.heads[i].msg_hdr, static_cast<std::uint16_t>(outgoing_[i].segment_size));
  }
  for (std::size_t next = 0; next < count;) {
    if (!side.cuts && outgoing_[next].segments > 1) {
      send_cut(side, next++);
      continue;
    }
    const int sent =
        ::sendmmsg(side.fd.get(), &sent_.heads[next], static_cast<unsigned>(count - next), 0);
    if (sent > 0) {
      next += static_cast<std::size_t>(sent);
      continue;
    }
    const int error = errno;
    if (wait(side, error)) continue;
    if (outgoing_[next].segments > 1 &&
        (error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP)) {
      if (error == EIO) side.cuts = false;  // the device cannot; else it is this train
      send_cut(side, next);
    } else {
      unsent_ += outgoing_[next].segments;
    }
    ++next;
  }
}

void UdpEncapSocket::send_cut(Side& side, std::size_t message) noexcept {
  msghdr whole = sent_.heads[message].msg_hdr;
  remove_segment_size(whole);
  const std::span<const iovec> pieces(whole.msg_iov, whole.msg_iovlen);
  iovec segment{};
  whole.msg_iov = &segment;
  whole.msg_iovlen = 1;
  for (const iovec& piece : pieces) {  // no segment is in two of them
    auto* at = static_cast<std::byte*>(piece.iov_base);
    for (std::size_t left = piece.iov_len; left != 0; left -= segment.iov_len) {
      segment = {at, std::min(left, outgoing_[message].segment_size)};
      at += segment.iov_len;
      bool sent = ::sendmsg(side.fd.get(), &whole, 0) >= 0;
      while (!sent && wait(side, errno)) sent = ::sendmsg(side.fd.get(), &whole, 0) >= 0;
      if (!sent) ++unsent_;
    }
  }
}

bool UdpEncapSocket::wait(const Side& side, int error) noexcept {
  if (error == EINTR) return true;
  if ((error != EAGAIN && error != ENOBUFS) || waited_) return false;
  waited_ = true;
  pollfd ready{.fd = side.fd.get(), .events = POLLOUT, .revents = 0};
  std::ignore = ::poll(&ready, 1, kSendPatienceMs);
  return true;
}

}  // namespace xfrmfs::netio
