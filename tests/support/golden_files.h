// SPDX-License-Identifier: Apache-2.0
// The files in tests/golden that captures of a kernel come in.

#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace xfrmfs::testing {

/// The cells of one line.
using Row = std::vector<std::string>;

/// Lines of cells with tabs between; those that begin with '#' are left out. `path` is relative to
/// the folder tests. Throws std::runtime_error if there is nothing in it.
std::vector<Row> read_tsv(const std::string& path);

/// The packets of a classic pcap file, little-endian, link type "raw IP". `path` is relative to
/// the folder tests. Throws std::runtime_error if it is something else.
std::vector<std::vector<std::byte>> read_pcap(const std::string& path);

}  // namespace xfrmfs::testing
