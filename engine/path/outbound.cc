// SPDX-License-Identifier: Apache-2.0
#include "engine/path/outbound.h"

#include <algorithm>
#include <tuple>

#include "engine/crypto/algorithm.h"
#include "engine/path/pmtu.h"

namespace xfrmfs::engine {
namespace {

// Packets from a TUN device carry neither mark nor interface id.
constexpr std::uint32_t kNoMark = 0;
constexpr std::uint32_t kNoIfId = 0;

}  // namespace

Outbound::Outbound(std::unique_ptr<LaneContext> context) : context_(std::move(context)) {
  random_bytes(std::as_writable_bytes(std::span(&identification_, 1)));
}

void Outbound::refresh() noexcept {
  if (context_->refresh()) cache_.clear();
}

void Outbound::count_unsent(std::size_t packets) noexcept {
  context_->count(Mib::kOutError, packets);
}

// Classifies packets one after the other; each run of packets with the same SAs is transformed
// together. A run ends early when an SA expires in its middle, and the rest is classified again,
// so that a packet meets exactly what it would have met alone.
void Outbound::process(Batch<ClearPacket>& batch, PacketPool&, WireSink& wire,
                       ClearSink& replies) noexcept {
  refresh();
  now_ = context_->now();
  batch_ = &batch;
  dropped_.fill(false);

  std::size_t begin = 0;
  while (begin < batch.size()) {
    const std::size_t end = collect_run(begin, replies);
    begin = run_.size == 0 ? end : seal_run(begin, end);
  }

  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (!dropped_[i]) wire.transmit(SealedPacket(std::move(batch[i])));
  }
  batch.clear();
  batch_ = nullptr;
}

/// Classifies from `begin` on; run_ becomes the bundle of the first packet that is not dropped.
/// Returns the first packet that needs another bundle.
std::size_t Outbound::collect_run(std::size_t begin, ClearSink& replies) {
  run_ = {};
  for (std::size_t i = begin; i < batch_->size(); ++i) {
    if (dropped_[i]) continue;
    ClearPacket& packet = (*batch_)[i];
    const auto header = parse_ip_header(packet.bytes());
    if (!header) {
      drop(i, Mib::kOutError);
      continue;
    }
    const auto bundle = classify(*header, packet.bytes());
    if (!bundle) {
      drop(i, bundle.error());
      continue;
    }
    std::size_t inner_mtu = 0;
    if (const auto fit = fits(*header, **bundle, inner_mtu); !fit) {
      answer_too_big(packet, *header, inner_mtu, replies);
      drop(i, fit.error());
      continue;
    }
    if (run_.size == 0) {
      run_ = **bundle;
    } else if (!run_.same_associations(**bundle)) {
      return i;
    }
    packet.reframe(packet.data(), header->total_size);
    inner_[i] = InnerFacts::of(*header);
  }
  return batch_->size();
}

/// The SAs that protect a packet. The result is valid until the next call.
std::expected<const Bundle*, Mib> Outbound::classify(const IpHeader& header, Bytes packet) {
  const Flow flow = flow_of(header, packet);
  if (is_own_output(flow, packet, header)) return std::unexpected(Mib::kOutBundleGenError);
  return protect(flow);
}

/// True if this is a packet that we sealed and the host routed back to us: the route to the tunnel
/// end leads into our own TUN device, so there is no way out.
bool Outbound::is_own_output(const Flow& flow, Bytes packet, const IpHeader& header) const {
  if (flow.protocol != Protocol::kEsp || header.is_later_fragment ||
      packet.size() < header.header_size + 4) {
    return false;
  }
  const Spi spi{load_be32(packet.data() + header.header_size)};
  const auto* association =
      context_->snapshot().sad.find(kNoMark, flow.destination, spi, flow.protocol);
  return association != nullptr && association->params().source == flow.source;
}

/// The bundle for a flow, from the cache while it is fresh.
std::expected<const Bundle*, Mib> Outbound::protect(const Flow& flow) {
  FlowCache::Slot& slot = cache_.slot(flow);
  if (!slot.used || slot.flow != flow || !slot.bundle.is_fresh()) {
    const auto bundle = resolve(flow);
    if (!bundle) return std::unexpected(bundle.error());
    slot = {.flow = flow, .used = true, .bundle = *bundle};
  }
  slot.bundle.touch(now_);
  return &slot.bundle;
}

/// Policy, then an SA for each of its templates.
std::expected<Bundle, Mib> Outbound::resolve(const Flow& flow) const {
  const Snapshot& snapshot = context_->snapshot();
  Bundle bundle;
  auto& [sub, main] = bundle.policies;
  sub = snapshot.spd.find(Direction::kOut, PolicyType::kSub, flow, kNoMark, kNoIfId);
  if (sub == nullptr || sub->params().action == PolicyAction::kAllow) {
    main = snapshot.spd.find(Direction::kOut, PolicyType::kMain, flow, kNoMark, kNoIfId);
  }
  if (sub == nullptr && main == nullptr) {
    return std::unexpected(snapshot.defaults[Direction::kOut] == DefaultAction::kBlock
                               ? Mib::kOutDefaultBlock
                               : Mib::kOutClearRefused);
  }
  std::size_t templates = 0;
  bool blocked = false;
  for (const SecurityPolicy* policy : bundle.policies) {
    if (policy == nullptr) continue;
    policy->touch(now_);
    blocked |= policy->params().action == PolicyAction::kBlock;
    templates += policy->params().templates.size();
  }
  if (blocked) return std::unexpected(Mib::kOutPolBlock);
  if (templates > kUsableTemplates) return std::unexpected(Mib::kOutPolError);

  for (const SecurityPolicy* policy : bundle.policies) {
    if (policy == nullptr) continue;
    for (const Template& tmpl : policy->params().templates) {
      const auto choice = snapshot.sad.choose(tmpl, flow, kNoMark, kNoIfId);
      if (choice.association != nullptr) {
        bundle.add(*choice.association);
      } else if (!tmpl.optional) {
        return std::unexpected(choice.spi_conflict ? Mib::kOutPolError : Mib::kOutNoStates);
      }
    }
  }
  if (bundle.size == 0) return std::unexpected(Mib::kOutClearRefused);
  return bundle;
}

/// Computes the sealed size before anything is written. If the result may not be fragmented and
/// the underlay cannot carry it, `inner_mtu` is what it can.
std::expected<void, Mib> Outbound::fits(const IpHeader& header, const Bundle& bundle,
                                        std::size_t& inner_mtu) const {
  std::size_t size = header.total_size;
  bool whole = header.dont_fragment;
  for (std::uint32_t i = 0; i < bundle.size; ++i) {
    const SaParams& params = bundle.associations[i]->params();
    size =
        bundle.associations[i]->transform()->sealed_size(size) + outer_header_size(params.family());
    whole = whole && (params.flags & kSaNoPmtuDiscovery) == 0;
  }
  if (size > kMaxTrain) return std::unexpected(Mib::kOutError);
  const std::size_t mtu = context_->settings().underlay_mtu.load(std::memory_order_relaxed);
  if (size <= mtu || !whole) return {};

  inner_mtu = mtu;
  for (std::uint32_t i = bundle.size; i-- > 0;) {
    const SecurityAssociation& association = *bundle.associations[i];
    const std::size_t outer = outer_header_size(association.family());
    inner_mtu = inner_mtu > outer ? association.transform()->largest_payload(inner_mtu - outer) : 0;
  }
  if (header.family == Family::kIpv6 && inner_mtu < kIpv6MinimumMtu) {
    // No IPv6 sender goes below the minimum: such packets are carried in outer fragments.
    if (header.total_size <= kIpv6MinimumMtu) return {};
    inner_mtu = kIpv6MinimumMtu;
  }
  return std::unexpected(Mib::kOutTooBig);
}

void Outbound::answer_too_big(ClearPacket& packet, const IpHeader& header, std::size_t inner_mtu,
                              ClearSink& replies) {
  if (inner_mtu == 0 || !make_too_big(packet, header, inner_mtu)) return;
  // A reply that the device refuses is lost like any ICMP message; its cause is counted already.
  const Bytes bytes = packet.bytes();
  std::ignore = replies.deliver({.pieces = {&bytes, 1}});
}

/// Applies run_ to the packets from `first` to before `last` that are not dropped, and returns
/// where classification must go on: `last`, unless an SA expired on the way.
std::size_t Outbound::seal_run(std::size_t first, std::size_t last) {
  for (std::uint32_t k = 0; k < run_.size; ++k) {
    const std::size_t reached = apply(*run_.associations[k], first, last);
    if (k == 0) {
      last = reached;  // those behind an expiry have not been touched: they start again
      continue;
    }
    // Behind an expiry of an outer SA they are sealed half-way already, and lost with it.
    for (std::size_t i = reached; i < last; ++i) {
      if (!dropped_[i]) drop(i, Mib::kOutNoStates);
    }
  }
  return last;
}

/// One SA around the packets of a run. Returns the first packet that it did not deal with: the one
/// behind an expiry, else `last`.
std::size_t Outbound::apply(SecurityAssociation& association, std::size_t first, std::size_t last) {
  const SaParams& params = association.params();
  const std::size_t outer_size = outer_header_size(params.family());
  std::size_t waiting = 0;
  for (std::size_t i = first; i < last; ++i) waiting += dropped_[i] ? 0 : 1;

  if (association.state() != SaState::kValid) {
    const bool expired = association.state() == SaState::kExpired;
    for (std::size_t i = first; i < last; ++i) {
      if (!dropped_[i]) drop(i, expired ? Mib::kOutNoStates : Mib::kOutStateInvalid);
    }
    return last;
  }

  const Sequence::Run numbers = association.sequence().reserve(waiting);
  std::size_t used = 0;
  std::size_t reached = last;
  for (std::size_t i = first; i < last; ++i) {
    if (dropped_[i]) continue;
    PacketBytes& packet = (*batch_)[i];
    const auto verdict = association.lifetime().check(now_);
    if (verdict == Lifetime::Verdict::kHardReached) {
      context_->expire(association);
      drop(i, Mib::kOutStateExpired);
      reached = i + 1;
      break;
    }
    if (verdict == Lifetime::Verdict::kSoftReached) association.lifetime().tell_soft();
    if (used == numbers.count) {
      drop(i, Mib::kOutStateSeqError);
      continue;
    }
    association.lifetime().charge(packet.size(), 1, now_);
    if (packet.headroom() < outer_size + association.transform()->head_size()) {
      drop(i, Mib::kOutError);
      continue;
    }
    item_of_[used] = i;
    const std::size_t head = association.transform()->head_size();
    items_[used] = {.packet = packet.data() - head,
                    .room = head + packet.size() + packet.tailroom(),
                    .payload = packet.data(),
                    .size = packet.size(),
                    .next_header = protocol_of(inner_[i].family),
                    .sequence = numbers.first + used,
                    .ok = false};
    ++used;
  }

  association.transform()->seal(context_->lane(), std::span(items_).first(used));
  for (std::size_t k = 0; k < used; ++k) {
    const std::size_t i = item_of_[k];
    const SealItem& item = items_[k];
    if (!item.ok) {
      drop(i, Mib::kOutStateProtoError);
      continue;
    }
    const OuterHeader outer = outer_header(params, inner_[i], identification_++);
    std::byte* start = item.packet - outer_size;
    write_outer_header(outer, item.size, start);
    (*batch_)[i].reframe(start, outer_size + item.size);
    inner_[i] = InnerFacts::of(outer);
  }
  return reached;
}

void Outbound::drop(std::size_t i, Mib reason) {
  context_->count(reason);
  (*batch_)[i] = ClearPacket();
  dropped_[i] = true;
}

}  // namespace xfrmfs::engine
