// SPDX-License-Identifier: Apache-2.0
#include "fs/open_file.h"

#include <utility>

namespace xfrmfs::fs {

std::string OpenFile::read(const engine::View& view, std::uint64_t offset, std::size_t size) {
  const std::scoped_lock lock(mutex_);
  return file_.kind() == FileKind::kReport ? read_report(view, offset, size)
                                           : read_setting(view, offset, size);
}

std::string OpenFile::read_report(const engine::View& view, std::uint64_t offset,
                                  std::size_t size) {
  if (offset == 0 || !text_) text_ = file_.render(view);
  if (offset >= text_->size()) return {};
  return text_->substr(static_cast<std::size_t>(offset), size);
}

std::string OpenFile::read_setting(const engine::View& view, std::uint64_t offset,
                                   std::size_t size) {
  // Whoever reads on where the last read ended wants to see the end of file.
  const bool at_start = offset == 0 || (offset == start_ && offset != read_end_);
  if (!at_start) return {};
  std::string text = file_.render(view).substr(0, size);
  read_end_ = offset + text.size();
  return text;
}

std::expected<std::size_t, std::errc> OpenFile::write(const engine::View& view,
                                                      std::uint64_t offset, bool append,
                                                      std::string_view text) {
  const FileKind kind = file_.kind();
  if (kind == FileKind::kReport) return file_.store(view, text);

  const std::scoped_lock lock(mutex_);
  const std::uint64_t end = offset + text.size();
  const bool is_rest = offset != 0 && offset == piece_end_;
  piece_end_ = text.size() >= kLargestWrite / 2 ? end : 0;
  const bool at_start = append ? !appended_ : offset == 0 || offset == start_;
  if (is_rest || !at_start) {
    if (is_rest && kind == FileKind::kUnsignedSetting) start_ = end;
    return text.size();
  }
  const auto taken = file_.store(view, text);
  if (!taken) return taken;
  if (kind == FileKind::kUnsignedSetting) {
    start_ = offset + *taken;
  } else if (append) {
    appended_ = true;
  }
  read_end_ = 0;
  return taken;
}

std::expected<std::uint64_t, std::errc> OpenFiles::open(const VirtualFile& file) {
  const std::scoped_lock lock(mutex_);
  if (files_.size() - free_.size() >= most_) {
    return std::unexpected(std::errc::too_many_files_open);
  }
  if (free_.empty()) {
    files_.push_back(std::make_shared<OpenFile>(file));
    return files_.size() - 1;
  }
  files_[free_.back()] = std::make_shared<OpenFile>(file);
  const std::uint64_t number = free_.back();
  free_.pop_back();
  return number;
}

std::shared_ptr<OpenFile> OpenFiles::find(std::uint64_t number) const {
  const std::scoped_lock lock(mutex_);
  return number < files_.size() ? files_[number] : nullptr;
}

void OpenFiles::close(std::uint64_t number) {
  std::shared_ptr<OpenFile> closed;  // its text goes when the lock has gone
  const std::scoped_lock lock(mutex_);
  if (number >= files_.size() || !files_[number]) return;
  free_.push_back(number);
  closed = std::move(files_[number]);
}

std::size_t OpenFiles::size() const {
  const std::scoped_lock lock(mutex_);
  return files_.size() - free_.size();
}

}  // namespace xfrmfs::fs
