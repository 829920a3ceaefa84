// SPDX-License-Identifier: Apache-2.0
#include "netio/xfrm_handlers.h"

#include <array>
#include <cerrno>
#include <expected>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/core.h>
#include <linux/xfrm.h>

#include "netio/xfrm_sa_codec.h"

namespace xfrmfs::netio {
namespace {

using engine::Engine;
using engine::PolicyPtr;
using engine::SaPtr;

using Outcome = std::expected<void, Refusal>;

/// One request on its way through the table.
struct Request {
  const NetlinkMessage& message;
  const Requester& from;
  Bytes base;
  const Attributes& attributes;
};

/// What a handler works with.
struct Context {
  Engine& engine;
  HashThresholds& thresholds;
  XfrmHandlers::Result& result;
};

Outcome refuse(const engine::ControlError& error) {
  return std::unexpected(Refusal(error));
}

Moment now(const Engine& engine) {
  return {.boot = engine.view().now(), .wall = engine.view().wall_now()};
}

/// An answer of type `type`, one datagram; `write` fills it.
template <class Write>
void answer(Context& context, const Request& request, std::uint16_t type, Write&& write) {
  Datagram& out = context.result.answers.emplace_back();
  MessageBuilder builder(out, type, 0, request.message.header.nlmsg_seq, request.from.port_id);
  write(builder);
  builder.finish();
}

void answer_sa(Context& context, const Request& request, const SaPtr& association) {
  answer(context, request, XFRM_MSG_NEWSA,
         [&](MessageBuilder& out) { write_sa(out, *association, now(context.engine)); });
}

// --- SAs.

Outcome new_sa(Context& context, const Request& request) {
  auto params = read_sa(request.base, request.attributes);
  if (!params) return refuse(params.error());
  const auto added = context.engine.add_sa(std::move(*params));
  if (!added) return refuse(added.error());
  context.result.changed = true;
  return {};
}

Outcome update_sa(Context& context, const Request& request) {
  auto params = read_sa(request.base, request.attributes);
  if (!params) return refuse(params.error());
  const auto updated = context.engine.update_sa(std::move(*params));
  if (!updated) return refuse(updated.error());
  context.result.changed = true;
  return {};
}

Outcome delete_sa(Context& context, const Request& request) {
  const auto id = read_sa_id(request.base, request.attributes);
  if (!id) return refuse(id.error());
  const auto removed = context.engine.delete_sa(*id);
  if (!removed) return refuse(removed.error());
  context.result.changed = true;
  return {};
}

Outcome get_sa(Context& context, const Request& request) {
  const auto id = read_sa_id(request.base, request.attributes);
  if (!id) return refuse(id.error());
  const SaPtr association = context.engine.find_sa(*id);
  if (!association) return std::unexpected(Refusal(ESRCH));
  answer_sa(context, request, association);
  return {};
}

Outcome allocate_spi(Context& context, const Request& request) {
  auto wanted = read_spi_request(request.base, request.attributes);
  if (!wanted) return refuse(wanted.error());
  const auto larval =
      context.engine.allocate_spi(std::move(wanted->params), wanted->low, wanted->high);
  if (!larval) return refuse(larval.error());
  context.result.changed = true;
  answer_sa(context, request, *larval);
  return {};
}

Outcome flush_sas(Context& context, const Request& request) {
  if (context.engine.flush_sas(read_flush_protocol(request.base)) > 0) {
    context.result.changed = true;
  }
  return {};  // also if there was nothing
}

Outcome get_sad_info(Context& context, const Request& request) {
  answer(context, request, XFRM_MSG_NEWSADINFO, [&](MessageBuilder& out) {
    write_sad_info(out, request.base, context.engine.current().sad);
  });
  return {};
}

// --- Policies.

Outcome new_policy(Context& context, const Request& request) {
  auto params = read_policy(request.base, request.attributes);
  if (!params) return refuse(params.error());
  const auto added = context.engine.add_policy(std::move(*params));
  if (!added) return refuse(added.error());
  context.result.changed = true;
  return {};
}

Outcome update_policy(Context& context, const Request& request) {
  auto params = read_policy(request.base, request.attributes);
  if (!params) return refuse(params.error());
  const auto updated = context.engine.update_policy(std::move(*params));
  if (!updated) return refuse(updated.error());
  context.result.changed = true;
  return {};
}

Outcome delete_policy(Context& context, const Request& request) {
  const auto key = read_policy_key(request.base, request.attributes);
  if (!key) return refuse(key.error());
  const auto removed = context.engine.delete_policy(*key);
  if (!removed) return refuse(removed.error());
  context.result.changed = true;
  return {};
}

Outcome get_policy(Context& context, const Request& request) {
  const auto key = read_policy_key(request.base, request.attributes);
  if (!key) return refuse(key.error());
  const PolicyPtr policy = context.engine.find_policy(*key);
  if (!policy) return std::unexpected(Refusal(ENOENT));
  answer(context, request, XFRM_MSG_NEWPOLICY,
         [&](MessageBuilder& out) { write_policy(out, *policy, now(context.engine)); });
  return {};
}

Outcome flush_policies(Context& context, const Request& request) {
  const auto type = read_policy_type(request.attributes);
  if (!type) return refuse(type.error());
  if (context.engine.flush_policies(*type) > 0) context.result.changed = true;
  return {};
}

Outcome get_spd_info(Context& context, const Request& request) {
  answer(context, request, XFRM_MSG_NEWSPDINFO, [&](MessageBuilder& out) {
    write_spd_info(out, request.base, context.engine.current().spd, context.thresholds);
  });
  return {};
}

Outcome set_spd_info(Context& context, const Request& request) {
  const auto read = read_thresholds(request.attributes, context.thresholds);
  if (!read) return refuse(read.error());
  return {};
}

Outcome set_defaults(Context& context, const Request& request) {
  engine::DefaultActions actions = context.engine.defaults();
  read_defaults(request.base, actions);
  context.engine.set_defaults(actions);
  context.result.changed = true;
  return {};
}

Outcome get_defaults(Context& context, const Request& request) {
  answer(context, request, XFRM_MSG_GETDEFAULT,
         [&](MessageBuilder& out) { write_defaults(out, context.engine.defaults()); });
  return {};
}

// --- What is known and not done here.

Outcome no_expire(Context&, const Request&) {
  return std::unexpected(Refusal(EOPNOTSUPP, "EXPIRE and POLEXPIRE requests are not supported"));
}
Outcome no_aevent(Context&, const Request&) {
  return std::unexpected(Refusal(EOPNOTSUPP, "NEWAE and GETAE requests are not supported"));
}
Outcome no_acquire(Context&, const Request&) {
  return std::unexpected(Refusal(EOPNOTSUPP, "ACQUIRE requests are not supported"));
}
Outcome no_migrate(Context&, const Request&) {  // the answer that IKE daemons probe for
  return std::unexpected(Refusal(ENOPROTOOPT, "MIGRATE is not supported"));
}

// --- Listings.

/// Entries that one part looks at, at most: a filter must not keep others waiting.
constexpr int kEntriesPerPart = 1024;

/// Whom a listing is for.
struct Addressee {
  explicit Addressee(const Request& request)
      : sequence(request.message.header.nlmsg_seq), port_id(request.from.port_id) {}

  std::uint32_t sequence;
  std::uint32_t port_id;
};

/// `error`: 0, or why there was no listing.
Datagram end_mark(const Addressee& to, int error) {
  Datagram out;
  MessageBuilder builder(out, NLMSG_DONE, NLM_F_MULTI, to.sequence, to.port_id);
  const std::int32_t number = -error;
  std::memcpy(builder.body(sizeof number).data(), &number, sizeof number);
  builder.finish();
  return out;
}

/// Newest first, because keys are serials. `Wanted` says which entries belong to the listing,
/// `Write` appends the body of one message.
template <class Entry, class Wanted, class Write>
class TableDump final : public Dump {
 public:
  TableDump(engine::PersistentMap<Entry> table, std::uint16_t type, const Request& request,
            Wanted wanted, Write write)
      : table_(std::move(table)),
        type_(type),
        to_(request),
        wanted_(std::move(wanted)),
        write_(std::move(write)) {}

  Datagram next() override {
    Datagram part;
    for (int entries = 0; next_ && entries < kEntriesPerPart; ++entries) {
      const auto found = table_.last_to(*next_);
      if (!found) {
        next_ = std::nullopt;
        break;
      }
      if (wanted_(**found->second)) {
        const std::size_t before = part.size();
        append(part, **found->second);
        if (part.size() > kLargestPart && before > 0) {
          part.resize(before);  // it begins the next part
          return part;
        }
      }
      next_ = found->first > 0 ? std::optional(found->first - 1) : std::nullopt;
    }
    if (!part.empty() || next_) return part;
    finished_ = true;
    return end_mark(to_, 0);
  }

 private:
  template <class Element>
  void append(Datagram& part, const Element& element) {
    MessageBuilder builder(part, type_, NLM_F_MULTI, to_.sequence, to_.port_id);
    write_(builder, element);
    builder.finish();
  }

  const engine::PersistentMap<Entry> table_;
  const std::uint16_t type_;
  const Addressee to_;
  const Wanted wanted_;
  const Write write_;
  std::optional<std::uint64_t> next_ = std::numeric_limits<std::uint64_t>::max();
};

/// A listing that could not begin says so in its end mark.
class FailedDump final : public Dump {
 public:
  FailedDump(const Request& request, int error) : to_(request), error_(error) {}

  Datagram next() override {
    finished_ = true;
    return end_mark(to_, error_);
  }

 private:
  const Addressee to_;
  const int error_;
};

std::unique_ptr<Dump> dump_sas(Engine& engine, const Request& request) {
  auto filter = read_sa_filter(request.attributes);
  if (!filter) return std::make_unique<FailedDump>(request, filter.error().error);
  const auto wanted = [filter = *filter](const engine::SecurityAssociation& association) {
    return association.state() != engine::SaState::kDead && filter.accepts(association.params());
  };
  const auto write = [&engine](MessageBuilder& out, const engine::SecurityAssociation& sa) {
    write_sa(out, sa, now(engine));
  };
  using SaDump = TableDump<SaPtr, decltype(wanted), decltype(write)>;
  return std::make_unique<SaDump>(engine.current().sad.by_serial(), XFRM_MSG_NEWSA, request, wanted,
                                  write);
}

std::unique_ptr<Dump> dump_policies(Engine& engine, const Request& request) {
  const auto wanted = [](const engine::SecurityPolicy&) { return true; };
  const auto write = [&engine](MessageBuilder& out, const engine::SecurityPolicy& policy) {
    write_policy(out, policy, now(engine));
  };
  using PolicyDump = TableDump<PolicyPtr, decltype(wanted), decltype(write)>;
  return std::make_unique<PolicyDump>(engine.current().spd.by_serial(), XFRM_MSG_NEWPOLICY, request,
                                      wanted, write);
}

// --- The table.

struct Row {
  std::size_t base_size;
  /// Null: nobody may ask that.
  Outcome (*handle)(Context&, const Request&);
  /// Null: dump flags mean nothing.
  std::unique_ptr<Dump> (*dump)(Engine&, const Request&) = nullptr;
  std::span<const AttributeShape> (*shapes)() = attribute_shapes;
};

// clang-format off
constexpr std::array<Row, XFRM_MSG_MAX - XFRM_MSG_BASE + 1> kRows{{
    /* NEWSA       */ {sizeof(xfrm_usersa_info),        new_sa},
    /* DELSA       */ {sizeof(xfrm_usersa_id),          delete_sa},
    /* GETSA       */ {sizeof(xfrm_usersa_id),          get_sa, dump_sas},
    /* NEWPOLICY   */ {sizeof(xfrm_userpolicy_info),    new_policy},
    /* DELPOLICY   */ {sizeof(xfrm_userpolicy_id),      delete_policy},
    /* GETPOLICY   */ {sizeof(xfrm_userpolicy_id),      get_policy, dump_policies},
    /* ALLOCSPI    */ {sizeof(xfrm_userspi_info),       allocate_spi},
    /* ACQUIRE     */ {sizeof(xfrm_user_acquire),       no_acquire},
    /* EXPIRE      */ {sizeof(xfrm_user_expire),        no_expire},
    /* UPDPOLICY   */ {sizeof(xfrm_userpolicy_info),    update_policy},
    /* UPDSA       */ {sizeof(xfrm_usersa_info),        update_sa},
    /* POLEXPIRE   */ {sizeof(xfrm_user_polexpire),     no_expire},
    /* FLUSHSA     */ {sizeof(xfrm_usersa_flush),       flush_sas},
    /* FLUSHPOLICY */ {0,                               flush_policies},
    /* NEWAE       */ {sizeof(xfrm_aevent_id),          no_aevent},
    /* GETAE       */ {sizeof(xfrm_aevent_id),          no_aevent},
    /* REPORT      */ {sizeof(xfrm_user_report),        nullptr},
    /* MIGRATE     */ {sizeof(xfrm_userpolicy_id),      no_migrate},
    /* NEWSADINFO  */ {sizeof(std::uint32_t),           nullptr},
    /* GETSADINFO  */ {sizeof(std::uint32_t),           get_sad_info},
    /* NEWSPDINFO  */ {sizeof(std::uint32_t),           set_spd_info, nullptr, spd_info_shapes},
    /* GETSPDINFO  */ {sizeof(std::uint32_t),           get_spd_info},
    /* MAPPING     */ {sizeof(xfrm_user_mapping),       nullptr},
    /* SETDEFAULT  */ {sizeof(xfrm_userpolicy_default), set_defaults},
    /* GETDEFAULT  */ {sizeof(xfrm_userpolicy_default), get_defaults},
}};
// clang-format on
static_assert(XFRM_MSG_NEWSA == XFRM_MSG_BASE && XFRM_MSG_GETSA == XFRM_MSG_BASE + 2);
static_assert(XFRM_MSG_ALLOCSPI == 22 && XFRM_MSG_FLUSHSA == 28 && XFRM_MSG_MIGRATE == 33);
static_assert(XFRM_MSG_NEWSPDINFO == 36 && XFRM_MSG_GETDEFAULT == 40);

/// What became of one message.
struct Handled {
  std::optional<Refusal> refusal;
  std::string_view warning{};  // for the acknowledgement of success
  bool has_answer = false;     // a listing has begun: that is the acknowledgement
};

Handled refused(Refusal refusal) {
  return {.refusal = std::move(refusal)};
}

Handled start_listing(Context& context, const Row& row, const NetlinkMessage& message,
                      const Requester& from, bool listing) {
  if (listing || context.result.dump) return refused(Refusal(EBUSY));
  // Attributes follow the header: there is no base.
  const auto attributes = Attributes::parse(message, sizeof(nlmsghdr), row.shapes());
  const Request request{message, from, {}, attributes ? *attributes : Attributes{}};
  context.result.dump = attributes
                            ? row.dump(context.engine, request)
                            : std::make_unique<FailedDump>(request, attributes.error().error);
  return {.refusal = {}, .warning = {}, .has_answer = true};
}

Handled dispatch(Context& context, const NetlinkMessage& message, const Requester& from,
                 bool listing) {
  const std::uint16_t type = message.header.nlmsg_type;
  // Messages that are no requests, and netlink's own, mean nothing and are acknowledged.
  if ((message.header.nlmsg_flags & NLM_F_REQUEST) == 0 || type < NLMSG_MIN_TYPE) return {};
  if (type > XFRM_MSG_MAX) return refused(Refusal(EINVAL));
  if (!from.privileged) return refused(Refusal(EPERM));

  const Row& row = kRows[type - XFRM_MSG_BASE];
  if (row.dump != nullptr && (message.header.nlmsg_flags & NLM_F_DUMP) != 0) {
    return start_listing(context, row, message, from, listing);
  }
  const Bytes body = message.body();
  if (body.size() < row.base_size) return refused(Refusal(EINVAL, "Invalid header length"));
  const std::size_t first = sizeof(nlmsghdr) + netlink_aligned(row.base_size);
  const auto attributes = Attributes::parse(message, first, row.shapes());
  if (!attributes) return refused(attributes.error());
  if (row.handle == nullptr) return refused(Refusal(EINVAL));
  if (auto outcome = row.handle(context, {message, from, body, *attributes}); !outcome) {
    return refused(std::move(outcome.error()));
  }
  if (!attributes->leftover()) return {};
  return {.refusal = {}, .warning = "bytes leftover after parsing attributes"};
}

}  // namespace

XfrmHandlers::Result XfrmHandlers::apply(Bytes datagram, const Requester& from, bool listing) {
  Result result;
  Context context{engine_, thresholds_, result};
  DatagramReader reader(datagram);
  while (const auto message = reader.next()) {
    const Handled handled = dispatch(context, *message, from, listing);
    const Refusal* refusal = handled.refusal ? &*handled.refusal : nullptr;
    const bool asked = (message->header.nlmsg_flags & NLM_F_ACK) != 0 && !handled.has_answer;
    if (refusal != nullptr || asked) {
      result.answers.push_back(
          acknowledgement(*message, refusal, handled.warning, from.port_id, from.style));
    }
  }
  return result;
}

XfrmHandlers::Result XfrmHandlers::handle(Bytes datagram, const Requester& from, bool listing) {
  Result result = apply(datagram, from, listing);
  if (result.changed) publish();
  return result;
}

}  // namespace xfrmfs::netio
