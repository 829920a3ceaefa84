// SPDX-License-Identifier: Apache-2.0
// How does a sealed train become datagrams where the kernel does not cut it?
//
// Each segment gets a copy of the train's headers: with its own lengths and, in IPv4, the next
// identification and the checksum that belongs to both (RFC 791, RFC 1624). The data stay where
// they are: a message is [IP, maybe UDP][ESP packet], many of them one sendmmsg(2).

#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <tuple>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "engine/packet/ip_header.h"
#include "engine/packet/packet.h"

namespace xfrmfs::netio {

/// A view of one sealed train as the datagrams that it stands for.
class TrainCut {
 public:
  /// Nothing if the bytes are no IP packet, or if a train's segments are neither ESP nor UDP.
  static std::optional<TrainCut> of(engine::Bytes train, std::uint16_t segment_size);

  const engine::IpHeader& header() const { return header_; }
  std::size_t count() const { return count_; }
  /// IP header, and UDP's if there is one.
  std::size_t head_size() const { return head_size_; }
  /// Size of the largest datagram, with its headers.
  std::size_t largest() const;
  /// What follows the headers of datagram `i`.
  engine::Bytes data(std::size_t i) const;
  /// Writes the headers of datagram `i`: head_size() bytes.
  void write_header(std::size_t i, std::byte* at) const;

 private:
  TrainCut(engine::Bytes train, const engine::IpHeader& header, bool udp, std::size_t segment_size);
  void write_udp(engine::Bytes data, std::byte* at) const;

  engine::Bytes train_;
  engine::IpHeader header_;
  bool udp_;
  std::size_t head_size_;
  std::size_t segment_size_;  // all of the data if there is one datagram
  std::size_t count_;
  std::uint32_t fixed_sum_ = 0;  // of the IPv4 header without length, identification, checksum
  std::uint16_t identification_ = 0;
};

/// Messages for one sendmmsg(2). Their data are not copied: the trains outlive them.
class DatagramQueue {
 public:
  static constexpr std::size_t kMost = 64;

  DatagramQueue();
  DatagramQueue(const DatagramQueue&) = delete;
  DatagramQueue& operator=(const DatagramQueue&) = delete;

  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  /// Is there room for one more datagram with a header of so many bytes?
  bool has_room(std::size_t header_size) const {
    return count_ < kMost && header_size <= headers_.size() - header_bytes_;
  }
  /// Adds datagram `i` of `cut`, for the socket address `to` of at most kNameSize bytes. There is
  /// room for it.
  void add(engine::Bytes to, const TrainCut& cut, std::size_t i);
  void clear() { count_ = header_bytes_ = 0; }
  /// Each of two pieces: headers, and the rest.
  std::span<mmsghdr> messages() { return std::span(heads_).first(count_); }
  /// Sends all and is empty afterwards. The first time that the socket's buffer is full it waits a
  /// moment and sets `waited`. `refused(message)` is told each message that the system refuses,
  /// with the reason in errno.
  template <class Refused>
  void send(int fd, bool& waited, const Refused& refused) noexcept;

  static constexpr std::size_t kNameSize = sizeof(sockaddr_in6);

 private:
  struct alignas(8) Name {
    std::array<std::byte, kNameSize> bytes;
  };

  std::size_t count_ = 0;
  std::size_t header_bytes_ = 0;
  std::array<mmsghdr, kMost> heads_{};
  std::array<std::array<iovec, 2>, kMost> pieces_{};
  std::array<Name, kMost> names_;
  std::array<std::byte, kMost * 64> headers_;  // without options: 40 each
};

template <class Refused>
void DatagramQueue::send(int fd, bool& waited, const Refused& refused) noexcept {
  constexpr int kPatienceMs = 10;
  std::span<mmsghdr> rest = messages();
  while (!rest.empty()) {
    const int sent = ::sendmmsg(fd, rest.data(), static_cast<unsigned>(rest.size()), 0);
    if (sent > 0) {
      rest = rest.subspan(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN && !waited) {
      waited = true;
      pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
      std::ignore = ::poll(&ready, 1, kPatienceMs);
      continue;
    }
    refused(rest.front().msg_hdr);
    rest = rest.subspan(1);
  }
  clear();
}

}  // namespace xfrmfs::netio
