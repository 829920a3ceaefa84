// SPDX-License-Identifier: Apache-2.0
// A network namespace of the test's own, so that it can have devices and addresses as it likes.

#pragma once

#include <cerrno>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include <sched.h>

namespace xfrmfs::test {

/// Runs a command of the shell; its failure is the test's.
inline void run(const std::string& command) {
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

/// Each test gets a new namespace, with nothing but loopback, up. Skipped without the privilege.
class NetworkNamespaceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace (errno " << errno << ")";
    }
    run("ip link set lo up");
  }
};

}  // namespace xfrmfs::test
