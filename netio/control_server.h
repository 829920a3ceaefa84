// SPDX-License-Identifier: Apache-2.0
// The control endpoint: where `ip xfrm` and IKE daemons find the engine.
//
// A listening AF_UNIX SOCK_SEQPACKET socket, mode 0600. Whoever connects gets one end of a fresh
// socket pair (preload/protocol.h says how) and talks NETLINK_XFRM on it, as if to a kernel.
// Root, and the user this process runs as, may ask; to anybody else, also to one who was handed a
// descriptor, every request is answered EPERM.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace boost::asio {
class io_context;
}

namespace xfrmfs::engine {
class Engine;
}

namespace xfrmfs::netio {

/// The io_context's one thread only, which is the engine's control thread.
class ControlServer {
 public:
  /// Clients at once; beyond, a rendezvous is answered ENFILE.
  static constexpr std::size_t kMostSessions = 1024;

  /// Listens at `path`, in a directory made with mode 0700 if it is missing. What a dead process
  /// left there is replaced; if somebody answers there, throws std::system_error EADDRINUSE.
  /// `on_change` is called after a request changed the engine and the change was published.
  /// `status` says what the engine is made of, without secrets; without it, nobody is told.
  /// The engine outlives this.
  ControlServer(boost::asio::io_context& io, engine::Engine& engine, std::string path,
                std::function<void()> on_change, std::function<std::string()> status = {});
  /// Ends all sessions and removes the path.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  std::size_t sessions() const;

 private:
  class Listener;
  std::shared_ptr<Listener> listener_;
};

}  // namespace xfrmfs::netio
