// SPDX-License-Identifier: Apache-2.0
#include "mount/status_command.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>

#include <fmt/core.h>

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "mount/engine_mount.h"
#include "mount/log.h"
#include "netio/file_descriptor.h"
#include "netio/preload/protocol.h"

namespace xfrmfs {
namespace {

using netio::FileDescriptor;
namespace protocol = netio::protocol;

/// What `SO_RCVTIMEO` and `SO_SNDTIMEO` wait for.
constexpr timeval kPatience = {.tv_sec = 2, .tv_usec = 0};

/// Room for the control message of one descriptor.
struct alignas(cmsghdr) DescriptorRoom {
  std::array<std::byte, CMSG_SPACE(sizeof(int))> bytes{};
};

[[noreturn]] void fail(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      throw std::runtime_error(fmt::format("no engine at \"{}\": it has ended", path));
    case EACCES:
    case EPERM:
      throw std::runtime_error(fmt::format(
          "no permission to ask the engine at \"{}\": only root and its user may", path));
    case EAGAIN:
      throw std::runtime_error(
          fmt::format("the engine at \"{}\" does not answer within {} s", path, kPatience.tv_sec));
    case EOPNOTSUPP:
      throw std::runtime_error(fmt::format("the engine at \"{}\" cannot tell its status", path));
    default:
      throw std::system_error(error, std::generic_category(),
                              fmt::format("control socket \"{}\"", path));
  }
}

/// Repeats a system call that a signal has interrupted.
template <class Call>
ssize_t uninterrupted(const Call& call) {
  ssize_t result = 0;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

void be_patient(const FileDescriptor& socket) {
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
}

/// Connected to an engine of root or of the caller.
FileDescriptor meet(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(path, ENAMETOOLONG);
  path.copy(address.sun_path, path.size());
  FileDescriptor meeting(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!meeting) fail(path, errno);
  be_patient(meeting);
  if (uninterrupted([&] {
        return ::connect(meeting.get(), reinterpret_cast<const sockaddr*>(&address),
                         sizeof address);
      }) != 0) {
    fail(path, errno);
  }
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (::getsockopt(meeting.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) fail(path, errno);
  if (peer.uid != 0 && peer.uid != ::geteuid()) {
    throw std::runtime_error(fmt::format(
        "at \"{}\" listens user {}, who is neither root nor the caller", path, peer.uid));
  }
  return meeting;
}

/// A client's end of a session.
FileDescriptor open_session(const std::string& path) {
  const FileDescriptor meeting = meet(path);
  protocol::Handover handover = {};
  iovec part = {.iov_base = &handover, .iov_len = sizeof handover};
  DescriptorRoom room;
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes.data();
  message.msg_controllen = room.bytes.size();
  const ssize_t size =
      uninterrupted([&] { return ::recvmsg(meeting.get(), &message, MSG_CMSG_CLOEXEC); });
  if (size < 0) fail(path, errno);
  if (size == 0) fail(path, ECONNRESET);
  if (handover.status != protocol::kHandoverReady) fail(path, handover.status);
  const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
  if (rights == nullptr || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS ||
      rights->cmsg_len < CMSG_LEN(sizeof(int))) {
    fail(path, EPROTO);
  }
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(rights), sizeof descriptor);
  FileDescriptor session(descriptor);
  be_patient(session);
  return session;
}

void send_call(const std::string& path, const FileDescriptor& session,
               const FileDescriptor& where_to_answer) {
  struct {
    nlmsghdr header;
    protocol::ControlBody body;
  } call = {{.nlmsg_len = protocol::kControlCallSize,
             .nlmsg_type = protocol::kControlType,
             .nlmsg_flags = 0,
             .nlmsg_seq = 0,
             .nlmsg_pid = 0},
            {.op = static_cast<std::uint32_t>(protocol::Op::kStatus), .arg0 = 0, .arg1 = 0}};
  static_assert(sizeof call == protocol::kControlCallSize);
  iovec part = {.iov_base = &call, .iov_len = sizeof call};
  DescriptorRoom room;
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes.data();
  message.msg_controllen = room.bytes.size();
  cmsghdr* const rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int descriptor = where_to_answer.get();
  std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  if (uninterrupted([&] { return ::sendmsg(session.get(), &message, MSG_NOSIGNAL); }) < 0) {
    fail(path, errno);
  }
}

std::string ask(const std::string& path) {
  const FileDescriptor session = open_session(path);
  std::array<int, 2> pair = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) fail(path, errno);
  const FileDescriptor ours(pair[0]);
  be_patient(ours);
  {
    const FileDescriptor theirs(pair[1]);  // ours too would hide that the engine has ended
    send_call(path, session, theirs);
  }
  protocol::ControlAnswer answer = {};
  std::string text(protocol::kLongestStatus, '\0');
  std::array<iovec, 2> parts = {iovec{.iov_base = &answer, .iov_len = sizeof answer},
                                iovec{.iov_base = text.data(), .iov_len = text.size()}};
  msghdr message = {};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  const ssize_t size = uninterrupted([&] { return ::recvmsg(ours.get(), &message, 0); });
  if (size < 0) fail(path, errno);
  if (size == 0) fail(path, ECONNRESET);
  if (static_cast<std::size_t>(size) < sizeof answer) fail(path, EPROTO);
  if (answer.error != 0) fail(path, answer.error);
  text.resize(static_cast<std::size_t>(size) - sizeof answer);
  return text;
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    netio::throw_errno("standard output");
  }
}

}  // namespace

int status_command(const StatusOptions& options) try {
  print(ask(options.socket.empty() ? find_control_socket(options.mountpoint) : options.socket));
  return 0;
} catch (const std::exception& error) {
  log_error(std::string("status: ") + error.what());
  return 1;
}

}  // namespace xfrmfs
