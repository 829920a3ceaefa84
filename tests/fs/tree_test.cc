// SPDX-License-Identifier: Apache-2.0
#include "fs/tree.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/fs/golden.h"

namespace xfrmfs::fs {
namespace {

std::string path_of(const Tree& tree, std::size_t index) {
  if (index == 0) return "";
  const Tree::Node& node = tree.nodes()[index];
  return path_of(tree, node.parent) + "/" + std::string(node.name);
}

TEST(TreeTest, IsTheGolden) {
  const Tree tree = make_tree();
  std::string listing;
  for (std::size_t i = 1; i < tree.nodes().size(); ++i) {
    const Tree::Node& node = tree.nodes()[i];
    listing += fmt::format("{:06o} {} {}{}{}\n", node.mode, tree.link_count(i), path_of(tree, i),
                           node.target.empty() ? "" : " -> ", node.target);
    EXPECT_EQ(S_ISREG(node.mode), node.file != nullptr) << node.name;
  }
  EXPECT_EQ(listing, golden("files/tree"));
}

TEST(TreeTest, FindsChildrenByName) {
  const Tree tree = make_tree();
  const auto net = tree.find(0, "net");
  ASSERT_TRUE(net);
  const auto stat = tree.find(*net, "xfrm_stat");
  ASSERT_TRUE(stat);
  EXPECT_EQ(tree.nodes()[*stat].parent, *net);
  EXPECT_FALSE(tree.find(0, "xfrm_stat"));
  EXPECT_FALSE(tree.find(*net, "pfkey"));
  EXPECT_FALSE(tree.find(*net, ""));
  EXPECT_FALSE(tree.find(*stat, "x"));
}

TEST(TreeTest, LinksLeadToFiles) {
  const Tree tree = make_tree();
  for (const Tree::Node& node : tree.nodes()) {
    if (node.target.empty()) continue;
    std::size_t at = node.parent;
    std::string_view rest = node.target;
    while (!rest.empty()) {
      const std::string_view name = rest.substr(0, rest.find('/'));
      const auto next = tree.find(at, name);
      ASSERT_TRUE(next) << node.target;
      at = *next;
      rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    }
    EXPECT_TRUE(S_ISREG(tree.nodes()[at].mode)) << node.target;
  }
}

}  // namespace
}  // namespace xfrmfs::fs
