// SPDX-License-Identifier: Apache-2.0
// Outbound: from the TUN device to the wire, RFC 4301 §5.1, in the kernel's order of checks.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "engine/datapath.h"
#include "engine/path/flow_cache.h"
#include "engine/path/lane_context.h"
#include "engine/path/mode.h"

namespace xfrmfs::engine {

class Outbound final : public OutboundPath {
 public:
  /// `context` belongs to the path from here on.
  explicit Outbound(std::unique_ptr<LaneContext> context);

  void process(Batch<ClearPacket>& batch, PacketPool& spare, WireSink& wire,
               ClearSink& replies) noexcept override;
  void refresh() noexcept override;
  void count_unsent(std::size_t packets) noexcept override;

 private:
  std::size_t collect_run(std::size_t begin, ClearSink& replies);
  std::expected<const Bundle*, Mib> classify(const IpHeader& header, Bytes packet);
  bool is_own_output(const Flow& flow, Bytes packet, const IpHeader& header) const;
  std::expected<const Bundle*, Mib> protect(const Flow& flow);
  std::expected<Bundle, Mib> resolve(const Flow& flow) const;
  std::expected<void, Mib> fits(const IpHeader& header, const Bundle& bundle,
                                std::size_t& inner_mtu) const;
  void answer_too_big(ClearPacket& packet, const IpHeader& header, std::size_t inner_mtu,
                      ClearSink& replies);

  std::size_t seal_run(std::size_t first, std::size_t last);
  std::size_t apply(SecurityAssociation& association, std::size_t first, std::size_t last);
  void drop(std::size_t i, Mib reason);

  std::unique_ptr<LaneContext> context_;
  FlowCache cache_;
  BootTime now_{};
  std::uint16_t identification_ = 0;

  // The batch in work, parallel arrays; storage is reused.
  Batch<ClearPacket>* batch_ = nullptr;
  Bundle run_;  // of the run in work; empty: none
  std::array<InnerFacts, kBatch> inner_;
  std::array<SealItem, kBatch> items_;
  std::array<std::size_t, kBatch> item_of_;  // items_[k] is packet item_of_[k]
  std::array<bool, kBatch> dropped_;
};

}  // namespace xfrmfs::engine
