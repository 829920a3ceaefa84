// SPDX-License-Identifier: Apache-2.0
// Inbound: from the wire to the TUN device, RFC 4301 §5.2, in the kernel's order of checks.
//
// The ESP packets of all trains of a batch are laid side by side, up to kUnits of them, and opened
// where they lie, in runs of one SA; what may enter the host is joined again on its way out.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "engine/datapath.h"
#include "engine/path/flow_cache.h"
#include "engine/path/joiner.h"
#include "engine/path/lane_context.h"
#include "engine/path/mode.h"

namespace xfrmfs::engine {

class Inbound final : public InboundPath {
 public:
  /// `context` belongs to the path from here on.
  explicit Inbound(std::unique_ptr<LaneContext> context) : context_(std::move(context)) {}

  void process(Batch<SealedPacket>& batch, ClearSink& clear) noexcept override;
  void refresh() noexcept override;

 private:
  /// More SAs than this around one packet, and it is dropped: no recursion, no long chains.
  static constexpr std::size_t kMaxDepth = 6;
  static constexpr std::size_t kUnits = kBatch;
  /// The longest IP header in front of a train: ports make them, without options.
  static constexpr std::size_t kMaxFront = kIpv6HeaderSize;

  /// The SAs that were taken off a packet, outermost first.
  struct Applied {
    std::uint32_t depth = 0;
    std::array<SecurityAssociation*, kMaxDepth> associations{};

    bool operator==(const Applied& other) const {
      return depth == other.depth && std::equal(associations.begin(), associations.begin() + depth,
                                                other.associations.begin());
    }
  };
  /// What is in front of ESP packets.
  struct Outer {
    IpHeader header;
    bool encapsulated = false;  // in UDP
  };
  /// The outer header read last. Packets of one SA come with the same one, one after the other;
  /// read once, they share an Outer as the packets of a train do. A copy, because opening a packet
  /// may write over its header.
  struct LastHeader {
    std::array<std::byte, kIpv6HeaderSize> bytes;
    const Outer* outer = nullptr;  // nothing kept
    /// Unless there are options or extension headers.
    void keep(Bytes packet, const Outer& read);
    /// Would reading `packet` give the same, but for the size, which is all of it?
    bool same_as(Bytes packet) const;
  };
  /// A packet on its way through its transforms.
  struct Unit {
    const Outer* outer = nullptr;      // of the packet around it; in the end, `like`'s own
    const std::byte* front = nullptr;  // the bytes of that header
    std::uint16_t number = 0;          // of the packet among those behind it
    MutableBytes packet;               // the next packet to open; in the end, the inner packet
    const Unit* like = nullptr;  // whose `inner` and `applied` are this packet's too; or this one
    bool done = false;           // dropped, or through its last transform
    bool dropped = false;
    Applied applied;
    Outer inner;  // of what came out of the last transform
  };
  /// That a flow protected by these SAs may pass, and the policies that said so.
  struct Pass {
    Applied applied;
    std::array<const SecurityPolicy*, 2> policies{};
  };

  void take(MutableBytes train, std::size_t segment_size, const Outer& outer, std::size_t number);
  bool leaves_no_room(const Outer& outer, Bytes packets) const;
  void run_units();
  void look_ahead() const;
  std::size_t open_run(std::size_t begin);
  std::expected<SecurityAssociation*, Mib> find_association(const Unit& unit);
  std::expected<SeqNo, Mib> may_open(SecurityAssociation& association, const Unit& unit,
                                     bool check_limits);
  void commit(SecurityAssociation& association, std::size_t count);
  std::expected<void, Mib> verify(SecurityAssociation& association, ReplayWindow::Commits& commits,
                                  const OpenItem& item) const;
  std::expected<void, Mib> decapsulate(SecurityAssociation& association, Unit& unit,
                                       const OpenItem& item);
  bool is_nested(const Outer& outer) const;
  /// Of the packet behind this header.
  static Protocol protocol_in(const Outer& outer);
  static Spi spi_of(const Unit& unit);
  std::expected<void, Mib> accept(const Unit& unit);
  static bool same_flow(const Unit& a, const Unit& b);
  std::expected<Pass, Mib> decide(const Unit& unit, const Flow& flow) const;
  std::expected<void, Mib> check_templates(
      const Applied& applied, const std::array<const SecurityPolicy*, 2>& policies) const;
  void drop(Unit& unit, Mib reason);

  std::unique_ptr<LaneContext> context_;
  FlowCache<Pass> cache_;
  Joiner joiner_;
  BootTime now_{};

  // The packets in work; storage is reused.
  std::array<Outer, kBatch> outers_;                             // of trains
  std::array<std::array<std::byte, kMaxFront>, kBatch> fronts_;  // likewise, as they came
  std::array<Unit, kUnits> units_;
  std::size_t count_ = 0;  // of units
  std::array<OpenItem, kUnits> items_;
  std::array<std::size_t, kUnits> item_of_;
};

}  // namespace xfrmfs::engine
