// SPDX-License-Identifier: Apache-2.0
// A virtual file: a view of the engine turned into text, and perhaps text into a setting.
//
// It keeps no state of the engine. FUSE threads call it, several at a time; all functions are
// const and touch only what View allows any thread to touch.

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <system_error>

#include "engine/view.h"

namespace xfrmfs::fs {

/// What positions mean to a file. See open_file.h, which acts on it.
enum class FileKind : std::uint8_t {
  kReport,           // text made at a read of offset 0, kept for later offsets
  kUnsignedSetting,  // one live number; a write leaves the position at 0
  kSignedSetting,    // one live number; a write moves the position, as in an ordinary file
};

class VirtualFile {
 public:
  virtual ~VirtualFile() = default;

  virtual FileKind kind() const { return FileKind::kReport; }

  /// The whole text, now.
  virtual std::string render(const engine::View& view) const = 0;

  /// One write at offset 0. The number of bytes taken, as write(2) shall return it, or an errno;
  /// on error nothing changed. Read-only files: EACCES.
  virtual std::expected<std::size_t, std::errc> store(const engine::View& view,
                                                      std::string_view text) const {
    (void)view;
    (void)text;
    return std::unexpected(std::errc::permission_denied);
  }
};

}  // namespace xfrmfs::fs
