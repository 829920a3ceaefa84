// SPDX-License-Identifier: Apache-2.0
#include "netio/preload/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "netio/preload/system_call.h"

namespace xfrmfs::netio::preload {
namespace {

using protocol::Name;

static_assert(sizeof(Name) == sizeof(sockaddr_nl));

/// Marks the far end of a parked socket; the engine's and the clients' tags are in protocol.h.
constexpr std::uint8_t kParkedTag = 2;

/// The engine answers within milliseconds; a machine under load may need longer.
constexpr timeval kPatience = {.tv_sec = 10, .tv_usec = 0};

/// Enough for one descriptor, aligned as control messages must be.
union DescriptorMessage {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

/// A descriptor for the time of one call.
class Temporary {
 public:
  explicit Temporary(long fd) : fd_(static_cast<int>(fd)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (fd_ >= 0) system_call(__NR_close, fd_);
  }
  int get() const { return fd_; }  // if negative, an errno
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

/// getsockname or getpeername, if the answer has the shape of Name.
bool read_name(long number, int fd, Name& name) {
  union {
    sockaddr_un address;
    Name name;
  } answer = {};
  socklen_t length = sizeof(answer.address);
  if (system_call(number, fd, &answer.address, &length) != 0) return false;
  if (length != sizeof(Name)) return false;
  name = answer.name;
  return name.family == AF_UNIX && name.nul == 0;
}

bool read_own_name(int fd, Name& name) {
  return read_name(__NR_getsockname, fd, name) && name.port_id != 0;
}

int set_timeout(int fd, int option) {
  return static_cast<int>(
      system_call(__NR_setsockopt, fd, SOL_SOCKET, option, &kPatience, sizeof(kPatience)));
}

std::uint32_t random_number() {
  std::uint32_t number = 0;
  system_call(__NR_getrandom, &number, sizeof(number), 0);
  return number;
}

int connect_to(int fd, const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::size_t length = 0;
  while (path[length] != '\0') {
    if (length + 1 == sizeof(address.sun_path)) return -ENAMETOOLONG;
    address.sun_path[length] = path[length];
    ++length;
  }
  long error = 0;
  do {
    error = system_call(__NR_connect, fd, &address, sizeof(address));
  } while (error == -EINTR);
  return static_cast<int>(error);
}

/// Keys will pass through this socket: only root and the caller may be at the other end.
bool is_trusted(int fd) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (system_call(__NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == 0 || peer.uid == static_cast<uid_t>(system_call(__NR_geteuid));
}

int attached_descriptor(const msghdr& message) {
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len < CMSG_LEN(sizeof(int))) {
    return -1;
  }
  int fd = -1;
  __builtin_memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return fd;
}

/// The session's descriptor, close-on-exec.
int receive_handover(int fd) {
  protocol::Handover handover = {};
  iovec part = {.iov_base = &handover, .iov_len = sizeof(handover)};
  DescriptorMessage attached = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &attached;
  message.msg_controllen = sizeof(attached);
  long size = 0;
  do {
    size = system_call(__NR_recvmsg, fd, &message, MSG_CMSG_CLOEXEC);
  } while (size == -EINTR);

  Temporary session(attached_descriptor(message));
  if (size != sizeof(handover)) return -EPROTONOSUPPORT;
  if (handover.status != protocol::kHandoverReady) return -static_cast<int>(handover.status);
  if ((message.msg_flags & MSG_CTRUNC) != 0) return -EMFILE;  // no number was left for it
  if (kind_of(session.get()) != Kind::kSession) return -EPROTONOSUPPORT;
  return session.release();
}

/// Says in netlink's words why there was no connection.
int as_socket_error(int error) {
  switch (error) {
    case -EACCES:
      return -EPERM;
    case -ENOMEM:
    case -ENOBUFS:
    case -EMFILE:
    case -ENFILE:
      return error;
    default:
      return -EPROTONOSUPPORT;
  }
}

/// Names our end. The engine gave us the port id, but the names of all engines in a network
/// namespace share one table; the tag, which no program gets to see, tells them apart.
int name_own_end(int fd, std::uint32_t port_id, std::uint32_t groups) {
  Name name = {AF_UNIX, 0, protocol::kClientTag, port_id, groups};
  long error = 0;
  do {
    error = system_call(__NR_bind, fd, &name, sizeof(name));
  } while (error == -EADDRINUSE && ++name.tag != 0);
  return static_cast<int>(error);
}

/// Sends even if the program made the descriptor non-blocking.
long send_patiently(int fd, const msghdr& message) {
  constexpr __kernel_timespec kLimit = {.tv_sec = kPatience.tv_sec, .tv_nsec = 0};
  for (;;) {
    const long sent = system_call(__NR_sendmsg, fd, &message, MSG_NOSIGNAL);
    if (sent == -EINTR) continue;
    if (sent != -EAGAIN) return sent;
    pollfd room = {.fd = fd, .events = POLLOUT, .revents = 0};
    __kernel_timespec left = kLimit;
    const long ready = system_call(__NR_ppoll, &room, 1, &left, nullptr, 0);
    if (ready == 0) return -ETIMEDOUT;
    if (ready < 0 && ready != -EINTR) return ready;
  }
}

}  // namespace

Kind kind_of(int fd) {
  Name peer = {};
  if (!read_name(__NR_getpeername, fd, peer) || peer.port_id != 0) return Kind::kForeign;
  switch (peer.tag) {
    case protocol::kEngineTag:
      return Kind::kSession;
    case kParkedTag:
      return Kind::kParked;
    default:
      return Kind::kForeign;
  }
}

int open_session(const char* path, int flags) {
  Temporary rendezvous(system_call(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (rendezvous.get() < 0) return as_socket_error(rendezvous.get());
  set_timeout(rendezvous.get(), SO_SNDTIMEO);  // this is the one that connect() obeys
  set_timeout(rendezvous.get(), SO_RCVTIMEO);
  const int error = connect_to(rendezvous.get(), path);
  if (error != 0) return as_socket_error(error);
  if (!is_trusted(rendezvous.get())) return -EPROTONOSUPPORT;
  const Temporary session(receive_handover(rendezvous.get()));
  if (session.get() < 0) return session.get();

  if ((flags & SOCK_NONBLOCK) != 0) {
    system_call(__NR_fcntl, session.get(), F_SETFL, O_RDWR | O_NONBLOCK);
  }
  // Programs are used to get the lowest free number: that of the rendezvous.
  const int number = rendezvous.release();
  const long moved =
      system_call(__NR_dup3, session.get(), number, (flags & SOCK_CLOEXEC) != 0 ? O_CLOEXEC : 0);
  if (moved < 0) system_call(__NR_close, number);
  return static_cast<int>(moved);
}

int bind_session(int fd, const sockaddr_nl& wanted) {
  Name own = {};
  if (read_own_name(fd, own)) {  // bound before: only the groups may change
    if (wanted.nl_pid != own.port_id) return -EINVAL;
    return control_call(fd, protocol::Op::kBind, own.port_id, wanted.nl_groups);
  }
  // Netlink's habit: the process id, or if that is taken, a number that no process has.
  constexpr int kAttempts = 64;
  constexpr std::uint32_t kNoProcess = 0x80000000;
  std::uint32_t port_id = wanted.nl_pid;
  if (port_id == 0) port_id = static_cast<std::uint32_t>(system_call(__NR_getpid));
  for (int attempt = 0;; ++attempt) {
    const int error = control_call(fd, protocol::Op::kBind, port_id, wanted.nl_groups);
    if (error == 0) break;
    if (error != -EADDRINUSE || wanted.nl_pid != 0 || attempt == kAttempts) return error;
    port_id = random_number() | kNoProcess;
  }
  return name_own_end(fd, port_id, wanted.nl_groups);
}

sockaddr_nl own_address(int fd) {
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  Name own = {};
  if (read_own_name(fd, own)) {
    address.nl_pid = own.port_id;
    address.nl_groups = own.groups_or_nonce;
  }
  return address;
}

int control_call(int fd, protocol::Op op, std::uint32_t arg0, std::uint32_t arg1) {
  int pair[2] = {-1, -1};
  const long made = system_call(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
  if (made != 0) return static_cast<int>(made);
  const Temporary ours(pair[0]);
  {
    const Temporary theirs(pair[1]);
    struct {
      nlmsghdr header;
      protocol::ControlBody body;
    } call = {{.nlmsg_len = protocol::kControlCallSize,
               .nlmsg_type = protocol::kControlType,
               .nlmsg_flags = 0,
               .nlmsg_seq = 0,
               .nlmsg_pid = 0},
              {.op = static_cast<std::uint32_t>(op), .arg0 = arg0, .arg1 = arg1}};
    static_assert(sizeof(call) == protocol::kControlCallSize);
    iovec part = {.iov_base = &call, .iov_len = sizeof(call)};
    DescriptorMessage attached = {};
    attached.header.cmsg_len = CMSG_LEN(sizeof(int));
    attached.header.cmsg_level = SOL_SOCKET;
    attached.header.cmsg_type = SCM_RIGHTS;
    __builtin_memcpy(CMSG_DATA(&attached.header), &pair[1], sizeof(int));
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &attached;
    message.msg_controllen = sizeof(attached);
    const long sent = send_patiently(fd, message);
    if (sent == -EPIPE) return -ECONNRESET;
    if (sent < 0) return static_cast<int>(sent);
  }
  set_timeout(ours.get(), SO_RCVTIMEO);
  protocol::ControlAnswer answer = {};
  long size = 0;
  do {
    size = system_call(__NR_recvfrom, ours.get(), &answer, sizeof(answer), 0, nullptr, nullptr);
  } while (size == -EINTR);
  if (size == -EAGAIN) return -ETIMEDOUT;
  if (size != sizeof(answer)) return -ECONNRESET;
  return -answer.error;
}

Waiting waiting(int fd) {
  nlmsghdr header = {};
  const long size = system_call(__NR_recvfrom, fd, &header, sizeof(header), MSG_PEEK | MSG_DONTWAIT,
                                nullptr, nullptr);
  if (size == 0) return Waiting::kEnd;
  if (size < 0) return size == -EAGAIN || size == -EINTR ? Waiting::kNothing : Waiting::kMessage;
  const bool overrun = size == sizeof(header) && header.nlmsg_type == protocol::kOverrunType;
  return overrun ? Waiting::kOverrun : Waiting::kMessage;
}

void discard(int fd) {
  char byte = 0;
  system_call(__NR_recvfrom, fd, &byte, sizeof(byte), MSG_DONTWAIT, nullptr, nullptr);
}

void park(int fd) {
  Name own = {};
  const bool had_name = read_own_name(fd, own);
  const long status_flags = system_call(__NR_fcntl, fd, F_GETFL, 0);
  const long descriptor_flags = system_call(__NR_fcntl, fd, F_GETFD, 0);
  if (status_flags < 0 || descriptor_flags < 0) return;

  int pair[2] = {-1, -1};
  if (system_call(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return;
  const Temporary near(pair[0]);
  Temporary far(pair[1]);
  Name far_name = {AF_UNIX, 0, kParkedTag, 0, 0};
  long error = 0;
  do {
    far_name.groups_or_nonce = random_number();
    error = system_call(__NR_bind, far.get(), &far_name, sizeof(far_name));
  } while (error == -EADDRINUSE);
  if (error != 0) return;
  system_call(__NR_fcntl, near.get(), F_SETFL, status_flags);
  system_call(__NR_shutdown, near.get(), SHUT_WR);
  if (system_call(__NR_dup3, near.get(), fd, (descriptor_flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) <
      0) {
    return;
  }
  far.release();
  if (had_name) name_own_end(fd, own.port_id, own.groups_or_nonce);
}

}  // namespace xfrmfs::netio::preload
