// SPDX-License-Identifier: Apache-2.0
#include "netio/nftables.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "netio/rtnetlink.h"

namespace xfrmfs::netio {
namespace {

using engine::Bytes;

constexpr std::size_t kReceiveBuffer = 64 * 1024;
/// The kernel answers while it is being asked; this only keeps a mistake from being for ever.
constexpr timeval kPatience{.tv_sec = 10, .tv_usec = 0};

constexpr unsigned nft_type(unsigned type) {
  return unsigned{NFNL_SUBSYS_NFTABLES} << 8 | type;
}

/// The errno value of an NLMSG_ERROR and the message that it is about.
struct Answer {
  int error = EBADMSG;
  std::uint32_t sequence = 0;
};

Answer read_answer(Bytes body) {
  nlmsgerr error{};
  if (body.size() < sizeof error) return {};
  std::memcpy(&error, body.data(), sizeof error);
  return {.error = -error.error, .sequence = error.msg.nlmsg_seq};
}

}  // namespace

// --- Building.

NftBatch::NftBatch(std::uint32_t first_sequence)
    : first_(first_sequence), sequence_(first_sequence) {
  header(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

void NftBatch::message(unsigned type, unsigned flags) {
  header(nft_type(type), NLM_F_REQUEST | flags, NFPROTO_INET, 0);
  acknowledged_at_ = message_at_;
  acknowledged_ = last_sequence();
}

void NftBatch::text(unsigned number, std::string_view content) {
  const std::size_t at = open(number);
  out_.insert(out_.end(), content.size() + 1, std::byte{0});
  std::memcpy(out_.data() + out_.size() - content.size() - 1, content.data(), content.size());
  close(at);
}

void NftBatch::u32(unsigned number, std::uint32_t value) {
  const std::uint32_t wire = htonl(value);
  bytes(number, std::as_bytes(std::span(&wire, 1)));
}

void NftBatch::u64(unsigned number, std::uint64_t value) {
  const std::uint32_t wire[2] = {htonl(static_cast<std::uint32_t>(value >> 32)),
                                 htonl(static_cast<std::uint32_t>(value))};
  bytes(number, std::as_bytes(std::span(wire)));
}

void NftBatch::bytes(unsigned number, Bytes content) {
  const std::size_t at = open(number);
  out_.insert(out_.end(), content.begin(), content.end());
  close(at);
}

/// Only the last message is acknowledged: it comes last in any case, behind all errors.
Bytes NftBatch::finish() {
  close_message();
  if (acknowledged_at_ != 0) {
    nlmsghdr head;
    std::memcpy(&head, &out_[acknowledged_at_], sizeof head);
    head.nlmsg_flags |= NLM_F_ACK;
    std::memcpy(&out_[acknowledged_at_], &head, sizeof head);
  }
  header(NFNL_MSG_BATCH_END, NLM_F_REQUEST, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  close_message();
  return out_;
}

void NftBatch::header(unsigned type, unsigned flags, unsigned family, unsigned resource) {
  close_message();
  message_at_ = out_.size();
  nlmsghdr head{};
  head.nlmsg_type = static_cast<std::uint16_t>(type);
  head.nlmsg_flags = static_cast<std::uint16_t>(flags);
  head.nlmsg_seq = sequence_++;
  std::memcpy(append(sizeof head), &head, sizeof head);
  nfgenmsg body{};
  body.nfgen_family = static_cast<std::uint8_t>(family);
  body.version = NFNETLINK_V0;
  body.res_id = htons(static_cast<std::uint16_t>(resource));
  std::memcpy(append(sizeof body), &body, sizeof body);
}

void NftBatch::close_message() {
  if (out_.empty()) return;
  const auto size = static_cast<std::uint32_t>(out_.size() - message_at_);
  std::memcpy(&out_[message_at_], &size, sizeof size);
}

std::size_t NftBatch::open(unsigned number) {
  const std::size_t at = out_.size();
  nlattr head{};
  head.nla_type = static_cast<std::uint16_t>(number);
  std::memcpy(append(sizeof head), &head, sizeof head);
  return at;
}

void NftBatch::close(std::size_t at) {
  const auto size = static_cast<std::uint16_t>(out_.size() - at);
  std::memcpy(&out_[at], &size, sizeof size);
  append(0);
}

std::byte* NftBatch::append(std::size_t size) {
  const std::size_t at = NLMSG_ALIGN(out_.size());
  out_.resize(at + size);
  return out_.data() + at;
}

// --- Reading.

std::optional<NftCounter> read_counter(Bytes body) {
  nfgenmsg head;
  if (body.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, body.data(), sizeof head);
  const Bytes attributes = body.subspan(sizeof head);
  const Bytes type = find_attribute(attributes, NFTA_OBJ_TYPE);
  const Bytes name = find_attribute(attributes, NFTA_OBJ_NAME);
  const Bytes packets =
      find_attribute(find_attribute(attributes, NFTA_OBJ_DATA), NFTA_COUNTER_PACKETS);
  if (head.nfgen_family != NFPROTO_INET || type.size() < 4 ||
      engine::load_be32(type.data()) != NFT_OBJECT_COUNTER || packets.size() < 8) {
    return std::nullopt;
  }
  NftCounter counter{.name = {}, .packets = engine::load_be64(packets.data())};
  for (const std::byte c : name) {
    if (c == std::byte{0}) break;
    counter.name += static_cast<char>(c);
  }
  return counter;
}

// --- The socket.

Nftables::Nftables() : buffer_(kReceiveBuffer) {
  constexpr const char* kWhat = "netlink socket for nf_tables";
  fd_ = own_or_throw(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), kWhat);
  const int on = 1;
  if (::setsockopt(fd_.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) != 0 ||
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience) != 0) {
    throw_errno(kWhat);
  }
}

int Nftables::apply(NftBatch& batch) {
  const Bytes bytes = batch.finish();
  next_sequence_ = batch.last_sequence() + 1;
  // A batch is one datagram.
  const int size = static_cast<int>(std::min<std::size_t>(bytes.size() + 4096, 1u << 30));
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) return errno;
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return errno;

  int first_error = 0;
  while (true) {
    const ssize_t got = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return first_error != 0 ? first_error : errno;
    for (const RouteMessage& message :
         split_messages(Bytes(buffer_).first(static_cast<std::size_t>(got)))) {
      if (message.type != NLMSG_ERROR) continue;
      const Answer answer = read_answer(message.body);
      if (answer.sequence - batch.first_sequence() >=
          batch.last_sequence() - batch.first_sequence() + 1) {
        continue;  // about an earlier batch, whose answers we did not wait for
      }
      if (first_error == 0) first_error = answer.error;
      // What is wrong with the batch as a whole is said of its first message, and nothing follows.
      const bool whole = answer.sequence == batch.first_sequence() && answer.error != 0;
      if (whole || answer.sequence == batch.acknowledged_) return first_error;
    }
  }
}

std::expected<std::map<std::string, std::uint64_t>, int> Nftables::counters(
    std::string_view table) {
  NftBatch request(next_sequence_);  // only for its way of building: a dump stands alone
  request.out_.clear();
  request.message(NFT_MSG_GETOBJ, NLM_F_DUMP);
  request.text(NFTA_OBJ_TABLE, table);
  request.u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
  request.close_message();
  const std::uint32_t sequence = request.last_sequence();
  next_sequence_ = sequence + 1;
  if (::send(fd_.get(), request.out_.data(), request.out_.size(), 0) < 0) {
    return std::unexpected(errno);
  }
  std::map<std::string, std::uint64_t> found;
  while (true) {
    const ssize_t got = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::unexpected(errno);
    for (const RouteMessage& message :
         split_messages(Bytes(buffer_).first(static_cast<std::size_t>(got)))) {
      if (message.type == NLMSG_DONE) return found;
      if (message.type == NLMSG_ERROR) {
        const Answer answer = read_answer(message.body);
        if (answer.sequence == sequence) return std::unexpected(answer.error);
      } else if (message.type == nft_type(NFT_MSG_NEWOBJ)) {
        if (auto counter = read_counter(message.body)) {
          found.insert_or_assign(std::move(counter->name), counter->packets);
        }
      }
    }
  }
}

}  // namespace xfrmfs::netio
