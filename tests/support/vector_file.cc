// SPDX-License-Identifier: Apache-2.0
#include "tests/support/vector_file.h"

#include <fstream>
#include <stdexcept>

#include "tests/support/hex.h"

namespace xfrmfs::testing {

std::vector<std::byte> VectorRecord::bytes(const std::string& name) const {
  return from_hex(text(name));
}

std::uint64_t VectorRecord::hex_number(const std::string& name) const {
  return std::stoull(text(name), nullptr, 16);
}

unsigned VectorRecord::decimal(const std::string& name) const {
  return static_cast<unsigned>(std::stoul(text(name)));
}

std::vector<VectorRecord> read_vectors(std::string_view path) {
  std::ifstream file(std::string(XFRMFS_TEST_DATA) + "/" + std::string(path));
  std::vector<VectorRecord> records;
  VectorRecord record;
  const auto finish = [&] {
    if (!record.empty()) records.push_back(std::move(record));
    record = {};
  };
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) finish();
    const auto equals = line.find(" = ");
    if (line.starts_with("#") || equals == std::string::npos) continue;
    record.set(line.substr(0, equals), line.substr(equals + 3));
  }
  finish();
  if (records.empty()) throw std::runtime_error("no vectors in " + std::string(path));
  return records;
}

}  // namespace xfrmfs::testing
