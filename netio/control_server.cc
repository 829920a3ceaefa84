// SPDX-License-Identifier: Apache-2.0
#include "netio/control_server.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <random>
#include <system_error>
#include <utility>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "netio/asio.h"
#include "netio/control_session.h"
#include "netio/file_descriptor.h"
#include "netio/preload/protocol.h"

namespace xfrmfs::netio {
namespace {

/// What a client's queue may hold; the kernel doubles it for its own needs. Some ten thousand
/// events, or five thousand SAs of a listing.
constexpr int kQueueBytes = 2 * 1024 * 1024;

/// Waiting time when the process has run out of descriptors or memory.
constexpr std::chrono::milliseconds kRetryAccept{100};

std::string name_of(const std::string& path) {
  return "control socket " + path;
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    errno = path.empty() ? EINVAL : ENAMETOOLONG;
    throw_errno(name_of(path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

FileDescriptor make_socket(const std::string& path) {
  return own_or_throw(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                      name_of(path));
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

/// Removes a socket that nobody listens on. Throws EADDRINUSE for anything else.
void remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat there{};
  if (::lstat(path.c_str(), &there) != 0) throw_errno(name_of(path));
  if (!S_ISSOCK(there.st_mode)) {
    errno = EADDRINUSE;
    throw_errno(name_of(path) + ": there is a file that is no socket");
  }
  const FileDescriptor probe = make_socket(path);
  if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno != ECONNREFUSED) {
    errno = EADDRINUSE;
    throw_errno(name_of(path) + ": another process listens there");
  }
  if (::unlink(path.c_str()) != 0) throw_errno(name_of(path));
}

FileDescriptor listen_at(const std::string& path) {
  const sockaddr_un address = address_of(path);
  const auto directory = std::filesystem::path(path).parent_path();
  if (!directory.empty() && ::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    throw_errno("directory of " + name_of(path));
  }
  FileDescriptor socket = make_socket(path);
  // Before bind(): the file is never there with another mode.
  if (::fchmod(socket.get(), 0600) != 0) throw_errno(name_of(path));
  if (::bind(socket.get(), generic(address), sizeof address) != 0) {
    if (errno != EADDRINUSE) throw_errno(name_of(path));
    remove_stale(path, address);
    if (::bind(socket.get(), generic(address), sizeof address) != 0) throw_errno(name_of(path));
  }
  if (::listen(socket.get(), SOMAXCONN) != 0) throw_errno(name_of(path));
  return socket;
}

/// Gives the engine's end its name, so that the client sees messages from port id 0.
bool name_engine_end(int fd, std::minstd_rand& nonces) {
  constexpr int kTries = 100;  // each fails with sessions / 2^31
  for (int i = 0; i < kTries; ++i) {
    const protocol::Name name{.family = AF_UNIX,
                              .nul = 0,
                              .tag = protocol::kEngineTag,
                              .port_id = 0,
                              .groups_or_nonce = static_cast<std::uint32_t>(nonces())};
    sockaddr_un address{};
    std::memcpy(&address, &name, sizeof name);
    if (::bind(fd, generic(address), sizeof name) == 0) return true;
    if (errno != EADDRINUSE) return false;
  }
  return false;
}

struct Ends {
  FileDescriptor engine;
  FileDescriptor client;
};

/// A pair as sessions need it; nothing, and errno, if there is none to be had.
std::optional<Ends> make_ends(std::minstd_rand& nonces) {
  std::array<int, 2> fds;
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) return {};
  Ends ends{FileDescriptor(fds[0]), FileDescriptor(fds[1])};
  const int on = 1;
  if (::setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      !name_engine_end(fds[0], nonces)) {
    return {};
  }
  // Best effort: without privilege the default will do.
  ::setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &kQueueBytes, sizeof kQueueBytes);
  return ends;
}

/// Hands the client's end over, or an errno. A client that has gone already misses nothing.
void send_handover(int connection, std::uint8_t status, const FileDescriptor& end) {
  protocol::Handover handover{status};
  iovec bytes{.iov_base = &handover, .iov_len = sizeof handover};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (end) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = end.get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  ::sendmsg(connection, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace

/// Outlives the server for as long as its coroutine needs to notice that it is closed.
class ControlServer::Listener {
 public:
  Listener(asio::io_context& io, engine::Engine& engine, std::string path,
           std::function<void()> on_change, std::function<std::string()> status)
      : io_(io),
        path_(std::move(path)),
        socket_(io),
        retry_(io),
        shared_(std::make_shared<ControlShared>(engine, std::move(on_change), std::move(status))),
        nonces_(std::random_device{}()) {
    FileDescriptor socket = listen_at(path_);
    ::lstat(path_.c_str(), &file_);
    socket_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), socket.get());
    socket.release();
  }

  static asio::awaitable<void> listen(std::shared_ptr<Listener> self) {
    boost::system::error_code ignored;
    while (self->socket_.is_open()) {
      co_await self->socket_.async_wait(SeqPacketSocket::wait_read,
                                        asio::redirect_error(asio::use_awaitable, ignored));
      if (!self->socket_.is_open() || self->accept_one()) continue;
      self->retry_.expires_after(kRetryAccept);
      co_await self->retry_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
  }

  void close() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    retry_.cancel();
    for (ControlSession* session : shared_->sessions) session->close();
    // Unless somebody has replaced it meanwhile.
    struct stat there{};
    if (::lstat(path_.c_str(), &there) == 0 && there.st_ino == file_.st_ino &&
        there.st_dev == file_.st_dev) {
      ::unlink(path_.c_str());
    }
  }

  std::size_t sessions() const { return shared_->sessions.size(); }

 private:
  /// False if we have run out of something and should wait a little.
  bool accept_one() {
    const FileDescriptor connection(
        ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection) welcome(connection.get());
    return connection || errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
  }

  void welcome(int connection) {
    const auto refuse = [&](int error) {
      send_handover(connection, static_cast<std::uint8_t>(error), FileDescriptor());
    };
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return refuse(EPERM);
    if (shared_->sessions.size() >= kMostSessions) return refuse(ENFILE);
    auto ends = make_ends(nonces_);
    if (!ends) return refuse(errno);
    try {
      asio::co_spawn(io_,
                     ControlSession::converse(std::make_shared<ControlSession>(
                         io_, std::move(ends->engine), is_privileged(peer.uid), shared_)),
                     asio::detached);
    } catch (const std::exception&) {  // no memory, or no room in epoll: this client's bad luck
      return refuse(ENOBUFS);
    }
    send_handover(connection, protocol::kHandoverReady, ends->client);
  }

  asio::io_context& io_;
  const std::string path_;
  struct stat file_{};  // what we put there
  SeqPacketSocket socket_;
  asio::steady_timer retry_;
  const std::shared_ptr<ControlShared> shared_;
  std::minstd_rand nonces_;
};

ControlServer::ControlServer(asio::io_context& io, engine::Engine& engine, std::string path,
                             std::function<void()> on_change, std::function<std::string()> status)
    : listener_(std::make_shared<Listener>(io, engine, std::move(path), std::move(on_change),
                                           std::move(status))) {
  asio::co_spawn(io, Listener::listen(listener_), asio::detached);
}

ControlServer::~ControlServer() {
  listener_->close();
}

std::size_t ControlServer::sessions() const {
  return listener_->sessions();
}

}  // namespace xfrmfs::netio
