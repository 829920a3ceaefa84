// SPDX-License-Identifier: Apache-2.0
// Outbound: from the TUN device to the wire, RFC 4301 §5.1, in the kernel's order of checks.
//
// Single packets are sealed where they lie, in runs of one bundle. A train is sealed segment by
// segment from its buffer straight into another, which leaves before the next is begun. Either way
// a packet meets exactly what it would have met alone.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>

#include "engine/datapath.h"
#include "engine/packet/segments.h"
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
  /// What an SA lets through of the packets that come next: numbers for the first `count` of them.
  struct Admission {
    SeqNo first = 0;
    std::size_t count = 0;
    bool expired = false;  // by a limit: met by the packet behind them
  };

  using Slot = FlowCache<Bundle>::Slot;
  /// A single packet of the batch, before its turn.
  struct Ahead {
    IpHeader header;
    Flow flow;
    Slot* slot = nullptr;  // of the flow
  };

  // Both kinds.
  std::expected<const Bundle*, Mib> classify(const IpHeader& header, Bytes packet);
  std::expected<const Bundle*, Mib> classify(const IpHeader& header, Bytes packet, const Flow& flow,
                                             Slot& slot);
  bool is_own_output(const Flow& flow, Bytes packet, const IpHeader& header) const;
  PolicyPair find_policies(const Flow& flow) const;
  std::expected<Bundle, Mib> resolve(const Flow& flow, const PolicyPair& policies) const;
  std::expected<void, Mib> fits(const IpHeader& header, const InnerFacts& inner, std::size_t size,
                                const Bundle& bundle, std::size_t& inner_mtu) const;
  void count_refusal(Mib reason, std::size_t packets);
  void answer_too_big(ClearPacket& packet, const IpHeader& header, std::size_t inner_mtu);
  template <class SizeOf, class SizesOf>
  Admission admit(SecurityAssociation& association, std::size_t count, SizeOf&& size_of,
                  SizesOf&& sizes_of);

  // Single packets, of the batch in work.
  void look_ahead();
  void decide_ahead(std::span<Ahead* const> unknown, FetchList& list);
  void fetch_keys(std::span<Ahead* const> ahead, FetchList& list) const;
  std::size_t collect_run(std::size_t begin);
  std::size_t seal_run(std::size_t first, std::size_t last);
  std::size_t apply(SecurityAssociation& association, std::size_t first, std::size_t last,
                    bool outermost);
  void finish_inner_udp(const SaConfig& params, MutableBytes packet) const;
  void drop(std::size_t i, Mib reason);
  void forget(std::size_t i);

  // Trains.
  /// Packets sealed one behind the other, and how far they reach.
  struct Sealed {
    std::size_t count = 0;
    std::size_t size = 0;
    bool bare = false;  // SealItem::bare
  };
  void seal_train(ClearPacket& train);
  std::size_t seal_segments(const Segments& segments, std::size_t begin, const InnerFacts& inner,
                            const Bundle& bundle, std::uint32_t level);
  void fill_frame(const Segments& segments, std::size_t begin, std::size_t count,
                  std::size_t stride, SeqNo number, const InnerFacts& inner, const Bundle& bundle,
                  std::uint32_t level);
  Sealed seal_in_turn(const Segments& segments, std::size_t begin, std::size_t count,
                      std::size_t kept, std::byte* at, std::size_t stride, SeqNo number,
                      const SealItem& blank, Transform& transform);
  Sealed seal_together(const Segments& segments, std::size_t begin, std::size_t count,
                       std::size_t kept, std::byte* at, std::size_t stride, SeqNo number,
                       const SealItem& blank, Transform& transform);

  std::unique_ptr<LaneContext> context_;
  FlowCache<Bundle> cache_;
  BootTime now_{};
  std::uint16_t identification_ = 0;

  // The batch in work, parallel arrays; storage is reused.
  Batch<ClearPacket>* batch_ = nullptr;
  PacketPool* spare_ = nullptr;
  WireSink* wire_ = nullptr;
  ClearSink* replies_ = nullptr;
  Bundle run_;  // of the run in work; empty: none
  std::array<Ahead, kBatch> ahead_;
  std::array<InnerFacts, kBatch> inner_;
  std::array<SealItem, kBatch> items_;
  std::array<std::size_t, kBatch> item_of_;   // items_[k] is packet item_of_[k]
  std::array<std::uint16_t, kBatch> fronts_;  // Wrapping::front of items_[k]
  std::array<bool, kBatch> dropped_;
};

}  // namespace xfrmfs::engine
