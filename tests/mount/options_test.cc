// SPDX-License-Identifier: Apache-2.0
#include "mount/options.h"

#include <algorithm>
#include <ostream>
#include <string>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

namespace xfrmfs {
namespace {

using Arguments = std::vector<std::string>;

std::variant<Command, ParseStop> parse(const Arguments& arguments) {
  std::vector<const char*> argv{"xfrmfs"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return parse_options(static_cast<int>(argv.size()), argv.data());
}

/// The options of a command line that must be right.
template <class Options>
Options parse_as(const Arguments& arguments) {
  const auto parsed = parse(arguments);
  if (const auto* stop = std::get_if<ParseStop>(&parsed)) {
    ADD_FAILURE() << stop->text;
    return {};
  }
  const auto* options = std::get_if<Options>(&std::get<Command>(parsed));
  if (options == nullptr) {
    ADD_FAILURE() << "another command";
    return {};
  }
  return *options;
}

ParseStop parse_stop(const Arguments& arguments) {
  const auto parsed = parse(arguments);
  const auto* stop = std::get_if<ParseStop>(&parsed);
  return stop != nullptr ? *stop : ParseStop{-1, "no stop"};
}

TEST(OptionsTest, MountHasDefaults) {
  const auto options = parse_as<MountOptions>({"mount", "/mnt"});
  EXPECT_EQ(options.mountpoint, "/mnt");
  EXPECT_FALSE(options.foreground);
  EXPECT_TRUE(options.fuse_options.empty());
  EXPECT_EQ(options.netns, "");
  EXPECT_EQ(options.tun, "ipsec0");
  EXPECT_EQ(options.underlay, "");
  EXPECT_EQ(options.mtu, std::nullopt);
  EXPECT_EQ(options.workers, std::nullopt);
  EXPECT_FALSE(options.pin);
  EXPECT_EQ(options.udp_port, std::nullopt);
  EXPECT_TRUE(options.offload);
  EXPECT_EQ(options.crypto, engine::BackendPreference::kAuto);
  EXPECT_FALSE(options.permissions.broken_ciphers);
  EXPECT_FALSE(options.permissions.unauthenticated);
  EXPECT_EQ(options.raw_send, netio::RawSend::kAuto);
  EXPECT_TRUE(options.guard);
  EXPECT_EQ(options.socket, "");
}

TEST(OptionsTest, MountTakesAllOptions) {
  const auto options = parse_as<MountOptions>(
      {"mount",     "-f",         "-o",          "allow_other,ro", "/mnt",
       "-o",        "noexec",     "--netns",     "blue",           "--tun",
       "tun7",      "--underlay", "eth0",        "--mtu",          "1400",
       "--workers", "4",          "--pin",       "--udp-port",     "4501",
       "--offload", "off",        "--crypto",    "ipsec-mb",       "--raw-send",
       "packet",    "--socket",   "/run/a.sock", "--legacy",       "--allow-unauthenticated",
       "--no-guard"});
  EXPECT_EQ(options.mountpoint, "/mnt");
  EXPECT_TRUE(options.foreground);
  EXPECT_EQ(options.fuse_options, (Arguments{"allow_other,ro", "noexec"}));
  EXPECT_EQ(options.netns, "blue");
  EXPECT_EQ(options.tun, "tun7");
  EXPECT_EQ(options.underlay, "eth0");
  EXPECT_EQ(options.mtu, 1400u);
  EXPECT_EQ(options.workers, 4u);
  EXPECT_TRUE(options.pin);
  EXPECT_EQ(options.udp_port, 4501);
  EXPECT_FALSE(options.offload);
  EXPECT_EQ(options.crypto, engine::BackendPreference::kIpsecMb);
  EXPECT_TRUE(options.permissions.broken_ciphers);
  EXPECT_TRUE(options.permissions.unauthenticated);
  EXPECT_EQ(options.raw_send, netio::RawSend::kPacket);
  EXPECT_FALSE(options.guard);
  EXPECT_EQ(options.socket, "/run/a.sock");
}

TEST(OptionsTest, MountTakesEdgesOfRanges) {
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--mtu", "68"}).mtu, 68u);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--mtu", "65535"}).mtu, 65535u);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--workers", "1"}).workers, 1u);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--workers", "64"}).workers, 64u);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--udp-port", "0"}).udp_port, 0);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--udp-port", "65535"}).udp_port, 65535);
  const std::string longest_name(15, 'x');
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--tun", longest_name}).tun, longest_name);
  const std::string longest_path = "/" + std::string(106, 'x');
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--socket", longest_path}).socket,
            longest_path);
}

TEST(OptionsTest, MountMakesSocketPathAbsolute) {
  const auto options = parse_as<MountOptions>({"mount", "/mnt", "--socket", "a.sock"});
  EXPECT_TRUE(options.socket.starts_with('/')) << options.socket;
  EXPECT_TRUE(options.socket.ends_with("/a.sock")) << options.socket;
}

TEST(OptionsTest, MountTakesWords) {
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--workers", "auto"}).workers, std::nullopt);
  EXPECT_TRUE(parse_as<MountOptions>({"mount", "/mnt", "--offload", "auto"}).offload);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--crypto", "auto"}).crypto,
            engine::BackendPreference::kAuto);
  EXPECT_EQ(parse_as<MountOptions>({"mount", "/mnt", "--crypto", "openssl"}).crypto,
            engine::BackendPreference::kOpenssl);
}

TEST(OptionsTest, UmountTakesMountpoint) {
  EXPECT_EQ(parse_as<UmountOptions>({"umount", "/mnt"}).mountpoint, "/mnt");
  EXPECT_FALSE(parse_as<UmountOptions>({"umount", "/mnt"}).lazy);
  EXPECT_TRUE(parse_as<UmountOptions>({"umount", "-l", "/mnt"}).lazy);
}

TEST(OptionsTest, ExecLeavesTheCommandAlone) {
  const auto options = parse_as<ExecOptions>({"exec", "/mnt", "ip", "-s", "xfrm", "--help"});
  EXPECT_EQ(options.mountpoint, "/mnt");
  EXPECT_EQ(options.command, (Arguments{"ip", "-s", "xfrm", "--help"}));
  EXPECT_EQ(parse_as<ExecOptions>({"exec", "/mnt", "--", "ip", "--", "-h"}).command,
            (Arguments{"ip", "--", "-h"}));
  EXPECT_EQ(parse_as<ExecOptions>({"exec", "/mnt", "mount"}).command, (Arguments{"mount"}));
}

TEST(OptionsTest, StatusTakesMountpointOrSocket) {
  EXPECT_EQ(parse_as<StatusOptions>({"status", "/mnt"}).mountpoint, "/mnt");
  EXPECT_EQ(parse_as<StatusOptions>({"status", "/mnt"}).socket, "");
  EXPECT_EQ(parse_as<StatusOptions>({"status", "--socket", "/a.sock"}).socket, "/a.sock");
  EXPECT_EQ(parse_as<StatusOptions>({"status", "--socket", "/a.sock"}).mountpoint, "");
}

TEST(OptionsTest, HelpAndVersionAreNoMistakes) {
  const Arguments all[] = {{"--help"},           {"--version"},      {"mount", "--help"},
                           {"umount", "--help"}, {"exec", "--help"}, {"exec", "-h", "/mnt"},
                           {"status", "--help"}};
  for (const Arguments& arguments : all) {
    SCOPED_TRACE(arguments.front() + " " + arguments.back());
    const ParseStop stop = parse_stop(arguments);
    EXPECT_EQ(stop.status, 0);
    EXPECT_FALSE(stop.text.empty());
    EXPECT_FALSE(stop.text.ends_with('\n'));
  }
}

TEST(OptionsTest, HelpOfMountNamesEveryOption) {
  const std::string help = parse_stop({"mount", "--help"}).text;
  for (const char* word :
       {"MOUNTPOINT", "-f", "-o", "--netns", "--tun", "--underlay", "--mtu", "--workers", "--pin",
        "--udp-port", "--offload", "--crypto", "--legacy", "--allow-unauthenticated", "--raw-send",
        "--no-guard", "--socket", "ipsec0", "/run/xfrmfs/PID.sock", "Examples:"}) {
    EXPECT_TRUE(help.contains(word)) << word;
  }
}

struct Mistake {
  const char* name;
  Arguments arguments;
  std::vector<std::string> named;  // what the message must contain
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.name;
}

class MistakeTest : public testing::TestWithParam<Mistake> {};

TEST_P(MistakeTest, IsNamedInOneLine) {
  const ParseStop stop = parse_stop(GetParam().arguments);
  EXPECT_GT(stop.status, 0);
  EXPECT_TRUE(stop.text.starts_with("xfrmfs: ")) << stop.text;
  EXPECT_FALSE(stop.text.contains('\n')) << stop.text;
  for (const std::string& word : GetParam().named) {
    EXPECT_TRUE(stop.text.contains(word)) << stop.text;
  }
}

const Mistake kMistakes[] = {
    {"NoCommand", {}, {"mount", "umount", "exec", "status"}},
    {"UnknownCommand", {"frobnicate"}, {"frobnicate"}},
    {"UnknownOption", {"mount", "/mnt", "--frobnicate"}, {"--frobnicate"}},
    {"TwoMountpoints", {"mount", "/mnt", "/other"}, {"/other"}},
    {"TwoCommands", {"mount", "/mnt", "umount", "/other"}, {"umount"}},
    {"MountWithoutMountpoint", {"mount"}, {"MOUNTPOINT"}},
    {"MountWithEmptyMountpoint", {"mount", ""}, {"MOUNTPOINT"}},
    {"UmountWithoutMountpoint", {"umount"}, {"MOUNTPOINT"}},
    {"ExecWithoutMountpoint", {"exec"}, {"MOUNTPOINT"}},
    {"ExecWithoutCommand", {"exec", "/mnt"}, {"COMMAND"}},
    {"ExecWithoutCommandBehindDashes", {"exec", "/mnt", "--"}, {"COMMAND"}},
    {"StatusOfNothing", {"status"}, {"MOUNTPOINT", "--socket"}},
    {"StatusOfTwo", {"status", "/mnt", "--socket", "/a"}, {"MOUNTPOINT", "--socket"}},
    {"StatusOfEmptyMountpoint", {"status", ""}, {"MOUNTPOINT"}},
    {"StatusOfEmptySocket", {"status", "--socket", ""}, {"--socket"}},
    {"MtuTooSmall", {"mount", "/mnt", "--mtu", "67"}, {"--mtu", "\"67\""}},
    {"MtuTooLarge", {"mount", "/mnt", "--mtu", "65536"}, {"--mtu", "\"65536\""}},
    {"MtuHuge", {"mount", "/mnt", "--mtu", "99999999999"}, {"--mtu", "\"99999999999\""}},
    {"MtuNegative", {"mount", "/mnt", "--mtu=-1"}, {"--mtu", "\"-1\""}},
    {"MtuNoNumber", {"mount", "/mnt", "--mtu", "1400b"}, {"--mtu", "\"1400b\""}},
    {"MtuMissing", {"mount", "/mnt", "--mtu"}, {"--mtu"}},
    {"NoWorkers", {"mount", "/mnt", "--workers", "0"}, {"--workers", "\"0\""}},
    {"TooManyWorkers", {"mount", "/mnt", "--workers", "65"}, {"--workers", "\"65\""}},
    {"WorkersOtherWord", {"mount", "/mnt", "--workers", "all"}, {"--workers", "\"all\"", "auto"}},
    {"UdpPortTooLarge", {"mount", "/mnt", "--udp-port", "65536"}, {"--udp-port", "\"65536\""}},
    {"UdpPortNoNumber", {"mount", "/mnt", "--udp-port", "ipsec"}, {"--udp-port", "\"ipsec\""}},
    {"OffloadOtherWord", {"mount", "/mnt", "--offload", "on"}, {"--offload", "\"on\"", "off"}},
    {"RawSendOtherWord", {"mount", "/mnt", "--raw-send", "x"}, {"--raw-send", "\"x\"", "packet"}},
    {"CryptoOtherWord", {"mount", "/mnt", "--crypto", "x"}, {"--crypto", "\"x\"", "ipsec-mb"}},
    {"TunNameTooLong",
     {"mount", "/mnt", "--tun", "abcdefghijklmnop"},
     {"--tun", "\"abcdefghijklmnop\"", "15"}},
    {"TunNameWithSlash", {"mount", "/mnt", "--tun", "a/b"}, {"--tun", "\"a/b\""}},
    {"TunNameTemplate", {"mount", "/mnt", "--tun", "tun%d"}, {"--tun", "\"tun%d\""}},
    {"TunNameOfDots", {"mount", "/mnt", "--tun", ".."}, {"--tun", "\"..\""}},
    {"TunNameEmpty", {"mount", "/mnt", "--tun", ""}, {"--tun"}},
    {"UnderlayNameTooLong",
     {"mount", "/mnt", "--underlay", "abcdefghijklmnop"},
     {"--underlay", "\"abcdefghijklmnop\""}},
    {"SocketPathTooLong",
     {"mount", "/mnt", "--socket", "/" + std::string(107, 'x')},
     {"--socket", "107", "xxx"}},
    {"SocketPathWithComma", {"mount", "/mnt", "--socket", "/a,b"}, {"--socket", "\"/a,b\""}},
    {"SocketPathWithBlank", {"mount", "/mnt", "--socket", "/a b"}, {"--socket", "\"/a b\""}},
    {"SocketPathEmpty", {"mount", "/mnt", "--socket", ""}, {"--socket"}},
    {"NetnsEmpty", {"mount", "/mnt", "--netns", ""}, {"--netns"}},
};

INSTANTIATE_TEST_SUITE_P(OptionsTest, MistakeTest, testing::ValuesIn(kMistakes),
                         [](const auto& mistake) { return mistake.param.name; });

}  // namespace
}  // namespace xfrmfs
