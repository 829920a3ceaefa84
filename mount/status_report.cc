// SPDX-License-Identifier: Apache-2.0
#include "mount/status_report.h"

#include <iterator>
#include <string_view>

#include <fmt/format.h>

namespace xfrmfs {
namespace {

std::string_view word(netio::RawSend send) {
  switch (send) {
    case netio::RawSend::kAuto:
      break;
    case netio::RawSend::kPacket:
      return "packet";
    case netio::RawSend::kSocket:
      return "socket";
  }
  return "auto";
}

std::string_view word(engine::BackendPreference preference) {
  switch (preference) {
    case engine::BackendPreference::kAuto:
      break;
    case engine::BackendPreference::kOpenssl:
      return name_of(engine::Backend::kOpenssl);
    case engine::BackendPreference::kIpsecMb:
      return name_of(engine::Backend::kIpsecMb);
  }
  return "auto";
}

std::string_view word(GuardState guard) {
  switch (guard) {
    case GuardState::kNone:
      break;
    case GuardState::kWorks:
      return "works";
    case GuardState::kFails:
      return "fails";
  }
  return "none";
}

/// A path on one line whatever is in it: octal as in /proc/self/mountinfo.
std::string on_one_line(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || byte == 0x7f || byte == '\\') {
      out += fmt::format("\\{:03o}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

/// How a library did: what it takes to seal and to open a packet, if it is right.
std::string outcome(const engine::BackendTrial& trial) {
  using State = engine::BackendTrial::State;
  switch (trial.state) {
    case State::kNotTried:
      return "not-tried";
    case State::kNotOffered:
      return "not-offered";
    case State::kWrong:
      return "wrong-answer";
    case State::kRight:
      break;
  }
  const auto& [seal, open] = trial.nanoseconds;
  return seal == 0 && open == 0 ? "not-measured" : fmt::format("{}/{}ns", seal, open);
}

/// E.g. "  aes-gcm-128: ipsec-mb forced=no openssl=812/790ns ipsec-mb=401/390ns".
std::string row(const engine::BackendChoice& choice) {
  std::string out =
      fmt::format("  {}: {} forced={}", choice.algorithm,
                  choice.chosen ? name_of(*choice.chosen) : "none", choice.forced ? "yes" : "no");
  for (std::size_t i = 0; i < engine::kBackends.size(); ++i) {
    out += fmt::format(" {}={}", name_of(engine::kBackends[i]), outcome(choice.trials[i]));
  }
  const auto& [seal, open] = choice.shortest_run;
  if (seal > 1 || open > 1) out += fmt::format(" shortest-run={}/{}", seal, open);
  return out + '\n';
}

}  // namespace

std::string status_report(const Status& status) {
  std::string out;
  const auto line = [&out](std::string_view key, const auto& value) {
    fmt::format_to(std::back_inserter(out), "{}: {}\n", key, value);
  };
  line("version", status.version);
  line("pid", status.pid);
  line("mountpoint", on_one_line(status.mountpoint));
  line("socket", on_one_line(status.socket));
  line("tun", status.tun);
  line("tun-mtu", status.mtu ? fmt::to_string(*status.mtu) : "none");
  line("offload", status.offload);
  line("workers", status.workers);
  line("pinned", status.cpus.empty() ? "no" : "yes");
  for (std::size_t lane = 0; lane < status.cpus.size(); ++lane) {
    out += fmt::format("  worker {}: out={} in={}\n", lane, status.cpus[lane].outbound,
                       status.cpus[lane].inbound);
  }
  line("udp-port", status.udp_port != 0 ? fmt::to_string(status.udp_port) : "none");
  line("raw-send", word(status.raw_send));
  line("raw-send-frames", status.frames ? "yes" : "no");
  line("guard", word(status.guard));
  line("sas", status.sas);
  line("policies", status.policies);
  line("crypto", word(status.crypto));
  for (const engine::BackendChoice& choice : status.algorithms) out += row(choice);
  return out;
}

}  // namespace xfrmfs
