// SPDX-License-Identifier: Apache-2.0
// What `xfrmfs status` prints: a running engine's parts as text. Pure.
//
// One "key: value" a line; the rows of a table follow their key's line, each with two blanks in
// front. Programs may rely on keys and words; others may be added. Numbers of SAs and policies are
// told, their content never is.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/crypto/backend.h"
#include "netio/cpus.h"
#include "netio/next_hop_resolver.h"

namespace xfrmfs {

enum class GuardState : std::uint8_t { kNone, kWorks, kFails };

struct Status {
  std::string version;
  int pid = 0;
  std::string mountpoint;
  std::string socket;
  std::string tun;
  std::optional<std::uint32_t> mtu;  // of the TUN device, now; none: it is gone
  std::string offload;               // as Offloads::text()
  unsigned workers = 0;
  std::vector<netio::CpuPair> cpus;  // one per worker; empty: not pinned
  std::uint16_t udp_port = 0;        // 0: none
  netio::RawSend raw_send = netio::RawSend::kAuto;
  bool frames = false;  // raw ESP leaves as frames now, where the next hop is plain
  GuardState guard = GuardState::kNone;
  engine::BackendPreference crypto = engine::BackendPreference::kAuto;
  std::span<const engine::BackendChoice> algorithms;
  std::size_t sas = 0;
  std::size_t policies = 0;
};

/// Ends with a newline.
std::string status_report(const Status& status);

}  // namespace xfrmfs
