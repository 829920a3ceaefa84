// SPDX-License-Identifier: Apache-2.0
#include "engine/path/inbound.h"
#include "engine/base/prefetch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/packet/checksum.h"

namespace xfrmfs::engine {
namespace {

constexpr std::uint32_t kNoMark = 0;
constexpr std::uint32_t kNoIfId = 0;

/// Bytes of the headers up to SPI and sequence number, and where those are.
struct Layout {
  std::size_t size;
  std::size_t spi;
  std::size_t sequence;
};
constexpr Layout kEspLayout{.size = 8, .spi = 0, .sequence = 4};
constexpr Layout kAhLayout{.size = 12, .spi = 4, .sequence = 8};

const Layout& layout_of(Protocol protocol) {
  return protocol == Protocol::kAh ? kAhLayout : kEspLayout;
}

bool is_ipsec(Protocol protocol) {
  return protocol == Protocol::kEsp || protocol == Protocol::kAh;
}

/// As it lies in memory: only to be compared.
template <class Word = std::uint32_t>
Word load_word(const std::byte* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

/// Would parse_ip_header() find the same in `b` as it found in `a`? Both have the same size. What
/// it does not look at is not compared, so that identifications may differ.
bool same_ip_header(const IpHeader& header, const std::byte* a, const std::byte* b) {
  const auto same_at = [&](std::size_t at) {
    return load_word<std::uint64_t>(a + at) == load_word<std::uint64_t>(b + at);
  };
  if (header.family == Family::kIpv4) {
    return load_word(a) == load_word(b) && load_word(a + 6) == load_word(b + 6) && same_at(12);
  }
  return header.header_size == kIpv6HeaderSize && same_at(0) && same_at(8) && same_at(16) &&
         same_at(24) && same_at(32);
}

/// Does this SA do what the template demands? Templates of tunnels name both ends, zero any.
bool satisfies(const SecurityAssociation& association, const Template& tmpl) {
  const SaConfig& params = association.params();
  const auto same = [](const IpAddress& wanted, const IpAddress& have) {
    return wanted.is_any() || wanted == have;
  };
  return params.id.protocol == tmpl.protocol && (tmpl.spi == Spi{} || tmpl.spi == params.id.spi) &&
         (tmpl.reqid == Reqid{} || tmpl.reqid == params.reqid) && params.mode == tmpl.mode &&
         (params.mode == Mode::kTransport ||
          (same(tmpl.destination, params.id.destination) && same(tmpl.source, params.source)));
}

}  // namespace

void Inbound::refresh() noexcept {
  if (context_->refresh()) cache_.clear();
}

void Inbound::process(Batch<SealedPacket>& batch, ClearSink& clear) noexcept {
  refresh();
  now_ = context_->now();
  joiner_.set_sink(clear);
  LastHeader last;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (!last.same_as(batch[i].bytes())) {
      Outer& outer = outers_[i];
      last.outer = nullptr;
      if (!parse_ip_header(batch[i].bytes(), outer.header) || outer.header.is_fragment) {
        context_->count(Mib::kInHdrError);
        continue;
      }
      outer.encapsulated = outer.header.protocol == Protocol::kUdp;
      last.keep(batch[i].bytes(), outer);
      take(batch[i].bytes().first(outer.header.total_size), batch[i].segment_size(), outer, i);
      continue;
    }
    take(batch[i].bytes(), batch[i].segment_size(), *last.outer, i);
  }
  run_units();
  batch.clear();
}

void Inbound::LastHeader::keep(Bytes packet, const Outer& read) {
  const bool plain = read.header.header_size == outer_header_size(read.header.family);
  if (!plain || packet.size() < bytes.size()) return;
  std::memcpy(bytes.data(), packet.data(), bytes.size());
  outer = &read;
}

bool Inbound::LastHeader::same_as(Bytes packet) const {
  if (outer == nullptr || packet.size() < bytes.size()) return false;
  const auto same = [&](std::size_t from, std::size_t size) {
    return std::memcmp(packet.data() + from, bytes.data() + from, size) == 0;
  };
  // But for lengths, and for the identification and the checksum of IPv4.
  if (outer->header.family == Family::kIpv4) {
    return load_be16(&packet[2]) == packet.size() && same(0, 2) && same(6, 4) && same(12, 8);
  }
  return kIpv6HeaderSize + load_be16(&packet[4]) == packet.size() && same(0, 4) && same(6, 34);
}

/// Lays the packets of train `number` of the batch side by side.
void Inbound::take(MutableBytes train, std::size_t segment_size, const Outer& outer,
                   std::size_t number) {
  const std::size_t head = outer.header.header_size + (outer.encapsulated ? kUdpHeaderSize : 0);
  if ((!outer.encapsulated && !is_ipsec(outer.header.protocol)) || train.size() < head) {
    return context_->count(Mib::kInHdrError);
  }
  MutableBytes rest = train.subspan(head);
  const std::size_t stride = segment_size != 0 ? segment_size : rest.size();
  const std::byte* front = train.data();
  std::uint16_t place = 0;
  bool one_by_one = false;
  if (stride < rest.size()) {
    // Taking the first packet out may write over the header that the others have in common.
    if (outer.header.header_size > kMaxFront) return context_->count(Mib::kInHdrError);
    std::memcpy(fronts_[number].data(), front, outer.header.header_size);
    front = fronts_[number].data();
    one_by_one = leaves_no_room(outer, rest);
  }
  // A train is not torn if it can be helped: it came as one, and may leave as one.
  if (stride != 0 && count_ + (rest.size() + stride - 1) / stride > kUnits) run_units();
  do {
    if (count_ == kUnits || one_by_one) run_units();
    Unit& unit = units_[count_++];
    unit.outer = &outer;
    unit.front = front;
    unit.number = place++;
    unit.packet = rest.first(std::min(stride, rest.size()));
    unit.like = &unit;
    unit.applied.depth = 0;
    unit.done = unit.dropped = false;
    rest = rest.subspan(unit.packet.size());
  } while (!rest.empty());
}

/// In transport mode a packet's header is put in front of what was protected, where its protocol's
/// header was and the end of the packet before it. If that is not enough for a header, the packet
/// before must be gone already.
bool Inbound::leaves_no_room(const Outer& outer, Bytes packets) const {
  const Protocol protocol = protocol_in(outer);
  const Layout& layout = layout_of(protocol);
  if (packets.size() < layout.size) return false;
  const Spi spi{load_be32(packets.data() + layout.spi)};
  const auto* association =
      context_->snapshot().sad.find(kNoMark, outer.header.destination, spi, protocol);
  if (association == nullptr || association->params().mode != Mode::kTransport) return false;
  constexpr std::size_t kWithoutPadding = 14;  // of any alignment
  const Transform* const transform = association->transform();
  return transform != nullptr &&
         transform->sealed_size(kWithoutPadding) - kWithoutPadding < outer.header.header_size;
}

// Opens in rounds: each round takes one transform off every packet that still has one for us, so
// nesting costs rounds, not recursion.
void Inbound::run_units() {
  const std::span<Unit> units(units_.data(), count_);
  look_ahead();
  for (std::size_t begin = 0; begin < count_;) begin = open_run(begin);
  while (!std::ranges::all_of(units, &Unit::done)) {
    for (std::size_t begin = 0; begin < count_;) begin = open_run(begin);
  }
  std::size_t refused = 0;
  const Unit* last = nullptr;
  for (Unit& unit : units) {
    if (unit.dropped) continue;
    if (last == nullptr || !same_flow(*last, unit)) {
      if (const auto verdict = accept(unit); !verdict) {
        drop(unit, verdict.error());
        continue;
      }
    }
    last = &unit;
    refused += joiner_.add(unit.outer->header, unit.packet);
  }
  refused += joiner_.flush();
  if (refused != 0) context_->count(Mib::kInError, refused);
  count_ = 0;
}

/// Packets of many SAs: what they need comes from memory while others of the batch are looked at,
/// instead of one wait after the other for table, SA, transform and keys. A pass for each step,
/// because a step needs what the one before has fetched.
void Inbound::look_ahead() const {
  std::array<const Unit*, kUnits> ahead;
  std::size_t count = 0;
  for (const Unit& unit : std::span(units_).first(count_)) {
    if (unit.packet.size() < layout_of(protocol_in(*unit.outer)).size) continue;
    if (count != 0 && spi_of(*ahead[count - 1]) == spi_of(unit)) continue;
    ahead[count++] = &unit;
  }
  if (count < 2) return;
  const std::span<const Unit* const> units(ahead.data(), count);
  const SadView& sad = context_->snapshot().sad;
  FetchList list;
  for (const Unit* unit : units) {
    sad.prefetch(unit->outer->header.destination, spi_of(*unit), protocol_in(*unit->outer), list);
  }
  list.fetch();
  struct Found {
    const SecurityAssociation* association;
    std::size_t size;  // of the packet
  };
  std::array<Found, kUnits> found;
  std::size_t used = 0;
  for (const Unit* unit : units) {
    const auto* association = sad.prefetch_association(
        unit->outer->header.destination, spi_of(*unit), protocol_in(*unit->outer), list);
    if (association != nullptr) found[used++] = {association, unit->packet.size()};
  }
  list.fetch();
  const auto each_transform = [&](auto&& visit) {
    for (const auto& [association, size] : std::span(found).first(used)) {
      if (association->transform() != nullptr) visit(*association->transform(), size);
    }
    list.fetch();
  };
  each_transform([&](const Transform& transform, std::size_t) { list.add(&transform); });
  each_transform([&](const Transform& transform, std::size_t size) {
    transform.prefetch(context_->lane(), size, list);
  });
}

/// Takes one transform off consecutive packets of one SA, from `begin` on. Returns the first packet
/// that it did not deal with.
std::size_t Inbound::open_run(std::size_t begin) {
  SecurityAssociation* association = nullptr;
  const Unit* last = nullptr;   // the last one of the run so far
  std::uint64_t unlimited = 0;  // packets that meet no limit whatever their size
  std::size_t waiting = 0;
  std::size_t i = begin;
  for (; i < count_; ++i) {
    Unit& unit = units_[i];
    if (unit.done) continue;
    // The packets of a train mostly have one SPI: what was found for the one before holds.
    const bool same = association != nullptr && unit.outer == last->outer &&
                      unit.packet.size() >= layout_of(protocol_in(*unit.outer)).size &&
                      spi_of(unit) == spi_of(*last);
    SecurityAssociation* next = association;
    if (!same) {
      const auto found = find_association(unit);
      if (!found) {
        drop(unit, found.error());
        continue;
      }
      next = *found;
    }
    if (association != nullptr && next != association) break;
    // A limit is met by exact order of check and charge: near it, packets go one by one.
    if (waiting == 0) unlimited = next->lifetime().within_limits();
    if (waiting > 0 && waiting >= unlimited) break;
    const auto number = may_open(*next, unit, waiting == 0);
    if (!number) {
      drop(unit, number.error());
      continue;
    }
    association = next;
    last = &unit;
    item_of_[waiting] = i;
    items_[waiting] = {.data = unit.packet.data(), .size = unit.packet.size(), .sequence = *number};
    items_[waiting].ip_header = unit.front;
    items_[waiting].ip_header_size = static_cast<std::uint32_t>(unit.outer->header.header_size);
    ++waiting;
  }
  if (association == nullptr) return i;
  association->transform()->open(context_->lane(), std::span(items_).first(waiting));
  commit(*association, waiting);
  return i;
}

/// What became of the first `count` items: the window's lock is held for numbers only.
void Inbound::commit(SecurityAssociation& association, std::size_t count) {
  std::size_t bytes = 0;
  std::size_t packets = 0;
  {
    ReplayWindow::Commits commits(association.replay());
    for (std::size_t k = 0; k < count; ++k) {
      if (const auto verdict = verify(association, commits, items_[k]); !verdict) {
        drop(units_[item_of_[k]], verdict.error());
        continue;
      }
      bytes += items_[k].size;
      ++packets;
    }
  }
  if (packets == 0) return;
  association.lifetime().charge(bytes, packets, now_);
  const Unit* before = nullptr;  // the last one that came out well
  const OpenItem* before_item = nullptr;
  const Outer* before_outer = nullptr;
  const bool tunnel = association.params().mode == Mode::kTunnel;
  for (std::size_t k = 0; k < count; ++k) {
    Unit& unit = units_[item_of_[k]];
    if (unit.dropped) continue;
    const OpenItem& item = items_[k];
    const Outer* const outer = unit.outer;
    // Most packets of a train have one header: what was found for the one before holds, the verdict
    // and what was carried inward too.
    if (tunnel && before != nullptr && outer == before_outer && unit.applied.depth == 0 &&
        item.size == before_item->size && item.next_header == before_item->next_header &&
        same_ip_header(before->outer->header, before_item->data, item.data)) {
      unit.outer = before->outer;
      unit.packet = MutableBytes(item.data, before->packet.size());
      unit.like = before->like;
      unit.done = true;
    } else if (const auto verdict = decapsulate(association, unit, item); !verdict) {
      drop(unit, verdict.error());
      continue;
    }
    if (!unit.done) continue;
    before = &unit;
    before_item = &item;
    before_outer = outer;
  }
}

/// Header, depth, SAD, state, encapsulation.
std::expected<SecurityAssociation*, Mib> Inbound::find_association(const Unit& unit) {
  const Outer& outer = *unit.outer;
  const Protocol protocol = protocol_in(outer);
  if (unit.packet.size() < layout_of(protocol).size) return std::unexpected(Mib::kInHdrError);
  if (unit.applied.depth == kMaxDepth) return std::unexpected(Mib::kInBufferError);

  auto* association =
      context_->snapshot().sad.find(kNoMark, outer.header.destination, spi_of(unit), protocol);
  if (association == nullptr) return std::unexpected(Mib::kInNoStates);
  if (association->params().direction == SaDirection::kOut) {
    return std::unexpected(Mib::kInStateDirError);
  }
  switch (association->state()) {
    case SaState::kValid:
      if (association->params().encapsulation.has_value() != outer.encapsulated) {
        return std::unexpected(Mib::kInStateMismatch);
      }
      return association;
    case SaState::kLarval:
      return std::unexpected(Mib::kAcquireError);
    case SaState::kExpired:  // a moment ago, on another worker: as good as gone
      return std::unexpected(Mib::kInNoStates);
    case SaState::kDead:
      break;
  }
  return std::unexpected(Mib::kInStateInvalid);
}

/// Replay window, then limits; the full sequence number.
std::expected<SeqNo, Mib> Inbound::may_open(SecurityAssociation& association, const Unit& unit,
                                            bool check_limits) {
  const std::size_t at = layout_of(association.id().protocol).sequence;
  const auto number = association.replay().check(load_be32(unit.packet.data() + at));
  if (!number) {
    association.count(number.error());
    return std::unexpected(Mib::kInStateSeqError);
  }
  if (!check_limits) return *number;
  switch (association.lifetime().check(now_)) {
    case Lifetime::Verdict::kHardReached:
      context_->expire(association);
      return std::unexpected(Mib::kInStateExpired);
    case Lifetime::Verdict::kSoftReached:
      association.lifetime().tell_soft();
      break;
    case Lifetime::Verdict::kWithin:
      break;
  }
  return *number;
}

/// After the transform: its verdict, and the window again.
std::expected<void, Mib> Inbound::verify(SecurityAssociation& association,
                                         ReplayWindow::Commits& commits,
                                         const OpenItem& item) const {
  if (item.result != OpenResult::kOpened) {
    if (item.result == OpenResult::kIntegrityFailed) association.count_integrity_failure();
    return std::unexpected(Mib::kInStateProtoError);
  }
  if (const auto committed = commits.add(item.sequence); !committed) {
    association.count(committed.error());
    return std::unexpected(Mib::kInStateSeqError);
  }
  return {};
}

/// The inner header; what follows it is the next thing to open, or to accept.
std::expected<void, Mib> Inbound::decapsulate(SecurityAssociation& association, Unit& unit,
                                              const OpenItem& item) {
  const SaConfig& params = association.params();
  IpHeader& inner = unit.inner.header;  // and the outer one too, of a packet that was nested
  MutableBytes packet(item.data, item.size);
  if (params.mode == Mode::kTransport) {
    packet = put_front_back(unit.outer->header, unit.front, unit.number, item.next_header, packet);
    if (!parse_ip_header(packet, inner)) return std::unexpected(Mib::kInHdrError);
  } else {
    const std::uint8_t outer_class = unit.outer->header.traffic_class;
    const auto removed = remove_outer_header(params, outer_class, item.next_header, packet, inner);
    if (!removed) return removed;
  }
  unit.applied.associations[unit.applied.depth++] = &association;
  unit.inner.encapsulated = false;
  unit.outer = &unit.inner;
  unit.front = packet.data();
  unit.number = 0;
  unit.packet = packet.first(inner.total_size);
  unit.done = !is_nested(unit.inner);
  if (!unit.done) {
    unit.packet = unit.packet.subspan(inner.header_size);
  } else if (params.mode == Mode::kTransport && params.encapsulation) {
    // The addresses are what a NAT made of them (RFC 3948 §3.1.2).
    renew_transport_checksum(inner, unit.packet);
  }
  return {};
}

/// Is what came out again for us to open?
bool Inbound::is_nested(const Outer& outer) const {
  return is_ipsec(outer.header.protocol) && !outer.header.is_fragment &&
         context_->snapshot().is_local(outer.header.destination);
}

Protocol Inbound::protocol_in(const Outer& outer) {
  return outer.encapsulated ? Protocol::kEsp : outer.header.protocol;
}

Spi Inbound::spi_of(const Unit& unit) {
  return Spi{load_be32(unit.packet.data() + layout_of(protocol_in(*unit.outer)).spi)};
}

/// True only if the verdict on `a` holds for `b`; a glance at the bytes instead of a lookup.
bool Inbound::same_flow(const Unit& a, const Unit& b) {
  const IpHeader& x = a.outer->header;
  const IpHeader& y = b.outer->header;
  if (a.like != b.like &&
      (a.like->applied != b.like->applied || x.family != y.family || x.protocol != y.protocol ||
       y.is_fragment || x.header_size != y.header_size)) {
    return false;
  }
  if (x.is_fragment) return false;
  if (x.protocol != Protocol::kTcp && x.protocol != Protocol::kUdp) return false;
  if (a.packet.size() < x.header_size + 4 || b.packet.size() < y.header_size + 4) return false;
  const std::byte* const p = a.packet.data();
  const std::byte* const q = b.packet.data();
  const auto same_at = [&](std::size_t at) {
    return load_word<std::uint64_t>(p + at) == load_word<std::uint64_t>(q + at);
  };
  const bool addresses = x.family == Family::kIpv4
                             ? same_at(12)
                             : same_at(8) && same_at(16) && same_at(24) && same_at(32);
  return addresses && load_word(p + x.header_size) == load_word(q + x.header_size);
}

/// The inbound SPD, for the host itself or for whom it forwards to.
std::expected<void, Mib> Inbound::accept(const Unit& unit) {
  const Flow flow = flow_of(unit.outer->header, unit.packet);
  auto& slot = cache_.slot(flow);
  if (!cache_.holds(slot, flow) || slot.value.applied != unit.like->applied) {
    const auto pass = decide(unit, flow);
    if (!pass) return std::unexpected(pass.error());
    cache_.put(slot, flow, *pass);
  }
  for (const SecurityPolicy* policy : slot.value.policies) {
    if (policy != nullptr) policy->touch(now_);
  }
  return {};
}

std::expected<Inbound::Pass, Mib> Inbound::decide(const Unit& unit, const Flow& flow) const {
  const Snapshot& snapshot = context_->snapshot();
  const Applied& applied = unit.like->applied;
  for (std::uint32_t k = applied.depth; k-- > 0;) {
    if (!applied.associations[k]->params().selector.matches(flow)) {
      return std::unexpected(Mib::kInStateMismatch);
    }
  }
  const bool for_host = snapshot.is_local(flow.destination) || flow.destination.is_multicast();
  const Direction direction = for_host ? Direction::kIn : Direction::kForward;

  Pass pass{.applied = applied};
  auto& [sub, main] = pass.policies;
  sub = snapshot.spd.find(direction, PolicyType::kSub, flow, kNoMark, kNoIfId);
  if (sub == nullptr || sub->params().action == PolicyAction::kAllow) {
    main = snapshot.spd.find(direction, PolicyType::kMain, flow, kNoMark, kNoIfId);
  }
  if (sub == nullptr && main == nullptr) {
    const bool transport_only =
        std::all_of(applied.associations.begin(), applied.associations.begin() + applied.depth,
                    [](const auto* a) { return a->params().mode == Mode::kTransport; });
    if (snapshot.defaults[direction] == DefaultAction::kBlock || !transport_only) {
      return std::unexpected(Mib::kInNoPols);
    }
    return pass;
  }
  if (const auto good = check_templates(applied, pass.policies); !good) {
    return std::unexpected(good.error());
  }
  return pass;
}

std::expected<void, Mib> Inbound::check_templates(
    const Applied& applied, const std::array<const SecurityPolicy*, 2>& policies) const {
  // The templates of both, in order; the last is the outermost transform.
  std::array<const Template*, kUsableTemplates> templates{};
  std::size_t count = 0;
  bool blocked = false;
  bool too_many = false;
  for (const SecurityPolicy* policy : policies) {
    if (policy == nullptr) continue;
    policy->touch(now_);
    blocked |= policy->params().action == PolicyAction::kBlock;
    for (const Template& tmpl : policy->params().templates) {
      if (count == templates.size()) {
        too_many = true;
        break;
      }
      templates[count++] = &tmpl;
    }
  }
  if (blocked) return std::unexpected(Mib::kInPolBlock);
  if (too_many) return std::unexpected(Mib::kInBufferError);

  // Consumed last to first against the SAs in order of application. Transport SAs that no
  // template asked for may lie between and behind; anything else may not.
  std::uint32_t next = 0;
  for (std::size_t t = count; t-- > 0;) {
    std::uint32_t k = next;
    while (k < applied.depth && !satisfies(*applied.associations[k], *templates[t]) &&
           applied.associations[k]->params().mode == Mode::kTransport) {
      ++k;
    }
    if (k < applied.depth && satisfies(*applied.associations[k], *templates[t])) {
      next = k + 1;
    } else if (!templates[t]->optional) {
      return std::unexpected(Mib::kInTmplMismatch);
    }
  }
  for (; next < applied.depth; ++next) {
    if (applied.associations[next]->params().mode != Mode::kTransport) {
      return std::unexpected(Mib::kInTmplMismatch);
    }
  }
  return {};
}

void Inbound::drop(Unit& unit, Mib reason) {
  context_->count(reason);
  unit.done = unit.dropped = true;
}

}  // namespace xfrmfs::engine
