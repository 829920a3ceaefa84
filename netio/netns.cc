// SPDX-License-Identifier: Apache-2.0
#include "netio/netns.h"

#include <ranges>
#include <vector>

#include <fmt/core.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include "netio/file_descriptor.h"

namespace xfrmfs::netio {
namespace {

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> found;
  for (const auto word : line | std::views::split(' ')) {
    found.emplace_back(word.begin(), word.end());
  }
  return found;
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat first{};
  struct stat second{};
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

}  // namespace

void enter_network_namespace(const std::string& name_or_path) {
  const bool is_path = name_or_path.contains('/');
  const std::string path = is_path ? name_or_path : std::string(kNetnsDirectory) + name_or_path;
  const std::string what = fmt::format("network namespace \"{}\"", name_or_path);
  const FileDescriptor fd = own_or_throw(::open(path.c_str(), O_RDONLY | O_CLOEXEC), what);
  if (::setns(fd.get(), CLONE_NEWNET) != 0) throw_errno(what);
}

std::optional<std::string> name_from_netns_exec(std::string_view mountinfo) {
  // 38 24 0:21 / /sys rw,nosuid - sysfs NAME rw      (proc(5): optional fields end with "-")
  for (const auto part : mountinfo | std::views::split('\n')) {
    const auto fields = words(std::string_view(part.begin(), part.end()));
    if (fields.size() < 5 || fields[4] != "/sys") continue;
    for (std::size_t i = 6; i + 2 < fields.size(); ++i) {
      if (fields[i] != "-") continue;
      if (fields[i + 1] != "sysfs") break;
      const std::string name(fields[i + 2]);
      if (same_file(std::string(kNetnsDirectory) + name, "/proc/self/ns/net")) return name;
      break;
    }
  }
  return std::nullopt;
}

}  // namespace xfrmfs::netio
