// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/golden.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace xfrmfs::fs {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(XFRMFS_TEST_DATA) / "golden";

}  // namespace

std::string golden(const std::string& name) {
  std::ifstream file(kFolder / name, std::ios::binary);
  if (!file) throw std::runtime_error("no golden file " + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> klips_goldens(std::string_view start) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder / "klips")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(start)) names.push_back("klips/" + name);
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

}  // namespace xfrmfs::fs
