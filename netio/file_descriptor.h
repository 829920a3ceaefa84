// SPDX-License-Identifier: Apache-2.0
// The owner of a file descriptor, and the errors of the calls that make one.

#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace xfrmfs::netio {

/// Closes what it holds. -1 is nothing.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  /// The caller closes it from now on.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// Throws errno with a sentence that names the object.
[[noreturn]] inline void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

/// The owner of `fd`, or throws errno if it is negative.
inline FileDescriptor own_or_throw(int fd, const std::string& what) {
  if (fd < 0) throw_errno(what);
  return FileDescriptor(fd);
}

}  // namespace xfrmfs::netio
