// SPDX-License-Identifier: Apache-2.0
// The command line: what `xfrmfs mount`, `umount`, `exec` and `status` were asked to do.
//
// Everything that can be judged without touching the system is judged here, with one line that
// names the option and its value.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/crypto/backend.h"
#include "netio/next_hop_resolver.h"

namespace xfrmfs {

struct MountOptions {
  std::string mountpoint;
  bool foreground = false;
  std::vector<std::string> fuse_options;  // each as after -o, commas included
  std::string netns;                      // name or path; empty: the caller's
  std::string tun = "ipsec0";
  std::string underlay;                   // interface; empty: any
  std::optional<std::uint32_t> mtu;       // of the TUN device; none: from the underlay's
  std::optional<unsigned> workers;        // none: as many as suit the processors
  bool pin = false;                       // workers to processors
  std::optional<std::uint16_t> udp_port;  // none: 4500 if nobody else has it; 0: no ESP in UDP
  bool offload = true;
  engine::BackendPreference crypto = engine::BackendPreference::kAuto;
  engine::CryptoPermissions permissions;
  bool guard = true;  // against packets in clear
  netio::RawSend raw_send = netio::RawSend::kAuto;
  std::string socket;  // absolute path; empty: /run/xfrmfs/<pid>.sock
};

struct UmountOptions {
  std::string mountpoint;
  bool lazy = false;  // take the files away even if a process works in them
};

struct ExecOptions {
  std::string mountpoint;
  std::vector<std::string> command;  // program and arguments, at least one
};

/// Exactly one of the two is there.
struct StatusOptions {
  std::string mountpoint;
  std::string socket;  // path
};

using Command = std::variant<MountOptions, UmountOptions, ExecOptions, StatusOptions>;

/// What was printed instead of a command, and the status to exit with.
struct ParseStop {
  int status = 0;
  std::string text;  // for stdout if status is 0, else for stderr; without final newline
};

/// Reads the command line. Help, version and mistakes come back as ParseStop.
std::variant<Command, ParseStop> parse_options(int argc, const char* const* argv);

}  // namespace xfrmfs
