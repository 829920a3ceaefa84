// SPDX-License-Identifier: Apache-2.0
#include "fs/tree.h"

#include <algorithm>
#include <utility>

#include "fs/ipsec_eroute.h"
#include "fs/ipsec_spi.h"
#include "fs/sysctl_file.h"
#include "fs/xfrm_stat.h"

namespace xfrmfs::fs {
namespace {

using engine::Settings;

const XfrmStat xfrm_stat;
const IpsecEroute eroutes;
const IpsecSpi spis;
const SignedSysctl acq_expires(&Settings::acq_expires_s);
const UnsignedSysctl aevent_etime(&Settings::aevent_etime_100ms);
const UnsignedSysctl aevent_rseqth(&Settings::aevent_rseqth_packets);
const SignedSysctl larval_drop(&Settings::larval_drop);

Entry dir(std::string_view name, mode_t permissions, std::vector<Entry> children) {
  return {name, S_IFDIR | permissions, nullptr, {}, std::move(children)};
}
Entry file(std::string_view name, mode_t permissions, const VirtualFile& file) {
  return {name, S_IFREG | permissions, &file, {}, {}};
}
Entry link(std::string_view name, std::string_view target) {
  return {name, S_IFLNK | 0777, nullptr, target, {}};
}

}  // namespace

Tree make_tree() {
  // clang-format off
  return Tree(
    dir("", 0555, {
      dir("net", 0555, {
        file("xfrm_stat",         0444, xfrm_stat),
        dir("ipsec", 0555, {
          dir("eroute", 0555, {
            file("all",           0400, eroutes)}),
          dir("spi", 0555, {
            file("all",           0400, spis)})}),
        link("ipsec_eroute",      "ipsec/eroute/all"),
        link("ipsec_spi",         "ipsec/spi/all")}),
      dir("sys", 0555, {
        dir("net", 0555, {
          dir("core", 0555, {
            file("xfrm_acq_expires",   0644, acq_expires),
            file("xfrm_aevent_etime",  0644, aevent_etime),
            file("xfrm_aevent_rseqth", 0644, aevent_rseqth),
            file("xfrm_larval_drop",   0644, larval_drop),
            // As the kernel's xfrm_sync document spells them.
            link("sysctl_xfrm_aevent_etime",  "xfrm_aevent_etime"),
            link("sysctl_xfrm_aevent_rseqth", "xfrm_aevent_rseqth")})})})}));
  // clang-format on
}

Tree::Tree(const Entry& root) {
  add(root, 0);
}

void Tree::add(const Entry& entry, std::size_t parent) {
  const std::size_t index = nodes_.size();
  nodes_.push_back({entry.name, entry.mode, entry.file, entry.target, parent, {}});
  if (index != parent) nodes_[parent].children.push_back(index);
  for (const Entry& child : entry.children) add(child, index);
}

std::optional<std::size_t> Tree::find(std::size_t directory, std::string_view name) const {
  const auto& children = nodes_[directory].children;
  const auto found =
      std::ranges::find(children, name, [&](std::size_t i) { return nodes_[i].name; });
  if (found == children.end()) return std::nullopt;
  return *found;
}

std::size_t Tree::link_count(std::size_t index) const {
  const Node& node = nodes_[index];
  if (!S_ISDIR(node.mode)) return 1;
  const auto directories =
      std::ranges::count_if(node.children, [&](std::size_t i) { return S_ISDIR(nodes_[i].mode); });
  return 2 + static_cast<std::size_t>(directories);
}

}  // namespace xfrmfs::fs
