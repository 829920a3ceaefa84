// SPDX-License-Identifier: Apache-2.0
#include "engine/path/outbound.h"
#include "engine/base/prefetch.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "engine/crypto/algorithm.h"
#include "engine/packet/checksum.h"
#include "engine/path/pmtu.h"

namespace xfrmfs::engine {
namespace {

// Packets from a TUN device carry neither mark nor interface id.
constexpr std::uint32_t kNoMark = 0;
constexpr std::uint32_t kNoIfId = 0;

/// Segments of one sealed train: what the kernel sends with one call (UDP_MAX_SEGMENTS).
constexpr std::size_t kMaxSegments = 64;

/// Why an SA that is not valid takes no packet.
Mib refusal(const SecurityAssociation& association) {
  return association.state() == SaState::kExpired ? Mib::kOutNoStates : Mib::kOutStateInvalid;
}

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

// Runs of single packets with the same SAs are transformed together. A run ends at a train, and
// early when an SA expires in its middle: the rest is classified again.
void Outbound::process(Batch<ClearPacket>& batch, PacketPool& spare, WireSink& wire,
                       ClearSink& replies) noexcept {
  refresh();
  now_ = context_->now();
  batch_ = &batch;
  spare_ = &spare;
  wire_ = &wire;
  replies_ = &replies;
  dropped_.fill(false);
  look_ahead();
  for (std::size_t begin = 0; begin < batch.size();) {
    if (batch[begin].cut() != Cut::kWhole) {
      seal_train(batch[begin]);
      batch[begin++] = ClearPacket();
      continue;
    }
    std::size_t end = collect_run(begin);
    if (run_.size != 0) end = seal_run(begin, end);
    for (; begin < end; ++begin) {
      if (!dropped_[begin]) wire.transmit(SealedPacket(std::move(batch[begin])));
    }
  }
  batch.clear();
  batch_ = nullptr;
}

/// Reads all headers, and decides about many flows side by side: what they need comes from memory
/// while others of the batch are looked at, instead of one wait after the other for policy, table,
/// SA, transform and keys. A pass for each step, because a step needs what the one before has
/// fetched.
void Outbound::look_ahead() {
  std::array<Ahead*, kBatch> flows;  // each differs from the one before
  std::size_t count = 0;
  FetchList list;
  const Ahead* last = nullptr;
  for (std::size_t i = 0; i < batch_->size(); ++i) {
    const ClearPacket& packet = (*batch_)[i];
    if (packet.cut() != Cut::kWhole) continue;
    Ahead& ahead = ahead_[i];
    if (!parse_ip_header(packet.bytes(), ahead.header)) {
      drop(i, Mib::kOutError);
      continue;
    }
    ahead.flow = flow_of(ahead.header, packet.bytes());
    if (last != nullptr && last->flow == ahead.flow) {
      ahead.slot = last->slot;
    } else {
      ahead.slot = &cache_.slot(ahead.flow);
      list.add(ahead.slot, sizeof *ahead.slot);
      flows[count++] = &ahead;
    }
    last = &ahead;
  }
  if (count < 2) return;
  list.fetch();

  std::array<Ahead*, kBatch> unknown;
  std::size_t unknown_count = 0;
  for (Ahead* ahead : std::span(flows).first(count)) {
    if (!cache_.holds(*ahead->slot, ahead->flow)) {
      unknown[unknown_count++] = ahead;
      continue;
    }
    for (const auto* association : ahead->slot->value.used()) association->prefetch_outbound(list);
  }
  list.fetch();
  decide_ahead(std::span(unknown).first(unknown_count), list);
  fetch_keys(std::span(flows).first(count), list);
}

/// What is decided now goes into the cache, as if a packet had come before: its turn finds it
/// there, or, if it is not fresh any more, decides again.
void Outbound::decide_ahead(std::span<Ahead* const> unknown, FetchList& list) {
  if (unknown.empty()) return;
  const auto& [sad, spd] = std::tie(context_->snapshot().sad, context_->snapshot().spd);
  for (const Ahead* ahead : unknown) {
    spd.prefetch(Direction::kOut, ahead->flow, kNoMark, kNoIfId, list);
  }
  list.fetch();
  for (const Ahead* ahead : unknown) {
    spd.prefetch_policies(Direction::kOut, ahead->flow, kNoMark, kNoIfId, list);
  }
  list.fetch();
  std::array<PolicyPair, kBatch> found;
  const auto each_template = [&](auto&& visit) {
    for (std::size_t i = 0; i < unknown.size(); ++i) {
      for (const SecurityPolicy* policy : found[i]) {
        if (policy == nullptr) continue;
        for (const Template& tmpl : policy->params().templates) visit(tmpl, unknown[i]->flow);
      }
    }
    list.fetch();
  };
  for (std::size_t i = 0; i < unknown.size(); ++i) {
    found[i] = find_policies(unknown[i]->flow);
    for (const SecurityPolicy* policy : found[i]) {
      if (policy != nullptr) list.add(policy->params().templates.data());
    }
  }
  list.fetch();
  each_template([&](const Template& tmpl, const Flow& flow) { sad.prefetch(tmpl, flow, list); });
  each_template(
      [&](const Template& tmpl, const Flow& flow) { sad.prefetch_association(tmpl, flow, list); });
  for (std::size_t i = 0; i < unknown.size(); ++i) {
    const Ahead& ahead = *unknown[i];
    if (const auto bundle = resolve(ahead.flow, found[i])) {
      cache_.put(*ahead.slot, ahead.flow, *bundle);
    }
  }
}

void Outbound::fetch_keys(std::span<Ahead* const> ahead, FetchList& list) const {
  struct Key {
    const Transform* transform;
    std::size_t size;  // of the packet
  };
  std::array<Key, kBatch> keys;
  std::size_t count = 0;
  const SecurityAssociation* last = nullptr;
  for (const Ahead* one : ahead) {
    if (!cache_.holds(*one->slot, one->flow)) continue;
    for (const auto* association : one->slot->value.used()) {
      if (association == last || association->transform() == nullptr || count == kBatch) continue;
      last = association;
      keys[count++] = {association->transform(), one->header.total_size};
      list.add(association->transform());
    }
  }
  if (count < 2) return;
  list.fetch();
  for (const auto& [transform, size] : std::span(keys).first(count)) {
    transform->prefetch(context_->lane(), size, list);
  }
  list.fetch();
}

/// Classifies from `begin` on; run_ becomes the bundle of the first packet that is not dropped.
/// Returns the first packet that does not belong to the run.
std::size_t Outbound::collect_run(std::size_t begin) {
  run_.size = 0;
  for (std::size_t i = begin; i < batch_->size(); ++i) {
    ClearPacket& packet = (*batch_)[i];
    if (packet.cut() != Cut::kWhole) return i;
    if (dropped_[i]) continue;  // already, in front of an expiry
    const auto& [header, flow, slot] = ahead_[i];
    const auto bundle = classify(header, packet.bytes(), flow, *slot);
    if (!bundle) {
      count_refusal(bundle.error(), 1);
      forget(i);
      continue;
    }
    inner_[i] = InnerFacts::of(header, packet.bytes());
    std::size_t inner_mtu = 0;
    if (const auto fit = fits(header, inner_[i], header.total_size, **bundle, inner_mtu); !fit) {
      answer_too_big(packet, header, inner_mtu);
      drop(i, fit.error());
      continue;
    }
    if (run_.size == 0) {
      run_ = **bundle;
    } else if (!run_.same_associations(**bundle)) {
      return i;
    }
    packet.reframe(packet.data(), header.total_size);
  }
  return batch_->size();
}

/// The SAs that protect a packet. The result is valid until the next call.
std::expected<const Bundle*, Mib> Outbound::classify(const IpHeader& header, Bytes packet) {
  const Flow flow = flow_of(header, packet);
  return classify(header, packet, flow, cache_.slot(flow));
}

/// The same, where flow and slot are known. From the cache while it is fresh.
std::expected<const Bundle*, Mib> Outbound::classify(const IpHeader& header, Bytes packet,
                                                     const Flow& flow, Slot& slot) {
  if (is_own_output(flow, packet, header)) return std::unexpected(Mib::kOutBundleGenError);
  if (!cache_.holds(slot, flow) || !slot.value.is_fresh()) {
    const PolicyPair policies = find_policies(flow);
    touch(policies, now_);
    const auto bundle = resolve(flow, policies);
    if (!bundle) return std::unexpected(bundle.error());
    cache_.put(slot, flow, *bundle);
  }
  touch(slot.value.policies, now_);
  return &slot.value;
}

/// True if this is a packet that we sealed and the host routed back to us: the route to the tunnel
/// end leads into our own TUN device, so there is no way out.
bool Outbound::is_own_output(const Flow& flow, Bytes packet, const IpHeader& header) const {
  const bool udp = flow.protocol == Protocol::kUdp;
  const bool ah = flow.protocol == Protocol::kAh;
  const std::size_t at = header.header_size + (udp ? kUdpHeaderSize : ah ? 4 : 0);
  if ((!udp && !ah && flow.protocol != Protocol::kEsp) || header.is_later_fragment ||
      packet.size() < at + 4) {
    return false;
  }
  const SadView& sad = context_->snapshot().sad;
  if (udp && !sad.may_encapsulate(flow.source_port, flow.destination_port)) return false;
  const Spi spi{load_be32(packet.data() + at)};
  const auto* association =
      sad.find(kNoMark, flow.destination, spi, ah ? Protocol::kAh : Protocol::kEsp);
  if (association == nullptr || association->params().source != flow.source) return false;
  const auto& encapsulation = association->params().encapsulation;
  return udp ? encapsulation && encapsulation->source_port == flow.source_port &&
                   encapsulation->destination_port == flow.destination_port
             : !encapsulation;
}

PolicyPair Outbound::find_policies(const Flow& flow) const {
  const SpdView& spd = context_->snapshot().spd;
  PolicyPair policies{spd.find(Direction::kOut, PolicyType::kSub, flow, kNoMark, kNoIfId)};
  auto& [sub, main] = policies;
  if (sub == nullptr || sub->params().action == PolicyAction::kAllow) {
    main = spd.find(Direction::kOut, PolicyType::kMain, flow, kNoMark, kNoIfId);
  }
  return policies;
}

/// An SA for each template of the flow's policies.
std::expected<Bundle, Mib> Outbound::resolve(const Flow& flow, const PolicyPair& policies) const {
  const Snapshot& snapshot = context_->snapshot();
  Bundle bundle{.policies = policies};
  const auto& [sub, main] = policies;
  if (sub == nullptr && main == nullptr) {
    return std::unexpected(snapshot.defaults[Direction::kOut] == DefaultAction::kBlock
                               ? Mib::kOutDefaultBlock
                               : Mib::kOutClearRefused);
  }
  std::size_t templates = 0;
  bool blocked = false;
  for (const SecurityPolicy* policy : bundle.policies) {
    if (policy == nullptr) continue;
    blocked |= policy->params().action == PolicyAction::kBlock;
    templates += policy->params().templates.size();
  }
  if (blocked) return std::unexpected(Mib::kOutPolBlock);
  if (templates > kUsableTemplates) return std::unexpected(Mib::kOutPolError);

  const SaConfig* around = nullptr;  // the tunnel that the next one is about
  for (const SecurityPolicy* policy : bundle.policies) {
    if (policy == nullptr) continue;
    for (const Template& tmpl : policy->params().templates) {
      const auto choice = snapshot.sad.choose(tmpl, flow, kNoMark, kNoIfId, around);
      if (choice.association != nullptr) {
        if (choice.association->params().direction == SaDirection::kIn) {
          return std::unexpected(Mib::kOutStateDirError);
        }
        bundle.add(*choice.association);
        if (tmpl.mode != Mode::kTransport) around = &choice.association->params();
      } else if (!tmpl.optional) {
        return std::unexpected(choice.spi_conflict ? Mib::kOutPolError : Mib::kOutNoStates);
      }
    }
  }
  if (bundle.size == 0) return std::unexpected(Mib::kOutClearRefused);
  return bundle;
}

/// Computes the sealed size of a packet of `size` bytes before anything is written. If the result
/// may not be fragmented and the underlay cannot carry it, `inner_mtu` is what it can.
std::expected<void, Mib> Outbound::fits(const IpHeader& header, const InnerFacts& inner,
                                        std::size_t size, const Bundle& bundle,
                                        std::size_t& inner_mtu) const {
  const std::size_t inner_size = size;
  bool whole = header.dont_fragment;
  bool fragment = header.is_fragment;
  InnerFacts facts = inner;
  std::array<Wrapping, kUsableTemplates> wraps;
  for (std::uint32_t i = 0; i < bundle.size; ++i) {
    const SaConfig& params = bundle.associations[i]->params();
    // A fragment is sealed in a tunnel or not at all (RFC 4303 §3.3.4).
    if (params.mode == Mode::kTransport && fragment) {
      return std::unexpected(Mib::kOutStateModeError);
    }
    fragment = false;
    wraps[i] = wrapping(params, facts);
    size = bundle.associations[i]->transform()->sealed_size(size - wraps[i].kept) + wraps[i].front;
    whole = whole && (params.flags & kSaNoPmtuDiscovery) == 0;
    if (i + 1 < bundle.size) facts = facts.after(params, outer_protocol(params));
  }
  if (size > kMaxTrain) return std::unexpected(Mib::kOutError);
  const std::size_t mtu = context_->settings().underlay_mtu.load(std::memory_order_relaxed);
  if (size <= mtu || !whole) return {};

  inner_mtu = mtu;
  for (std::uint32_t i = bundle.size; i-- > 0;) {
    const Transform& transform = *bundle.associations[i]->transform();
    const auto& [kept, front, next_header] = wraps[i];
    const std::size_t payload =
        inner_mtu > front ? transform.largest_payload(inner_mtu - front) : 0;
    inner_mtu = payload != 0 ? kept + payload : 0;
  }
  if (header.family == Family::kIpv6 && inner_mtu < kIpv6MinimumMtu) {
    // No IPv6 sender goes below the minimum: such packets are carried in outer fragments.
    if (inner_size <= kIpv6MinimumMtu) return {};
    inner_mtu = kIpv6MinimumMtu;
  }
  return std::unexpected(Mib::kOutTooBig);
}

void Outbound::answer_too_big(ClearPacket& packet, const IpHeader& header, std::size_t inner_mtu) {
  if (inner_mtu == 0 || !make_too_big(packet, header, inner_mtu)) return;
  // A reply that the device refuses is lost like any ICMP message; its cause is counted already.
  const Bytes bytes = packet.bytes();
  std::ignore = replies_->deliver({.pieces = {&bytes, 1}});
}

/// Limits, then numbers, for the next `count` packets: size_of(k) bytes the one, sizes_of(n) the
/// first n together. Charges those that are let through.
template <class SizeOf, class SizesOf>
Outbound::Admission Outbound::admit(SecurityAssociation& association, std::size_t count,
                                    SizeOf&& size_of, SizesOf&& sizes_of) {
  if (count == 0) return {};
  Lifetime& lifetime = association.lifetime();
  const Sequence::Run numbers = association.sequence().reserve(count);
  Admission admission{.first = numbers.first};
  if (lifetime.within_limits() >= count) {
    lifetime.check(now_);  // notes the first use
    admission.count = numbers.count;
    if (numbers.count != 0) lifetime.charge(sizes_of(numbers.count), numbers.count, now_);
    return admission;
  }
  for (; admission.count < count; ++admission.count) {
    const auto verdict = lifetime.check(now_);
    if (verdict == Lifetime::Verdict::kHardReached) {
      context_->expire(association);
      admission.expired = true;
      break;
    }
    if (verdict == Lifetime::Verdict::kSoftReached) lifetime.tell_soft();
    if (admission.count == numbers.count) break;
    lifetime.charge(size_of(admission.count), 1, now_);
  }
  return admission;
}

/// Applies run_ to the packets from `first` to before `last` that are not dropped, and returns
/// where classification must go on: `last`, unless an SA expired on the way.
std::size_t Outbound::seal_run(std::size_t first, std::size_t last) {
  for (std::uint32_t k = 0; k < run_.size; ++k) {
    const std::size_t reached = apply(*run_.associations[k], first, last, k + 1 == run_.size);
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
std::size_t Outbound::apply(SecurityAssociation& association, std::size_t first, std::size_t last,
                            bool outermost) {
  std::size_t waiting = 0;
  for (std::size_t i = first; i < last; ++i) {
    if (!dropped_[i]) item_of_[waiting++] = i;
  }
  const auto packet_of = [this](std::size_t k) -> PacketBytes& { return (*batch_)[item_of_[k]]; };
  if (association.state() != SaState::kValid) {
    for (std::size_t k = 0; k < waiting; ++k) drop(item_of_[k], refusal(association));
    return last;
  }

  const SaConfig& params = association.params();
  Transform& transform = *association.transform();
  const auto payload_of = [&](std::size_t k) {
    return packet_of(k).size() - wrapping(params, inner_[item_of_[k]]).kept;
  };
  const Admission admission = admit(association, waiting, payload_of, [&](std::size_t n) {
    std::size_t sum = 0;
    for (std::size_t k = 0; k < n; ++k) sum += payload_of(k);
    return sum;
  });
  std::size_t reached = last;
  for (std::size_t k = admission.count; k < waiting; ++k) {
    if (admission.expired) {
      reached = item_of_[k] + 1;
      drop(item_of_[k], Mib::kOutStateExpired);
      break;
    }
    drop(item_of_[k], Mib::kOutStateSeqError);
  }

  const std::size_t head = transform.head_size();
  std::size_t used = 0;
  for (std::size_t k = 0; k < admission.count; ++k) {
    const std::size_t i = item_of_[k];
    PacketBytes& packet = packet_of(k);
    const auto [kept, front, next_header] = wrapping(params, inner_[i]);
    if (packet.headroom() + kept < front + head) {
      drop(i, Mib::kOutError);
      continue;
    }
    SealItem& item = items_[used];
    item = {.packet = packet.data() + kept - head,
            .room = head + packet.size() - kept + packet.tailroom(),
            .payload = packet.data() + kept,
            .size = packet.size() - kept,
            .next_header = next_header,
            .sequence = admission.first + k};
    std::byte* const start = item.packet - front;
    if (kept != 0) std::memmove(start, packet.data(), kept);
    if (transform.covers_ip_header()) {
      write_front(params, inner_[i], outer_protocol(params), identification_++,
                  transform.sealed_size(item.size), start);
      item.ip_header = start;
      item.ip_header_size = static_cast<std::uint32_t>(front);
    }
    fronts_[used] = static_cast<std::uint16_t>(front);
    item_of_[used++] = i;
  }

  transform.seal(context_->lane(), std::span(items_).first(used));
  for (std::size_t k = 0; k < used; ++k) {
    const std::size_t i = item_of_[k];
    const SealItem& item = items_[k];
    if (!item.ok) {
      drop(i, Mib::kOutStateProtoError);
      continue;
    }
    const std::size_t front = fronts_[k];
    std::byte* const start = item.packet - front;
    const Protocol protocol = item.bare ? item.next_header : outer_protocol(params);
    if (!transform.covers_ip_header()) {
      write_front(params, inner_[i], protocol, identification_++, item.size, start);
    }
    (*batch_)[i].reframe(start, front + item.size);
    if (outermost) continue;
    finish_inner_udp(params, (*batch_)[i].bytes());
    inner_[i] = inner_[i].after(params, protocol);
  }
  return reached;
}

/// A UDP header that goes into another SA is not seen again by anybody who would fill in its
/// checksum.
void Outbound::finish_inner_udp(const SaConfig& params, MutableBytes packet) const {
  if (params.encapsulation && params.family() == Family::kIpv6) fill_udp_checksum(packet);
}

/// Why classify() gave no SAs. A kernel counts the one reason twice.
void Outbound::count_refusal(Mib reason, std::size_t packets) {
  context_->count(reason, packets);
  if (reason == Mib::kOutStateDirError) context_->count(Mib::kOutPolError, packets);
}

void Outbound::drop(std::size_t i, Mib reason) {
  context_->count(reason);
  forget(i);
}

void Outbound::forget(std::size_t i) {
  (*batch_)[i] = ClearPacket();
  dropped_[i] = true;
}

void Outbound::seal_train(ClearPacket& train) {
  auto header = parse_ip_header(train.bytes());
  const auto segments = header ? Segments::of(train, *header) : std::nullopt;
  if (!segments) return context_->count(Mib::kOutError);

  const InnerFacts inner = InnerFacts::of(*header, train.bytes());
  for (std::size_t begin = 0; begin < segments->count();) {
    const std::size_t rest = segments->count() - begin;
    const auto bundle = classify(*header, train.bytes());
    if (!bundle) return count_refusal(bundle.error(), rest);
    std::size_t inner_mtu = 0;
    if (const auto fit = fits(*header, inner, segments->size(begin), **bundle, inner_mtu); !fit) {
      context_->count(fit.error(), rest);
      if (begin != 0) return;  // its sender learned of the SA's size with the first
      segments->write_header(0, segments->data_sum(0), train.data());
      header->total_size = segments->size(0);
      return answer_too_big(train, *header, inner_mtu);
    }
    begin = seal_segments(*segments, begin, inner, **bundle, 0);
  }
}

/// The segments from `begin` on through the bundle's SAs from `level` on. Returns the first that
/// must be classified again, because the SA at level 0 expired.
std::size_t Outbound::seal_segments(const Segments& segments, std::size_t begin,
                                    const InnerFacts& inner, const Bundle& bundle,
                                    std::uint32_t level) {
  const std::size_t end = segments.count();
  SecurityAssociation& association = *bundle.associations[level];
  if (association.state() != SaState::kValid) {
    context_->count(refusal(association), end - begin);
    return end;
  }
  const Transform& transform = *association.transform();
  const Wrapping wrap = wrapping(association.params(), inner);
  const std::size_t stride = transform.sealed_size(segments.size(begin) - wrap.kept);
  const std::size_t room = (kMaxTrain - wrap.front) / stride;
  // What covers the header, or comes in any size, travels alone.
  const bool alone = transform.covers_ip_header() || !transform.exact_size();
  const std::size_t most = alone ? 1 : std::min(room, kMaxSegments);
  if (room == 0) {
    context_->count(Mib::kOutError, end - begin);
    return end;
  }
  while (begin < end) {
    const std::size_t wanted = std::min(most, end - begin);
    const Admission admission = admit(
        association, wanted, [&](std::size_t k) { return segments.size(begin + k) - wrap.kept; },
        [&](std::size_t n) { return segments.sizes(begin, begin + n) - n * wrap.kept; });
    fill_frame(segments, begin, admission.count, stride, admission.first, inner, bundle, level);
    begin += admission.count;
    if (admission.count == wanted) continue;
    if (!admission.expired) {
      context_->count(Mib::kOutStateSeqError, end - begin);
      return end;
    }
    context_->count(Mib::kOutStateExpired);
    ++begin;
    if (level == 0) return begin;
    context_->count(Mib::kOutNoStates, end - begin);  // sealed half-way already
    return end;
  }
  return end;
}

/// Seals `count` segments into a frame of their own and passes it on.
void Outbound::fill_frame(const Segments& segments, std::size_t begin, std::size_t count,
                          std::size_t stride, SeqNo number, const InnerFacts& inner,
                          const Bundle& bundle, std::uint32_t level) {
  if (count == 0) return;
  Buffer buffer = spare_->take();
  if (!buffer) return context_->count(Mib::kOutError, count);
  const SaConfig& params = bundle.associations[level]->params();
  Transform& transform = *bundle.associations[level]->transform();
  const auto [kept, front, next_header] = wrapping(params, inner);
  PacketBytes frame(std::move(buffer), kHeadroom, front);
  std::byte* const first = frame.data() + front;
  std::uint16_t identification = identification_;
  if (kept != 0) identification = segments.copy_front(begin, kept, frame.data());
  SealItem blank{.room = stride, .next_header = next_header};
  if (transform.covers_ip_header()) {
    const std::size_t size = transform.sealed_size(segments.size(begin) - kept);
    write_front(params, inner, outer_protocol(params), identification, size, frame.data());
    blank.ip_header = frame.data();
    blank.ip_header_size = static_cast<std::uint32_t>(front);
  }
  const Sealed sealed =
      transform.interleaves()
          ? seal_together(segments, begin, count, kept, first, stride, number, blank, transform)
          : seal_in_turn(segments, begin, count, kept, first, stride, number, blank, transform);
  if (sealed.count < count) context_->count(Mib::kOutStateProtoError, count - sealed.count);
  if (sealed.count == 0) return;

  if (kept == 0) identification_ = static_cast<std::uint16_t>(identification_ + sealed.count);
  const Protocol protocol = sealed.bare ? next_header : outer_protocol(params);
  if (!transform.covers_ip_header()) {
    write_front(params, inner, protocol, identification, sealed.size, frame.data());
  }
  frame.reframe(frame.data(), front + sealed.size);
  const auto segment_size = static_cast<std::uint16_t>(stride);
  if (level + 1 == bundle.size) {
    return wire_->transmit(SealedPacket(std::move(frame), sealed.count > 1 ? segment_size : 0));
  }
  const InnerFacts outer = inner.after(params, protocol);
  const auto again = Segments::of_sealed(frame.bytes(), outer.kept, front, segment_size);
  if (!again) return context_->count(Mib::kOutError, sealed.count);
  seal_segments(*again, 0, outer, bundle, level + 1);
}

// Straight from the train: the header goes in front of the segment's data, over data that is sealed
// already, and the trailer behind it, over data that is put back. The sum of the next segment comes
// between header and sealing, so that what was written has reached the cache when it is read by
// wide loads: they would wait for it.
Outbound::Sealed Outbound::seal_in_turn(const Segments& segments, std::size_t begin,
                                        std::size_t count, std::size_t kept, std::byte* at,
                                        std::size_t stride, SeqNo number, const SealItem& blank,
                                        Transform& transform) {
  const Lane lane = context_->lane();
  const std::size_t header_size = segments.header_size();
  const std::size_t end = begin + count;
  Sealed sealed;
  SealItem item = blank;
  item.packet = at;
  std::uint64_t sum = segments.data_sum(begin);
  for (std::size_t k = begin; k < end; ++k, ++number) {
    std::byte* const clear = segments.data(k) - header_size;
    item.payload = clear + kept;
    item.size = segments.size(k) - kept;
    item.sequence = number;
    segments.write_header(k, sum, clear);
    if (k + 1 < end) sum = segments.data_sum(k + 1);
    std::byte* const behind = item.payload + item.size;
    std::array<std::byte, kSealTail> covered;
    std::memcpy(covered.data(), behind, kSealTail);
    transform.seal(lane, {&item, 1});
    std::memcpy(behind, covered.data(), kSealTail);
    if (!item.ok) continue;
    sealed.size = sealed.count * stride + item.size;
    sealed.bare = item.bare;
    ++sealed.count;
    item.packet += stride;
  }
  return sealed;
}

// Through a copy: the library works on all of them at once.
Outbound::Sealed Outbound::seal_together(const Segments& segments, std::size_t begin,
                                         std::size_t count, std::size_t kept, std::byte* at,
                                         std::size_t stride, SeqNo number, const SealItem& blank,
                                         Transform& transform) {
  const std::size_t head = transform.head_size();
  const std::size_t header_size = segments.header_size();
  std::array<SealItem, kMaxSegments>& items = items_;
  std::array<std::byte, Segments::kMaxHeader> header;
  for (std::size_t k = 0; k < count; ++k) {
    SealItem& item = items[k];
    item = blank;
    item.packet = at + k * stride;
    item.payload = item.packet + head;
    item.size = segments.size(begin + k) - kept;
    item.sequence = number + k;
    segments.write_header(begin + k, segments.data_sum(begin + k), header.data());
    std::memcpy(item.payload, header.data() + kept, header_size - kept);
    std::memcpy(item.payload + header_size - kept, segments.data(begin + k),
                segments.data_size(begin + k));
  }
  transform.seal(context_->lane(), std::span(items).first(count));
  Sealed sealed;
  for (std::size_t k = 0; k < count; ++k) {
    if (!items[k].ok) continue;
    std::byte* const place = at + sealed.count * stride;
    if (place != items[k].packet) std::memmove(place, items[k].packet, items[k].size);
    sealed.size = sealed.count * stride + items[k].size;
    ++sealed.count;
  }
  return sealed;
}

}  // namespace xfrmfs::engine
