// SPDX-License-Identifier: Apache-2.0
// Would a firewall of this network namespace see the packets that this host sends?
//
// Looks for nf_tables base chains at the hooks "output" and "postrouting" of the families ip, ip6
// and inet (nfnetlink), and for any table of the older iptables (/proc/net/ip_tables_names). What a
// frame of a packet socket also meets, family netdev and tc, does not matter here.

#pragma once

#include <optional>

#include "engine/base/bytes.h"
#include "netio/file_descriptor.h"

namespace xfrmfs::netio {

/// Reads one nf_tables chain from the body of its netlink message: is it one of those above?
bool is_output_chain(engine::Bytes body);

/// Belongs to the calling thread's network namespace. One thread.
class NetfilterProbe {
 public:
  NetfilterProbe();

  /// True also if it cannot be told.
  bool sees_output();
  /// Readable when the ruleset of nf_tables has changed; -1 if the kernel does not tell.
  int descriptor() const { return changes_ ? changes_.get() : -1; }
  /// Silent until the next change.
  void quiet();

 private:
  FileDescriptor changes_;
};

}  // namespace xfrmfs::netio
