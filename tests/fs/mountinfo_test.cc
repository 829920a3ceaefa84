// SPDX-License-Identifier: Apache-2.0
#include "fs/mountinfo.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <system_error>

namespace xfrmfs::fs {
namespace {

TEST(MountinfoTest, ReadsPlacesTypesAndSources) {
  const auto entries = parse_mountinfo(
      "22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
      "30 27 0:45 / /mnt/x rw,nosuid,nodev - fuse.xfrmfs /run/xfrmfs/7.sock rw,user_id=0\n"
      "31 27 8:1 /root /data rw shared:1 master:2 propagate_from:3 unbindable - ext4 /dev/sda1 "
      "rw\n");
  const std::vector<MountEntry> expected = {
      {"/sys", "sysfs", "sysfs"},
      {"/mnt/x", "fuse.xfrmfs", "/run/xfrmfs/7.sock"},
      {"/data", "ext4", "/dev/sda1"},
  };
  EXPECT_EQ(entries, expected);
  EXPECT_FALSE(entries[0].is_ours());
  EXPECT_TRUE(entries[1].is_ours());
}

TEST(MountinfoTest, UndoesOctalEscapes) {
  const auto entries =
      parse_mountinfo("1 2 0:1 / /a\\040b\\011c\\012d\\134e\\043f rw - fuse.xfrmfs s\\040t rw\n");
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].mountpoint, "/a b\tc\nd\\e#f");
  EXPECT_EQ(entries[0].source, "s t");
}

TEST(MountinfoTest, KeepsWhatIsNoEscape) {
  const auto entries =
      parse_mountinfo("1 2 0:1 / /a\\04 rw - t\\x \\40\n1 2 0:1 / /\\ rw - t \\08\\");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].mountpoint, "/a\\04");
  EXPECT_EQ(entries[0].fstype, "t\\x");
  EXPECT_EQ(entries[0].source, "\\40");
  EXPECT_EQ(entries[1].mountpoint, "/\\");
  EXPECT_EQ(entries[1].source, "\\08\\");
}

TEST(MountinfoTest, ReadsNothingBehindTheText) {
  const std::string_view text = "1 2 0:1 / /a rw - t \\0412";
  const auto entries = parse_mountinfo(text.substr(0, text.size() - 2));
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].source, "\\04");
}

TEST(MountinfoTest, LeavesOutWhatMakesNoSense) {
  EXPECT_TRUE(parse_mountinfo("").empty());
  EXPECT_TRUE(parse_mountinfo("\n\n").empty());
  EXPECT_TRUE(parse_mountinfo("1 2 0:1 / /a rw shared:1\n").empty());
  EXPECT_TRUE(parse_mountinfo("1 2 0:1 / /a rw - type\n").empty());
  EXPECT_TRUE(parse_mountinfo("- - - - - -").empty());
  EXPECT_EQ(parse_mountinfo("1 2 0:1 / /a rw - type source").size(), 1u);
}

TEST(MountinfoTest, FindsTheMountAtAPlace) {
  const auto proc = find_mount("/proc/../proc/.");
  ASSERT_TRUE(proc);
  EXPECT_EQ(proc->mountpoint, "/proc");
  EXPECT_EQ(proc->fstype, "proc");
  EXPECT_FALSE(find_mount("/proc/self"));
}

TEST(MountinfoTest, NamesAPlaceThatDoesNotExist) {
  try {
    resolve_mountpoint("/proc/no/such/place");
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), ENOENT);
    EXPECT_NE(std::string(error.what()).find("\"/proc/no/such/place\""), std::string::npos);
  }
}

}  // namespace
}  // namespace xfrmfs::fs
