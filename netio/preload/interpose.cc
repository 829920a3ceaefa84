// SPDX-License-Identifier: Apache-2.0
// The calls of the C library that this library stands in front of.
//
// What does a program see that believes it uses NETLINK_XFRM?  netlink(7), and af_netlink.c where
// that is silent.  A session (session.h) already behaves like a netlink socket in send, poll,
// read, dup, fork and close; what is left to do is below, in the order of a socket's life.
//
// Calls about other descriptors are passed on unchanged. Where possible it is the answer that
// tells that a descriptor may be a session, so that other sockets pay nothing.
//
// Functions have assembler names, so that no C library's declarations need to agree with ours.
// None is noexcept: a thread may be cancelled inside, which unwinds the stack.

#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "netio/preload/pass_on.h"
#include "netio/preload/session.h"

namespace xfrmfs::netio::preload {
namespace {

using protocol::Op;

// clang-format off
constinit NextFunction next_socket      ("socket",          SYS_socket);
constinit NextFunction next_bind        ("bind",            SYS_bind);
constinit NextFunction next_connect     ("connect",         SYS_connect);
constinit NextFunction next_getsockname ("getsockname",     SYS_getsockname);
constinit NextFunction next_getpeername ("getpeername",     SYS_getpeername);
constinit NextFunction next_setsockopt  ("setsockopt",      SYS_setsockopt);
constinit NextFunction next_getsockopt  ("getsockopt",      SYS_getsockopt);
constinit NextFunction next_recv        ("recv",            -1);
constinit NextFunction next_recvfrom    ("recvfrom",        SYS_recvfrom);
constinit NextFunction next_recvmsg     ("recvmsg",         SYS_recvmsg);
constinit NextFunction next_recvmmsg    ("recvmmsg",        SYS_recvmmsg);
constinit NextFunction next_recv_chk    ("__recv_chk",      -1);
constinit NextFunction next_recvfrom_chk("__recvfrom_chk",  -1);
constinit NextFunction next_syscall     ("syscall",         -1);
// clang-format on

[[gnu::constructor]] void find_next_functions() {
  NextFunction* const all[] = {
      &next_socket,     &next_bind,       &next_connect,      &next_getsockname, &next_getpeername,
      &next_setsockopt, &next_getsockopt, &next_recv,         &next_recvfrom,    &next_recvmsg,
      &next_recvmmsg,   &next_recv_chk,   &next_recvfrom_chk, &next_syscall,
  };
  for (NextFunction* const function : all) function->address();
}

/// An errno as the C library reports it.
int library_result(int result) {
  return result < 0 ? fail(-result) : result;
}

/// The family of an address that the program passes in; AF_MAX if there is none to see.
int family_of(const sockaddr* address, socklen_t length) {
  return address != nullptr && length >= sizeof(sa_family_t) ? address->sa_family : AF_MAX;
}

/// Copies an answer out, as much as fits; `length` becomes its true length.
int give(const void* answer, socklen_t size, void* buffer, socklen_t capacity, socklen_t* length) {
  __builtin_memcpy(buffer, answer, capacity < size ? capacity : size);
  *length = size;
  return 0;
}

bool is_xfrm(int domain, int protocol_number) {
  return domain == AF_NETLINK && protocol_number == NETLINK_XFRM;
}

int xfrm_socket(int type) {
  constexpr int kFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;
  const int kind = type & ~kFlags;
  if (kind != SOCK_RAW && kind != SOCK_DGRAM) return fail(ESOCKTNOSUPPORT);
  const char* path = getenv(protocol::kSocketVariable);
  if (path == nullptr || *path == '\0') path = protocol::kDefaultSocket;
  return library_result(open_session(path, type & kFlags));
}

/// What a receive call was asked for, and where it put things.
struct Arrival {
  int flags;
  sockaddr* source;         // may be null
  socklen_t source_room;    // bytes there before the call
  socklen_t source_length;  // the true length, after it
  const iovec* parts;
  std::size_t part_count;
};

/// nlmsg_type of the first message, 0 if it is not to be seen.
std::uint16_t first_type(ssize_t size, const Arrival& arrival) {
  nlmsghdr header = {};
  if (size < static_cast<ssize_t>(sizeof(header))) return 0;
  std::size_t have = 0;
  for (std::size_t i = 0; i < arrival.part_count && have < sizeof(header); ++i) {
    const iovec& part = arrival.parts[i];
    const std::size_t wanted = sizeof(header) - have;
    const std::size_t taken = part.iov_len < wanted ? part.iov_len : wanted;
    __builtin_memcpy(reinterpret_cast<char*>(&header) + have, part.iov_base, taken);
    have += taken;
  }
  return have == sizeof(header) ? header.nlmsg_type : std::uint16_t{0};
}

/// What the program is to see of a receive call that returned `result`. On -1 nothing arrived.
ssize_t as_netlink(int fd, ssize_t result, const Arrival& arrival) {
  if (result < 0) return result;
  if (result == 0) {
    const Kind kind = kind_of(fd);
    if (kind == Kind::kForeign) return 0;
    if (kind == Kind::kSession) {
      if (waiting(fd) != Waiting::kEnd) return 0;  // it was the buffer that had no bytes
      park(fd);
    }
    return fail(ECONNRESET);
  }
  if (first_type(result, arrival) == protocol::kOverrunType && kind_of(fd) == Kind::kSession) {
    if ((arrival.flags & MSG_PEEK) != 0) discard(fd);
    return fail(ENOBUFS);
  }
  if (arrival.source_length == sizeof(sockaddr_nl) && arrival.source != nullptr &&
      family_of(arrival.source, arrival.source_room) == AF_UNIX && kind_of(fd) != Kind::kForeign) {
    arrival.source->sa_family = AF_NETLINK;
  }
  return result;
}

ssize_t receive_message(int fd, msghdr* message, int flags) {
  const msghdr before = *message;
  const ssize_t result = next_recvmsg.call<ssize_t>(fd, message, flags);
  const ssize_t seen = as_netlink(fd, result,
                                  {.flags = flags,
                                   .source = static_cast<sockaddr*>(before.msg_name),
                                   .source_room = before.msg_namelen,
                                   .source_length = message->msg_namelen,
                                   .parts = before.msg_iov,
                                   // The C library musl has an int and padding of any value here.
                                   .part_count = static_cast<unsigned>(before.msg_iovlen)});
  if (seen < 0) *message = before;
  return seen;
}

/// recvmmsg for a session: one by one, so that an error comes when its turn has come. It returns
/// when nothing more is waiting. Like the kernel's, it looks at no time limit before something
/// has arrived.
int receive_messages(int fd, mmsghdr* messages, unsigned count, int flags) {
  unsigned received = 0;
  while (received < count) {
    if (received > 0 && waiting(fd) != Waiting::kMessage) break;
    const ssize_t size = receive_message(fd, &messages[received].msg_hdr, flags & ~MSG_WAITFORONE);
    if (size < 0) break;
    messages[received++].msg_len = static_cast<unsigned>(size);
  }
  return received > 0 || count == 0 ? static_cast<int>(received) : -1;
}

ssize_t receive_from(int fd, ssize_t result, const iovec& part, int flags, sockaddr* source,
                     socklen_t room, socklen_t* length) {
  const ssize_t seen = as_netlink(fd, result,
                                  {.flags = flags,
                                   .source = source,
                                   .source_room = room,
                                   .source_length = length != nullptr ? *length : 0,
                                   .parts = &part,
                                   .part_count = 1});
  if (seen < 0 && length != nullptr) *length = room;
  return seen;
}

}  // namespace

// --- The calls.

extern "C" {

#define XFRMFS_INTERPOSES(symbol) __asm__(symbol) __attribute__((visibility("default"), used))

// clang-format off
int on_socket(int domain, int type, int protocol_number) XFRMFS_INTERPOSES("socket");
int on_bind(int fd, const sockaddr* address, socklen_t length) XFRMFS_INTERPOSES("bind");
int on_connect(int fd, const sockaddr* address, socklen_t length) XFRMFS_INTERPOSES("connect");
int on_getsockname(int fd, sockaddr* address, socklen_t* length) XFRMFS_INTERPOSES("getsockname");
int on_getpeername(int fd, sockaddr* address, socklen_t* length) XFRMFS_INTERPOSES("getpeername");
int on_setsockopt(int fd, int level, int name, const void* value, socklen_t length)
    XFRMFS_INTERPOSES("setsockopt");
int on_getsockopt(int fd, int level, int name, void* value, socklen_t* length)
    XFRMFS_INTERPOSES("getsockopt");
ssize_t on_recv(int fd, void* buffer, std::size_t size, int flags) XFRMFS_INTERPOSES("recv");
ssize_t on_recvfrom(int fd, void* buffer, std::size_t size, int flags, sockaddr* source,
                    socklen_t* length) XFRMFS_INTERPOSES("recvfrom");
ssize_t on_recvmsg(int fd, msghdr* message, int flags) XFRMFS_INTERPOSES("recvmsg");
int on_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* limit)
    XFRMFS_INTERPOSES("recvmmsg");
ssize_t on_recv_chk(int fd, void* buffer, std::size_t size, std::size_t room, int flags)
    XFRMFS_INTERPOSES("__recv_chk");
ssize_t on_recvfrom_chk(int fd, void* buffer, std::size_t size, std::size_t room, int flags,
                        sockaddr* source, socklen_t* length) XFRMFS_INTERPOSES("__recvfrom_chk");
long on_syscall(long number, ...) XFRMFS_INTERPOSES("syscall");
// clang-format on

int on_socket(int domain, int type, int protocol_number) {
  if (is_xfrm(domain, protocol_number)) return xfrm_socket(type);
  return next_socket.call<int>(domain, type, protocol_number);
}

int on_bind(int fd, const sockaddr* address, socklen_t length) {
  if (family_of(address, length) != AF_NETLINK || kind_of(fd) == Kind::kForeign) {
    return next_bind.call<int>(fd, address, length);
  }
  if (length < sizeof(sockaddr_nl)) return fail(EINVAL);
  return library_result(bind_session(fd, *reinterpret_cast<const sockaddr_nl*>(address)));
}

int on_connect(int fd, const sockaddr* address, socklen_t length) {
  const int family = family_of(address, length);
  if ((family != AF_NETLINK && family != AF_UNSPEC) || kind_of(fd) == Kind::kForeign) {
    return next_connect.call<int>(fd, address, length);
  }
  if (family == AF_UNSPEC) return 0;
  if (length < sizeof(sockaddr_nl)) return fail(EINVAL);
  // Only the kernel's place, port id 0, is inhabited.
  return reinterpret_cast<const sockaddr_nl*>(address)->nl_pid == 0 ? 0 : fail(ECONNREFUSED);
}

int on_getsockname(int fd, sockaddr* address, socklen_t* length) {
  const socklen_t room = length != nullptr ? *length : 0;
  const int result = next_getsockname.call<int>(fd, address, length);
  if (result != 0 || family_of(address, room) != AF_UNIX || kind_of(fd) == Kind::kForeign) {
    return result;
  }
  const sockaddr_nl own = own_address(fd);
  return give(&own, sizeof(own), address, room, length);
}

int on_getpeername(int fd, sockaddr* address, socklen_t* length) {
  const socklen_t room = length != nullptr ? *length : 0;
  const int result = next_getpeername.call<int>(fd, address, length);
  if (result != 0 || family_of(address, room) != AF_UNIX || kind_of(fd) == Kind::kForeign) {
    return result;
  }
  sockaddr_nl engine = {};
  engine.nl_family = AF_NETLINK;
  return give(&engine, sizeof(engine), address, room, length);
}

int on_setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  if (level != SOL_NETLINK || kind_of(fd) == Kind::kForeign) {
    return next_setsockopt.call<int>(fd, level, name, value, length);
  }
  std::uint32_t number = 0;  // a shorter value counts as 0, as in af_netlink.c
  if (length >= sizeof(number)) __builtin_memcpy(&number, value, sizeof(number));
  switch (name) {
    case NETLINK_ADD_MEMBERSHIP:
      return library_result(control_call(fd, Op::kAddMembership, number, 0));
    case NETLINK_DROP_MEMBERSHIP:
      return library_result(control_call(fd, Op::kDropMembership, number, 0));
    default:
      return library_result(
          control_call(fd, Op::kOption, static_cast<std::uint32_t>(name), number));
  }
}

int on_getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  const bool asks_what_it_is =
      level == SOL_SOCKET && (name == SO_DOMAIN || name == SO_PROTOCOL || name == SO_TYPE);
  if ((level != SOL_NETLINK && !asks_what_it_is) || kind_of(fd) == Kind::kForeign) {
    return next_getsockopt.call<int>(fd, level, name, value, length);
  }
  if (level == SOL_NETLINK) return fail(ENOPROTOOPT);  // options can be set, not read back
  const int answer = name == SO_DOMAIN ? AF_NETLINK : name == SO_PROTOCOL ? NETLINK_XFRM : SOCK_RAW;
  const socklen_t room = *length;
  return give(&answer, room < sizeof(answer) ? room : sizeof(answer), value, room, length);
}

ssize_t on_recv(int fd, void* buffer, std::size_t size, int flags) {
  const ssize_t result =
      next_recv.address() != nullptr
          ? next_recv.call<ssize_t>(fd, buffer, size, flags)
          : next_recvfrom.call<ssize_t>(fd, buffer, size, flags, nullptr, nullptr);
  return receive_from(fd, result, {buffer, size}, flags, nullptr, 0, nullptr);
}

ssize_t on_recvfrom(int fd, void* buffer, std::size_t size, int flags, sockaddr* source,
                    socklen_t* length) {
  const socklen_t room = length != nullptr ? *length : 0;
  const ssize_t result = next_recvfrom.call<ssize_t>(fd, buffer, size, flags, source, length);
  return receive_from(fd, result, {buffer, size}, flags, source, room, length);
}

ssize_t on_recvmsg(int fd, msghdr* message, int flags) {
  if (message == nullptr) return next_recvmsg.call<ssize_t>(fd, message, flags);
  return receive_message(fd, message, flags);
}

int on_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* limit) {
  if (kind_of(fd) == Kind::kForeign) {
    return next_recvmmsg.call<int>(fd, messages, count, flags, limit);
  }
  return receive_messages(fd, messages, count, flags);
}

// What programs built with -D_FORTIFY_SOURCE call: `room` is the size of the buffer.

ssize_t on_recv_chk(int fd, void* buffer, std::size_t size, std::size_t room, int flags) {
  if (next_recv_chk.address() == nullptr) {
    if (size > room) __builtin_trap();
    return on_recv(fd, buffer, size, flags);
  }
  const ssize_t result = next_recv_chk.call<ssize_t>(fd, buffer, size, room, flags);
  return receive_from(fd, result, {buffer, size}, flags, nullptr, 0, nullptr);
}

ssize_t on_recvfrom_chk(int fd, void* buffer, std::size_t size, std::size_t room, int flags,
                        sockaddr* source, socklen_t* length) {
  if (next_recvfrom_chk.address() == nullptr) {
    if (size > room) __builtin_trap();
    return on_recvfrom(fd, buffer, size, flags, source, length);
  }
  const socklen_t source_room = length != nullptr ? *length : 0;
  const ssize_t result =
      next_recvfrom_chk.call<ssize_t>(fd, buffer, size, room, flags, source, length);
  return receive_from(fd, result, {buffer, size}, flags, source, source_room, length);
}

/// The way around socket().
long on_syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long words[kMostArguments];
  for (long& word : words) word = va_arg(list, long);  // unused ones have any value
  va_end(list);
  if (number == SYS_socket && is_xfrm(static_cast<int>(words[0]), static_cast<int>(words[2]))) {
    return xfrm_socket(static_cast<int>(words[1]));
  }
  void* const next = next_syscall.address();
  if (next == nullptr) {
    return as_library_result(
        enter_kernel(number, words[0], words[1], words[2], words[3], words[4], words[5]));
  }
  return reinterpret_cast<long (*)(long, ...)>(next)(number, words[0], words[1], words[2], words[3],
                                                     words[4], words[5]);
}

}  // extern "C"

}  // namespace xfrmfs::netio::preload
