// SPDX-License-Identifier: Apache-2.0
// Netlink messages as bytes: a checked reader for requests, a zeroed builder for answers.
//
// What a kernel does with lengths, padding, unknown and repeated attributes, and acknowledgements
// decides (lib/nlattr.c, net/netlink/af_netlink.c: netlink_rcv_skb, netlink_ack). Pure functions;
// nothing here knows what a message means.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <linux/netlink.h>

#include "engine/base/bytes.h"
#include "engine/base/control_error.h"

namespace xfrmfs::netio {

using engine::Bytes;
using engine::MutableBytes;

/// Memory that is wiped before it is given back: answers, and echoed requests, contain keys.
template <class T>
struct WipingAllocator {
  using value_type = T;

  WipingAllocator() = default;
  template <class U>
  explicit WipingAllocator(const WipingAllocator<U>&) {}

  T* allocate(std::size_t count) { return std::allocator<T>{}.allocate(count); }
  void deallocate(T* memory, std::size_t count) {
    explicit_bzero(memory, count * sizeof(T));
    std::allocator<T>{}.deallocate(memory, count);
  }
  bool operator==(const WipingAllocator&) const = default;
};

/// What travels at once: one message, or several.
using Datagram = std::vector<std::byte, WipingAllocator<std::byte>>;

/// Why a request is refused.
struct Refusal {
  int error = 0;             // errno value, positive
  std::string message;       // for the extended acknowledgement; may be empty
  std::uint32_t offset = 0;  // of the attribute at fault within the message; 0: none in particular

  explicit Refusal(int e, std::string text = {}, std::uint32_t at = 0)
      : error(e), message(std::move(text)), offset(at) {}
  explicit Refusal(const engine::ControlError& e) : error(e.error), message(e.message) {}
};

/// `size` rounded up to netlink's alignment, 4.
constexpr std::size_t netlink_aligned(std::size_t size) {
  return (size + 3) & ~std::size_t{3};
}

// --- Reading.

/// One message of a datagram. The bytes belong to the datagram.
struct NetlinkMessage {
  nlmsghdr header;
  Bytes bytes;  // header.nlmsg_len of them: header and body, without padding

  Bytes body() const { return bytes.subspan(sizeof(nlmsghdr)); }
};

/// The messages of a datagram, one after the other. Lengths need not be aligned (17 and 19 are
/// sent by iproute2), the next message is; one that claims too much ends the datagram silently.
class DatagramReader {
 public:
  explicit DatagramReader(Bytes datagram) : left_(datagram) {}

  std::optional<NetlinkMessage> next();

 private:
  Bytes left_;
};

/// What an attribute must look like to be looked at.
struct AttributeShape {
  enum class Kind : std::uint8_t {
    kUnused,   // carries nothing for us: any content, never passed on
    kAtLeast,  // `size` bytes or more, else ERANGE
    kExactly,  // `size` bytes, else EINVAL; younger attributes are checked like that
    kEmpty,    // a flag: ERANGE if it has content
    kSmall,    // one byte between `low` and `high`: EINVAL for its size, ERANGE for its value
  };

  Kind kind = Kind::kUnused;
  std::uint16_t size = 0;
  std::uint8_t low = 0;
  std::uint8_t high = 0;
};

/// The attributes of one message, each checked against its shape. The bytes belong to the message.
class Attributes {
 public:
  static constexpr std::size_t kLimit = 48;  // attribute numbers are below it

  /// Index into `shapes` is the attribute number; numbers beyond it are ignored. Of a repeated
  /// attribute the last counts. `first` is where the attributes start in the message.
  static std::expected<Attributes, Refusal> parse(const NetlinkMessage& message, std::size_t first,
                                                  std::span<const AttributeShape> shapes);

  bool has(unsigned number) const { return number < kLimit && found_[number].has_value(); }
  /// The content without padding, as large as the shape promises; empty if it is not there.
  Bytes get(unsigned number) const { return has(number) ? *found_[number] : Bytes{}; }
  /// Behind the last attribute was something that is none.
  bool leftover() const { return leftover_; }

 private:
  std::array<std::optional<Bytes>, kLimit> found_;
  bool leftover_ = false;
};

// --- Building.

/// Appends one message to a datagram: header, body, attributes, in memory that starts as zeros.
class MessageBuilder {
 public:
  MessageBuilder(Datagram& out, std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                 std::uint32_t port_id);

  /// `size` zeroed bytes behind what is there, valid until the next call; padded if more follows.
  MutableBytes body(std::size_t size);
  /// The same for the content of an attribute, at most kLargestAttribute bytes.
  MutableBytes attribute(std::uint16_t number, std::size_t size);
  void attribute(std::uint16_t number, Bytes content);
  void attribute_u32(std::uint16_t number, std::uint32_t value);
  /// Pads the message, its own length included, to 4 bytes, as a kernel does; and is done.
  void finish();

  static constexpr std::size_t kLargestAttribute = 0xffff - sizeof(nlattr);

 private:
  void align();

  Datagram& out_;
  const std::size_t start_;
};

/// How a client wants to be told about success and failure (setsockopt SOL_NETLINK).
struct AcknowledgeStyle {
  bool capped = false;    // NETLINK_CAP_ACK: no copy of the request in an error
  bool extended = false;  // NETLINK_EXT_ACK: with a sentence
};

/// The acknowledgement of `request` for the client `port_id`: of its failure, or, if `refusal` is
/// null, its success, which may come with a `warning`.
Datagram acknowledgement(const NetlinkMessage& request, const Refusal* refusal,
                         std::string_view warning, std::uint32_t port_id, AcknowledgeStyle style);

}  // namespace xfrmfs::netio
