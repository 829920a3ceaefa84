// SPDX-License-Identifier: Apache-2.0
// Handlers with an engine behind them, and a client without a socket.

#pragma once

#include <vector>

#include "engine/engine.h"
#include "netio/xfrm_handlers.h"
#include "tests/netio/xfrm_messages.h"
#include "tests/support/manual_clock.h"

namespace xfrmfs::testing {

class Handlers {
 public:
  static constexpr std::uint32_t kPortId = 4711;

  /// Everything that is answered to a datagram, listings to their end.
  std::vector<Answer> ask(ByteSpan datagram) {
    auto result = handlers.handle(datagram, from, false);
    std::vector<Answer> all;
    for (const auto& answer : result.answers) add(all, answer);
    while (result.dump && !result.dump->finished()) add(all, result.dump->next());
    return all;
  }
  /// The same where one message is expected; a header of type 0 if it is another number.
  Answer ask_one(ByteSpan datagram) {
    auto all = ask(datagram);
    return all.size() == 1 ? all[0] : Answer{};
  }
  std::size_t sa_count() const { return engine.current().sad.size(); }
  std::size_t policy_count() const { return engine.current().spd.by_serial().size(); }

  ManualClock clock;
  engine::Engine engine{1, clock};
  netio::XfrmHandlers handlers{engine};
  netio::Requester from{.port_id = kPortId, .privileged = true, .style = {.extended = true}};

 private:
  static void add(std::vector<Answer>& all, ByteSpan datagram) {
    for (auto& answer : answers_in(datagram)) all.push_back(std::move(answer));
  }
};

}  // namespace xfrmfs::testing
