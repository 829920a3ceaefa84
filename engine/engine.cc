// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <queue>
#include <set>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "engine/base/slab.h"
#include "engine/crypto/algorithm.h"
#include "engine/path/expiry_queue.h"
#include "engine/path/inbound.h"
#include "engine/path/lane_context.h"
#include "engine/path/outbound.h"
#include "engine/transform/ah.h"
#include "engine/transform/esp.h"

namespace xfrmfs::engine {
namespace {

constexpr std::uint32_t kMaxBitmapWords = 128;  // XFRMA_REPLAY_ESN_MAX
constexpr std::uint32_t kMaxLegacyWindow = 32;

std::unexpected<ControlError> refuse(int error, std::string message) {
  return std::unexpected(ControlError(error, std::move(message)));
}
std::unexpected<ControlError> refuse(int error) {
  return std::unexpected(ControlError(error));
}

std::uint64_t random_seed() {
  std::uint64_t seed;
  random_bytes(std::as_writable_bytes(std::span(&seed, 1)));
  return seed;
}

/// What the engine can do, in the order in which a kernel finds out that it cannot.
std::expected<void, ControlError> check_kind(const SaParams& params) {
  if (params.mode != Mode::kTunnel && params.mode != Mode::kTransport) {
    return refuse(EPROTONOSUPPORT, "Requested mode not found");
  }
  if (params.mode == Mode::kTransport && params.selector.family != params.family()) {
    return refuse(EPROTONOSUPPORT, params.selector.family == Family::kNone
                                       ? "Only tunnel modes can accommodate an AF_UNSPEC selector"
                                       : "Only tunnel modes can accommodate a change of family");
  }
  if (params.id.protocol != Protocol::kEsp && params.id.protocol != Protocol::kAh) {
    return refuse(EPROTONOSUPPORT, "Requested type not found");
  }
  return {};
}

std::expected<void, ControlError> check_replay(ReplayParams& replay, SaDirection direction) {
  if (replay.kind == ReplayKind::kLegacy) {
    replay.window = std::min(replay.window, kMaxLegacyWindow);
    return {};
  }
  if (replay.bitmap_words > kMaxBitmapWords) {
    return refuse(EINVAL, "ESN bitmap length must be <= 128");
  }
  if (replay.window > replay.bitmap_words * 32) {
    return refuse(EINVAL, "ESN replay window is too large for the chosen bitmap size");
  }
  if (replay.kind == ReplayKind::kEsn && replay.window == 0 && direction != SaDirection::kOut) {
    return refuse(EINVAL, "ESN replay window must be > 0");
  }
  return {};
}

}  // namespace

struct Engine::Impl {
  Impl(unsigned lane_count, const Clock& engine_clock, CryptoBackends crypto)
      : lanes(lane_count),
        clock(engine_clock),
        backends(std::move(crypto)),
        sad(random_seed()),
        spd(random_seed()),
        published(first_snapshot()) {}

  const unsigned lanes;
  const Clock& clock;
  const CryptoBackends backends;
  Settings settings;
  Counters counters;
  ExpiryQueue expiries;

  Sad sad;
  Spd spd;
  // What publish() would publish; its views may be behind those of the databases.
  Snapshot current;
  bool changed = false;
  Garbage garbage;  // goes with the snapshot that is replaced next
  std::uint64_t next_serial = 1;
  Published<Snapshot> published;

  std::set<std::uint64_t> larval;  // serials of larval SAs

  // When to look at an SA's or a policy's time limits. Entries of those that are gone, or that
  // have got other limits since, are harmless: looking finds nothing to do.
  struct Deadline {
    BootTime when;
    std::uint64_t serial;
    bool operator>(const Deadline& other) const { return when > other.when; }
  };
  std::priority_queue<Deadline, std::vector<Deadline>, std::greater<>> deadlines;

  std::unique_ptr<LaneContext> make_context(unsigned lane) {
    assert(lane < lanes);
    return std::make_unique<LaneContext>(lane,
                                         LaneSources{.published = published,
                                                     .counters = counters.add_block(),
                                                     .settings = settings,
                                                     .clock = clock,
                                                     .expiries = expiries},
                                         backends.make_lane());
  }

  std::shared_ptr<const Snapshot> first_snapshot() {
    return std::make_shared<const Snapshot>(snapshot_to_publish());
  }
  Snapshot snapshot_to_publish() {
    current.sad = {};  // so that the databases own their trees alone and change them in place
    current.spd = {};
    Snapshot next = current;
    next.sad = sad.publish(next_serial, garbage);
    next.spd = spd.publish(next_serial);
    return next;
  }

  SaPtr by_serial(std::uint64_t serial) const {
    const SaPtr* found = sad.view().by_serial().find(serial);
    return found == nullptr ? nullptr : *found;
  }

  SaPtr find(const SaId& id) const {
    const auto* found = look(id);
    return found == nullptr ? nullptr : by_serial(found->serial());
  }
  const SecurityAssociation* look(const SaId& id) const {
    return sad.view().find(id.mark.value & id.mark.mask, id.destination, id.spi, id.protocol);
  }

  void watch(const SaPtr& association, BootTime now) {
    if (const auto deadline = association->lifetime().next_deadline(now)) {
      deadlines.push({*deadline, association->serial()});
    }
  }

  SaPtr insert(SaParams params, std::unique_ptr<Transform> transform, SaState state) {
    const BootTime now = clock.boot_now();
    auto association =
        make_shared_in_slab<SecurityAssociation>(std::move(params), std::move(transform), state,
                                                 next_serial++, settings, now, clock.wall_now());
    sad.insert(association, garbage);
    if (state == SaState::kLarval) larval.insert(association->serial());
    watch(association, now);
    changed = true;
    return association;
  }

  void remove(const SaPtr& association) {
    if (association->state() != SaState::kExpired) association->set_state(SaState::kDead);
    larval.erase(association->serial());
    sad.erase(*association, garbage);
    changed = true;
  }

  /// Everything that can be wrong with a new SA but for being there already, and its transform.
  std::expected<std::unique_ptr<Transform>, ControlError> construct(SaParams& params) const {
    const bool ah = params.id.protocol == Protocol::kAh;
    if (ah && (!params.crypto.mac || params.crypto.aead || params.crypto.cipher)) {
      return refuse(EINVAL, "Missing required attribute for AH: AUTH_TRUNC or AUTH");
    }
    const auto resolved =
        ah ? resolve(*params.crypto.mac) : resolve(params.crypto, backends.permissions());
    if (!resolved) return std::unexpected(resolved.error());
    if (const auto good = check_kind(params); !good) return std::unexpected(good.error());
    if (params.id.destination.family() != params.source.family()) {
      return refuse(EINVAL, "Invalid address family");
    }
    auto transform = ah ? make_ah(params) : make_esp(params);
    if (!transform) return transform;
    if (const auto good = check_replay(params.replay, params.direction); !good) {
      return std::unexpected(good.error());
    }
    return transform;
  }

  std::expected<std::unique_ptr<Transform>, ControlError> make_esp(const SaParams& params) const {
    if (params.mode == Mode::kTunnel && !params.crypto.authenticated()) {
      return refuse(EINVAL, "encryption without integrity is refused in tunnel mode");
    }
    auto esp = Esp::create(params.id.spi, params.replay.kind == ReplayKind::kEsn, params.crypto,
                           lanes, std::nullopt, backends);
    if (!esp) return std::unexpected(esp.error());
    return std::unique_ptr<Transform>(std::move(*esp));
  }

  std::expected<std::unique_ptr<Transform>, ControlError> make_ah(const SaParams& params) const {
    if (params.encapsulation) return refuse(EINVAL, "AH is not compatible with encapsulation");
    auto ah = Ah::create(params.id.spi, params.replay.kind == ReplayKind::kEsn, *params.crypto.mac,
                         ah_alignment(params.family(), (params.flags & kSaAlign4) != 0), lanes);
    if (!ah) return std::unexpected(ah.error());
    return std::unique_ptr<Transform>(std::move(*ah));
  }

  PolicyPtr insert(PolicyParams params, const PolicyPtr& replaced) {
    params.index =
        replaced ? replaced->params().index : spd.make_index(params.direction, params.index);
    auto policy = make_shared_in_slab<const SecurityPolicy>(std::move(params), next_serial++,
                                                            clock.boot_now(), clock.wall_now());
    spd.insert(policy, replaced, garbage);
    changed = true;
    return policy;
  }

  /// Policies that no snapshot sees any more leave the index.
  void sweep() { spd.sweep(published.oldest().spd, garbage); }

  void expire(const SaPtr& association, BootTime now) {
    if (association->lifetime().check_time(now) == Lifetime::Verdict::kHardReached) {
      association->set_state(SaState::kExpired);
    }
    if (association->state() == SaState::kExpired) {
      remove(association);
      return;
    }
    if (association->lifetime().check_time(now) == Lifetime::Verdict::kSoftReached) {
      association->lifetime().tell_soft();
    }
    watch(association, now);
  }
};

Engine::Engine(unsigned lanes, const Clock& clock, CryptoBackends backends)
    : impl_(std::make_unique<Impl>(lanes, clock, std::move(backends))) {}

Engine::~Engine() = default;

std::expected<SaPtr, ControlError> Engine::add_sa(SaParams params) {
  auto transform = impl_->construct(params);
  if (!transform) return std::unexpected(transform.error());
  if (impl_->look(params.id) != nullptr) return refuse(EEXIST);
  // The SA that an acquire asked for takes the place of the larval one that holds it.
  if (params.acquire_sequence != 0) {
    for (const std::uint64_t serial : std::set(impl_->larval)) {
      const SaPtr held = impl_->by_serial(serial);
      if (held->params().acquire_sequence == params.acquire_sequence &&
          held->id().protocol == params.id.protocol &&
          held->id().destination == params.id.destination) {
        impl_->remove(held);
      }
    }
  }
  return impl_->insert(std::move(params), std::move(*transform), SaState::kValid);
}

std::expected<SaPtr, ControlError> Engine::update_sa(SaParams params) {
  auto transform = impl_->construct(params);
  if (!transform) return std::unexpected(transform.error());
  const SaPtr present = impl_->find(params.id);
  if (!present) return refuse(ESRCH);
  if (present->state() == SaState::kLarval) {
    impl_->remove(present);
    return impl_->insert(std::move(params), std::move(*transform), SaState::kValid);
  }
  present->lifetime().set_limits(params.limits);
  impl_->watch(present, impl_->clock.boot_now());
  return present;
}

std::expected<SaPtr, ControlError> Engine::allocate_spi(SaParams params, std::uint32_t low,
                                                        std::uint32_t high) {
  switch (params.id.protocol) {
    case Protocol::kEsp:
    case Protocol::kAh:
      break;
    case Protocol::kComp:
      if (high > 0xffff) return refuse(EINVAL, "IPCOMP SPI must be <= 65535");
      break;
    default:
      return refuse(EINVAL, "Invalid protocol, must be one of AH, ESP, IPCOMP");
  }
  if (low > high) return refuse(EINVAL, "Invalid SPI range: min > max");
  if (params.acquire_sequence != 0) {
    for (const std::uint64_t serial : impl_->larval) {
      SaPtr held = impl_->by_serial(serial);
      if (held->params().acquire_sequence == params.acquire_sequence &&
          held->id().protocol == params.id.protocol &&
          held->id().destination == params.id.destination) {
        return held;
      }
    }
  }

  const std::uint64_t choices = std::uint64_t{high} - low + 1;
  const auto is_free = [&](std::uint32_t spi) {
    return spi != 0 && !impl_->sad.spi_in_use(params.id.protocol, Spi{spi});
  };
  // As many tries as there are choices, so that a crowded range is refused, not searched for ever.
  constexpr std::uint64_t kMostTries = 1u << 16;
  for (std::uint64_t tries = std::min(choices, kMostTries); tries > 0; --tries) {
    const auto spi = static_cast<std::uint32_t>(low + random_seed() % choices);
    if (!is_free(spi)) continue;
    params.id.spi = Spi{spi};
    params.limits = {};
    params.limits.hard_add_seconds = static_cast<std::uint64_t>(
        std::max(0, impl_->settings.acq_expires_s.load(std::memory_order_relaxed)));
    params.aevent_threshold_packets = 0;
    params.aevent_interval_ms = 0;
    return impl_->insert(std::move(params), nullptr, SaState::kLarval);
  }
  return refuse(ENOENT, "No SPI available in the requested range");
}

SaPtr Engine::find_sa(const SaId& id) const {
  return impl_->find(id);
}

std::expected<SaPtr, ControlError> Engine::delete_sa(const SaId& id) {
  SaPtr association = impl_->find(id);
  if (!association) return refuse(ESRCH);
  impl_->remove(association);
  return association;
}

std::size_t Engine::flush_sas(std::optional<Protocol> protocol) {
  std::vector<SaPtr> doomed;
  impl_->sad.view().by_serial().ascending([&](std::uint64_t, const SaPtr& association) {
    if (!protocol || association->id().protocol == *protocol) doomed.push_back(association);
    return true;
  });
  for (const SaPtr& association : doomed) impl_->remove(association);
  return doomed.size();
}

std::expected<PolicyPtr, ControlError> Engine::add_policy(PolicyParams params) {
  if (impl_->spd.find(identity_of(params))) return refuse(EEXIST);
  return impl_->insert(std::move(params), nullptr);
}

std::expected<PolicyPtr, ControlError> Engine::update_policy(PolicyParams params) {
  const PolicyPtr present = impl_->spd.find(identity_of(params));
  return impl_->insert(std::move(params), present);
}

PolicyPtr Engine::find_policy(const PolicyKey& key) const {
  if (key.index == 0) {
    return impl_->spd.find(PolicyIdentity{.direction = key.direction,
                                          .type = key.type,
                                          .selector = key.selector,
                                          .mark = key.mark,
                                          .if_id = key.if_id});
  }
  PolicyPtr policy = impl_->spd.find(key.index);
  if (!policy) return nullptr;
  const PolicyParams& params = policy->params();
  const bool same = params.direction == key.direction && params.type == key.type &&
                    params.mark == key.mark && params.if_id == key.if_id;
  return same ? policy : nullptr;
}

std::expected<PolicyPtr, ControlError> Engine::delete_policy(const PolicyKey& key) {
  PolicyPtr policy = find_policy(key);
  if (!policy) return refuse(ENOENT);
  impl_->spd.erase(policy, impl_->next_serial++);
  impl_->changed = true;
  return policy;
}

std::size_t Engine::flush_policies(PolicyType type) {
  std::vector<PolicyPtr> doomed;
  impl_->spd.view().by_serial().ascending([&](std::uint64_t, const PolicyPtr& policy) {
    if (policy->params().type == type) doomed.push_back(policy);
    return true;
  });
  for (const PolicyPtr& policy : doomed) impl_->spd.erase(policy, impl_->next_serial++);
  if (!doomed.empty()) impl_->changed = true;
  return doomed.size();
}

DefaultActions Engine::defaults() const {
  return impl_->current.defaults;
}

void Engine::set_defaults(const DefaultActions& defaults) {
  impl_->current.defaults = defaults;
  impl_->changed = true;
}

void Engine::set_local_addresses(std::vector<IpAddress> addresses) {
  std::ranges::sort(addresses);
  impl_->current.local_addresses =
      std::make_shared<const std::vector<IpAddress>>(std::move(addresses));
  impl_->changed = true;
}

void Engine::publish() {
  if (!impl_->changed) return;
  impl_->changed = false;
  auto next = std::make_shared<const Snapshot>(impl_->snapshot_to_publish());
  impl_->published.replace(std::move(next), std::exchange(impl_->garbage, {}));
  impl_->sweep();
}

bool Engine::reclaim() {
  const bool all = impl_->published.reclaim();
  impl_->sweep();
  return all;
}

const Snapshot& Engine::current() const {
  impl_->current.sad = impl_->sad.view();
  impl_->current.spd = impl_->spd.view();
  return impl_->current;
}

std::optional<BootTime> Engine::advance() {
  const BootTime now = impl_->clock.boot_now();
  const ExpiryQueue::Content met = impl_->expiries.take();
  if (met.overflowed) {
    const auto all = impl_->sad.view().by_serial();
    all.ascending([&](std::uint64_t, const SaPtr& association) {
      if (association->state() == SaState::kExpired) impl_->remove(association);
      return true;
    });
  } else {
    for (std::size_t i = 0; i < met.size; ++i) {
      if (const SaPtr association = impl_->by_serial(met.serials[i])) impl_->remove(association);
    }
  }
  auto& deadlines = impl_->deadlines;
  while (!deadlines.empty() && deadlines.top().when <= now) {
    const std::uint64_t serial = deadlines.top().serial;
    deadlines.pop();
    if (const SaPtr association = impl_->by_serial(serial)) impl_->expire(association, now);
  }
  publish();
  if (deadlines.empty()) return std::nullopt;
  return deadlines.top().when;
}

std::unique_ptr<OutboundPath> Engine::make_outbound(unsigned lane) {
  return std::make_unique<Outbound>(impl_->make_context(lane));
}

std::unique_ptr<InboundPath> Engine::make_inbound(unsigned lane) {
  return std::make_unique<Inbound>(impl_->make_context(lane));
}

CounterBlock& Engine::add_counters() {
  return impl_->counters.add_block();
}

void Engine::set_attention_sink(AttentionSink* sink) {
  impl_->expiries.set_sink(sink);
}

View Engine::view() const {
  return View(impl_->published, impl_->counters, impl_->settings, impl_->clock);
}

const CryptoBackends& Engine::backends() const {
  return impl_->backends;
}

Settings& Engine::settings() {
  return impl_->settings;
}

// The widest ESP there is: CBC's IV and padding, HMAC-SHA2-512's ICV, in UDP, in IPv6.
std::uint32_t largest_inner_packet(std::uint32_t link_mtu) {
  constexpr std::uint32_t kFixed =
      40 /* IPv6 */ + 8 /* UDP */ + 8 /* ESP */ + 16 /* IV */ + 32 /* ICV */;
  constexpr std::uint32_t kBlock = 16;
  constexpr std::uint32_t kTrailer = 2;
  if (link_mtu < kFixed + kBlock) return 0;
  return (link_mtu - kFixed) / kBlock * kBlock - kTrailer;
}

}  // namespace xfrmfs::engine
