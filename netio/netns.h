// SPDX-License-Identifier: Apache-2.0
// Network namespaces: entering one, and noticing how we got into one (ip-netns(8)).

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace xfrmfs::netio {

/// The directory where `ip netns` keeps namespaces by name.
inline constexpr std::string_view kNetnsDirectory = "/run/netns/";

/// Moves the calling thread, and the threads that it makes later, into a namespace: a name as in
/// `ip netns`, or a path if there is a '/' in it. Throws with both in the sentence.
void enter_network_namespace(const std::string& name_or_path);

/// The namespace's name if this process runs under `ip netns exec NAME`, which also hides our
/// mounts from everybody else. `mountinfo` is the text of /proc/self/mountinfo.
///
/// `ip netns exec` shows itself: it puts a sysfs with NAME as its source on /sys.
std::optional<std::string> name_from_netns_exec(std::string_view mountinfo);

}  // namespace xfrmfs::netio
