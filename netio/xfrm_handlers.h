// SPDX-License-Identifier: Apache-2.0
// What each NETLINK_XFRM message does to the engine, and what is answered.
//
// One table, message -> row (xfrm_handlers.cc), and a kernel's way through it: type, privilege,
// length of the body, shape of the attributes, handler (net/xfrm/xfrm_user.c: xfrm_user_rcv_msg,
// net/netlink/af_netlink.c: netlink_rcv_skb). Knows no sockets.
//
// Listings are produced piece by piece from a snapshot, when the one who asked has room for them.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "netio/netlink_message.h"
#include "netio/xfrm_policy_codec.h"

namespace xfrmfs::netio {

/// Who asks, as far as answers depend on it.
struct Requester {
  std::uint32_t port_id = 0;
  bool privileged = false;  // else every request is refused with EPERM
  AcknowledgeStyle style;
};

/// A listing under way. Holds the table as it was when the listing began; the engine outlives it.
class Dump {
 public:
  /// What a client's smallest buffer (4096 bytes) holds with some room to spare.
  static constexpr std::size_t kLargestPart = 3776;

  virtual ~Dump() = default;
  /// The next datagram: messages of the listing, at most kLargestPart bytes if there is more than
  /// one in it; empty if more has to be looked through; at last the end mark, and then finished().
  virtual Datagram next() = 0;
  bool finished() const { return finished_; }

 protected:
  bool finished_ = false;
};

/// Control thread only.
class XfrmHandlers {
 public:
  explicit XfrmHandlers(engine::Engine& engine) : engine_(engine) {}

  struct Result {
    std::vector<Datagram> answers;  // in order, one message each
    std::unique_ptr<Dump> dump;     // a listing to be sent after them; else null
    bool changed = false;           // the engine
  };
  /// Applies every message of a datagram. What changed is to be published before the answers are
  /// sent. `listing`: an earlier dump of this client has not ended (EBUSY for another).
  Result apply(Bytes datagram, const Requester& from, bool listing);
  /// Packets see all changes afterwards.
  void publish() { engine_.publish(); }
  /// Both.
  Result handle(Bytes datagram, const Requester& from, bool listing);

 private:
  engine::Engine& engine_;
  HashThresholds thresholds_;
};

}  // namespace xfrmfs::netio
