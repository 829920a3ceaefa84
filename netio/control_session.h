// SPDX-License-Identifier: Apache-2.0
// One client of the control server: a "netlink socket" whose other end we hold.
//
// It reads as a conversation: send what is waiting; wait; take what has come, publish it at once,
// answer. A client that does not read its answers is not read from either, so what waits for it is
// bounded by the answers of one turn; a listing is produced only as fast as it is read. Nobody is
// ever waited for: the socket does not block, and one turn is short.

#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "engine/engine.h"
#include "netio/asio.h"
#include "netio/file_descriptor.h"
#include "netio/netlink_message.h"
#include "netio/preload/protocol.h"
#include "netio/xfrm_handlers.h"

namespace xfrmfs::netio {

class ControlSession;

/// What all sessions share. Control thread only.
struct ControlShared {
  /// A longer request is refused with EMSGSIZE; nothing a kernel accepts is longer.
  static constexpr std::size_t kLargestRequest = 64 * 1024;

  ControlShared(engine::Engine& engine, std::function<void()> changed,
                std::function<std::string()> report)
      : handlers(engine),
        on_change(std::move(changed)),
        status(std::move(report)),
        request(kLargestRequest) {}

  XfrmHandlers handlers;
  std::function<void()> on_change;      // something was published
  std::function<std::string()> status;  // what the engine is made of; may be empty
  std::unordered_set<ControlSession*> sessions;
  std::unordered_set<std::uint32_t> port_ids;  // of all sessions
  Datagram request;                            // where requests are received, one at a time
};

/// Control thread only. Lives as long as its conversation.
class ControlSession {
 public:
  /// `end`: with SO_PASSCRED. `privileged`: may the one who connected ask at all?
  ControlSession(asio::io_context& io, FileDescriptor end, bool privileged,
                 std::shared_ptr<ControlShared> shared);
  ~ControlSession();
  ControlSession(const ControlSession&) = delete;
  ControlSession& operator=(const ControlSession&) = delete;

  /// Until the client goes, or close().
  static asio::awaitable<void> converse(std::shared_ptr<ControlSession> self);
  /// Ends the conversation; the engine is not touched any more.
  void close();

 private:
  /// What came with a datagram besides its bytes.
  struct Envelope {
    std::uint32_t pid = 0;
    bool privileged = false;
    FileDescriptor descriptor;
  };

  bool open() const { return socket_.is_open(); }
  void flush();
  bool send(const Datagram& datagram);
  bool send_answers();
  void receive();
  std::size_t receive_one(bool& changed);
  Envelope open_envelope(const msghdr& message) const;
  bool handle(Bytes datagram, const Envelope& envelope);
  void refuse_too_long(Bytes beginning);
  void answer_call(Bytes call, const Envelope& envelope);
  int apply_call(const protocol::ControlBody& call, bool privileged, std::string& text);
  int bind(std::uint32_t port_id, std::uint32_t groups);
  int set_option(std::uint32_t option, bool on);
  void need_port_id(std::uint32_t wish);

  SeqPacketSocket socket_;
  const std::shared_ptr<ControlShared> shared_;
  const bool privileged_;  // both its opener and each sender must be
  std::uint32_t port_id_ = 0;
  std::uint32_t groups_ = 0;  // bit (number - 1)
  AcknowledgeStyle style_;

  std::deque<Datagram> answers_;  // of requests; while there are any, nothing is received
  std::unique_ptr<Dump> dump_;    // a listing under way
  Datagram part_;                 // of the listing: produced and not sent yet
};

/// May a process with this user id use the control socket?
bool is_privileged(uid_t user);

}  // namespace xfrmfs::netio
