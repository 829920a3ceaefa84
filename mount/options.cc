// SPDX-License-Identifier: Apache-2.0
#include "mount/options.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <net/if.h>
#include <sys/un.h>

namespace xfrmfs {
namespace {

constexpr std::uint32_t kMinMtu = 68;     // RFC 791: every link carries this much
constexpr std::uint32_t kMaxMtu = 65535;  // the largest IP packet
constexpr std::uint32_t kMaxWorkers = 64;
constexpr std::uint32_t kMaxPort = 65535;
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1 /* NUL */;
constexpr int kWrongUsage = 2;
constexpr std::string_view kAuto = "auto";

/// CLI11 asks a validator for a sentence; none means that the value is fine.
using Complaint = std::string;

Complaint check_number(const std::string& text, std::uint32_t low, std::uint32_t high) {
  std::uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && stop == end && number >= low && number <= high) return {};
  return fmt::format("\"{}\" is not a number from {} to {}", text, low, high);
}

Complaint check_workers(const std::string& text) {
  if (text == kAuto) return {};
  Complaint complaint = check_number(text, 1, kMaxWorkers);
  if (!complaint.empty()) complaint += " and not \"auto\"";
  return complaint;
}

/// A check for one of some words.
auto one_of(std::vector<std::string_view> words) {
  return [words = std::move(words)](const std::string& text) -> Complaint {
    if (std::ranges::find(words, text) != words.end()) return {};
    return fmt::format("\"{}\" is none of: {}", text, fmt::join(words, ", "));
  };
}

/// As the kernel wants a new device to be named, without its name templates ("%d").
Complaint check_interface_name(const std::string& name) {
  if (name.empty()) return "an empty interface name";
  if (name.size() >= IFNAMSIZ) {
    return fmt::format("interface name \"{}\" has {} characters, at most {} are possible", name,
                       name.size(), IFNAMSIZ - 1);
  }
  const bool forbidden = std::ranges::any_of(name, [](unsigned char c) {
    return c <= ' ' || c >= 0x7f || c == '/' || c == ':' || c == '%';
  });
  if (forbidden || name == "." || name == "..") {
    return fmt::format("\"{}\" is not an interface name", name);
  }
  return {};
}

/// The path is also the source of the mount, where other programs find it: /proc/self/mountinfo
/// and mount options know no quoting that all of them share.
Complaint check_socket_path(const std::string& path) {
  if (path.empty()) return "an empty socket path";
  if (path.size() > kMaxSocketPath) {
    return fmt::format("socket path \"{}\" has {} characters, at most {} are possible", path,
                       path.size(), kMaxSocketPath);
  }
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-";
  if (path.find_first_not_of(kAllowed) != std::string::npos) {
    return fmt::format("socket path \"{}\" has characters other than A-Z a-z 0-9 . _ / -", path);
  }
  return {};
}

Complaint check_not_empty(const std::string& text) {
  return text.empty() ? Complaint("an empty value") : Complaint();
}

constexpr std::string_view kExamples = R"(Examples:
  xfrmfs mount /run/ipsec
  cat /run/ipsec/net/xfrm_stat
  xfrmfs exec /run/ipsec ip xfrm state
  xfrmfs status /run/ipsec
  xfrmfs umount /run/ipsec)";

constexpr std::string_view kMountExamples =
    R"(Returns when the files can be read and packets flow. Ends on `xfrmfs umount`,
`fusermount3 -u`, `umount`, SIGTERM or SIGINT.

Examples:
  xfrmfs mount /run/ipsec
  xfrmfs mount /run/ipsec --tun ipsec1 --underlay eth0 --workers 2
  xfrmfs mount /run/blue --netns blue
  xfrmfs mount /run/ipsec -f -o allow_other)";

constexpr std::string_view kUmountExamples = R"(Also cleans up after a program that was killed.

Example:
  xfrmfs umount /run/ipsec)";

constexpr std::string_view kExecExamples =
    R"(Programs that configure the kernel's IPsec then configure the engine instead.
This needs programs that call the C library. Static, set-user-ID and foreign ones
are refused. Programs that bypass it, as those written in Go do, cannot always be told:
do not use them here, they would configure the kernel.

Examples:
  xfrmfs exec /run/ipsec ip xfrm policy
  xfrmfs exec /run/ipsec sh)";

constexpr std::string_view kStatusExamples =
    R"(One "key: value" a line; rows of a table are indented. No keys of SAs are shown.

Examples:
  xfrmfs status /run/ipsec
  xfrmfs status --socket /run/xfrmfs/4711.sock)";

void add_mountpoint(CLI::App& command, std::string& mountpoint, const std::string& help) {
  command.add_option("MOUNTPOINT", mountpoint, help)->required()->check(check_not_empty);
}

/// Options that are texts on the command line and something else in MountOptions.
struct MountTexts {
  std::string mtu;
  std::string workers{kAuto};
  std::string udp_port;
  std::string offload{kAuto};
  std::string crypto{kAuto};
  std::string raw_send{kAuto};
};

/// All texts were checked.
void convert(const MountTexts& texts, MountOptions& options) {
  const auto number = [](const std::string& text) { return std::stoul(text); };
  if (!texts.mtu.empty()) options.mtu = static_cast<std::uint32_t>(number(texts.mtu));
  options.workers.reset();
  if (texts.workers != kAuto) options.workers = static_cast<unsigned>(number(texts.workers));
  if (!texts.udp_port.empty()) {
    options.udp_port = static_cast<std::uint16_t>(number(texts.udp_port));
  }
  options.offload = texts.offload == kAuto;
  options.crypto = *engine::parse_backend_preference(texts.crypto);
  if (texts.raw_send == "packet") options.raw_send = netio::RawSend::kPacket;
  if (texts.raw_send == "socket") options.raw_send = netio::RawSend::kSocket;
}

CLI::App& add_mount(CLI::App& app, MountOptions& options, MountTexts& texts) {
  CLI::App& mount = *app.add_subcommand("mount", "start an engine and mount its files");
  mount.footer(std::string(kMountExamples));
  add_mountpoint(mount, options.mountpoint, "an existing directory");
  mount.add_flag("-f,--foreground", options.foreground,
                 "stay in the foreground, messages go to standard error");
  mount.add_option("-o", options.fuse_options, "FUSE mount options, separated by commas")
      ->type_name("OPTIONS")
      ->allow_extra_args(false)  // one value after each -o
      ->check(check_not_empty);
  mount
      .add_option("--netns", options.netns,
                  "network namespace for packets: a name as in `ip netns`, or a path")
      ->type_name("NAME|PATH")
      ->check(check_not_empty);
  mount.add_option("--tun", options.tun, "name of the TUN device to make")
      ->type_name("NAME")
      ->capture_default_str()
      ->check(check_interface_name);
  mount
      .add_option("--underlay", options.underlay,
                  "use only this interface for sealed packets (default: as routed)")
      ->type_name("IFNAME")
      ->check(check_interface_name);
  mount
      .add_option("--mtu", texts.mtu,
                  "MTU of the TUN device (default: what fits into the underlay's)")
      ->type_name("BYTES")
      ->check([](const std::string& text) { return check_number(text, kMinMtu, kMaxMtu); });
  mount.add_option("--workers", texts.workers, "pairs of packet threads")
      ->type_name("N|auto")
      ->capture_default_str()
      ->check(check_workers);
  mount.add_flag("--pin", options.pin, "keep each packet thread on a processor of its own");
  mount
      .add_option("--udp-port", texts.udp_port,
                  "port for ESP in UDP, 0: none (default: 4500 if it is free)")
      ->type_name("PORT")
      ->check([](const std::string& text) { return check_number(text, 0, kMaxPort); });
  mount
      .add_option("--offload", texts.offload,
                  "whether the TUN device leaves segmentation and checksums to others")
      ->type_name("auto|off")
      ->capture_default_str()
      ->check(one_of({kAuto, "off"}));
  mount.add_option("--crypto", texts.crypto, "library for cryptography")
      ->type_name("auto|openssl|ipsec-mb")
      ->capture_default_str()
      ->check(one_of({kAuto, "openssl", "ipsec-mb"}));
  mount.add_flag("--legacy", options.permissions.broken_ciphers,
                 "take SAs with DES, which is broken");
  mount.add_flag("--allow-unauthenticated", options.permissions.unauthenticated,
                 "take SAs with encryption and without integrity, except for tunnels");
  mount
      .add_option("--raw-send", texts.raw_send,
                  "how ESP without UDP leaves: as frames, or through a raw socket")
      ->type_name("auto|packet|socket")
      ->capture_default_str()
      ->check(one_of({kAuto, "packet", "socket"}));
  mount.add_flag("!--no-guard", options.guard,
                 "let in clear packets that policies want protected (no nftables)");
  mount
      .add_option("--socket", options.socket,
                  "path of the control socket (default: /run/xfrmfs/PID.sock)")
      ->type_name("PATH")
      ->check(check_not_empty);
  return mount;
}

CLI::App& add_umount(CLI::App& app, UmountOptions& options) {
  CLI::App& umount = *app.add_subcommand("umount", "unmount the files and end the engine");
  umount.footer(std::string(kUmountExamples));
  add_mountpoint(umount, options.mountpoint, "where the engine's files are mounted");
  umount.add_flag("-l,--lazy", options.lazy,
                  "even if busy: hide the files now, the engine ends with their last user");
  return umount;
}

/// Shows the part of the command line that CLI11 does not get to see.
class ExecHelp final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return "Usage: xfrmfs exec [OPTIONS] MOUNTPOINT [--] COMMAND [ARGUMENT]...\n";
  }
};

CLI::App& add_exec(CLI::App& app, ExecOptions& options) {
  CLI::App& exec = *app.add_subcommand("exec", "run a program against an engine");
  exec.footer(std::string(kExecExamples));
  exec.formatter(std::make_shared<ExecHelp>());
  add_mountpoint(exec, options.mountpoint, "where the engine's files are mounted");
  return exec;
}

CLI::App& add_status(CLI::App& app, StatusOptions& options) {
  CLI::App& status = *app.add_subcommand("status", "say what a running engine is made of");
  status.footer(std::string(kStatusExamples));
  CLI::Option* const mountpoint =
      status.add_option("MOUNTPOINT", options.mountpoint, "where the engine's files are mounted")
          ->check(check_not_empty);
  status.add_option("--socket", options.socket, "path of its control socket, instead")
      ->type_name("PATH")
      ->check(check_not_empty)
      ->excludes(mountpoint);
  return status;
}

/// In `exec MOUNTPOINT COMMAND...` nothing from COMMAND on is an option of ours.
int arguments_before_command(int argc, const char* const* argv) {
  if (argc < 2 || std::string_view(argv[1]) != "exec") return argc;
  int i = 2;
  while (i < argc && std::string_view(argv[i]).starts_with('-')) ++i;
  return std::min(i + 1, argc);
}

ParseStop wrong_usage(std::string_view message) {
  std::string line = "xfrmfs: ";
  for (const char c : message) line += c == '\n' ? ' ' : c;
  return {kWrongUsage, std::move(line)};
}

ParseStop explain(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() != 0) return wrong_usage(error.what());
  if (dynamic_cast<const CLI::CallForVersion*>(&error) != nullptr) return {0, error.what()};
  std::string text = app.help();
  while (text.ends_with('\n')) text.pop_back();
  return {0, std::move(text)};
}

}  // namespace

std::variant<Command, ParseStop> parse_options(int argc, const char* const* argv) {
  MountOptions mount_options;
  UmountOptions umount_options;
  ExecOptions exec_options;
  StatusOptions status_options;
  MountTexts mount_texts;

  CLI::App app("IPsec in user space, with files to look at it", "xfrmfs");
  app.set_version_flag("--version", "xfrmfs " XFRMFS_VERSION);
  app.footer(std::string(kExamples));
  app.require_subcommand(0, 1);
  const CLI::App& mount = add_mount(app, mount_options, mount_texts);
  const CLI::App& umount = add_umount(app, umount_options);
  const CLI::App& exec = add_exec(app, exec_options);
  const CLI::App& status = add_status(app, status_options);

  const int ours = arguments_before_command(argc, argv);
  try {
    app.parse(ours, argv);
  } catch (const CLI::ParseError& error) {
    return explain(app, error);
  }

  if (umount.parsed()) return Command(std::move(umount_options));
  if (exec.parsed()) {
    exec_options.command.assign(argv + ours, argv + argc);
    if (!exec_options.command.empty() && exec_options.command.front() == "--") {
      exec_options.command.erase(exec_options.command.begin());
    }
    if (exec_options.command.empty()) return wrong_usage("exec: COMMAND is required");
    return Command(std::move(exec_options));
  }
  if (status.parsed()) {
    if (status_options.mountpoint.empty() && status_options.socket.empty()) {
      return wrong_usage("status: MOUNTPOINT or --socket is required");
    }
    return Command(std::move(status_options));
  }
  if (!mount.parsed()) return wrong_usage("a command is required: mount, umount, exec or status");

  convert(mount_texts, mount_options);
  if (!mount_options.socket.empty()) {
    mount_options.socket = std::filesystem::absolute(mount_options.socket).string();
    const Complaint complaint = check_socket_path(mount_options.socket);
    if (!complaint.empty()) return wrong_usage("--socket: " + complaint);
  }
  return Command(std::move(mount_options));
}

}  // namespace xfrmfs
