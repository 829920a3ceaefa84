// SPDX-License-Identifier: Apache-2.0
// The pieces of NETLINK_XFRM structures: families, addresses, selectors, limits, and what each
// attribute must look like.
//
// <linux/xfrm.h> decides. In its structures addresses, SPIs and ports are big-endian and everything
// else is in host order. For the codecs only.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <optional>
#include <span>
#include <string>

#include <linux/xfrm.h>

#include "engine/base/address.h"
#include "engine/base/clock.h"
#include "engine/base/control_error.h"
#include "engine/base/types.h"
#include "engine/sad/lifetime.h"
#include "engine/spd/selector.h"
#include "netio/netlink_message.h"

namespace xfrmfs::netio {

template <class T>
using Decoded = std::expected<T, engine::ControlError>;

/// One moment on both clocks: what happened is known in boot time and shown in wall time.
struct Moment {
  engine::BootTime boot{};
  engine::WallTime wall{};
};

/// What each XFRMA_* attribute must look like; the index is its number. Attributes of kernels
/// younger than our headers are among them, so that they can be refused by name.
std::span<const AttributeShape> attribute_shapes();

/// Likewise for NEWSPDINFO, whose attributes have a numbering of their own.
std::span<const AttributeShape> spd_info_shapes();

namespace wire {

// Younger than our headers.
inline constexpr unsigned kSaDirection = 33;           // Linux 6.10
inline constexpr unsigned kNatKeepaliveInterval = 34;  // 6.11
inline constexpr unsigned kSaPcpu = 35;                // 6.13
inline constexpr unsigned kIptfsDropTime = 36;         // 6.14, and the rest
inline constexpr unsigned kIptfsReorderWindow = 37;
inline constexpr unsigned kIptfsDontFragment = 38;
inline constexpr unsigned kIptfsInitDelay = 39;
inline constexpr unsigned kIptfsMaxQueueSize = 40;
inline constexpr unsigned kIptfsPacketSize = 41;
inline constexpr std::size_t kAttributes = 42;
inline constexpr std::uint8_t kModeIptfs = 5;
inline constexpr std::uint8_t kDirectionIn = 1;
inline constexpr std::uint8_t kDirectionOut = 2;

/// As a protocol in requests: ESP, AH or COMP.
inline constexpr std::uint8_t kAnyIpsecProtocol = 255;

/// A copy of a structure. `bytes` are at least as long: their shape was checked.
template <class T>
T load(Bytes bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}
/// Stores one field of a structure that is being built in zeroed memory.
template <class T>
void put(MutableBytes at, std::size_t offset, T value) {
  std::memcpy(at.data() + offset, &value, sizeof value);
}

/// Big-endian <-> host order.
inline std::uint16_t swapped(std::uint16_t v) {
  return __builtin_bswap16(v);
}
inline std::uint32_t swapped(std::uint32_t v) {
  return __builtin_bswap32(v);
}

/// The content of an attribute, or `absent`.
std::uint32_t u32_of(const Attributes& attributes, unsigned number, std::uint32_t absent = 0);
std::uint8_t u8_of(const Attributes& attributes, unsigned number);

/// Nothing for what is neither AF_INET, AF_INET6 nor AF_UNSPEC.
std::optional<engine::Family> family_of(std::uint16_t number);
std::uint16_t number_of(engine::Family family);

engine::IpAddress address_of(engine::Family family, const xfrm_address_t& from);
void put_address(MutableBytes at, std::size_t offset, const engine::IpAddress& address);

/// XFRMA_MARK: its value is stored, and looked up, masked.
engine::Mark mark_of(const Attributes& attributes);
void put_mark(MessageBuilder& out, const engine::Mark& mark);

engine::Selector selector_of(const xfrm_selector& from, engine::Family family);
void put_selector(MutableBytes at, const engine::Selector& selector);

engine::LifetimeLimits limits_of(const xfrm_lifetime_cfg& from);
void put_limits(MutableBytes at, const engine::LifetimeLimits& limits);

engine::LifetimeUsage usage_of(const xfrm_lifetime_cur& from);
void put_usage(MutableBytes at, const engine::LifetimeUsage& usage);

std::uint64_t wall_number(engine::WallTime time);
/// The wall time of what happened at `then`.
engine::WallTime wall_of(engine::BootTime then, const Moment& now);

// --- What a request can be refused for; nothing if all is well.

using Check = std::optional<engine::ControlError>;

engine::ControlError invalid(std::string text);
/// EOPNOTSUPP: the attribute is known, and what it asks for is not done here.
engine::ControlError unsupported_attribute(const char* name);
std::unexpected<engine::ControlError> refuse(int error, std::string text = {});

/// Do the prefix lengths fit `family`, which is not none?
Check check_prefixes(const xfrm_selector& selector, engine::Family family);
/// XFRMA_SEC_CTX, if it is there.
Check check_security_context(const Attributes& attributes);

/// What kernels report as the size of the hash table for so many entries. Clients print it; ours
/// are no such tables, so this is what a kernel's would have grown to.
inline constexpr std::uint32_t kLargestTable = 1024 * 1024;
std::uint32_t table_size(std::size_t entries);

}  // namespace wire
}  // namespace xfrmfs::netio
