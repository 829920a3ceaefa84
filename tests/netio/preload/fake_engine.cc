// SPDX-License-Identifier: Apache-2.0
#include "tests/netio/preload/fake_engine.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/netio/preload/requests.h"

namespace xfrmfs::netio::preload {
namespace {

using protocol::Op;

int check(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

void send_message(int session, std::uint16_t type, const nlmsghdr& request) {
  struct {
    nlmsghdr header;
    nlmsgerr body;
  } message = {};
  message.header.nlmsg_len = sizeof(message);
  message.header.nlmsg_type = type;
  message.header.nlmsg_seq = request.nlmsg_seq;
  message.header.nlmsg_pid = request.nlmsg_pid;
  message.body.msg = request;
  const std::size_t size = type == protocol::kOverrunType ? sizeof(nlmsghdr) : sizeof(message);
  message.header.nlmsg_len = static_cast<std::uint32_t>(size);
  ::send(session, &message, size, MSG_NOSIGNAL);
}

}  // namespace

FakeEngine::FakeEngine(std::string path) : FakeEngine(std::move(path), Behaviour{}) {}

FakeEngine::FakeEngine(std::string path, const Behaviour& behaviour)
    : path_(std::move(path)), behaviour_(behaviour) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  listening_ = check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");
  check(::bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), "bind");
  check(::chmod(path_.c_str(), behaviour_.mode), "chmod");
  // SO_PEERCRED of a connected client names who called listen().
  const uid_t self = ::geteuid();
  if (behaviour_.owner != self) check(::seteuid(behaviour_.owner), "seteuid");
  check(::listen(listening_, 16), "listen");
  if (behaviour_.owner != self) check(::seteuid(self), "seteuid");
  check(::pipe2(stop_, O_CLOEXEC), "pipe");
  thread_ = std::jthread([this] { run(); });
}

FakeEngine::~FakeEngine() {
  ::close(stop_[1]);
  thread_.join();
  ::close(stop_[0]);
  ::close(listening_);
  for (const auto& [session, port_id] : sessions_) ::close(session);
  ::unlink(path_.c_str());
}

std::vector<FakeEngine::ControlCall> FakeEngine::control_calls() const {
  const std::lock_guard lock(mutex_);
  return control_calls_;
}

void FakeEngine::run() {
  for (;;) {
    std::vector<pollfd> polled = {{stop_[0], POLLIN, 0}, {listening_, POLLIN, 0}};
    for (const auto& [session, port_id] : sessions_) {
      if (!paused_.contains(session)) polled.push_back({session, POLLIN, 0});
    }
    ::poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) return;
    if (polled[1].revents != 0) {
      const int connection = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
      hand_over(connection);
      ::close(connection);
    }
    for (std::size_t i = 2; i < polled.size(); ++i) {
      if (polled[i].revents == 0 || serve(polled[i].fd)) continue;
      ::close(polled[i].fd);
      sessions_.erase(polled[i].fd);
    }
  }
}

void FakeEngine::hand_over(int connection) {
  int pair[2];
  check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
  protocol::Name name = {AF_UNIX, 0, behaviour_.tag, 0, 0};
  do {
    name.groups_or_nonce = ++nonce_ ^ static_cast<std::uint32_t>(::getpid())
                                          << 12;  // other tests run beside us
  } while (::bind(pair[0], reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0);

  protocol::Handover handover = {behaviour_.handover_status};
  iovec part = {&handover, sizeof(handover)};
  alignas(cmsghdr) char attached[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (handover.status == protocol::kHandoverReady) {
    message.msg_control = attached;
    message.msg_controllen = sizeof(attached);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &pair[1], sizeof(int));
  }
  ::sendmsg(connection, &message, MSG_NOSIGNAL);
  ::close(pair[1]);
  sessions_[pair[0]] = 0;
}

bool FakeEngine::serve(int session) {
  alignas(nlmsghdr) char bytes[4096];
  iovec part = {bytes, sizeof(bytes)};
  alignas(cmsghdr) char attached[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = attached;
  message.msg_controllen = sizeof(attached);
  const ssize_t size = ::recvmsg(session, &message, MSG_CMSG_CLOEXEC);
  nlmsghdr request;
  if (size < static_cast<ssize_t>(sizeof(request))) return false;
  std::memcpy(&request, bytes, sizeof(request));

  switch (request.nlmsg_type) {
    case protocol::kControlType: {
      int answer_to = -1;
      std::memcpy(&answer_to, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(answer_to));
      ControlCall call = {};
      std::memcpy(&call, bytes + sizeof(request), sizeof(call));
      const protocol::ControlAnswer answer = {judge(session, call)};
      ::send(answer_to, &answer, sizeof(answer), MSG_NOSIGNAL);
      ::close(answer_to);
      return true;
    }
    case REQUEST_OVERRUN:
      send_message(session, protocol::kOverrunType, request);
      send_message(session, NLMSG_ERROR, request);
      return true;
    case REQUEST_LATE_OVERRUN:
      send_message(session, NLMSG_ERROR, request);
      send_message(session, protocol::kOverrunType, request);
      return true;
    case REQUEST_THREE:
      for (int i = 0; i < 3; ++i) send_message(session, NLMSG_ERROR, request);
      return true;
    case REQUEST_LATE_END:
      send_message(session, NLMSG_ERROR, request);
      return false;
    case REQUEST_END:
      return false;
    case REQUEST_PAUSE:
      paused_.insert(session);
      return true;
    case REQUEST_RESUME:
      paused_.clear();
      return true;
    default:
      send_message(session, NLMSG_ERROR, request);
      return true;
  }
}

int FakeEngine::judge(int session, const ControlCall& call) {
  {
    const std::lock_guard lock(mutex_);
    control_calls_.push_back(call);
  }
  switch (static_cast<Op>(call.op)) {
    case Op::kBind: {
      std::uint32_t& port_id = sessions_[session];
      const bool taken = std::ranges::any_of(sessions_, [&](const auto& other) {
        return other.first != session && other.second == call.arg0;
      });
      if (taken) return EADDRINUSE;
      if (port_id != 0 && port_id != call.arg0) return EINVAL;
      port_id = call.arg0;
      return 0;
    }
    case Op::kAddMembership:
    case Op::kDropMembership:
      return call.arg0 == 0 || call.arg0 > 32 ? EINVAL : 0;
    case Op::kOption:
      return call.arg0 > NETLINK_GET_STRICT_CHK ? ENOPROTOOPT : 0;
    case Op::kStatus:
      break;
  }
  return EOPNOTSUPP;
}

}  // namespace xfrmfs::netio::preload
