// SPDX-License-Identifier: Apache-2.0
// Inbound: from the wire to the TUN device, RFC 4301 §5.2, in the kernel's order of checks.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "engine/datapath.h"
#include "engine/path/lane_context.h"
#include "engine/path/mode.h"

namespace xfrmfs::engine {

class Inbound final : public InboundPath {
 public:
  /// `context` belongs to the path from here on.
  explicit Inbound(std::unique_ptr<LaneContext> context) : context_(std::move(context)) {}

  void process(Batch<SealedPacket>& batch, ClearSink& clear) noexcept override;
  void refresh() noexcept override { context_->refresh(); }

 private:
  /// More SAs than this around one packet, and it is dropped: no recursion, no long chains.
  static constexpr std::size_t kMaxDepth = 6;

  /// A packet on its way through its transforms.
  struct Journey {
    IpHeader outer;  // the header in front of the next transform
    std::array<SecurityAssociation*, kMaxDepth> applied{};  // outermost first
    std::uint32_t depth = 0;
  };

  std::size_t open_run(std::size_t begin);
  std::expected<SecurityAssociation*, Mib> find_association(std::size_t i);
  std::expected<SeqNo, Mib> may_open(SecurityAssociation& association, std::size_t i);
  std::expected<void, Mib> finish(SecurityAssociation& association, std::size_t i,
                                  const OpenItem& item);
  std::expected<void, Mib> accept(std::size_t i) const;
  std::expected<void, Mib> check_policies(const Journey& journey, Direction direction,
                                          const Flow& flow) const;
  bool is_nested(const Journey& journey) const;
  void drop(std::size_t i, Mib reason);

  std::unique_ptr<LaneContext> context_;
  BootTime now_{};

  // The batch in work, parallel arrays; storage is reused.
  Batch<SealedPacket>* batch_ = nullptr;
  std::array<Journey, kBatch> journeys_;
  std::array<OpenItem, kBatch> items_;
  std::array<std::size_t, kBatch> item_of_;
  std::array<bool, kBatch> done_;  // dropped, or through its last transform
  std::array<bool, kBatch> dropped_;
};

}  // namespace xfrmfs::engine
