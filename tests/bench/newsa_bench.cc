// SPDX-License-Identifier: Apache-2.0
// How many SAs per second go through the control socket: a real ControlServer on a thread, a client
// on another, as an IKE daemon would ask.
//
//   newsa_bench [SAs]      default 100000; prints one line per way of asking
//
// `one` waits for each answer; `stream` sends a message per datagram and reads answers as they
// come; `packed` puts 64 messages into a datagram.

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/engine.h"
#include "netio/asio.h"
#include "netio/control_server.h"
#include "netio/file_descriptor.h"
#include "netio/housekeeping.h"
#include "netio/preload/protocol.h"
#include "netio/system_clock.h"
#include "tests/netio/xfrm_messages.h"

namespace xfrmfs::testing {
namespace {

using netio::FileDescriptor;

/// The client's end of a session, as the adapter gets it.
FileDescriptor join(const std::string& path) {
  const FileDescriptor meeting(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un there{};
  there.sun_family = AF_UNIX;
  path.copy(there.sun_path, sizeof there.sun_path - 1);
  if (::connect(meeting.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0) {
    throw std::system_error(errno, std::generic_category(), "connect to " + path);
  }
  netio::protocol::Handover handover{};
  iovec part{.iov_base = &handover, .iov_len = sizeof handover};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(meeting.get(), &message, MSG_CMSG_CLOEXEC) != sizeof handover ||
      CMSG_FIRSTHDR(&message) == nullptr) {
    throw std::system_error(EPIPE, std::generic_category(), "handover");
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return FileDescriptor(fd);
}

/// AES-128-GCM, window 64; each its own SPI, destination and reqid.
ByteVector new_sa(std::uint32_t i) {
  xfrm_usersa_info info = sa_info(0x1000 + i);
  info.id.daddr.a4 = htonl(0x0b000000 + i);
  info.reqid = 1 + i;
  return message(XFRM_MSG_NEWSA, NLM_F_ACK, bytes_of(info), {gcm_aes(), esn(2, 64, 2)}, i);
}

/// Bytes of this process that are in memory.
std::size_t resident() {
  std::size_t total = 0;
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> total >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

class Client {
 public:
  explicit Client(const std::string& path) : socket_(join(path)) {}

  void send(const ByteVector& datagram) {
    if (::send(socket_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL) < 0) std::abort();
  }
  /// Reads acknowledgements: at least `least`, and all that are there.
  void read(std::size_t least) {
    while (least > 0 || waiting()) {
      const ssize_t size = ::recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
      if (size <= 0) std::abort();
      for (const Answer& answer :
           answers_in(ByteSpan(buffer_).first(static_cast<std::size_t>(size)))) {
        if (!answer.is_error() || answer.error() != 0) {
          std::fprintf(stderr, "refused: %d\n", answer.error());
          std::exit(1);
        }
        ++answered;
        least -= least > 0 ? 1 : 0;
      }
    }
  }
  std::size_t answered = 0;

 private:
  bool waiting() const {
    pollfd wanted{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&wanted, 1, 0) == 1;
  }
  FileDescriptor socket_;
  ByteVector buffer_ = ByteVector(64 * 1024);
};

/// Datagrams with `per_datagram` messages each, at most `ahead` unanswered messages.
void ask(Client& client, const std::vector<ByteVector>& datagrams, std::size_t per_datagram,
         std::size_t ahead) {
  std::size_t sent = 0;
  for (const ByteVector& datagram : datagrams) {
    client.send(datagram);
    sent += per_datagram;
    if (sent - client.answered >= ahead) client.read(sent - client.answered - ahead / 2);
  }
  client.read(sent - client.answered);
}

void measure(const char* name, std::uint32_t count, std::size_t per_datagram, std::size_t ahead) {
  const std::string directory =
      std::filesystem::temp_directory_path() / ("newsa_bench." + std::to_string(::getpid()));
  const netio::SystemClock clock;
  engine::Engine engine(1, clock);
  netio::asio::io_context io(1);
  netio::Housekeeping housekeeping(io, engine, [] {});
  netio::ControlServer server(io, engine, directory + "/nl.sock",
                              [&] { housekeeping.engine_changed(); });
  double control_seconds = 0;
  std::jthread control([&] {
    io.run();
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    control_seconds = static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
  });

  std::vector<ByteVector> datagrams;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (i % per_datagram == 0) datagrams.emplace_back();
    const ByteVector one = new_sa(i);
    datagrams.back().resize((datagrams.back().size() + 3) & ~std::size_t{3});
    datagrams.back().insert(datagrams.back().end(), one.begin(), one.end());
  }
  Client client(directory + "/nl.sock");
  const std::size_t before = resident();
  const auto start = std::chrono::steady_clock::now();
  ask(client, datagrams, per_datagram, ahead);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  const std::size_t bytes = resident() - before;
  io.stop();
  control.join();
  std::printf("%-7s %8.0f SAs/s   control thread %.2f us CPU each   %zu bytes each\n", name,
              count / time.count(), control_seconds / count * 1e6, bytes / count);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace xfrmfs::testing

int main(int argc, char** argv) {
  const auto count = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 100'000);
  xfrmfs::testing::measure("one", count, 1, 1);
  xfrmfs::testing::measure("stream", count, 1, 256);
  xfrmfs::testing::measure("packed", count / 64 * 64, 64, 512);
}
