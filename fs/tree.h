// SPDX-License-Identifier: Apache-2.0
// The mount: which names exist, with which mode, and what stands behind them.
//
// The literal in tree.cc is the mount as `tree` would draw it. A Tree is that literal numbered, so
// that a file is found by an index; index 0 is the root. Immutable: any thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "fs/virtual_file.h"

namespace xfrmfs::fs {

/// One line of the literal. Texts and files outlive it: they are constants.
struct Entry {
  std::string_view name;
  mode_t mode = 0;                    // type and permissions, as in stat(2)
  const VirtualFile* file = nullptr;  // of a regular file
  std::string_view target;            // of a symbolic link
  std::vector<Entry> children;        // of a directory
};

class Tree {
 public:
  struct Node {
    std::string_view name;
    mode_t mode = 0;
    const VirtualFile* file = nullptr;
    std::string_view target;
    std::size_t parent = 0;             // of the root: itself
    std::vector<std::size_t> children;  // in the order of the literal
  };

  explicit Tree(const Entry& root);

  const std::vector<Node>& nodes() const { return nodes_; }
  /// The child of a directory by name.
  std::optional<std::size_t> find(std::size_t directory, std::string_view name) const;
  /// Links to it, as stat(2) counts them: 1, or 2 and its subdirectories.
  std::size_t link_count(std::size_t index) const;

 private:
  void add(const Entry& entry, std::size_t parent);

  std::vector<Node> nodes_;
};

/// What xfrmfs serves.
Tree make_tree();

}  // namespace xfrmfs::fs
