// SPDX-License-Identifier: Apache-2.0
// One mount: the tree, served through FUSE.
//
// The kernel checks permissions (default_permissions, always on); writes are checked here again
// (CVE-2015-1344). Nothing is cached that the kernel could show to somebody else: files are read
// past the page cache, and what is not world-readable is looked up anew each time.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/view.h"
#include "fs/tree.h"

namespace xfrmfs::fs {

class Mount;

class FuseSession {
 public:
  struct Options {
    std::string mountpoint;
    std::string source;                     // first word of its line in /proc/mounts
    std::vector<std::string> fuse_options;  // as behind -o; each may be a list with commas
    unsigned threads = 2;                   // that answer requests, the caller of run() included
  };

  /// Mounts. `tree` and the engine behind `view` outlive this.
  ///
  /// A dead mount of ours in the same place is taken off first. Throws std::system_error with a
  /// sentence that names the mount point: it does not exist, is no directory, is served already
  /// (EBUSY); no /dev/fuse, no permission, an unknown option.
  FuseSession(const Tree& tree, engine::View view, Options options);
  /// Unmounts, unless somebody else did. Nobody is in run() any more.
  ~FuseSession();
  FuseSession(const FuseSession&) = delete;
  FuseSession& operator=(const FuseSession&) = delete;

  /// Serves until somebody unmounts, or stop(). Once. Starts threads of its own, which have the
  /// caller's signal mask, and joins them.
  void run();
  /// Makes run() return, also if it has not begun. Any thread, any number of times.
  void stop() noexcept;

  /// Absolute, without symbolic links.
  const std::string& mountpoint() const;

 private:
  std::unique_ptr<Mount> mount_;
};

}  // namespace xfrmfs::fs
