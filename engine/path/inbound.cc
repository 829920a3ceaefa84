// SPDX-License-Identifier: Apache-2.0
#include "engine/path/inbound.h"

#include <algorithm>
#include <utility>

namespace xfrmfs::engine {
namespace {

constexpr std::uint32_t kNoMark = 0;
constexpr std::uint32_t kNoIfId = 0;

/// Does this SA do what the template demands? Templates of tunnels name both ends, zero any.
bool satisfies(const SecurityAssociation& association, const Template& tmpl) {
  const SaParams& params = association.params();
  const auto same = [](const IpAddress& wanted, const IpAddress& have) {
    return wanted.is_any() || wanted == have;
  };
  return params.id.protocol == tmpl.protocol && (tmpl.spi == Spi{} || tmpl.spi == params.id.spi) &&
         (tmpl.reqid == Reqid{} || tmpl.reqid == params.reqid) && params.mode == tmpl.mode &&
         (params.mode == Mode::kTransport ||
          (same(tmpl.destination, params.id.destination) && same(tmpl.source, params.source)));
}

}  // namespace

// Opens in rounds: each round takes one transform off every packet that still has one for us, so
// nesting costs rounds, not recursion.
void Inbound::process(Batch<SealedPacket>& batch, ClearSink& clear) noexcept {
  refresh();
  now_ = context_->now();
  batch_ = &batch;
  done_.fill(false);
  dropped_.fill(false);

  for (std::size_t i = 0; i < batch.size(); ++i) {
    journeys_[i].depth = 0;
    const auto outer = parse_ip_header(batch[i].bytes());
    if (!outer || outer->is_fragment || outer->protocol != Protocol::kEsp) {
      drop(i, Mib::kInHdrError);
    } else {
      journeys_[i].outer = *outer;
    }
  }
  while (!std::all_of(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(batch.size()),
                      std::identity{})) {
    for (std::size_t begin = 0; begin < batch.size();) begin = open_run(begin);
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (dropped_[i]) continue;
    if (const auto verdict = accept(i); !verdict) {
      drop(i, verdict.error());
    } else {
      const Bytes bytes = batch[i].bytes();
      if (!clear.deliver({.pieces = {&bytes, 1}})) drop(i, Mib::kInError);
    }
  }
  batch.clear();
  batch_ = nullptr;
}

/// Takes one transform off consecutive packets of one SA, from `begin` on. Returns the first packet
/// that it did not deal with.
std::size_t Inbound::open_run(std::size_t begin) {
  SecurityAssociation* association = nullptr;
  std::size_t waiting = 0;
  std::size_t i = begin;
  for (; i < batch_->size(); ++i) {
    if (done_[i]) continue;
    const auto found = find_association(i);
    if (!found) {
      drop(i, found.error());
      continue;
    }
    if (association != nullptr && *found != association) break;
    // A limit is met by exact order of check and charge: such packets go one by one.
    if (waiting > 0 && (*found)->lifetime().has_usage_limits()) break;
    const auto number = may_open(**found, i);
    if (!number) {
      drop(i, number.error());
      continue;
    }
    association = *found;
    const std::size_t header_size = journeys_[i].outer.header_size;
    item_of_[waiting] = i;
    items_[waiting] = {.data = (*batch_)[i].data() + header_size,
                       .size = journeys_[i].outer.total_size - header_size,
                       .next_header = {},
                       .sequence = *number};
    ++waiting;
  }
  if (association == nullptr) return i;

  association->transform()->open(context_->lane(), std::span(items_).first(waiting));
  for (std::size_t k = 0; k < waiting; ++k) {
    if (const auto verdict = finish(*association, item_of_[k], items_[k]); !verdict) {
      drop(item_of_[k], verdict.error());
    }
  }
  return i;
}

/// Header, depth, SAD, state.
std::expected<SecurityAssociation*, Mib> Inbound::find_association(std::size_t i) {
  const Journey& journey = journeys_[i];
  const IpHeader& outer = journey.outer;
  const Bytes packet = (*batch_)[i].bytes();
  if (outer.total_size - outer.header_size < 8) return std::unexpected(Mib::kInHdrError);
  if (journey.depth == kMaxDepth) return std::unexpected(Mib::kInBufferError);

  const Spi spi{load_be32(packet.data() + outer.header_size)};
  auto* association =
      context_->snapshot().sad.find(kNoMark, outer.destination, spi, outer.protocol);
  if (association == nullptr) return std::unexpected(Mib::kInNoStates);
  switch (association->state()) {
    case SaState::kValid:
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
std::expected<SeqNo, Mib> Inbound::may_open(SecurityAssociation& association, std::size_t i) {
  const std::byte* header = (*batch_)[i].data() + journeys_[i].outer.header_size;
  const auto number = association.replay().check(load_be32(header + 4));
  if (!number) {
    association.count(number.error());
    return std::unexpected(Mib::kInStateSeqError);
  }
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

/// After the transform: its verdict, the window again, the charge, the inner header.
std::expected<void, Mib> Inbound::finish(SecurityAssociation& association, std::size_t i,
                                         const OpenItem& item) {
  if (item.result != OpenResult::kOpened) {
    if (item.result == OpenResult::kIntegrityFailed) association.count_integrity_failure();
    return std::unexpected(Mib::kInStateProtoError);
  }
  if (const auto committed = association.replay().commit(item.sequence); !committed) {
    association.count(committed.error());
    return std::unexpected(Mib::kInStateSeqError);
  }
  association.lifetime().charge(item.size, 1, now_);

  Journey& journey = journeys_[i];
  const auto inner = remove_outer_header(association.params(), journey.outer, item.next_header,
                                         MutableBytes(item.data, item.size));
  if (!inner) return std::unexpected(inner.error());
  (*batch_)[i].reframe(item.data, inner->total_size);
  journey.applied[journey.depth++] = &association;
  journey.outer = *inner;
  done_[i] = !is_nested(journey);
  return {};
}

/// Is what came out again ESP, and for us?
bool Inbound::is_nested(const Journey& journey) const {
  return journey.outer.protocol == Protocol::kEsp && !journey.outer.is_fragment &&
         context_->snapshot().is_local(journey.outer.destination);
}

/// The inbound SPD, for the host itself or for whom it forwards to.
std::expected<void, Mib> Inbound::accept(std::size_t i) const {
  const Journey& journey = journeys_[i];
  const Flow flow = flow_of(journey.outer, std::as_const((*batch_)[i]).bytes());
  for (std::uint32_t k = journey.depth; k-- > 0;) {
    if (!journey.applied[k]->params().selector.matches(flow)) {
      return std::unexpected(Mib::kInStateMismatch);
    }
  }
  const bool for_host =
      context_->snapshot().is_local(flow.destination) || flow.destination.is_multicast();
  return check_policies(journey, for_host ? Direction::kIn : Direction::kForward, flow);
}

std::expected<void, Mib> Inbound::check_policies(const Journey& journey, Direction direction,
                                                 const Flow& flow) const {
  const Snapshot& snapshot = context_->snapshot();
  std::array<const SecurityPolicy*, 2> policies{};
  auto& [sub, main] = policies;
  sub = snapshot.spd.find(direction, PolicyType::kSub, flow, kNoMark, kNoIfId);
  if (sub == nullptr || sub->params().action == PolicyAction::kAllow) {
    main = snapshot.spd.find(direction, PolicyType::kMain, flow, kNoMark, kNoIfId);
  }
  if (sub == nullptr && main == nullptr) {
    const bool transport_only =
        std::all_of(journey.applied.begin(), journey.applied.begin() + journey.depth,
                    [](const auto* a) { return a->params().mode == Mode::kTransport; });
    if (snapshot.defaults[direction] == DefaultAction::kBlock || !transport_only) {
      return std::unexpected(Mib::kInNoPols);
    }
    return {};
  }

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
    while (k < journey.depth && !satisfies(*journey.applied[k], *templates[t]) &&
           journey.applied[k]->params().mode == Mode::kTransport) {
      ++k;
    }
    if (k < journey.depth && satisfies(*journey.applied[k], *templates[t])) {
      next = k + 1;
    } else if (!templates[t]->optional) {
      return std::unexpected(Mib::kInTmplMismatch);
    }
  }
  for (; next < journey.depth; ++next) {
    if (journey.applied[next]->params().mode != Mode::kTransport) {
      return std::unexpected(Mib::kInTmplMismatch);
    }
  }
  return {};
}

void Inbound::drop(std::size_t i, Mib reason) {
  context_->count(reason);
  (*batch_)[i] = SealedPacket();
  done_[i] = true;
  dropped_[i] = true;
}

}  // namespace xfrmfs::engine
