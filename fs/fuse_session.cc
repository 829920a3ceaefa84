// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse_session.h"

#define FUSE_USE_VERSION 312
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <fuse_opt.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/mountinfo.h"
#include "fs/open_file.h"

namespace xfrmfs::fs {
namespace {

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

// --- What libfuse has to say. Its logger is one for the process; what a constructor hears
// becomes its exception, the rest goes to standard error.

thread_local std::string* heard = nullptr;

void log_line(fuse_log_level, const char* format, va_list arguments) noexcept {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  if (heard == nullptr) {
    std::fputs(line, stderr);
  } else {
    *heard += line;
  }
}

class Listening {
 public:
  Listening() {
    static std::once_flag once;
    std::call_once(once, [] { fuse_set_log_func(log_line); });
    heard = &text_;
  }
  ~Listening() { heard = nullptr; }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

  /// The first line, or `otherwise`.
  std::string sentence(std::string_view otherwise) const {
    const std::string_view line = std::string_view(text_).substr(0, text_.find('\n'));
    return std::string(line.empty() ? otherwise : line);
  }

 private:
  std::string text_;
};

// --- Preparing the place.

/// Where to mount, absolute. Takes dead mounts of ours off it.
std::string prepare(const std::string& path) {
  constexpr int kMostDead = 16;  // one on the other; more than anybody could explain
  const std::string place = resolve_mountpoint(path);
  for (int i = 0; i < kMostDead; ++i) {
    const auto mount = find_mount(place);
    if (!mount || !mount->is_ours()) break;
    if (!is_dead(place)) {
      fail(EBUSY, fmt::format("mount point \"{}\": xfrmfs is already mounted there", path));
    }
    unmount(place, Unmount::kLazily);
  }
  struct stat status;
  if (stat(place.c_str(), &status) == -1) fail(errno, fmt::format("mount point \"{}\"", path));
  if (!S_ISDIR(status.st_mode)) fail(ENOTDIR, fmt::format("mount point \"{}\"", path));
  return place;
}

/// libfuse does not tell why it cannot open the device.
void require_device(const std::string& path) {
  constexpr const char* kDevice = "/dev/fuse";
  // Without privilege, fusermount3 opens it.
  const int reachable = geteuid() == 0 ? access(kDevice, R_OK | W_OK) : access(kDevice, F_OK);
  if (reachable == -1) {
    fail(errno, fmt::format("cannot mount on \"{}\": no access to {}", path, kDevice));
  }
}

void require_short_options(const FuseSession::Options& options) {
  constexpr std::size_t kLongest = 2048;  // the kernel takes a page, with options of libfuse's
  std::size_t length = options.source.size();
  for (const std::string& option : options.fuse_options) length += option.size();
  if (length > kLongest) {
    fail(E2BIG, fmt::format("cannot mount on \"{}\": mount options are {} bytes, at most {}",
                            options.mountpoint, length, kLongest));
  }
}

/// The options of fuse_session_new, as a command line.
class Arguments {
 public:
  Arguments() = default;
  ~Arguments() { fuse_opt_free_args(&arguments_); }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  void fill(const FuseSession::Options& options) {
    add("xfrmfs");
    add_option("default_permissions");
    if (geteuid() == 0) add_option("allow_other");  // a procfs is there for everybody
    add_option("fsname=" + escaped(options.source));
    for (const std::string& option : options.fuse_options) add_option(option);
    add_option("subtype=xfrmfs");  // last, so that it wins: mountinfo.h looks for it
  }
  fuse_args* get() { return &arguments_; }

 private:
  static std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
      if (c == ',' || c == '\\') out += '\\';
      out += c;
    }
    return out;
  }

  void add(const std::string& argument) {
    if (fuse_opt_add_arg(&arguments_, argument.c_str()) == -1) throw std::bad_alloc();
  }
  void add_option(const std::string& option) { add("-o" + option); }

  fuse_args arguments_ = FUSE_ARGS_INIT(0, nullptr);
};

struct DestroySession {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};

class Event {
 public:
  Event() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (descriptor_ == -1) fail(errno, "eventfd");
  }
  ~Event() { close(descriptor_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  int descriptor() const { return descriptor_; }
  /// From now on the descriptor is readable.
  void raise() noexcept {
    std::ignore = eventfd_write(descriptor_, 1);  // fails only if it has been raised 2^64-2 times
  }

 private:
  int descriptor_;
};

}  // namespace

// --- What is served.

class Mount {
 public:
  Mount(const Tree& t, engine::View v, FuseSession::Options o);
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  const Tree::Node& node(std::size_t index) const { return tree.nodes()[index]; }
  bool is_sysctl(std::size_t index) const;
  bool may_write(fuse_req_t request, std::size_t index);
  struct stat attributes(std::size_t index);
  double timeout(mode_t mode) const { return (mode & S_IROTH) != 0 ? 3600.0 : 0.0; }
  fuse_entry_param entry(std::size_t index);
  void serve();

  const Tree& tree;
  const engine::View view;
  const FuseSession::Options options;
  OpenFiles files;
  Event stop;

  /// What chmod and chown change, and when the entry was first seen.
  struct Inode {
    mode_t mode = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    std::optional<engine::WallTime> seen;
  };
  std::mutex mutex;  // guards inodes; a leaf
  std::vector<Inode> inodes;

  std::string mountpoint;
  std::unique_ptr<fuse_session, DestroySession> session;
};

/// Entries below sys/ behave like a kernel's sysctl table, the others like its procfs.
bool Mount::is_sysctl(std::size_t index) const {
  while (node(index).parent != 0) index = node(index).parent;
  return node(index).name == "sys";
}

/// The kernel has checked who opened the descriptor, this checks who uses it now.
bool Mount::may_write(fuse_req_t request, std::size_t index) {
  const uid_t uid = fuse_req_ctx(request)->uid;
  const std::scoped_lock lock(mutex);
  return uid == 0 || uid == inodes[index].uid;
}

struct stat Mount::attributes(std::size_t index) {
  const engine::WallTime now = view.wall_now();
  const std::scoped_lock lock(mutex);
  Inode& inode = inodes[index];
  if (!inode.seen) inode.seen = now;
  struct stat status{};
  status.st_ino = index + 1;
  status.st_mode = inode.mode;
  status.st_nlink = tree.link_count(index);
  status.st_uid = inode.uid;
  status.st_gid = inode.gid;
  status.st_size = static_cast<off_t>(node(index).target.size());
  status.st_blksize = 1024;
  status.st_atim.tv_sec = status.st_mtim.tv_sec = status.st_ctim.tv_sec = inode.seen->count();
  return status;
}

fuse_entry_param Mount::entry(std::size_t index) {
  fuse_entry_param entry{};
  entry.ino = index + 1;
  entry.attr = attributes(index);
  entry.attr_timeout = entry.entry_timeout = timeout(entry.attr.st_mode);
  return entry;
}

namespace {

// --- The operations. Inode n is entry n-1 of the tree. Each replies exactly once; an exception
// becomes the reply, so nothing may be thrown behind one.

Mount& mount_of(fuse_req_t request) {
  return *static_cast<Mount*>(fuse_req_userdata(request));
}

template <class Operation>
void answer(fuse_req_t request, Operation operation) noexcept {
  try {
    operation(mount_of(request));
  } catch (const std::bad_alloc&) {
    fuse_reply_err(request, ENOMEM);
  } catch (...) {
    fuse_reply_err(request, EIO);
  }
}

void init(void*, fuse_conn_info* connection) noexcept {
  connection->max_write = kLargestWrite;
}

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
  answer(request, [=](Mount& mount) {
    const auto index = mount.tree.find(parent - 1, name);
    if (!index) {
      fuse_reply_err(request, ENOENT);
      return;
    }
    const fuse_entry_param entry = mount.entry(*index);
    fuse_reply_entry(request, &entry);
  });
}

void getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) noexcept {
  answer(request, [=](Mount& mount) {
    const struct stat status = mount.attributes(ino - 1);
    fuse_reply_attr(request, &status, mount.timeout(status.st_mode));
  });
}

/// Size and times are accepted and ignored; mode and owner of a sysctl cannot be changed.
void setattr(fuse_req_t request, fuse_ino_t ino, struct stat* wanted, int what,
             fuse_file_info*) noexcept {
  answer(request, [=](Mount& mount) {
    const std::size_t index = ino - 1;
    if ((what & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
      if (mount.is_sysctl(index) || !mount.may_write(request, index)) {
        fuse_reply_err(request, EPERM);
        return;
      }
      const std::scoped_lock lock(mount.mutex);
      Mount::Inode& inode = mount.inodes[index];
      if ((what & FUSE_SET_ATTR_MODE) != 0) {
        inode.mode = (inode.mode & S_IFMT) | (wanted->st_mode & ~mode_t{S_IFMT});
      }
      if ((what & FUSE_SET_ATTR_UID) != 0) inode.uid = wanted->st_uid;
      if ((what & FUSE_SET_ATTR_GID) != 0) inode.gid = wanted->st_gid;
    }
    const struct stat status = mount.attributes(index);
    fuse_reply_attr(request, &status, mount.timeout(status.st_mode));
  });
}

void readlink(fuse_req_t request, fuse_ino_t ino) noexcept {
  answer(request, [=](Mount& mount) {
    fuse_reply_readlink(request, std::string(mount.node(ino - 1).target).c_str());
  });
}

void readdir(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info*) noexcept {
  answer(request, [=](Mount& mount) {
    const std::size_t index = ino - 1;
    const Tree::Node& directory = mount.node(index);
    std::string listing;
    const auto add = [&](const std::string& name, std::size_t target, off_t position) {
      if (position < offset) return true;
      struct stat status{};
      status.st_ino = target + 1;
      status.st_mode = mount.node(target).mode;
      const std::size_t used = listing.size();
      const std::size_t needed = fuse_add_direntry(request, nullptr, 0, name.c_str(), nullptr, 0);
      if (needed > size - used) return false;
      listing.resize(used + needed);
      fuse_add_direntry(request, listing.data() + used, needed, name.c_str(), &status,
                        position + 1);
      return true;
    };
    bool more = add(".", index, 0) && add("..", directory.parent, 1);
    off_t position = 2;
    for (const std::size_t child : directory.children) {
      more = more && add(std::string(mount.node(child).name), child, position++);
    }
    fuse_reply_buf(request, listing.data(), listing.size());
  });
}

void open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info) noexcept {
  answer(request, [=](Mount& mount) {
    const std::size_t index = ino - 1;
    if ((info->flags & O_DIRECT) != 0) {
      fuse_reply_err(request, EINVAL);
      return;
    }
    if ((info->flags & O_ACCMODE) != O_RDONLY && !mount.may_write(request, index)) {
      fuse_reply_err(request, EACCES);
      return;
    }
    const auto number = mount.files.open(*mount.node(index).file);
    if (!number) {
      fuse_reply_err(request, static_cast<int>(number.error()));
      return;
    }
    info->fh = *number;
    info->direct_io = 1;
    if (fuse_reply_open(request, info) != 0) mount.files.close(*number);  // interrupted: no release
  });
}

void release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) noexcept {
  answer(request, [=](Mount& mount) {
    mount.files.close(info->fh);
    fuse_reply_err(request, 0);
  });
}

void read(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset,
          fuse_file_info* info) noexcept {
  answer(request, [=](Mount& mount) {
    const auto file = mount.files.find(info->fh);
    if (!file) {
      fuse_reply_err(request, EBADF);
      return;
    }
    const std::string bytes = file->read(mount.view, static_cast<std::uint64_t>(offset), size);
    fuse_reply_buf(request, bytes.data(), bytes.size());
  });
}

void write(fuse_req_t request, fuse_ino_t ino, const char* bytes, std::size_t size, off_t offset,
           fuse_file_info* info) noexcept {
  answer(request, [=](Mount& mount) {
    const auto file = mount.files.find(info->fh);
    if (!file) {
      fuse_reply_err(request, EBADF);
      return;
    }
    if (!mount.may_write(request, ino - 1)) {
      fuse_reply_err(request, mount.is_sysctl(ino - 1) ? EPERM : EACCES);
      return;
    }
    const bool append = (info->flags & O_APPEND) != 0;
    const auto taken = file->write(mount.view, static_cast<std::uint64_t>(offset), append,
                                   std::string_view(bytes, size));
    if (!taken) {
      fuse_reply_err(request, static_cast<int>(taken.error()));
      return;
    }
    fuse_reply_write(request, *taken);
  });
}

// What a kernel says to attempts at changing the tree: nothing can be added, nothing removed.

void refuse_addition(fuse_req_t request) {
  fuse_reply_err(request, ENOENT);
}

int removal_error(const Mount& mount, std::size_t directory) {
  return mount.is_sysctl(directory) ? EACCES : EPERM;
}

void create(fuse_req_t request, fuse_ino_t, const char*, mode_t, fuse_file_info*) noexcept {
  refuse_addition(request);
}
void mknod(fuse_req_t request, fuse_ino_t, const char*, mode_t, dev_t) noexcept {
  refuse_addition(request);
}
void mkdir(fuse_req_t request, fuse_ino_t, const char*, mode_t) noexcept {
  refuse_addition(request);
}
void symlink(fuse_req_t request, const char*, fuse_ino_t, const char*) noexcept {
  refuse_addition(request);
}
void link(fuse_req_t request, fuse_ino_t, fuse_ino_t, const char*) noexcept {
  refuse_addition(request);
}
void unlink(fuse_req_t request, fuse_ino_t parent, const char*) noexcept {
  fuse_reply_err(request, removal_error(mount_of(request), parent - 1));
}
void rename(fuse_req_t request, fuse_ino_t parent, const char*, fuse_ino_t new_parent,
            const char* new_name, unsigned) noexcept {
  const Mount& mount = mount_of(request);
  const bool exists = mount.tree.find(new_parent - 1, new_name).has_value();
  fuse_reply_err(request, exists ? removal_error(mount, parent - 1) : ENOENT);
}

void fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) noexcept {
  fuse_reply_err(request, EINVAL);
}

/// Only SEEK_DATA and SEEK_HOLE come here.
void lseek(fuse_req_t request, fuse_ino_t ino, off_t, int, fuse_file_info*) noexcept {
  fuse_reply_err(request, mount_of(request).is_sysctl(ino - 1) ? ENXIO : EINVAL);
}

void statfs(fuse_req_t request, fuse_ino_t) noexcept {
  struct statvfs status{};
  status.f_bsize = status.f_frsize = 4096;
  status.f_namemax = 255;
  fuse_reply_statfs(request, &status);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops{};
  ops.init = init;
  ops.lookup = lookup;
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.readlink = readlink;
  ops.readdir = readdir;
  ops.open = open;
  ops.release = release;
  ops.read = read;
  ops.write = write;
  ops.create = create;
  ops.mknod = mknod;
  ops.mkdir = mkdir;
  ops.symlink = symlink;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = unlink;
  ops.rename = rename;
  ops.fsync = fsync;
  ops.lseek = lseek;
  ops.statfs = statfs;
  return ops;
}

}  // namespace

Mount::Mount(const Tree& t, engine::View v, FuseSession::Options o)
    : tree(t), view(v), options(std::move(o)), mountpoint(prepare(options.mountpoint)) {
  for (const Tree::Node& each : tree.nodes()) {
    inodes.push_back({each.mode, geteuid(), getegid(), std::nullopt});
  }
  require_device(options.mountpoint);
  require_short_options(options);

  Listening libfuse;
  Arguments arguments;
  arguments.fill(options);
  const fuse_lowlevel_ops ops = operations();
  session.reset(fuse_session_new(arguments.get(), &ops, sizeof ops, this));
  if (!session) {
    fail(EINVAL, fmt::format("cannot mount on \"{}\": {}", options.mountpoint,
                             libfuse.sentence("libfuse refuses the options")));
  }
  errno = 0;
  if (fuse_session_mount(session.get(), mountpoint.c_str()) == -1) {
    fail(errno != 0 ? errno : EPERM, fmt::format("cannot mount on \"{}\": {}", options.mountpoint,
                                                 libfuse.sentence("libfuse does not say why")));
  }
  // Several threads wait for the same requests; who comes too late must not stay in read(2).
  const int descriptor = fuse_session_fd(session.get());
  if (fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) == -1) {
    const int error = errno;
    fuse_session_unmount(session.get());
    fail(error, "the descriptor of /dev/fuse");
  }
}

Mount::~Mount() {
  fuse_session_unmount(session.get());
}

/// One thread's work.
void Mount::serve() {
  struct Buffer : fuse_buf {
    Buffer() : fuse_buf{} {}
    ~Buffer() { std::free(mem); }
  } buffer;
  pollfd sources[] = {{fuse_session_fd(session.get()), POLLIN, 0}, {stop.descriptor(), POLLIN, 0}};
  while (fuse_session_exited(session.get()) == 0) {
    if (poll(sources, std::size(sources), -1) == -1 && errno != EINTR) break;
    if (sources[1].revents != 0) break;
    const int received = fuse_session_receive_buf(session.get(), &buffer);
    if (received == -EAGAIN || received == -EINTR) continue;
    if (received <= 0) break;  // unmounted
    fuse_session_process_buf(session.get(), &buffer);
  }
  stop.raise();  // whatever ended one thread ends all
}

FuseSession::FuseSession(const Tree& tree, engine::View view, Options options)
    : mount_(std::make_unique<Mount>(tree, view, std::move(options))) {}

FuseSession::~FuseSession() = default;

void FuseSession::run() {
  std::vector<std::jthread> helpers;
  for (unsigned i = 1; i < mount_->options.threads; ++i) {
    helpers.emplace_back([mount = mount_.get(), i] {
      pthread_setname_np(pthread_self(), fmt::format("xfrmfs/f{}", i).c_str());
      mount->serve();
    });
  }
  mount_->serve();
}

void FuseSession::stop() noexcept {
  mount_->stop.raise();
}

const std::string& FuseSession::mountpoint() const {
  return mount_->mountpoint;
}

}  // namespace xfrmfs::fs
