// SPDX-License-Identifier: Apache-2.0
// Hostile requests on the control socket: one datagram of any messages, to an engine that
// remembers.
//
// Input: one byte of circumstances, then the datagram. Whatever comes, answers are well-formed and
// belong to what was asked, an error means that nothing has changed, and what was accepted can be
// listed.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include <linux/netlink.h>

#include "engine/engine.h"
#include "netio/netlink_message.h"
#include "netio/xfrm_handlers.h"
#include "tests/fuzz/require.h"
#include "tests/support/manual_clock.h"

namespace {

using namespace xfrmfs;
using netio::Bytes;
using testing::require;

constexpr std::uint32_t kPortId = 4711;
constexpr std::size_t kMostEntries = 200;  // then the engine starts anew

struct Target {
  testing::ManualClock clock;
  engine::Engine engine{1, clock};
  netio::XfrmHandlers handlers{engine};

  std::size_t sas() const { return engine.current().sad.size(); }
  std::size_t policies() const { return engine.current().spd.by_serial().size(); }
};

/// The messages of a datagram of ours; true if one of them reports a failure.
bool check_answer(Bytes datagram, const netio::NetlinkMessage& request) {
  bool failed = false;
  while (!datagram.empty()) {
    nlmsghdr header;
    require(datagram.size() >= sizeof header);
    std::memcpy(&header, datagram.data(), sizeof header);
    require(header.nlmsg_len >= sizeof header && header.nlmsg_len <= datagram.size());
    require(header.nlmsg_len % 4 == 0);
    require(header.nlmsg_pid == kPortId && header.nlmsg_seq == request.header.nlmsg_seq);
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
      std::int32_t error;
      require(header.nlmsg_len >= sizeof header + sizeof error);
      std::memcpy(&error, datagram.data() + sizeof header, sizeof error);
      require(error <= 0 && error > -4096);
      failed = failed || error != 0;
    }
    datagram = datagram.subspan(header.nlmsg_len);
  }
  return failed;
}

void ask(Target& target, const netio::NetlinkMessage& request, const netio::Requester& from,
         bool listing) {
  const std::size_t sas = target.sas();
  const std::size_t policies = target.policies();
  auto result = target.handlers.handle(request.bytes, from, listing);
  bool failed = false;
  for (const auto& answer : result.answers) {
    require(!answer.empty());
    failed |= check_answer(answer, request);
  }
  if (failed || !from.privileged) {
    require(!result.changed);
    require(target.sas() == sas && target.policies() == policies);
  }
  while (result.dump && !result.dump->finished()) check_answer(result.dump->next(), request);
}

void list_all(Target& target) {
  constexpr std::uint16_t kGetSa = 18;
  constexpr std::uint16_t kGetPolicy = 21;
  for (const std::uint16_t type : {kGetSa, kGetPolicy}) {
    const nlmsghdr header{sizeof header, type, NLM_F_REQUEST | NLM_F_DUMP, 1, 0};
    const netio::NetlinkMessage request{header, std::as_bytes(std::span(&header, 1))};
    ask(target, request, {.port_id = kPortId, .privileged = true, .style = {}}, false);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static std::unique_ptr<Target> target;
  static int age = 0;
  if (size == 0) return 0;
  if (!target || ++age % 64 == 0 || target->sas() + target->policies() > kMostEntries) {
    target = std::make_unique<Target>();
  }

  const std::uint8_t circumstances = data[0];
  const netio::Requester from{
      .port_id = kPortId,
      .privileged = (circumstances & 1) == 0,
      .style = {.capped = (circumstances & 2) != 0, .extended = (circumstances & 4) == 0}};
  netio::DatagramReader reader(std::as_bytes(std::span(data, size)).subspan(1));
  while (const auto message = reader.next()) ask(*target, *message, from, (circumstances & 8) != 0);
  if ((circumstances & 16) != 0) {
    target->clock.advance(std::chrono::seconds(circumstances));
    target->engine.advance();
  }
  list_all(*target);
  return 0;
}
