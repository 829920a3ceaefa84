// SPDX-License-Identifier: Apache-2.0
// The guard's table in nf_tables: makes it, fills it with rules, reads its counters, removes it.
//
//   table inet xfrmfs_ipsec0
//     counter input_tmpl_mismatch, ...      one for each reason and direction; they outlive rules
//     chain input_tmpl_mismatch, ...        counter, drop
//     map input_0, input_1, ...             one per lookup of guard_rules.h
//     chain input   (hook input)            what is exempt; the lookups; the default
//     chain input_after_sub_0, ...          main policies behind a sub policy
//   and the same with "forward". The hooks exist only while there is something to drop.
//
// The kernel removes the table when the socket that made it is gone, and lets nobody else change it
// (NFT_TABLE_F_OWNER, Linux 5.12): neither does a killed program leave it behind, nor does a reload
// of a firewall take it away.

#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/counters.h"
#include "netio/guard_rules.h"
#include "netio/nftables.h"

namespace xfrmfs::netio {

/// Of both directions.
struct GuardRules {
  GuardDirection input;
  GuardDirection forward;
};

/// The name of the table for a TUN device: characters that the nft program could not read are
/// written as two hexadecimal digits.
std::string guard_table_name(std::string_view tun);

/// Belongs to the network namespace in which it was made. One thread at a time.
class GuardTable {
 public:
  struct Options {
    std::string tun;  // name and index of the TUN device, whose packets are exempt
    int tun_index = 0;
    std::uint16_t udp_port = 0;  // for ESP in UDP; 0: none
  };

  /// Makes the table, without rules, in the place of one that a killed program left. Throws
  /// std::system_error.
  explicit GuardTable(Options options);
  /// Removes it.
  ~GuardTable();
  GuardTable(const GuardTable&) = delete;
  GuardTable& operator=(const GuardTable&) = delete;

  const std::string& name() const { return name_; }
  /// Replaces all rules at once; 0, or an errno value, and then the former rules stay.
  int replace(GuardRules rules);
  /// Adds the packets that were dropped since the last call to `counters`; 0 or an errno value.
  /// ENOENT: somebody has removed the table.
  int collect(engine::CounterBlock& counters);
  /// Makes the table again.
  int restore();

 private:
  /// What there is of one direction in the kernel.
  struct Side {
    std::vector<std::string> chains;  // with rules in them; the first has the hook
    std::vector<std::string> maps;
    GuardDirection rules;  // that they are made of
  };

  /// 0 or an errno value.
  int make();
  void remove_rules(NftBatch& batch, const Side& side, bool keeps_hook);
  Side add_rules(NftBatch& batch, std::string_view chain, unsigned hook,
                 const GuardDirection& rules, bool has_hook);

  void update_maps(NftBatch& batch, std::string_view chain, const Side& side,
                   const GuardDirection& rules);

  const Options options_;
  const std::string name_;
  Nftables nftables_;
  Side input_;
  Side forward_;
  std::array<std::uint64_t, 8> seen_{};  // packets, by reason and direction
};

}  // namespace xfrmfs::netio
