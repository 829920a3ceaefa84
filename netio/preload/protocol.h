// SPDX-License-Identifier: Apache-2.0
// What the client adapter and the control server say to each other besides netlink messages.
//
// The adapter gives a program a "netlink socket" that is one end of an AF_UNIX SOCK_SEQPACKET
// pair; the server holds the other end. Netlink messages pass unchanged. Three things are private:
//
// 1. Rendezvous. The adapter connects to the server's listening socket (SOCK_SEQPACKET, path
//    below), checks that SO_PEERCRED names uid 0 or its own uid, and receives one datagram of
//    sizeof(Handover) bytes. `status` kHandoverReady comes with one descriptor (SCM_RIGHTS): the
//    client's end, blocking, without name. Any other status is an errno and comes without one.
//    Then both sides close this connection.
// 2. Names. An abstract AF_UNIX name of 10 bytes makes an address of 12 bytes, which has the size
//    and layout of sockaddr_nl: see Name.
// 3. Control calls. A datagram on the client's end, kControlCallSize bytes, that carries one
//    descriptor (SCM_RIGHTS): an end of a SOCK_SEQPACKET or SOCK_DGRAM pair made for this call. On
//    it the server sends one datagram, a ControlAnswer, and closes it. The calls of one client are
//    handled in order with its requests. End of file instead of an answer: the server is gone.
//    The answer to STATUS has text behind the ControlAnswer.
//
// All numbers are in host byte order. This header depends on nothing, because the adapter must
// load into any program.

#pragma once

#include <cstdint>

namespace xfrmfs::netio::protocol {

/// Names the listening socket; if it is unset or empty, kDefaultSocket.
inline constexpr char kSocketVariable[] = "XFRMFS_SOCKET";
inline constexpr char kDefaultSocket[] = "/run/xfrmfs/nl.sock";

// --- 1. Rendezvous.

inline constexpr std::uint8_t kHandoverReady = 0;

struct Handover {
  std::uint8_t status;  // kHandoverReady, or an errno (all fit: ENFILE, ENOBUFS, ...)
};
static_assert(sizeof(Handover) == 1);

// --- 2. Names.

/// Both ends' names, as sockaddr_un bytes and, at the same time, as sockaddr_nl:
///
///     bytes   AF_UNIX         sockaddr_nl   engine's end        client's end
///     0-1     family          nl_family     1                   1 (AF_UNIX)
///     2       name: NUL       nl_pad        0                   0
///     3       name: tag       nl_pad        0                   1, more if that name is taken
///     4-7     name            nl_pid        0                   port id, not 0
///     8-11    name            nl_groups     nonce, per pair     groups at the time of bind
///
/// The server names its end before it hands out the other. So getpeername() on an end of ours
/// gives 12 bytes, family AF_UNIX, NUL, tag kEngineTag, pid 0, and messages come from pid 0.
/// The client names its own end when the program calls bind(), after the BIND call succeeded.
struct Name {
  std::uint16_t family;
  std::uint8_t nul;
  std::uint8_t tag;
  std::uint32_t port_id;
  std::uint32_t groups_or_nonce;
};
static_assert(sizeof(Name) == 12);

inline constexpr std::uint8_t kEngineTag = 0;
/// The first one tried: engines that share a network namespace may give one port id twice.
inline constexpr std::uint8_t kClientTag = 1;

// --- 3. Control calls.

/// nlmsg_type of a control call: below NLMSG_MIN_TYPE (0x10), where netlink has no families.
inline constexpr std::uint16_t kControlType = 0x0f;

enum class Op : std::uint32_t {
  /// arg0: port id, not 0. arg1: mask of groups 1 .. 32, bit (group - 1); replaces what was set
  /// through an earlier BIND. Errors: EADDRINUSE (another client has this port id: try another),
  /// EINVAL (this client has another port id already), EPERM (groups without privilege).
  kBind = 1,
  /// arg0: group number, 1 ... Errors: EINVAL, EPERM.
  kAddMembership = 2,
  kDropMembership = 3,
  /// arg0: n of setsockopt(SOL_NETLINK, n), arg1: its value. Error: ENOPROTOOPT.
  kOption = 4,
  /// What the engine is made of, for people: at most kLongestStatus bytes of text, behind the
  /// ControlAnswer. No arguments. Errors, without text: EPERM, EOPNOTSUPP (it cannot tell).
  kStatus = 5,
};

/// What follows the 16 bytes of nlmsghdr {len 28, type kControlType, flags 0, seq any, pid any}.
struct ControlBody {
  std::uint32_t op;  // Op; an unknown one is answered EOPNOTSUPP
  std::uint32_t arg0;
  std::uint32_t arg1;
};
static_assert(sizeof(ControlBody) == 12);

inline constexpr std::uint32_t kHeaderSize = 16;  // sizeof(nlmsghdr)
inline constexpr std::uint32_t kControlCallSize = kHeaderSize + sizeof(ControlBody);

struct ControlAnswer {
  std::int32_t error;  // 0, or an errno, positive
};
static_assert(sizeof(ControlAnswer) == 4);

inline constexpr std::uint32_t kLongestStatus = 64 * 1024;

/// nlmsg_type of "events were lost", netlink's own number; the adapter makes it ENOBUFS. Only a
/// client that joined a group can get it.
inline constexpr std::uint16_t kOverrunType = 4;

}  // namespace xfrmfs::netio::protocol
