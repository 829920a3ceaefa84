// SPDX-License-Identifier: Apache-2.0
// Door 1: to change the engine.
//
// Changes are collected and become visible to packets and readers together, by publish(): an SA
// pair, or a rekey, appears without a gap. Pure: no descriptor, no thread, no clock of its own.
//
// Thread rule: everything here is for the one control thread, unless it says otherwise.

#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <vector>

#include "engine/base/attention.h"
#include "engine/base/clock.h"
#include "engine/base/control_error.h"
#include "engine/base/counters.h"
#include "engine/base/settings.h"
#include "engine/crypto/backend.h"
#include "engine/datapath.h"
#include "engine/snapshot.h"
#include "engine/view.h"

namespace xfrmfs::engine {

/// Names a policy the way the control protocol does: by index if that is not zero, else by the
/// rest.
struct PolicyKey {
  Direction direction = Direction::kOut;
  std::uint32_t index = 0;
  PolicyType type = PolicyType::kMain;
  Selector selector{};
  Mark mark{};
  std::uint32_t if_id = 0;
};

class Engine {
 public:
  /// `lanes` outbound and as many inbound paths can be made. `clock` outlives the engine.
  /// `backends` say which cryptographic library works for which algorithm.
  Engine(unsigned lanes, const Clock& clock, CryptoBackends backends = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- SAD. Errors are a kernel's (errno and sentence); a refused change changes nothing.

  /// EEXIST if there is one with this id, larval included.
  std::expected<SaPtr, ControlError> add_sa(SaParams params);
  /// Fills a larval SA; changes limits of a valid one, keys and counters stay. ESRCH if unknown.
  std::expected<SaPtr, ControlError> update_sa(SaParams params);
  /// A larval SA with a random SPI in [low, high]. ENOENT if none is free, EINVAL if impossible.
  std::expected<SaPtr, ControlError> allocate_spi(SaParams params, std::uint32_t low,
                                                  std::uint32_t high);
  /// Null if there is none. The mark's value, masked, plays the packet's mark.
  SaPtr find_sa(const SaId& id) const;
  /// The SA that was removed, or ESRCH.
  std::expected<SaPtr, ControlError> delete_sa(const SaId& id);
  /// All of one protocol, or all. The number removed.
  std::size_t flush_sas(std::optional<Protocol> protocol);

  // --- SPD.

  /// EEXIST if one with this direction, type, selector, mark and if_id is there.
  std::expected<PolicyPtr, ControlError> add_policy(PolicyParams params);
  /// Replaces, or creates.
  std::expected<PolicyPtr, ControlError> update_policy(PolicyParams params);
  PolicyPtr find_policy(const PolicyKey& key) const;
  /// The policy that was removed, or ENOENT.
  std::expected<PolicyPtr, ControlError> delete_policy(const PolicyKey& key);
  std::size_t flush_policies(PolicyType type);

  DefaultActions defaults() const;
  void set_defaults(const DefaultActions& defaults);
  /// The host's own addresses, in any order.
  void set_local_addresses(std::vector<IpAddress> addresses);

  /// Makes every change since the last call visible. Nothing to do if there was none.
  void publish();
  /// Lets go of outdated snapshots; false while a path or a reader still holds one.
  bool reclaim();

  /// What the writer sees: published or not yet.
  const Snapshot& current() const;

  // --- Time.

  /// Removes what has expired and publishes. Call at the returned time, and on attention.
  std::optional<BootTime> advance();

  // --- The other doors.

  /// Once per lane and direction, before packets flow.
  std::unique_ptr<OutboundPath> make_outbound(unsigned lane);
  std::unique_ptr<InboundPath> make_inbound(unsigned lane);
  /// Counters for one more thread that drops packets in the engine's name. Before any reader runs.
  CounterBlock& add_counters();
  /// Set once, before packets flow; may stay null.
  void set_attention_sink(AttentionSink* sink);
  View view() const;
  Settings& settings();
  /// Any thread.
  const CryptoBackends& backends() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Inner packets up to this size fit into `link_mtu` whatever SA they use: outer IPv6 and UDP
/// headers, the widest IV, padding and ICV of the algorithms in the table.
std::uint32_t largest_inner_packet(std::uint32_t link_mtu);

}  // namespace xfrmfs::engine
