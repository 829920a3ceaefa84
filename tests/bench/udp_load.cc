// SPDX-License-Identifier: Apache-2.0
// How many UDP datagrams of one size arrive if so many are sent per second? One trial, for
// tests/bench/figures.py, which searches the highest rate without loss.
//
//   udp_load NETNS-PATH NETNS-PATH ADDRESS ADDRESS PAYLOAD-BYTES TRAIN MBIT/S SECONDS
//
// From the first namespace and address to the second. With a TRAIN of 1 every datagram is a packet
// from the start (sendmmsg); with more, as many are handed over in one buffer (UDP_SEGMENT), as
// QUIC servers do, and the kernel or the tunnel may cut it late. The receiver takes both
// (UDP_GRO). Prints one JSON object.

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration;
using std::chrono::microseconds;

/// The sender wakes up this often, so that bursts stay small against the queues on the way.
constexpr microseconds kTick{250};
constexpr std::size_t kMessages = 64;             // per system call
constexpr std::size_t kLargest = 64 * 1024;       // bytes of a received message
constexpr int kReceiveBuffer = 16 * 1024 * 1024;  // loss shall be the tunnel's, not this program's
constexpr int kQuietMs = 200;                     // after the last datagram nothing is under way

int check(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

class Socket {
 public:
  /// A UDP socket of the namespace at `netns`, bound to `local`. The thread stays in there.
  Socket(const std::string& netns, const sockaddr_in& local) {
    const int there = check(open(netns.c_str(), O_RDONLY | O_CLOEXEC), netns.c_str());
    const int entered = setns(there, CLONE_NEWNET);
    close(there);
    check(entered, "setns");
    descriptor_ = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    check(bind(descriptor_, reinterpret_cast<const sockaddr*>(&local), sizeof local), "bind");
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() { close(descriptor_); }

  [[nodiscard]] int get() const { return descriptor_; }
  void set(int level, int option, int value, const char* what) const {
    check(setsockopt(descriptor_, level, option, &value, sizeof value), what);
  }
  [[nodiscard]] sockaddr_in name() const {
    sockaddr_in result{};
    socklen_t size = sizeof result;
    check(getsockname(descriptor_, reinterpret_cast<sockaddr*>(&result), &size), "getsockname");
    return result;
  }

 private:
  int descriptor_ = -1;
};

sockaddr_in address(const std::string& text) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  if (inet_pton(AF_INET, text.c_str(), &result.sin_addr) != 1) {
    throw std::invalid_argument("no IPv4 address: " + text);
  }
  return result;
}

/// Counts datagrams until `sent` is set and nothing has come for a while.
std::uint64_t receive(const Socket& socket, const std::atomic<bool>& sent) {
  std::vector<char> bytes(kMessages * kLargest);
  alignas(cmsghdr) std::array<std::array<char, CMSG_SPACE(sizeof(int))>, kMessages> control;
  std::array<iovec, kMessages> pieces;
  std::array<mmsghdr, kMessages> messages;
  std::uint64_t count = 0;
  for (;;) {
    pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
    const bool last = sent;
    if (poll(&ready, 1, kQuietMs) == 0) {
      if (last) return count;
      continue;
    }
    for (std::size_t i = 0; i < kMessages; ++i) {
      pieces[i] = {.iov_base = bytes.data() + i * kLargest, .iov_len = kLargest};
      messages[i] = {};
      messages[i].msg_hdr.msg_iov = &pieces[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_control = control[i].data();
      messages[i].msg_hdr.msg_controllen = control[i].size();
    }
    const int got = recvmmsg(socket.get(), messages.data(), kMessages, MSG_DONTWAIT, nullptr);
    for (int i = 0; i < got; ++i) {
      mmsghdr& message = messages[static_cast<std::size_t>(i)];
      unsigned segment = 0;
      for (cmsghdr* c = CMSG_FIRSTHDR(&message.msg_hdr); c; c = CMSG_NXTHDR(&message.msg_hdr, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
          std::memcpy(&segment, CMSG_DATA(c), sizeof(int));
        }
      }
      count += segment ? (message.msg_len + segment - 1) / segment : 1;
    }
  }
}

struct Sent {
  std::uint64_t datagrams = 0;
  double seconds = 0;
};

/// Sends at a rate for a time. A delay of the sender is made up for slowly, never by one burst.
Sent send(const Socket& socket, std::size_t payload, std::size_t train, double per_second,
          duration<double> length) {
  std::vector<char> bytes(payload * train, 'x');
  iovec piece{.iov_base = bytes.data(), .iov_len = bytes.size()};
  std::array<mmsghdr, kMessages> messages{};
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_iov = &piece;
    message.msg_hdr.msg_iovlen = 1;
  }
  const double per_tick = per_second * duration<double>(kTick).count() / static_cast<double>(train);
  const auto most = static_cast<std::uint64_t>(std::max(1.0, 2 * per_tick));
  const auto begin = Clock::now();
  auto tick = begin;
  double owed = 0;  // messages
  Sent result;
  while (Clock::now() - begin < length) {
    owed += per_tick;
    auto now = static_cast<std::uint64_t>(std::min(owed, static_cast<double>(most)));
    while (now > 0) {
      const auto count = static_cast<unsigned>(std::min<std::uint64_t>(now, kMessages));
      const int done = check(sendmmsg(socket.get(), messages.data(), count, 0), "sendmmsg");
      result.datagrams += static_cast<std::uint64_t>(done) * train;
      now -= static_cast<std::uint64_t>(done);
      owed -= done;
    }
    tick += kTick;
    std::this_thread::sleep_until(tick);
  }
  result.seconds = duration<double>(Clock::now() - begin).count();
  return result;
}

int run(const std::vector<std::string>& words) {
  if (words.size() != 8) throw std::invalid_argument("eight arguments, see the source");
  const std::size_t payload = std::stoul(words[4]);
  const std::size_t train = std::stoul(words[5]);
  const double per_second = std::stod(words[6]) * 1e6 / 8 / static_cast<double>(payload);

  const Socket receiver(words[1], address(words[3]));
  receiver.set(SOL_SOCKET, SO_RCVBUFFORCE, kReceiveBuffer, "SO_RCVBUFFORCE");
  receiver.set(SOL_UDP, UDP_GRO, 1, "UDP_GRO");
  const Socket sender(words[0], address(words[2]));
  const sockaddr_in to = receiver.name();
  check(connect(sender.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), "connect");
  if (train > 1) sender.set(SOL_UDP, UDP_SEGMENT, static_cast<int>(payload), "UDP_SEGMENT");
  prctl(PR_SET_TIMERSLACK, 1UL);

  std::atomic<bool> over = false;
  std::uint64_t received = 0;
  std::jthread counting([&] { received = receive(receiver, over); });
  Sent sent;
  try {
    sent = send(sender, payload, train, per_second, duration<double>(std::stod(words[7])));
  } catch (...) {
    over = true;
    throw;
  }
  over = true;
  counting.join();
  fmt::print("{{\"sent\": {}, \"received\": {}, \"seconds\": {:.6f}}}\n", sent.datagrams, received,
             sent.seconds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "udp_load: {}\n", error.what());
    return 1;
  }
}
