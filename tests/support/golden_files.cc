// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden_files.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace xfrmfs::testing {
namespace {

std::string full(const std::string& path) {
  return std::string(XFRMFS_TEST_DATA) + "/" + path;
}

}  // namespace

std::vector<Row> read_tsv(const std::string& path) {
  std::ifstream file(full(path));
  std::vector<Row> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;
    Row row(1);
    for (const char c : line) {
      if (c == '\t') {
        row.emplace_back();
      } else {
        row.back() += c;
      }
    }
    rows.push_back(std::move(row));
  }
  if (rows.empty()) throw std::runtime_error("nothing in " + path);
  return rows;
}

std::vector<std::vector<std::byte>> read_pcap(const std::string& path) {
  std::ifstream file(full(path), std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(file), {}};
  const auto u32 = [&](std::size_t at) {
    std::uint32_t value = 0;
    if (at + 4 > chars.size()) throw std::runtime_error("cut off: " + path);
    std::memcpy(&value, &chars[at], 4);
    return value;
  };
  if (u32(0) != 0xa1b2c3d4 || u32(20) != 101) throw std::runtime_error("not raw IP: " + path);
  std::vector<std::vector<std::byte>> packets;
  for (std::size_t at = 24; at < chars.size();) {
    const std::size_t size = u32(at + 8);
    at += 16;
    if (at + size > chars.size()) throw std::runtime_error("cut off: " + path);
    std::vector<std::byte> packet(size);
    std::memcpy(packet.data(), &chars[at], size);
    packets.push_back(std::move(packet));
    at += size;
  }
  return packets;
}

}  // namespace xfrmfs::testing
