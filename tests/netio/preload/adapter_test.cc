// SPDX-License-Identifier: Apache-2.0
// Does a program notice that its netlink socket is none?
//
// Scenarios are in client.c, which runs as a program of its own with the library preloaded, once
// per C library that was found at build time. The engine is fake_engine.cc.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/netio/preload/fake_engine.h"

namespace xfrmfs::netio::preload {
namespace {

constexpr uid_t kNobody = 65534;
constexpr unsigned kSecondsUntilHung = 60;

class Adapter : public testing::TestWithParam<const char*> {
 protected:
  Adapter() {
    std::string pattern = testing::TempDir() + "/xfrmfs-adapter-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    std::filesystem::permissions(directory_, std::filesystem::perms(0755));
    socket_ = directory_ / "nl.sock";
  }
  ~Adapter() override { std::filesystem::remove_all(directory_); }

  /// Runs one scenario of this build of client.c; its exit status.
  int run(const char* scenario, uid_t user = ::geteuid()) const {
    std::vector<std::string> variables = {"LD_PRELOAD=" XFRMFS_TEST_PRELOAD};
    if (with_variable_) variables.push_back("XFRMFS_SOCKET=" + socket_.string());
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);

    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(kSecondsUntilHung);
      if (user != ::geteuid() && ::setresuid(user, user, user) != 0) ::_exit(99);
      ::close(STDIN_FILENO);
      ::open("/dev/null", O_RDONLY);  // NOLINT: becomes descriptor 0
      ::execle(GetParam(), GetParam(), scenario, nullptr, environment.data());
      ::_exit(98);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  std::filesystem::path directory_;
  std::filesystem::path socket_;
  bool with_variable_ = true;
};

std::string name_of(const testing::TestParamInfo<const char*>& info) {
  return std::filesystem::path(info.param).filename().string();
}
INSTANTIATE_TEST_SUITE_P(, Adapter, testing::Values(XFRMFS_TEST_CLIENTS), name_of);

TEST_P(Adapter, GivesAnEngineEndForANetlinkSocket) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("kind"), 0);
}

TEST_P(Adapter, AlsoStandsInFrontOfSyscall) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("around_socket"), 0);
}

TEST_P(Adapter, ShowsNetlinkAddresses) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("names"), 0);
}

TEST_P(Adapter, ChoosesPortIdsAsNetlinkDoes) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("port_ids"), 0);
}

TEST_P(Adapter, KeepsApartEnginesThatGaveOneNameTwice) {
  // Two engines in a network namespace know nothing of each other's port ids.
  const FakeEngine other((directory_ / "other.sock").string());
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("two_engines"), 0);
}

TEST_P(Adapter, WorksWithoutBind) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("unbound"), 0);
}

TEST_P(Adapter, SendsThroughEveryCall) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("sending"), 0);
}

TEST_P(Adapter, Peeks) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("peeking"), 0);
}

TEST_P(Adapter, ReceivesManyAtOnce) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("many"), 0);
}

TEST_P(Adapter, TellsOverrunAsNetlinkDoes) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("overrun"), 0);
}

TEST_P(Adapter, TellsTheEndOnceAndFallsSilent) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("end"), 0);
}

TEST_P(Adapter, TellsTheEndToEveryProcess) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("end_shared"), 0);
}

TEST_P(Adapter, HandsOptionsToTheEngine) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("options"), 0);
  using protocol::Op;
  const auto call = [](Op op, std::uint32_t arg0, std::uint32_t arg1) {
    return FakeEngine::ControlCall{static_cast<std::uint32_t>(op), arg0, arg1};
  };
  const std::vector<FakeEngine::ControlCall> expected = {
      call(Op::kAddMembership, 5, 0),        call(Op::kDropMembership, 5, 0),
      call(Op::kOption, NETLINK_EXT_ACK, 1), call(Op::kOption, NETLINK_CAP_ACK, 0),
      call(Op::kAddMembership, 99, 0),       call(Op::kOption, 77, 1),
      call(Op::kAddMembership, 5, 0),
  };
  EXPECT_EQ(engine.control_calls(), expected);
}

TEST_P(Adapter, WaitsForABusyEngine) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("busy"), 0);
  EXPECT_EQ(engine.control_calls().size(), 1U);
}

TEST_P(Adapter, SurvivesDupForkExecAndPassing) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("life"), 0);
}

TEST_P(Adapter, ServesSeveralThreads) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("threads"), 0);
}

TEST_P(Adapter, LetsThreadsBeCancelled) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("cancellation"), 0);
}

TEST_P(Adapter, LeavesOtherSocketsAlone) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("foreign"), 0);
  EXPECT_TRUE(engine.control_calls().empty());
}

TEST_P(Adapter, ReportsThatDescriptorsRanOut) {
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("no_files_left"), 0);
}

TEST_P(Adapter, NeverReachesTheKernelWithoutEngine) {
  EXPECT_EQ(run("unsupported"), 0);
}

TEST_P(Adapter, NeverReachesTheKernelWithoutVariable) {
  if (std::filesystem::exists(protocol::kDefaultSocket)) {
    GTEST_SKIP() << "an engine uses " << protocol::kDefaultSocket;
  }
  with_variable_ = false;
  EXPECT_EQ(run("unsupported"), 0);
}

TEST_P(Adapter, NeverReachesTheKernelWhenTheEngineIsDead) {
  {
    const FakeEngine engine(socket_);
  }
  std::filesystem::remove(socket_);
  const int abandoned = ::open(socket_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  EXPECT_EQ(run("unsupported"), 0);  // not even a socket
  ::close(abandoned);
}

TEST_P(Adapter, NeverReachesTheKernelWithALongPath) {
  socket_ = directory_ / std::string(108, 'x');
  EXPECT_EQ(run("unsupported"), 0);
}

TEST_P(Adapter, PassesOnWhyAnEngineRefuses) {
  const FakeEngine engine(socket_, {.handover_status = EPERM});
  EXPECT_EQ(run("not_permitted"), 0);
}

TEST_P(Adapter, TakesNoDescriptorWithoutTheEnginesName) {
  const FakeEngine engine(socket_, {.tag = protocol::kClientTag});
  EXPECT_EQ(run("unsupported"), 0);
}

TEST_P(Adapter, TrustsNoEngineOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const FakeEngine engine(socket_, {.mode = 0666, .owner = kNobody});
  EXPECT_EQ(run("unsupported"), 0);         // root does not trust nobody
  EXPECT_EQ(run("unbound", kNobody), 0);    // who trusts himself,
  EXPECT_EQ(run("unsupported", 12345), 0);  // as the only one
}

TEST_P(Adapter, TrustsTheEngineOfRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const FakeEngine engine(socket_, {.mode = 0666});
  EXPECT_EQ(run("unbound", kNobody), 0);
}

TEST_P(Adapter, SaysWhenTheEngineIsNotForTheCaller) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const FakeEngine engine(socket_);
  EXPECT_EQ(run("not_permitted", kNobody), 0);
}

}  // namespace
}  // namespace xfrmfs::netio::preload
