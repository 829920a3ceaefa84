// SPDX-License-Identifier: Apache-2.0
#include "netio/control_session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace xfrmfs::netio {
namespace {

/// Parts of a listing that one session sends before others get their turn.
constexpr int kPartsPerTurn = 16;

/// What one session may ask for before others get their turn.
constexpr int kDatagramsPerTurn = 64;
constexpr std::size_t kBytesPerTurn = ControlShared::kLargestRequest;

constexpr std::size_t kAnswersAtOnce = 64;

/// The first port id that is given to those whose own number is taken: no process has it.
constexpr std::uint32_t kFirstFreePortId = 0xffff'0000;

constexpr std::uint32_t kGroups = 32;

}  // namespace

bool is_privileged(uid_t user) {
  return user == 0 || user == ::geteuid();
}

ControlSession::ControlSession(asio::io_context& io, FileDescriptor end, bool privileged,
                               std::shared_ptr<ControlShared> shared)
    : socket_(io), shared_(std::move(shared)), privileged_(privileged) {
  socket_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), end.get());
  end.release();
  shared_->sessions.insert(this);
}

ControlSession::~ControlSession() {
  shared_->sessions.erase(this);
  if (port_id_ != 0) shared_->port_ids.erase(port_id_);
}

void ControlSession::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
  dump_.reset();
}

asio::awaitable<void> ControlSession::converse(std::shared_ptr<ControlSession> self) {
  using asio::experimental::awaitable_operators::operator||;
  boost::system::error_code read_error;
  boost::system::error_code write_error;
  const auto readable = [&] {
    return self->socket_.async_wait(SeqPacketSocket::wait_read,
                                    asio::redirect_error(asio::use_awaitable, read_error));
  };
  const auto writable = [&] {
    return self->socket_.async_wait(SeqPacketSocket::wait_write,
                                    asio::redirect_error(asio::use_awaitable, write_error));
  };
  while (self->open()) {
    if (!self->answers_.empty()) {
      co_await writable();
    } else {
      if (self->dump_) {
        co_await (readable() || writable());
      } else {
        co_await readable();
      }
      if (self->open()) self->receive();
    }
    if (self->open()) self->flush();
  }
}

/// Sends what is waiting, as far as the client's queue has room.
void ControlSession::flush() {
  while (!answers_.empty()) {
    if (!send_answers()) return;
  }
  for (int parts = 0; dump_ && parts < kPartsPerTurn; ++parts) {
    if (part_.empty()) part_ = dump_->next();
    if (!part_.empty() && !send(part_)) return;
    part_ = {};
    if (dump_->finished()) dump_.reset();
  }
}

/// False if there is no room, or nobody (then the session is closed).
bool ControlSession::send(const Datagram& datagram) {
  const ssize_t sent = ::send(socket_.native_handle(), datagram.data(), datagram.size(),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0) return true;
  if (errno != EAGAIN && errno != EINTR) close();
  return false;
}

/// Sends the first answers with one call. False as send().
bool ControlSession::send_answers() {
  std::array<iovec, kAnswersAtOnce> contents;
  std::array<mmsghdr, kAnswersAtOnce> heads{};
  const std::size_t count = std::min(answers_.size(), kAnswersAtOnce);
  for (std::size_t i = 0; i < count; ++i) {
    contents[i] = {.iov_base = answers_[i].data(), .iov_len = answers_[i].size()};
    heads[i].msg_hdr.msg_iov = &contents[i];
    heads[i].msg_hdr.msg_iovlen = 1;
  }
  const int sent = ::sendmmsg(socket_.native_handle(), heads.data(), static_cast<unsigned>(count),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) close();
    return false;
  }
  answers_.erase(answers_.begin(), answers_.begin() + sent);
  return true;
}

/// Takes the datagrams that are there, as far as others do not wait too long; then publishes once.
void ControlSession::receive() {
  bool changed = false;
  std::size_t taken = 0;
  for (int i = 0; i < kDatagramsPerTurn && taken < kBytesPerTurn; ++i) {
    const std::size_t size = receive_one(changed);
    if (size == 0 || !open() || dump_) break;
    taken += size;
  }
  if (!changed) return;
  shared_->handlers.publish();
  if (shared_->on_change) shared_->on_change();
}

/// Takes one datagram, if there is one, and applies it. Its size; 0: there was none, or nothing in
/// it.
std::size_t ControlSession::receive_one(bool& changed) {
  Datagram& buffer = shared_->request;
  iovec bytes{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int))>
      control;
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size =
      ::recvmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) {
    if (errno != EAGAIN && errno != EINTR) close();
    return 0;
  }
  // An empty datagram comes with its sender's credentials, the end comes with nothing.
  // Whoever has only stopped asking still gets the answers of this turn; the end comes again.
  if (size == 0 && message.msg_controllen == 0) {
    if (answers_.empty()) close();
    return 0;
  }

  const MutableBytes datagram = MutableBytes(buffer).first(static_cast<std::size_t>(size));
  const Envelope envelope = open_envelope(message);
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    refuse_too_long(datagram);
  } else if (handle(datagram, envelope)) {
    changed = true;
  }
  explicit_bzero(datagram.data(), datagram.size());  // may have held keys
  return datagram.size();
}

ControlSession::Envelope ControlSession::open_envelope(const msghdr& message) const {
  Envelope envelope;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&message), part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
    if (part->cmsg_type == SCM_CREDENTIALS) {
      ucred sender;
      std::memcpy(&sender, CMSG_DATA(part), sizeof sender);
      envelope.pid = static_cast<std::uint32_t>(sender.pid);
      envelope.privileged = privileged_ && is_privileged(sender.uid);
    }
    if (part->cmsg_type == SCM_RIGHTS) {  // one is expected, all are ours to close
      const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
        envelope.descriptor = FileDescriptor(fd);
      }
    }
  }
  return envelope;
}

/// Did it change the engine?
bool ControlSession::handle(Bytes datagram, const Envelope& envelope) {
  const auto first = DatagramReader(datagram).next();
  const bool is_call = envelope.descriptor && first &&
                       first->header.nlmsg_type == protocol::kControlType &&
                       datagram.size() == protocol::kControlCallSize;
  if (is_call) {
    answer_call(datagram, envelope);
    return false;
  }

  need_port_id(envelope.pid);
  auto result = shared_->handlers.apply(
      datagram, {.port_id = port_id_, .privileged = envelope.privileged, .style = style_},
      dump_ != nullptr);
  std::ranges::move(result.answers, std::back_inserter(answers_));
  if (result.dump) dump_ = std::move(result.dump);
  return result.changed;
}

void ControlSession::refuse_too_long(Bytes beginning) {
  NetlinkMessage message{};
  std::memcpy(&message.header, beginning.data(), sizeof message.header);
  message.bytes = beginning.first(sizeof message.header);
  const Refusal refusal(EMSGSIZE, "request is longer than 65536 bytes");
  answers_.push_back(acknowledgement(message, &refusal, {}, port_id_,
                                     {.capped = true, .extended = style_.extended}));
}

void ControlSession::answer_call(Bytes call, const Envelope& envelope) {
  protocol::ControlBody body;
  std::memcpy(&body, call.data() + protocol::kHeaderSize, sizeof body);
  std::string text;
  protocol::ControlAnswer answer{apply_call(body, envelope.privileged, text)};
  std::array<iovec, 2> parts{iovec{.iov_base = &answer, .iov_len = sizeof answer},
                             iovec{.iov_base = text.data(), .iov_len = text.size()}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  // Whoever does not want to hear the answer does not get it.
  ::sendmsg(envelope.descriptor.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// 0 or an errno. `text` is what the answer says besides.
int ControlSession::apply_call(const protocol::ControlBody& call, bool privileged,
                               std::string& text) {
  const std::uint32_t group = call.arg0;
  const auto bit = [&] { return std::uint32_t{1} << (group - 1); };
  switch (protocol::Op{call.op}) {
    case protocol::Op::kBind:
      return call.arg1 != 0 && !privileged ? EPERM : bind(call.arg0, call.arg1);
    case protocol::Op::kAddMembership:
      if (group < 1 || group > kGroups) return EINVAL;
      if (!privileged) return EPERM;
      groups_ |= bit();
      return 0;
    case protocol::Op::kDropMembership:
      if (group < 1 || group > kGroups) return EINVAL;
      groups_ &= ~bit();
      return 0;
    case protocol::Op::kOption:
      return set_option(call.arg0, call.arg1 != 0);
    case protocol::Op::kStatus:
      if (!privileged) return EPERM;
      if (!shared_->status) return EOPNOTSUPP;
      text = shared_->status();
      text.resize(std::min<std::size_t>(text.size(), protocol::kLongestStatus));
      return 0;
  }
  return EOPNOTSUPP;
}

int ControlSession::bind(std::uint32_t port_id, std::uint32_t groups) {
  if (port_id == 0) return EINVAL;
  if (port_id != port_id_) {
    if (port_id_ != 0) return EINVAL;
    if (!shared_->port_ids.insert(port_id).second) return EADDRINUSE;
    port_id_ = port_id;
  }
  groups_ = groups;
  return 0;
}

int ControlSession::set_option(std::uint32_t option, bool on) {
  switch (option) {
    case NETLINK_CAP_ACK:
      style_.capped = on;
      return 0;
    case NETLINK_EXT_ACK:
      style_.extended = on;
      return 0;
    case NETLINK_PKTINFO:
    case NETLINK_BROADCAST_ERROR:
    case NETLINK_NO_ENOBUFS:
    case NETLINK_LISTEN_ALL_NSID:
    case NETLINK_GET_STRICT_CHK:
      return 0;  // make no difference to what we send
    default:
      return ENOPROTOOPT;
  }
}

/// A client that never binds has a port id from its first request on; as in a kernel, the number
/// of its process, if nobody has that.
void ControlSession::need_port_id(std::uint32_t wish) {
  if (port_id_ != 0) return;
  std::uint32_t candidate = wish != 0 ? wish : kFirstFreePortId;
  for (std::uint32_t next = kFirstFreePortId; !shared_->port_ids.insert(candidate).second;) {
    candidate = next++;  // ends: there are fewer sessions than numbers
  }
  port_id_ = candidate;
}

}  // namespace xfrmfs::netio
