// SPDX-License-Identifier: Apache-2.0
#include "netio/netlink_message.h"

#include <algorithm>
#include <cerrno>

namespace xfrmfs::netio {
namespace {

template <class T>
T load(Bytes from) {
  T value;
  std::memcpy(&value, from.data(), sizeof value);
  return value;
}

/// Nothing, or why `content` does not have `shape`.
std::optional<Refusal> misfit(const AttributeShape& shape, Bytes content, std::size_t at) {
  const auto offset = static_cast<std::uint32_t>(at);
  const auto refuse = [&](int error, const char* text) { return Refusal(error, text, offset); };
  switch (shape.kind) {
    case AttributeShape::Kind::kUnused:
      break;
    case AttributeShape::Kind::kAtLeast:
      if (content.size() < shape.size) return refuse(ERANGE, "Attribute failed policy validation");
      break;
    case AttributeShape::Kind::kExactly:
      if (content.size() != shape.size) return refuse(EINVAL, "invalid attribute length");
      break;
    case AttributeShape::Kind::kEmpty:
      if (!content.empty()) return refuse(ERANGE, "Attribute failed policy validation");
      break;
    case AttributeShape::Kind::kSmall: {
      if (content.size() != 1) return refuse(EINVAL, "invalid attribute length");
      const auto value = std::to_integer<std::uint8_t>(content[0]);
      if (value < shape.low || value > shape.high) return refuse(ERANGE, "integer out of range");
      break;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<NetlinkMessage> DatagramReader::next() {
  if (left_.size() < sizeof(nlmsghdr)) return std::nullopt;
  const auto header = load<nlmsghdr>(left_);
  if (header.nlmsg_len < sizeof(nlmsghdr) || header.nlmsg_len > left_.size()) return std::nullopt;
  const NetlinkMessage message{header, left_.first(header.nlmsg_len)};
  left_ = left_.subspan(std::min(netlink_aligned(header.nlmsg_len), left_.size()));
  return message;
}

std::expected<Attributes, Refusal> Attributes::parse(const NetlinkMessage& message,
                                                     std::size_t first,
                                                     std::span<const AttributeShape> shapes) {
  Attributes attributes;
  std::size_t at = std::min(first, message.bytes.size());
  while (message.bytes.size() - at >= sizeof(nlattr)) {
    const Bytes left = message.bytes.subspan(at);
    const auto header = load<nlattr>(left);
    if (header.nla_len < sizeof(nlattr) || header.nla_len > left.size()) break;
    const unsigned number = header.nla_type & NLA_TYPE_MASK;
    const Bytes content = left.first(header.nla_len).subspan(sizeof(nlattr));
    if (number > 0 && number < std::min(shapes.size(), kLimit)) {
      const AttributeShape& shape = shapes[number];
      if (auto refusal = misfit(shape, content, at)) return std::unexpected(std::move(*refusal));
      if (shape.kind != AttributeShape::Kind::kUnused) attributes.found_[number] = content;
    }
    at += std::min(netlink_aligned(header.nla_len), left.size());
  }
  attributes.leftover_ = at < message.bytes.size();
  return attributes;
}

MessageBuilder::MessageBuilder(Datagram& out, std::uint16_t type, std::uint16_t flags,
                               std::uint32_t sequence, std::uint32_t port_id)
    : out_(out), start_(out.size()) {
  const nlmsghdr header{.nlmsg_len = 0,  // finish() knows
                        .nlmsg_type = type,
                        .nlmsg_flags = flags,
                        .nlmsg_seq = sequence,
                        .nlmsg_pid = port_id};
  static_assert(sizeof header == 16, "no padding inside");
  std::memcpy(body(sizeof header).data(), &header, sizeof header);
}

MutableBytes MessageBuilder::body(std::size_t size) {
  align();
  out_.resize(out_.size() + size);
  return MutableBytes(out_).last(size);
}

MutableBytes MessageBuilder::attribute(std::uint16_t number, std::size_t size) {
  const nlattr header{.nla_len = static_cast<std::uint16_t>(sizeof(nlattr) + size),
                      .nla_type = number};
  const MutableBytes all = body(sizeof header + size);
  std::memcpy(all.data(), &header, sizeof header);
  return all.subspan(sizeof header);
}

void MessageBuilder::attribute(std::uint16_t number, Bytes content) {
  std::ranges::copy(content, attribute(number, content.size()).begin());
}

void MessageBuilder::attribute_u32(std::uint16_t number, std::uint32_t value) {
  std::memcpy(attribute(number, sizeof value).data(), &value, sizeof value);
}

void MessageBuilder::finish() {
  align();
  const auto length = static_cast<std::uint32_t>(out_.size() - start_);
  std::memcpy(&out_[start_], &length, sizeof length);
}

void MessageBuilder::align() {
  out_.resize(start_ + netlink_aligned(out_.size() - start_));
}

Datagram acknowledgement(const NetlinkMessage& request, const Refusal* refusal,
                         std::string_view warning, std::uint32_t port_id, AcknowledgeStyle style) {
  const bool with_request = refusal != nullptr && !style.capped;
  const std::string_view text = !style.extended      ? std::string_view{}
                                : refusal != nullptr ? std::string_view(refusal->message)
                                                     : warning;
  const bool with_offset = style.extended && refusal != nullptr && refusal->offset != 0;
  unsigned flags = with_request ? 0 : NLM_F_CAPPED;
  if (!text.empty() || with_offset) flags |= NLM_F_ACK_TLVS;

  Datagram out;
  out.reserve(sizeof(nlmsghdr) + sizeof(nlmsgerr));  // all there is of a success
  MessageBuilder builder(out, NLMSG_ERROR, static_cast<std::uint16_t>(flags),
                         request.header.nlmsg_seq, port_id);
  const std::int32_t error = refusal != nullptr ? -refusal->error : 0;
  std::memcpy(builder.body(sizeof error).data(), &error, sizeof error);
  const Bytes echo = with_request ? request.bytes : request.bytes.first(sizeof(nlmsghdr));
  std::ranges::copy(echo, builder.body(echo.size()).begin());
  if (!text.empty()) {
    const MutableBytes content = builder.attribute(NLMSGERR_ATTR_MSG, text.size() + 1 /* NUL */);
    std::memcpy(content.data(), text.data(), text.size());
  }
  if (with_offset) builder.attribute_u32(NLMSGERR_ATTR_OFFS, refusal->offset);
  builder.finish();
  return out;
}

}  // namespace xfrmfs::netio
