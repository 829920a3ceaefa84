// SPDX-License-Identifier: Apache-2.0
#include "mount/status_report.h"

#include <array>
#include <string>

#include <gtest/gtest.h>

namespace xfrmfs {
namespace {

using engine::Backend;
using engine::BackendChoice;
using State = engine::BackendTrial::State;

Status plain() {
  return {.version = "1.2.3",
          .pid = 4711,
          .mountpoint = "/run/ipsec",
          .socket = "/run/xfrmfs/4711.sock",
          .tun = "ipsec0",
          .mtu = 1406,
          .offload = "checksum,tcp4",
          .workers = 2,
          .cpus = {},
          .udp_port = 4500,
          .raw_send = netio::RawSend::kAuto,
          .frames = true,
          .guard = GuardState::kWorks,
          .crypto = engine::BackendPreference::kAuto,
          .algorithms = {},
          .sas = 1'000'000,
          .policies = 3};
}

/// Is this a line of the report?
testing::AssertionResult has(const Status& status, const std::string& line) {
  const std::string report = "\n" + status_report(status);
  if (report.contains("\n" + line + "\n")) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no line \"" << line << "\" in" << report;
}

TEST(StatusReportTest, HasALineForEachPart) {
  EXPECT_EQ(status_report(plain()),
            "version: 1.2.3\n"
            "pid: 4711\n"
            "mountpoint: /run/ipsec\n"
            "socket: /run/xfrmfs/4711.sock\n"
            "tun: ipsec0\n"
            "tun-mtu: 1406\n"
            "offload: checksum,tcp4\n"
            "workers: 2\n"
            "pinned: no\n"
            "udp-port: 4500\n"
            "raw-send: auto\n"
            "raw-send-frames: yes\n"
            "guard: works\n"
            "sas: 1000000\n"
            "policies: 3\n"
            "crypto: auto\n");
}

TEST(StatusReportTest, SaysWhatIsNotThere) {
  Status status = plain();
  status.mtu.reset();
  status.udp_port = 0;
  status.frames = false;
  status.guard = GuardState::kNone;
  EXPECT_TRUE(has(status, "tun-mtu: none"));
  EXPECT_TRUE(has(status, "udp-port: none"));
  EXPECT_TRUE(has(status, "raw-send-frames: no"));
  EXPECT_TRUE(has(status, "guard: none"));
}

TEST(StatusReportTest, SaysThatTheGuardFails) {
  Status status = plain();
  status.guard = GuardState::kFails;
  EXPECT_TRUE(has(status, "guard: fails"));
}

TEST(StatusReportTest, UsesTheWordsOfTheOptions) {
  Status status = plain();
  status.raw_send = netio::RawSend::kPacket;
  status.crypto = engine::BackendPreference::kOpenssl;
  EXPECT_TRUE(has(status, "raw-send: packet"));
  EXPECT_TRUE(has(status, "crypto: openssl"));
  status.raw_send = netio::RawSend::kSocket;
  status.crypto = engine::BackendPreference::kIpsecMb;
  EXPECT_TRUE(has(status, "raw-send: socket"));
  EXPECT_TRUE(has(status, "crypto: ipsec-mb"));
}

TEST(StatusReportTest, ListsProcessorsOfPinnedWorkers) {
  Status status = plain();
  status.cpus = {{.outbound = 2, .inbound = 3}, {.outbound = 6, .inbound = 7}};
  EXPECT_TRUE(has(status, "pinned: yes\n  worker 0: out=2 in=3\n  worker 1: out=6 in=7"));
}

TEST(StatusReportTest, ListsAlgorithms) {
  const std::array<BackendChoice, 4> rows = {{
      {.algorithm = "fast",
       .chosen = Backend::kIpsecMb,
       .trials = {{{State::kRight, {812, 790}}, {State::kRight, {401, 390}}}},
       .shortest_run = {1, 4}},
      {.algorithm = "asked for",
       .chosen = Backend::kOpenssl,
       .forced = true,
       .trials = {{{State::kRight, {812, 790}}, {State::kNotTried, {}}}}},
      {.algorithm = "lacking",
       .chosen = Backend::kOpenssl,
       .trials = {{{State::kRight, {}}, {State::kNotOffered, {}}}}},
      {.algorithm = "broken",
       .chosen = std::nullopt,
       .trials = {{{State::kWrong, {}}, {State::kWrong, {}}}}},
  }};
  Status status = plain();
  status.algorithms = rows;
  EXPECT_TRUE(has(status,
                  "crypto: auto\n"
                  "  fast: ipsec-mb forced=no openssl=812/790ns ipsec-mb=401/390ns "
                  "shortest-run=1/4\n"
                  "  asked for: openssl forced=yes openssl=812/790ns ipsec-mb=not-tried\n"
                  "  lacking: openssl forced=no openssl=not-measured ipsec-mb=not-offered\n"
                  "  broken: none forced=no openssl=wrong-answer ipsec-mb=wrong-answer"));
}

TEST(StatusReportTest, KeepsPathsOnOneLine) {
  Status status = plain();
  status.mountpoint = "/a b\npid: 1\\";
  EXPECT_TRUE(has(status, "mountpoint: /a b\\012pid: 1\\134"));
}

}  // namespace
}  // namespace xfrmfs
