// SPDX-License-Identifier: Apache-2.0
// A transaction of nf_tables, and the counters of a table (linux/netfilter/nf_tables.h,
// nfnetlink.h).
//
// Spoken directly: the library of the nft program has a licence that this program cannot have.
// A batch is applied as a whole or not at all; errors come back message by message.

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/bytes.h"
#include "netio/file_descriptor.h"

namespace xfrmfs::netio {

/// Messages to be applied together. Numbers of nf_tables are big-endian; these calls see to it.
class NftBatch {
 public:
  explicit NftBatch(std::uint32_t first_sequence);

  /// Begins a message of family inet, e.g. NFT_MSG_NEWRULE; it ends where the next one begins.
  void message(unsigned type, unsigned flags);
  /// Attributes of the message, or of the innermost nest().
  void text(unsigned number, std::string_view content);  // ended with NUL
  void u32(unsigned number, std::uint32_t value);
  void u64(unsigned number, std::uint64_t value);
  void bytes(unsigned number, engine::Bytes content);
  /// Calls `fill` to append what is inside the attribute; at most 65531 bytes.
  template <class Fill>
  void nest(unsigned number, const Fill& fill) {
    const std::size_t at = open(number);
    fill();
    close(at);
  }
  /// Of the message so far.
  std::size_t message_size() const { return out_.size() - message_at_; }

  /// Nothing would be done.
  bool empty() const { return acknowledged_at_ == 0; }
  /// Ends the batch; then it can be sent. `sequence` of its first and last message.
  engine::Bytes finish();
  std::uint32_t first_sequence() const { return first_; }
  std::uint32_t last_sequence() const { return sequence_ - 1; }

 private:
  void header(unsigned type, unsigned flags, unsigned family, unsigned resource);
  void close_message();
  std::size_t open(unsigned number);
  void close(std::size_t at);
  std::byte* append(std::size_t size);  // zeroed, aligned

  std::vector<std::byte> out_;
  std::size_t message_at_ = 0;
  std::size_t acknowledged_at_ = 0;  // the last message of nf_tables itself
  std::uint32_t first_;
  std::uint32_t sequence_;
  std::uint32_t acknowledged_ = 0;

  friend class Nftables;
};

/// Reads one object from the body of its netlink message: the packets of a counter by its name.
/// Nothing if it is no counter of a table in family inet.
struct NftCounter {
  std::string name;
  std::uint64_t packets = 0;
};
std::optional<NftCounter> read_counter(engine::Bytes body);

/// A socket; belongs to the network namespace in which it was made. What it owns (a table with
/// NFT_TABLE_F_OWNER) goes with it. One thread.
class Nftables {
 public:
  /// Throws std::system_error; EPROTONOSUPPORT if the kernel has no nfnetlink.
  Nftables();

  NftBatch batch() { return NftBatch(next_sequence_); }
  /// 0, or the first error that the kernel names, or that of sending: an errno value.
  int apply(NftBatch& batch);
  /// The packets of all named counters of a table, none if there is no such table; or errno.
  std::expected<std::map<std::string, std::uint64_t>, int> counters(std::string_view table);

 private:
  FileDescriptor fd_;
  std::uint32_t next_sequence_ = 1;
  std::vector<std::byte> buffer_;
};

}  // namespace xfrmfs::netio
