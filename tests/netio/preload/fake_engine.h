// SPDX-License-Identifier: Apache-2.0
// The engine's side of netio/preload/protocol.h, as small as it can be.
//
// It knows no SAs. Ordinary requests are acknowledged; the private requests below make it do what
// a real engine does only under stress. The tests of the adapter need both ends at will: a server
// that loses events, dies, lies or belongs to somebody else.

#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "netio/preload/protocol.h"

namespace xfrmfs::netio::preload {

class FakeEngine {
 public:
  struct Behaviour {
    std::uint8_t handover_status = 0;  // see protocol::Handover
    std::uint8_t tag = protocol::kEngineTag;
    mode_t mode = 0600;
    uid_t owner = 0;  // whose credentials the listening socket has
  };

  struct ControlCall {
    std::uint32_t op, arg0, arg1;
    bool operator==(const ControlCall&) const = default;
  };

  explicit FakeEngine(std::string path);
  FakeEngine(std::string path, const Behaviour& behaviour);
  ~FakeEngine();

  /// The control calls so far, in order.
  std::vector<ControlCall> control_calls() const;

 private:
  void run();
  void hand_over(int connection);
  /// False: the session is to be closed.
  bool serve(int session);
  int judge(int session, const ControlCall& call);

  const std::string path_;
  const Behaviour behaviour_;
  int listening_ = -1;
  int stop_[2] = {-1, -1};
  std::map<int, std::uint32_t> sessions_;  // descriptor, and port id or 0
  std::set<int> paused_;
  std::uint32_t nonce_ = 0;
  mutable std::mutex mutex_;  // guards what follows
  std::vector<ControlCall> control_calls_;
  std::jthread thread_;
};

}  // namespace xfrmfs::netio::preload
