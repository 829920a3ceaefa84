// SPDX-License-Identifier: Apache-2.0
// What does a read or a write at an offset mean?  procfs and sysctl files have positions of their
// own kind; this is where FUSE's offsets are turned into them, without knowing FUSE.
//
//   report    text is made by a read at offset 0 and kept: later offsets come from the same text
//   setting   offset 0 gives the live value, any other the end of file; a write elsewhere than at
//             the start is swallowed
//
// An unsigned setting leaves the position at 0 after a write, so that the next one counts as well.
// FUSE moves the descriptor on, so the end of the last write stands for the start here, too.

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "engine/view.h"
#include "fs/virtual_file.h"

namespace xfrmfs::fs {

/// The largest write that arrives in one piece. What is longer arrives as several, one behind the
/// other; all but the last are at least half of this, because the kernel fills whole pages.
inline constexpr std::size_t kLargestWrite = std::size_t{128} << 10;

/// One open descriptor. Any thread.
class OpenFile {
 public:
  /// `file` outlives this.
  explicit OpenFile(const VirtualFile& file) : file_(file) {}

  /// Up to `size` bytes from `offset`; empty: end of file.
  std::string read(const engine::View& view, std::uint64_t offset, std::size_t size);

  /// Bytes taken, or an errno with nothing changed. `append`: the descriptor has O_APPEND, so
  /// `offset` says nothing.
  std::expected<std::size_t, std::errc> write(const engine::View& view, std::uint64_t offset,
                                              bool append, std::string_view text);

 private:
  std::string read_report(const engine::View& view, std::uint64_t offset, std::size_t size);
  std::string read_setting(const engine::View& view, std::uint64_t offset, std::size_t size);

  const VirtualFile& file_;
  std::mutex mutex_;                 // guards the rest; a leaf but for the file's own render()
  std::optional<std::string> text_;  // of a report
  std::uint64_t start_ = 0;          // the other offset, beside 0, that means position 0
  std::uint64_t read_end_ = 0;       // where the last read ended
  std::uint64_t piece_end_ = 0;      // where the rest of a write of several pieces follows
  bool appended_ = false;            // a signed setting was written through O_APPEND
};

/// The open descriptors of a mount, by a number that the kernel hands back. Any thread.
class OpenFiles {
 public:
  static constexpr std::size_t kMost = 65536;

  explicit OpenFiles(std::size_t most = kMost) : most_(most) {}

  /// EMFILE if there are too many.
  std::expected<std::uint64_t, std::errc> open(const VirtualFile& file);
  /// Null if it is not open.
  std::shared_ptr<OpenFile> find(std::uint64_t number) const;
  void close(std::uint64_t number);
  std::size_t size() const;

 private:
  const std::size_t most_;
  mutable std::mutex mutex_;  // a leaf; guards the rest
  std::vector<std::shared_ptr<OpenFile>> files_;
  std::vector<std::uint64_t> free_;
};

}  // namespace xfrmfs::fs
