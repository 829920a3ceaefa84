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
      &next_socket,     &next_bind,         &next_connect, &next_getsockname, &next_getpeername,
      &next_setsockopt, &next_getsockopt,   &next_recv,    &next_recvfrom,    &next_recvmsg,
      &next_recvmmsg,   &next_recv_chk,     &next_recvfrom_chk, &next_syscall,
  };
  for (NextFunction* const function : all) function->address();
}

/// An errno as the C library reports it.
int library_result(int result) { return result < 0 ? fail(-result) : result; }

/// Copies an answer out, as much as fits; `length` becomes what it wants to be.
int give(const void* answer, socklen_t size, void* buffer, socklen_t* length) {
  const socklen_t fits = *length < size ? *length : size;
  __builtin_memcpy(buffer, answer, fits);
  *length = size;
  return 0;
}

int xfrm_socket(int type) {
  constexpr int kFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;
  const int kind = type & ~kFlags;
  if (kind != SOCK_RAW && kind != SOCK_DGRAM) return fail(ESOCKTNOSUPPORT);
  const char* path = getenv(protocol::kSocketVariable);
  if (path == nullptr || *path == '\0') path = protocol::kDefaultSocket;
  return library_result(open_session(path, type & kFlags));
}

bool is_xfrm(int domain, int protocol_number) {
  return domain == AF_NETLINK && protocol_number == NETLINK_XFRM;
}

// --- Receiving: what a receive call returned, and where it put things.

struct Arrival {
  int flags;                // of the call
  const sockaddr* source;   // may be null
  socklen_t source_length;  // the length that was returned
  const iovec* parts;
  std::size_t part_count;
};

constexpr ssize_t kHeaderSize = protocol::kHeaderSize;

/// nlmsg_type of the first message, 0 if the program's buffers do not show it.
std::uint16_t first_type(const Arrival& arrival) {
  unsigned char header[kHeaderSize] = {};
  std::size_t size = 0;
  for (std::size_t i = 0; i < arrival.part_count && size < sizeof(header); ++i) {
    const iovec& part = arrival.parts[i];
    for (std::size_t k = 0; k < part.iov_len && size < sizeof(header); ++k) {
      header[size++] = static_cast<const unsigned char*>(part.iov_base)[k];
    }
  }
  ...
}

}  // namespace
}
