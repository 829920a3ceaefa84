// SPDX-License-Identifier: Apache-2.0
#include "netio/packet_wire.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

namespace xfrmfs::netio {
namespace {

constexpr int kSendBuffer = 1 << 20;

/// Hears nothing: it has no protocol.
FileDescriptor open_packet_socket() {
  FileDescriptor fd = own_or_throw(
      ::socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "packet socket");
  // The limits of the system bind only those without CAP_NET_ADMIN.
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer, sizeof kSendBuffer) != 0) {
    std::ignore = ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  }
  return fd;
}

}  // namespace

PacketWire::PacketWire(const EspSocket::Options& options, NextHopTable& next_hops)
    : socket_(options), next_hops_(next_hops), frames_(open_packet_socket()) {}

// Changing sides sends what the other side holds, so that packets keep their order.
void PacketWire::transmit(engine::SealedPacket train) noexcept {
  const auto cut = TrainCut::of(std::as_const(train).bytes(), train.segment_size());
  if (cut) {
    const auto hop =
        next_hops_.find({.source = cut->header().source, .destination = cut->header().destination});
    if (hop && cut->largest() <= hop->mtu) {
      if (std::exchange(socket_waiting_, false)) unsent_ += socket_.flush();
      transmit_frames(std::move(train), *cut, *hop);
      return;
    }
  }
  send_frames();
  socket_waiting_ = true;
  socket_.transmit(std::move(train));
}

void PacketWire::transmit_frames(engine::SealedPacket train, const TrainCut& cut,
                                 const NextHop& hop) noexcept {
  const bool is_ipv4 = cut.header().family == engine::Family::kIpv4;
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(is_ipv4 ? ETH_P_IP : ETH_P_IPV6);
  to.sll_ifindex = hop.link;
  to.sll_halen = static_cast<unsigned char>(hop.address.size());
  std::ranges::copy(hop.address, std::as_writable_bytes(std::span(to.sll_addr)).begin());
  static_assert(sizeof to <= DatagramQueue::kNameSize);

  for (std::size_t i = 0; i < cut.count(); ++i) {
    if (!outgoing_.has_room(cut.head_size())) send_frames();
    outgoing_.add(std::as_bytes(std::span(&to, 1)), cut, i);
  }
  kept_.push(std::move(train));
  if (kept_.full()) send_frames();
}

std::size_t PacketWire::flush() noexcept {
  send_frames();
  if (std::exchange(socket_waiting_, false)) unsent_ += socket_.flush();
  waited_ = false;
  return std::exchange(unsent_, 0);
}

void PacketWire::send_frames() noexcept {
  outgoing_.send(frames_.get(), waited_, [this](const msghdr& /*message*/) { ++unsent_; });
  kept_.clear();
}

}  // namespace xfrmfs::netio
