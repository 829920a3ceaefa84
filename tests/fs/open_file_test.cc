// SPDX-License-Identifier: Apache-2.0
// Positions, as Linux 6.18 treats them (measured), less what FUSE hides; see docs/procfs.md.

#include "fs/open_file.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fs/sysctl_file.h"
#include "tests/support/manual_clock.h"

namespace xfrmfs::fs {
namespace {

constexpr std::size_t kAll = 65536;

/// "1111111111\n", then "2222222222\n" and so on.
class CountingReport : public VirtualFile {
 public:
  std::string render(const engine::View&) const override {
    const int now = 1 + rendered_.fetch_add(1);
    return std::string(10, static_cast<char>('0' + now)) + "\n";
  }

 private:
  mutable std::atomic<int> rendered_{0};
};

class OpenFileTest : public ::testing::Test {
 protected:
  std::string read(OpenFile& file, std::uint64_t offset, std::size_t size = kAll) {
    return file.read(view_, offset, size);
  }
  /// Bytes taken, or the negative errno.
  long write(OpenFile& file, std::uint64_t offset, std::string_view text, bool append = false) {
    const auto taken = file.write(view_, offset, append, text);
    return taken ? static_cast<long>(*taken) : -static_cast<long>(taken.error());
  }
  std::uint32_t unsigned_value() { return settings_.aevent_etime_100ms.load(); }
  std::int32_t signed_value() { return settings_.larval_drop.load(); }

  engine::Published<engine::Snapshot> published_{std::make_shared<const engine::Snapshot>()};
  engine::Counters counters_;
  engine::Settings settings_;
  testing::ManualClock clock_;
  engine::View view_{published_, counters_, settings_, clock_};
  const UnsignedSysctl unsigned_sysctl_{&engine::Settings::aevent_etime_100ms};
  const SignedSysctl signed_sysctl_{&engine::Settings::larval_drop};
};

TEST_F(OpenFileTest, ReportKeepsItsTextUntilItIsReadFromTheStart) {
  const CountingReport report;
  OpenFile file(report);
  EXPECT_EQ(read(file, 0, 4), "1111");
  EXPECT_EQ(read(file, 4, 4), "1111");
  EXPECT_EQ(read(file, 10), "\n");
  EXPECT_EQ(read(file, 11), "");
  EXPECT_EQ(read(file, 1ull << 40), "");
  EXPECT_EQ(read(file, 0), "2222222222\n");
  EXPECT_EQ(read(file, 9), "2\n");
}

TEST_F(OpenFileTest, ReportIsMadeWhereverItIsReadFirst) {
  const CountingReport report;
  OpenFile file(report);
  EXPECT_EQ(read(file, 9), "1\n");
  OpenFile other(report);
  EXPECT_EQ(read(other, 9), "2\n");
}

TEST_F(OpenFileTest, ReportCannotBeWrittenAnywhere) {
  const CountingReport report;
  OpenFile file(report);
  EXPECT_EQ(write(file, 0, "1"), -EACCES);
  EXPECT_EQ(write(file, 5, "1"), -EACCES);
}

TEST_F(OpenFileTest, SettingIsReadAtTheStartOnly) {
  settings_.aevent_etime_100ms = 123456;
  OpenFile file(unsigned_sysctl_);
  EXPECT_EQ(read(file, 0), "123456\n");
  EXPECT_EQ(read(file, 7), "");
  EXPECT_EQ(read(file, 0, 1), "1");
  EXPECT_EQ(read(file, 1), "");
  EXPECT_EQ(read(file, 0, 4), "1234");
  EXPECT_EQ(read(file, 4), "");
  EXPECT_EQ(read(file, 100), "");
}

TEST_F(OpenFileTest, SettingShowsItsValueOfNow) {
  OpenFile file(signed_sysctl_);
  EXPECT_EQ(read(file, 0), "1\n");
  settings_.larval_drop = -1;
  EXPECT_EQ(read(file, 0), "-1\n");
}

TEST_F(OpenFileTest, UnsignedSettingShowsNoSign) {
  settings_.aevent_etime_100ms = 0xffffffff;
  OpenFile file(unsigned_sysctl_);
  EXPECT_EQ(read(file, 0), "4294967295\n");
}

TEST_F(OpenFileTest, WritesElsewhereAreSwallowed) {
  OpenFile u(unsigned_sysctl_);
  OpenFile s(signed_sysctl_);
  EXPECT_EQ(write(u, 1, "34"), 2);
  EXPECT_EQ(write(u, 100, "34"), 2);
  EXPECT_EQ(write(s, 1, "34"), 2);
  EXPECT_EQ(write(s, 100, "rubbish"), 7);
  EXPECT_EQ(unsigned_value(), 10u);
  EXPECT_EQ(signed_value(), 1);
}

TEST_F(OpenFileTest, EveryWriteInARowSetsAnUnsignedSetting) {
  OpenFile file(unsigned_sysctl_);
  EXPECT_EQ(write(file, 0, "5"), 1);
  EXPECT_EQ(unsigned_value(), 5u);
  EXPECT_EQ(write(file, 1, "6"), 1);
  EXPECT_EQ(unsigned_value(), 6u);
  EXPECT_EQ(write(file, 2, "77\n"), 3);
  EXPECT_EQ(unsigned_value(), 77u);
  EXPECT_EQ(write(file, 5, "x"), -EINVAL);
  EXPECT_EQ(write(file, 5, "8"), 1);
  EXPECT_EQ(unsigned_value(), 8u);
  EXPECT_EQ(write(file, 3, "9"), 1);  // not where the last one ended
  EXPECT_EQ(unsigned_value(), 8u);
}

TEST_F(OpenFileTest, OnlyTheFirstWriteSetsASignedSetting) {
  OpenFile file(signed_sysctl_);
  EXPECT_EQ(write(file, 0, "5"), 1);
  EXPECT_EQ(write(file, 1, "6"), 1);
  EXPECT_EQ(write(file, 2, "77\n"), 3);
  EXPECT_EQ(signed_value(), 5);
  EXPECT_EQ(write(file, 0, "8"), 1);  // after a seek
  EXPECT_EQ(signed_value(), 8);
}

TEST_F(OpenFileTest, WhatASignedSettingLeavesIsIgnored) {
  OpenFile file(signed_sysctl_);
  EXPECT_EQ(write(file, 0, "10 20\n"), 3);
  EXPECT_EQ(write(file, 3, "20\n"), 3);
  EXPECT_EQ(signed_value(), 10);
}

TEST_F(OpenFileTest, AppendingStartsAtTheStart) {
  OpenFile u(unsigned_sysctl_);
  OpenFile s(signed_sysctl_);
  for (const char* text : {"11", "12", "13\n"}) {
    EXPECT_GT(write(u, 2, text, true), 0);
    EXPECT_GT(write(s, 2, text, true), 0);
  }
  EXPECT_EQ(unsigned_value(), 13u);
  EXPECT_EQ(signed_value(), 11);
}

TEST_F(OpenFileTest, AfterAWriteAnUnsignedSettingIsReadFromTheStart) {
  OpenFile file(unsigned_sysctl_);
  EXPECT_EQ(write(file, 0, "5"), 1);
  EXPECT_EQ(read(file, 1), "5\n");
  EXPECT_EQ(read(file, 3), "");
  EXPECT_EQ(write(file, 3, "8"), 1);
  EXPECT_EQ(unsigned_value(), 5u);
}

TEST_F(OpenFileTest, ReadingOnFindsTheEndAlsoAfterAWrite) {
  OpenFile file(unsigned_sysctl_);
  EXPECT_EQ(write(file, 0, "5\n"), 2);
  EXPECT_EQ(read(file, 0), "5\n");  // after a seek
  EXPECT_EQ(read(file, 2), "");
  EXPECT_EQ(write(file, 2, "6\n"), 2);  // or the read was a pread
  EXPECT_EQ(unsigned_value(), 6u);
}

TEST_F(OpenFileTest, LongWriteComesInPiecesAndCountsOnce) {
  const std::string first = "9" + std::string(kLargestWrite - 1, ' ');
  for (const bool append : {false, true}) {
    OpenFile file(unsigned_sysctl_);
    settings_.aevent_etime_100ms = 1;
    EXPECT_EQ(write(file, 0, first, append), static_cast<long>(kLargestWrite));
    EXPECT_EQ(write(file, kLargestWrite, std::string(kLargestWrite, ' '), append),
              static_cast<long>(kLargestWrite));
    EXPECT_EQ(write(file, 2 * kLargestWrite, " 3", append), 2);
    EXPECT_EQ(unsigned_value(), 9u);
    EXPECT_EQ(write(file, 2 * kLargestWrite + 2, "4", append), 1);
    EXPECT_EQ(unsigned_value(), 4u);
  }
}

TEST_F(OpenFileTest, ManyThreadsMayUseOneDescriptor) {
  const CountingReport report;
  OpenFile file(report);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 2; ++n) {
        const std::string text = read(file, 0);
        EXPECT_EQ(text, std::string(10, text[0]) + "\n");
        read(file, 5, 3);
      }
    });
  }
}

TEST(OpenFilesTest, NumbersAreUsedAgain) {
  const CountingReport report;
  OpenFiles files;
  const auto a = files.open(report);
  const auto b = files.open(report);
  ASSERT_TRUE(a && b);
  EXPECT_NE(*a, *b);
  EXPECT_NE(files.find(*a), files.find(*b));
  EXPECT_EQ(files.size(), 2u);
  files.close(*a);
  files.close(*a);
  EXPECT_EQ(files.find(*a), nullptr);
  EXPECT_EQ(files.size(), 1u);
  EXPECT_EQ(files.open(report), a);
}

TEST(OpenFilesTest, UnknownNumbersAreNobodys) {
  OpenFiles files;
  EXPECT_EQ(files.find(0), nullptr);
  EXPECT_EQ(files.find(~0ull), nullptr);
  files.close(7);
  EXPECT_EQ(files.size(), 0u);
}

TEST(OpenFilesTest, RefusesOneTooMany) {
  const CountingReport report;
  OpenFiles files(2);
  const auto first = files.open(report);
  ASSERT_TRUE(files.open(report));
  const auto third = files.open(report);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error(), std::errc::too_many_files_open);
  files.close(*first);
  EXPECT_TRUE(files.open(report));
}

}  // namespace
}  // namespace xfrmfs::fs
