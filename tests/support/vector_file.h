// SPDX-License-Identifier: Apache-2.0
// Reads the files in tests/vectors: records of "name = value" lines, a blank line between records,
// `#` starts a comment line.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace xfrmfs::testing {

class VectorRecord {
 public:
  void set(std::string name, std::string value) { fields_[std::move(name)] = std::move(value); }
  bool empty() const { return fields_.empty(); }
  bool has(const std::string& name) const { return fields_.contains(name); }
  /// These throw std::out_of_range if there is no such field.
  const std::string& text(const std::string& name) const { return fields_.at(name); }
  std::vector<std::byte> bytes(const std::string& name) const;
  /// Up to 8 bytes of hex as a big-endian number.
  std::uint64_t hex_number(const std::string& name) const;
  unsigned decimal(const std::string& name) const;

 private:
  std::map<std::string, std::string> fields_;
};

/// `path` is relative to the folder tests. Throws std::runtime_error if there is nothing in it.
std::vector<VectorRecord> read_vectors(std::string_view path);

}  // namespace xfrmfs::testing
