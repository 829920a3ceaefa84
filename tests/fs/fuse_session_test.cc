// SPDX-License-Identifier: Apache-2.0
// The files of a real mount, asked by system calls. What is expected was measured on the procfs of
// Linux 6.18; what FUSE cannot do is told in docs/procfs.md.

#include "fs/fuse_session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/mountinfo.h"
#include "tests/fs/golden.h"
#include "tests/fs/scenario.h"
#include "tests/fs/sysctl_cases.h"

namespace xfrmfs::fs {
namespace {

constexpr std::size_t kAll = 65536;

// --- Scaffolding.

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = std::filesystem::temp_directory_path() / "xfrmfs test,XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) throw std::system_error(errno, std::generic_category());
    path_ = std::filesystem::canonical(pattern);
    std::filesystem::permissions(path_, std::filesystem::perms{0755});
  }
  ~TemporaryDirectory() {
    while (umount2(path_.c_str(), MNT_DETACH) == 0) {
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A result, or the negative errno.
long result(long returned) {
  return returned == -1 ? -errno : returned;
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags)
      : number_(::open(path.c_str(), flags | O_CLOEXEC)), error_(number_ == -1 ? errno : 0) {}
  ~Descriptor() {
    if (number_ != -1) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }
  /// Of the open; 0: it succeeded.
  int error() const { return error_; }

  /// What was read, or "errno N".
  std::string read(std::size_t size = kAll) const {
    std::string bytes(size, '\0');
    const long n = result(::read(number_, bytes.data(), size));
    return n < 0 ? fmt::format("errno {}", -n) : bytes.substr(0, static_cast<std::size_t>(n));
  }
  std::string pread(off_t offset, std::size_t size = kAll) const {
    std::string bytes(size, '\0');
    const long n = result(::pread(number_, bytes.data(), size, offset));
    return n < 0 ? fmt::format("errno {}", -n) : bytes.substr(0, static_cast<std::size_t>(n));
  }
  long write(std::string_view text) const {
    return result(::write(number_, text.data(), text.size()));
  }
  long pwrite(std::string_view text, off_t offset) const {
    return result(::pwrite(number_, text.data(), text.size(), offset));
  }
  long seek(off_t offset, int whence) const { return result(::lseek(number_, offset, whence)); }

 private:
  int number_;
  int error_;
};

/// What this thread does meanwhile, it does as user and group 4711, without capabilities. The
/// system calls themselves, unlike libc's functions, change this thread only.
class AsStranger {
 public:
  AsStranger() {
    EXPECT_EQ(syscall(SYS_setresgid, kId, kId, 0), 0);
    EXPECT_EQ(syscall(SYS_setresuid, kId, kId, 0), 0);
  }
  ~AsStranger() {
    EXPECT_EQ(syscall(SYS_setresuid, 0, 0, 0), 0);
    EXPECT_EQ(syscall(SYS_setresgid, 0, 0, 0), 0);
  }
  AsStranger(const AsStranger&) = delete;
  AsStranger& operator=(const AsStranger&) = delete;

  static constexpr long kId = 4711;
};

/// A session that is served by a thread.
class Served {
 public:
  Served(const Tree& tree, engine::View view, FuseSession::Options options)
      : session_(tree, view, std::move(options)), thread_([this] { session_.run(); }) {}
  ~Served() { session_.stop(); }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  FuseSession& session() { return session_; }

 private:
  FuseSession session_;
  std::jthread thread_;
};

class MountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "there is no /dev/fuse";
    directory_.emplace();
    scenario_.emplace();
  }

  FuseSession::Options options(std::vector<std::string> fuse_options = {}) const {
    return {.mountpoint = directory_->path(),
            .source = "/run/a b,c.sock",
            .fuse_options = std::move(fuse_options),
            .threads = 2};
  }
  void mount(std::vector<std::string> fuse_options = {}) {
    served_.emplace(tree_, scenario_->view(), options(std::move(fuse_options)));
  }

  std::string path(const std::string& name) const { return directory_->path() + "/" + name; }
  std::string etime() const { return path("sys/net/core/xfrm_aevent_etime"); }
  std::string larval_drop() const { return path("sys/net/core/xfrm_larval_drop"); }
  std::string xfrm_stat() const { return path("net/xfrm_stat"); }
  std::vector<std::string> sysctls() const { return {etime(), larval_drop()}; }

  engine::Settings& settings() { return scenario_->gateway().engine().settings(); }
  void set(std::uint32_t value) {
    settings().aevent_etime_100ms = value;
    settings().larval_drop = static_cast<std::int32_t>(value);
  }

  const Tree tree_ = make_tree();
  std::optional<TemporaryDirectory> directory_;
  std::optional<Scenario> scenario_;
  std::optional<Served> served_;
};

/// With the mount in place.
class FilesTest : public MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    if (!IsSkipped()) mount();
  }
};

std::string slurp(const std::string& path) {
  return Descriptor(path, O_RDONLY).read(1 << 20);
}

struct stat status_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
  return status;
}

// --- The tree.

TEST_F(FilesTest, AttributesAreThoseOfProcfs) {
  const std::pair<const char*, mode_t> files[] = {
      {"net/xfrm_stat", S_IFREG | 0444},
      {"net/ipsec/spi/all", S_IFREG | 0400},
      {"net/ipsec/eroute/all", S_IFREG | 0400},
      {"sys/net/core/xfrm_aevent_etime", S_IFREG | 0644},
      {"sys/net/core/xfrm_aevent_rseqth", S_IFREG | 0644},
      {"sys/net/core/xfrm_larval_drop", S_IFREG | 0644},
      {"sys/net/core/xfrm_acq_expires", S_IFREG | 0644},
      {"net/ipsec", S_IFDIR | 0555},
      {"sys/net/core", S_IFDIR | 0555},
      {".", S_IFDIR | 0555},
  };
  for (const auto& [name, mode] : files) {
    const struct stat status = status_of(path(name));
    EXPECT_EQ(status.st_mode, mode) << name;
    EXPECT_EQ(status.st_uid, 0u) << name;
    EXPECT_EQ(status.st_gid, 0u) << name;
    EXPECT_EQ(status.st_size, 0) << name;
    EXPECT_EQ(status.st_blocks, 0) << name;
    EXPECT_EQ(status.st_blksize, 1024) << name;
    EXPECT_EQ(status.st_mtim.tv_sec, scenario_->view().wall_now().count()) << name;
    if (S_ISREG(mode)) {
      EXPECT_EQ(status.st_nlink, 1u) << name;
    }
  }
}

TEST_F(FilesTest, TimesAreThoseOfTheFirstLook) {
  const std::string spis = path("net/ipsec/spi/all");  // not cached
  const auto first = status_of(spis).st_mtim.tv_sec;
  scenario_->gateway().clock().advance(std::chrono::seconds(9));
  EXPECT_EQ(status_of(spis).st_mtim.tv_sec, first);
  EXPECT_EQ(status_of(etime()).st_mtim.tv_sec, first + 9);
}

TEST_F(FilesTest, LinksAreRelative) {
  EXPECT_EQ(std::filesystem::read_symlink(path("net/ipsec_spi")), "ipsec/spi/all");
  EXPECT_EQ(std::filesystem::read_symlink(path("net/ipsec_eroute")), "ipsec/eroute/all");
  EXPECT_EQ(status_of(path("net/ipsec_spi")).st_size, 13);
  EXPECT_EQ(slurp(path("sys/net/core/sysctl_xfrm_aevent_etime")), "10\n");
  EXPECT_EQ(slurp(path("sys/net/core/sysctl_xfrm_aevent_rseqth")), "2\n");
}

/// Names in the order of getdents64.
std::vector<std::string> names_in(const std::string& directory, std::size_t buffer_size) {
  const Descriptor descriptor(directory, O_RDONLY | O_DIRECTORY);
  std::vector<std::string> names;
  std::vector<char> buffer(buffer_size);
  for (;;) {
    const long n = syscall(SYS_getdents64, descriptor.number(), buffer.data(), buffer.size());
    EXPECT_GE(n, 0) << errno;
    if (n <= 0) return names;
    for (long at = 0; at < n;) {
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
      std::uint16_t length = 0;
      std::memcpy(&length, buffer.data() + at + 16, sizeof length);
      names.emplace_back(buffer.data() + at + 19);
      at += length;
    }
  }
}

TEST_F(FilesTest, DirectoriesListThemselvesFirst) {
  using Names = std::vector<std::string>;
  for (const std::size_t buffer_size : {64u, 4096u}) {  // one entry a time, all at once
    EXPECT_EQ(names_in(path("net"), buffer_size),
              Names({".", "..", "xfrm_stat", "ipsec", "ipsec_eroute", "ipsec_spi"}));
    EXPECT_EQ(names_in(path("."), buffer_size), Names({".", "..", "net", "sys"}));
    EXPECT_EQ(names_in(path("net/ipsec/spi"), buffer_size), Names({".", "..", "all"}));
  }
}

TEST_F(FilesTest, NothingElseExists) {
  for (const char* name : {"net/pfkey", "net/ipsec_version", "net/ipsec/spigrp", "x"}) {
    EXPECT_EQ(Descriptor(path(name), O_RDONLY).error(), ENOENT) << name;
  }
}

TEST_F(FilesTest, TheTreeCannotBeChanged) {
  struct Place {
    const char* file;
    const char* fresh;
    int removal;
  };
  for (const auto& [file, fresh, removal] :
       {Place{"sys/net/core/xfrm_aevent_etime", "sys/net/core/x", EACCES},
        Place{"net/xfrm_stat", "net/x", EPERM}}) {
    const std::string old_path = path(file);
    const std::string new_path = path(fresh);
    EXPECT_EQ(result(unlink(old_path.c_str())), -removal);
    EXPECT_EQ(result(unlink(new_path.c_str())), -ENOENT);
    EXPECT_EQ(result(rename(old_path.c_str(), new_path.c_str())), -ENOENT);
    EXPECT_EQ(result(link(old_path.c_str(), new_path.c_str())), -ENOENT);
    EXPECT_EQ(result(symlink("a", new_path.c_str())), -ENOENT);
    EXPECT_EQ(result(mkdir(new_path.c_str(), 0755)), -ENOENT);
    EXPECT_EQ(result(mkdir(old_path.c_str(), 0755)), -EEXIST);
    EXPECT_EQ(result(mknod(new_path.c_str(), S_IFREG | 0644, 0)), -ENOENT);
    EXPECT_EQ(result(::open(new_path.c_str(), O_CREAT | O_WRONLY, 0644)), -ENOENT);
    EXPECT_EQ(result(::open(old_path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644)), -EEXIST);
    EXPECT_EQ(Descriptor(old_path, O_CREAT | O_WRONLY).error(), 0);
    EXPECT_EQ(result(setxattr(old_path.c_str(), "user.a", "x", 1, 0)), -ENOTSUP);
  }
  EXPECT_EQ(result(rename(etime().c_str(), larval_drop().c_str())), -EACCES);
  EXPECT_EQ(result(rmdir(path("sys/net/core").c_str())), -EACCES);
}

TEST_F(FilesTest, SysctlsKeepModeAndOwner) {
  EXPECT_EQ(result(chmod(etime().c_str(), 0666)), -EPERM);
  EXPECT_EQ(result(chown(etime().c_str(), 1, 1)), -EPERM);
  EXPECT_EQ(result(chmod(path("sys/net/core").c_str(), 0777)), -EPERM);
  EXPECT_EQ(status_of(etime()).st_mode, mode_t{S_IFREG | 0644});
}

TEST_F(FilesTest, ReportsMayBeGivenToOthers) {
  const std::string spis = path("net/ipsec/spi/all");
  EXPECT_EQ(result(chown(spis.c_str(), 0, 4711)), 0);
  {
    const AsStranger stranger;
    EXPECT_EQ(Descriptor(spis, O_RDONLY).error(), EACCES);
  }
  EXPECT_EQ(result(chmod(spis.c_str(), 0440)), 0);
  EXPECT_EQ(status_of(spis).st_mode, mode_t{S_IFREG | 0440});
  EXPECT_EQ(status_of(spis).st_gid, 4711u);
  {
    const AsStranger stranger;
    EXPECT_EQ(slurp(spis), golden("files/ipsec_spi"));
    EXPECT_EQ(result(chmod(spis.c_str(), 0444)), -EPERM);
  }
  EXPECT_EQ(result(chmod(spis.c_str(), 0400)), 0);
  const AsStranger stranger;
  EXPECT_EQ(Descriptor(spis, O_RDONLY).error(), EACCES);
}

TEST_F(FilesTest, StrangersMayReadWhatIsForAll) {
  const AsStranger stranger;
  EXPECT_EQ(slurp(xfrm_stat()).size(), golden("files/xfrm_stat").size());
  EXPECT_EQ(slurp(etime()), "10\n");
  EXPECT_EQ(Descriptor(path("net/ipsec_spi"), O_RDONLY).error(), EACCES);
  EXPECT_EQ(Descriptor(path("net/ipsec_eroute"), O_RDONLY).error(), EACCES);
  for (const std::string& file : {etime(), larval_drop(), xfrm_stat()}) {
    EXPECT_EQ(Descriptor(file, O_WRONLY).error(), EACCES);
    EXPECT_EQ(Descriptor(file, O_RDWR).error(), EACCES);
    EXPECT_EQ(result(truncate(file.c_str(), 0)), -EACCES);
    EXPECT_EQ(result(chmod(file.c_str(), 0666)), -EPERM);
  }
}

TEST_F(FilesTest, ADescriptorInStrangeHandsDoesNotWrite) {
  const Descriptor sysctl(etime(), O_RDWR);
  const Descriptor report(xfrm_stat(), O_RDWR);
  const AsStranger stranger;
  EXPECT_EQ(sysctl.write("55"), -EPERM);
  EXPECT_EQ(report.write("55"), -EACCES);
  EXPECT_EQ(sysctl.pread(0), "10\n");
}

TEST_F(FilesTest, StatfsKnowsOnlyTheLongestName) {
  struct statvfs status{};
  ASSERT_EQ(statvfs(directory_->path().c_str(), &status), 0);
  EXPECT_EQ(status.f_namemax, 255u);
  EXPECT_EQ(status.f_blocks, 0u);
}

// --- Reading a sysctl.

TEST_F(FilesTest, SysctlDefaults) {
  EXPECT_EQ(slurp(etime()), "10\n");
  EXPECT_EQ(slurp(path("sys/net/core/xfrm_aevent_rseqth")), "2\n");
  EXPECT_EQ(slurp(larval_drop()), "1\n");
  EXPECT_EQ(slurp(path("sys/net/core/xfrm_acq_expires")), "30\n");
}

TEST_F(FilesTest, EverySysctlIsItsOwnSetting) {
  settings().aevent_etime_100ms = 0xffffffff;
  settings().aevent_rseqth_packets = 12;
  settings().larval_drop = -1;
  settings().acq_expires_s = 14;
  EXPECT_EQ(slurp(etime()), "4294967295\n");
  EXPECT_EQ(slurp(path("sys/net/core/xfrm_aevent_rseqth")), "12\n");
  EXPECT_EQ(slurp(larval_drop()), "-1\n");
  EXPECT_EQ(slurp(path("sys/net/core/xfrm_acq_expires")), "14\n");
}

TEST_F(FilesTest, SysctlReadInPiecesEndsAfterTheFirst) {
  set(123456);
  for (const std::string& file : sysctls()) {
    const Descriptor byte(file, O_RDONLY);
    EXPECT_EQ(byte.read(1), "1");
    EXPECT_EQ(byte.read(1), "");
    const Descriptor four(file, O_RDONLY);
    EXPECT_EQ(four.read(4), "1234");
    EXPECT_EQ(four.read(4), "");
    EXPECT_EQ(four.seek(0, SEEK_SET), 0);
    EXPECT_EQ(four.read(), "123456\n");
    EXPECT_EQ(four.read(), "");
    EXPECT_EQ(four.read(0), "");
  }
}

TEST_F(FilesTest, SysctlPreadKnowsOnlyOffsetZero) {
  set(123456);
  for (const std::string& file : sysctls()) {
    const Descriptor descriptor(file, O_RDONLY);
    EXPECT_EQ(descriptor.pread(0), "123456\n");
    for (const off_t offset : {1, 6, 7, 100}) EXPECT_EQ(descriptor.pread(offset), "");
    EXPECT_EQ(descriptor.pread(0), "123456\n");
  }
}

TEST_F(FilesTest, SysctlShowsTheValueOfTheRead) {
  for (const std::string& file : sysctls()) {
    const Descriptor descriptor(file, O_RDONLY);
    set(7);
    EXPECT_EQ(descriptor.pread(0), "7\n");
    set(8);
    EXPECT_EQ(descriptor.pread(0), "8\n");
  }
}

// --- Writing a sysctl.

class SysctlWriteTest : public FilesTest {
 protected:
  /// Writes every text to a fresh descriptor, with 7 as the value before.
  void write_all(const std::string& file,
                 const std::function<std::optional<SysctlResult>(const SysctlCase&)>& expected) {
    for (const SysctlCase& each : sysctl_cases()) {
      set(7);
      const Descriptor descriptor(file, O_RDWR);
      const long taken = descriptor.write(each.text);
      const std::string what =
          fmt::format("{} bytes: {}", each.text.size(), each.text.substr(0, 40));
      if (each.text.empty()) {
        EXPECT_EQ(taken, 0);
        EXPECT_EQ(slurp(file), "7\n");
      } else if (const auto result = expected(each)) {
        EXPECT_EQ(taken, static_cast<long>(result->taken)) << what;
        EXPECT_EQ(slurp(file), fmt::format("{}\n", result->value)) << what;
      } else {
        EXPECT_EQ(taken, -EINVAL) << what;
        EXPECT_EQ(slurp(file), "7\n") << what;
      }
      EXPECT_EQ(status_of(file).st_size, 0);
    }
  }
};

TEST_F(SysctlWriteTest, UnsignedAsInLinux) {
  write_all(etime(), [](const SysctlCase& each) { return each.for_unsigned; });
}

TEST_F(SysctlWriteTest, SignedAsInLinux) {
  write_all(larval_drop(), [](const SysctlCase& each) { return each.for_signed; });
}

TEST_F(SysctlWriteTest, ElsewhereIsSwallowed) {
  for (const std::string& file : sysctls()) {
    set(7);
    const Descriptor descriptor(file, O_RDWR);
    EXPECT_EQ(descriptor.pwrite("34", 1), 2);
    EXPECT_EQ(descriptor.pwrite("34", 100), 2);
    EXPECT_EQ(descriptor.pwrite("rubbish", 7), 7);
    EXPECT_EQ(slurp(file), "7\n");
    EXPECT_EQ(descriptor.pwrite("34", 0), 2);
    EXPECT_EQ(slurp(file), "34\n");
  }
}

TEST_F(SysctlWriteTest, AppendAndTruncateChangeNothing) {
  for (const std::string& file : sysctls()) {
    set(7);
    EXPECT_EQ(Descriptor(file, O_WRONLY | O_TRUNC).error(), 0);
    EXPECT_EQ(result(truncate(file.c_str(), 0)), 0);
    EXPECT_EQ(result(truncate(file.c_str(), 5)), 0);
    EXPECT_EQ(slurp(file), "7\n");
    EXPECT_EQ(status_of(file).st_size, 0);
    EXPECT_EQ(Descriptor(file, O_WRONLY | O_APPEND).write("34"), 2);
    EXPECT_EQ(slurp(file), "34\n");
    EXPECT_EQ(Descriptor(file, O_WRONLY | O_TRUNC).write("35"), 2);
    EXPECT_EQ(slurp(file), "35\n");
    const Descriptor descriptor(file, O_RDWR);
    EXPECT_EQ(result(ftruncate(descriptor.number(), 3)), 0);
    EXPECT_EQ(slurp(file), "35\n");
  }
}

TEST_F(SysctlWriteTest, SeveralAppendsLikeSeveralWrites) {
  const std::pair<std::string, const char*> cases[] = {{etime(), "13\n"}, {larval_drop(), "11\n"}};
  for (const auto& [file, last] : cases) {
    const Descriptor descriptor(file, O_WRONLY | O_APPEND);
    EXPECT_EQ(descriptor.write("11"), 2);
    EXPECT_EQ(descriptor.write("12"), 2);
    EXPECT_EQ(descriptor.write("13\n"), 3);
    EXPECT_EQ(slurp(file), last);
  }
}

TEST_F(SysctlWriteTest, EveryWriteOfARowCountsIfUnsigned) {
  const Descriptor descriptor(etime(), O_RDWR);
  for (const std::string text : {"5", "6", "77\n"}) {
    EXPECT_EQ(descriptor.write(text), static_cast<long>(text.size()));
    EXPECT_EQ(slurp(etime()), text.ends_with('\n') ? text : text + "\n");
  }
  EXPECT_EQ(descriptor.read(), "77\n");
  EXPECT_EQ(descriptor.read(), "");
  EXPECT_EQ(descriptor.write("8"), 1);
  EXPECT_EQ(slurp(etime()), "77\n");
  EXPECT_EQ(descriptor.seek(0, SEEK_SET), 0);
  EXPECT_EQ(descriptor.write("8"), 1);
  EXPECT_EQ(slurp(etime()), "8\n");
}

TEST_F(SysctlWriteTest, OnlyTheFirstWriteOfARowCountsIfSigned) {
  const Descriptor descriptor(larval_drop(), O_RDWR);
  EXPECT_EQ(descriptor.write("5"), 1);
  EXPECT_EQ(descriptor.seek(0, SEEK_CUR), 1);
  EXPECT_EQ(descriptor.write("6"), 1);
  EXPECT_EQ(descriptor.write("77\n"), 3);
  EXPECT_EQ(descriptor.seek(0, SEEK_CUR), 5);
  EXPECT_EQ(slurp(larval_drop()), "5\n");
  EXPECT_EQ(descriptor.seek(0, SEEK_SET), 0);
  EXPECT_EQ(descriptor.write("6"), 1);
  EXPECT_EQ(slurp(larval_drop()), "6\n");
}

TEST_F(SysctlWriteTest, TheShellSeesSuccess) {
  for (const std::string& file : sysctls()) {
    const std::string command = fmt::format("echo '10 20' > '{}'", file);
    EXPECT_EQ(std::system(command.c_str()), 0);
    EXPECT_EQ(slurp(file), "10\n");
  }
}

TEST_F(SysctlWriteTest, LongWritesCountOnce) {
  const std::string text = "9" + std::string(300'000, ' ');
  for (const std::string& file : sysctls()) {
    EXPECT_EQ(Descriptor(file, O_WRONLY).write(text), static_cast<long>(text.size()));
    EXPECT_EQ(slurp(file), "9\n");
  }
}

// --- Other operations.

TEST_F(FilesTest, SysctlSeeks) {
  for (const std::string& file : sysctls()) {
    const Descriptor descriptor(file, O_RDONLY);
    EXPECT_EQ(descriptor.seek(5000, SEEK_SET), 5000);
    EXPECT_EQ(descriptor.seek(-1, SEEK_SET), -EINVAL);
    EXPECT_EQ(descriptor.seek(10, SEEK_CUR), 5010);
    EXPECT_EQ(descriptor.seek(-6000, SEEK_CUR), -EINVAL);
    EXPECT_EQ(descriptor.seek(0, SEEK_END), 0);
    EXPECT_EQ(descriptor.seek(7, SEEK_END), 7);
    EXPECT_EQ(descriptor.seek(-1, SEEK_END), -EINVAL);
    EXPECT_EQ(descriptor.seek(0, SEEK_DATA), -ENXIO);
    EXPECT_EQ(descriptor.seek(0, SEEK_HOLE), -ENXIO);
  }
}

TEST_F(FilesTest, PollIsReadyAtOnce) {
  for (const std::string& file : {etime(), larval_drop(), xfrm_stat()}) {
    const Descriptor descriptor(file, O_RDONLY);
    pollfd poll{descriptor.number(), POLLIN | POLLPRI | POLLOUT, 0};
    EXPECT_EQ(::poll(&poll, 1, -1), 1);
    EXPECT_EQ(poll.revents, POLLIN | POLLOUT);
  }
}

TEST_F(FilesTest, MemoryCannotBeShared) {
  for (const std::string& file : {etime(), xfrm_stat()}) {
    const Descriptor descriptor(file, O_RDONLY);
    EXPECT_EQ(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, descriptor.number(), 0), MAP_FAILED);
    EXPECT_EQ(errno, ENODEV);
  }
}

TEST_F(FilesTest, NothingToSynchronise) {
  for (const std::string& file : {etime(), xfrm_stat()}) {
    const Descriptor descriptor(file, O_RDWR);
    EXPECT_EQ(result(fsync(descriptor.number())), -EINVAL);
    EXPECT_EQ(result(fdatasync(descriptor.number())), -EINVAL);
    EXPECT_EQ(Descriptor(file, O_RDONLY | O_DIRECT).error(), EINVAL);
  }
}

// --- Reports.

TEST_F(FilesTest, ReportsAreTheGoldens) {
  EXPECT_EQ(slurp(xfrm_stat()), golden("files/xfrm_stat"));
  EXPECT_EQ(slurp(path("net/ipsec_spi")), golden("files/ipsec_spi"));
  EXPECT_EQ(slurp(path("net/ipsec_eroute")), golden("files/ipsec_eroute"));
}

TEST_F(FilesTest, ReportIsTheSameHoweverItIsRead) {
  const std::string whole = golden("files/xfrm_stat");
  const Descriptor big(xfrm_stat(), O_RDONLY);
  EXPECT_EQ(big.read(), whole);
  EXPECT_EQ(big.read(), "");
  const Descriptor bytes(xfrm_stat(), O_RDONLY);
  std::string collected;
  for (std::string byte; !(byte = bytes.read(1)).empty();) collected += byte;
  EXPECT_EQ(collected, whole);
}

TEST_F(FilesTest, ReportCanBeReadAnywhereFirst) {
  const std::string whole = golden("files/xfrm_stat");
  const Descriptor descriptor(xfrm_stat(), O_RDONLY);
  EXPECT_EQ(descriptor.pread(24), whole.substr(24));
  EXPECT_EQ(descriptor.pread(863), "\n");
  EXPECT_EQ(descriptor.pread(864), "");
  EXPECT_EQ(descriptor.pread(off_t{1} << 40), "");
}

TEST_F(FilesTest, ReportStaysWhileItIsRead) {
  const std::string before = slurp(xfrm_stat());
  const Descriptor descriptor(xfrm_stat(), O_RDONLY);
  std::string collected = descriptor.read(100);
  scenario_->gateway().send(
      make(testing::UdpPacket{.source = "10.1.0.5", .destination = "10.3.0.7"}));
  collected += descriptor.read();
  EXPECT_EQ(collected, before);
  EXPECT_EQ(descriptor.seek(0, SEEK_SET), 0);
  const std::string after = descriptor.read();
  EXPECT_NE(after, before);
  EXPECT_EQ(after, slurp(xfrm_stat()));
}

TEST_F(FilesTest, ReportTakesNoWrites) {
  for (const std::string& file : {xfrm_stat(), path("net/ipsec_spi")}) {
    for (const int flags : {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND}) {
      const Descriptor descriptor(file, flags);
      ASSERT_EQ(descriptor.error(), 0);
      EXPECT_EQ(descriptor.write("1"), -EACCES);
      EXPECT_EQ(descriptor.pwrite("1", 5), -EACCES);
    }
    const Descriptor truncated(file, O_RDONLY | O_TRUNC);
    EXPECT_EQ(truncated.error(), 0);
    EXPECT_EQ(truncated.write("1"), -EBADF);
    EXPECT_EQ(result(truncate(file.c_str(), 0)), 0);
    EXPECT_EQ(result(truncate(file.c_str(), 5)), 0);
  }
  EXPECT_EQ(slurp(xfrm_stat()), golden("files/xfrm_stat"));
}

TEST_F(FilesTest, ReportSeeks) {
  const Descriptor descriptor(xfrm_stat(), O_RDONLY);
  EXPECT_EQ(descriptor.seek(24, SEEK_SET), 24);
  EXPECT_EQ(descriptor.read(3), "\t0\n");
  EXPECT_EQ(descriptor.seek(1, SEEK_CUR), 28);
  EXPECT_EQ(descriptor.seek(-1, SEEK_SET), -EINVAL);
  EXPECT_EQ(descriptor.seek(-29, SEEK_CUR), -EINVAL);
  EXPECT_EQ(descriptor.seek(0, SEEK_DATA), -EINVAL);
}

TEST_F(FilesTest, ManyReadersWhileTheEngineChanges) {
  std::atomic<bool> done{false};
  std::vector<std::jthread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!done) {
        EXPECT_EQ(slurp(xfrm_stat()).size(), golden("files/xfrm_stat").size());
        EXPECT_TRUE(slurp(path("net/ipsec_spi")).ends_with('\n'));
        EXPECT_TRUE(slurp(path("net/ipsec_eroute")).ends_with('\n'));
        EXPECT_EQ(Descriptor(etime(), O_WRONLY).write("77\n"), 3);
        EXPECT_NE(slurp(etime()), "");
      }
    });
  }
  engine::Engine& engine = scenario_->gateway().engine();
  for (std::uint32_t i = 0; i < 50; ++i) {
    const engine::SaPtr sa =
        add(engine, make(testing::TunnelSa{
                        .source = "192.0.2.1", .destination = "198.51.100.2", .spi = 0x2000 + i}));
    engine.publish();
    scenario_->gateway().send(
        make(testing::UdpPacket{.source = "10.1.0.5", .destination = "10.2.0.7"}));
    ASSERT_TRUE(engine.delete_sa(sa->id()));
    engine.publish();
  }
  done = true;
}

// --- Mounting and its end.

TEST_F(MountTest, IsListedWithItsTypeAndSource) {
  EXPECT_FALSE(find_mount(directory_->path()));
  mount();
  const auto found = find_mount(directory_->path() + "/net/..");
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (MountEntry{directory_->path(), "fuse.xfrmfs", "/run/a b,c.sock"}));
  EXPECT_EQ(served_->session().mountpoint(), directory_->path());
  served_.reset();
  EXPECT_FALSE(find_mount(directory_->path()));
}

/// The errno and the sentence with which mounting fails.
template <class Mount>
std::pair<int, std::string> failure_of(Mount&& mount) {
  try {
    mount();
  } catch (const std::system_error& error) {
    return {error.code().value(), error.what()};
  }
  return {0, ""};
}

TEST_F(MountTest, SaysWhyItCannot) {
  const auto failure = [&](FuseSession::Options options) {
    return failure_of([&] { FuseSession session(tree_, scenario_->view(), std::move(options)); });
  };
  FuseSession::Options missing = options();
  missing.mountpoint += "/missing";
  auto [error, sentence] = failure(missing);
  EXPECT_EQ(error, ENOENT);
  EXPECT_NE(sentence.find(missing.mountpoint), std::string::npos) << sentence;

  FuseSession::Options file = options();
  file.mountpoint += "/file";
  std::ofstream(file.mountpoint) << "x";
  std::tie(error, sentence) = failure(file);
  EXPECT_EQ(error, ENOTDIR);
  EXPECT_NE(sentence.find(file.mountpoint), std::string::npos) << sentence;

  std::tie(error, sentence) = failure(options({"ro,frobnicate=7"}));
  EXPECT_EQ(error, EINVAL);
  EXPECT_NE(sentence.find("frobnicate=7"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find(directory_->path()), std::string::npos) << sentence;

  std::tie(error, sentence) = failure(options({std::string(5000, 'x')}));
  EXPECT_EQ(error, E2BIG);

  mount();
  std::tie(error, sentence) = failure(options());
  EXPECT_EQ(error, EBUSY);
  EXPECT_NE(sentence.find(directory_->path()), std::string::npos) << sentence;
  EXPECT_EQ(slurp(etime()), "10\n");
}

TEST_F(MountTest, TakesTheUsualOptions) {
  mount({"ro,noexec", "nosuid"});
  EXPECT_EQ(slurp(etime()), "10\n");
  EXPECT_EQ(Descriptor(etime(), O_WRONLY).error(), EROFS);
  struct statvfs status{};
  ASSERT_EQ(statvfs(directory_->path().c_str(), &status), 0);
  EXPECT_NE(status.f_flag & ST_NOEXEC, 0u);
}

TEST_F(MountTest, ServesAgainWhereADaemonWasKilled) {
  const auto dead = fork();
  ASSERT_NE(dead, -1);
  if (dead == 0) {
    FuseSession::Options one_thread = options();
    one_thread.threads = 1;
    FuseSession session(tree_, scenario_->view(), one_thread);
    session.run();
    _exit(0);
  }
  while (!find_mount(directory_->path())) std::this_thread::yield();
  EXPECT_EQ(slurp(etime()), "10\n");
  EXPECT_FALSE(is_dead(directory_->path()));
  kill(dead, SIGKILL);
  ASSERT_EQ(waitpid(dead, nullptr, 0), dead);
  EXPECT_TRUE(is_dead(directory_->path()));
  EXPECT_TRUE(find_mount(directory_->path()));
  EXPECT_TRUE(find_mount(directory_->path() + "/"));
  EXPECT_TRUE(find_mount(directory_->path() + "/."));

  mount();
  EXPECT_EQ(slurp(etime()), "10\n");
  served_.reset();
  EXPECT_FALSE(find_mount(directory_->path()));
}

TEST_F(MountTest, UnmountTakesTheTopmostOff) {
  mount();
  const Descriptor in_use(etime(), O_RDONLY);
  const auto [error, sentence] = failure_of([&] { unmount(directory_->path(), Unmount::kIfIdle); });
  EXPECT_EQ(error, EBUSY);
  EXPECT_NE(sentence.find(directory_->path()), std::string::npos) << sentence;
  unmount(directory_->path(), Unmount::kLazily);
  EXPECT_FALSE(find_mount(directory_->path()));
  EXPECT_EQ(in_use.read(), "10\n");  // until the last user is gone
}

TEST_F(MountTest, RunEndsWhenSomebodyUnmounts) {
  FuseSession session(tree_, scenario_->view(), options());
  std::jthread server([&] { session.run(); });
  EXPECT_EQ(slurp(etime()), "10\n");
  unmount(directory_->path(), Unmount::kIfIdle);
  server.join();  // or the test never ends
  EXPECT_FALSE(find_mount(directory_->path()));
}

TEST_F(MountTest, StopEndsAnIdleLoop) {
  for (const unsigned threads : {1u, 2u, 5u}) {
    for (int i = 0; i < 10; ++i) {
      FuseSession::Options these = options();
      these.threads = threads;
      Served served(tree_, scenario_->view(), these);
      if (i % 2 == 0) {
        EXPECT_EQ(slurp(etime()), "10\n");
      }
      served.session().stop();
      served.session().stop();
    }
    EXPECT_FALSE(find_mount(directory_->path()));
  }
}

TEST_F(MountTest, StopBeforeRun) {
  FuseSession session(tree_, scenario_->view(), options());
  session.stop();
  session.run();
}

TEST_F(MountTest, OpenDescriptorsOutliveTheSessionWithoutAnAnswer) {
  mount();
  const Descriptor descriptor(xfrm_stat(), O_RDONLY);
  EXPECT_NE(descriptor.read(10), "");
  served_.reset();
  EXPECT_TRUE(descriptor.read().starts_with("errno ")) << "ENOTCONN or ECONNABORTED";
}

TEST_F(MountTest, StopWhileEverybodyReads) {
  mount();
  std::atomic<bool> done{false};
  std::vector<std::jthread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!done) slurp(path("net/ipsec_spi"));
    });
  }
  for (int i = 0; i < 5; ++i) {
    served_.reset();
    mount();
    EXPECT_EQ(slurp(etime()), "10\n");
  }
  done = true;
}

}  // namespace
}  // namespace xfrmfs::fs
