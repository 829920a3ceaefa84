// SPDX-License-Identifier: Apache-2.0
// What a datagram's socket call says besides its bytes: one value in, one value out (cmsg(3)).

#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include <netinet/in.h>
#include <sys/socket.h>

#include "engine/base/address.h"

namespace xfrmfs::netio {

template <class Value>
Value control_value(const cmsghdr* control) {
  Value value{};
  std::memcpy(&value, CMSG_DATA(control), sizeof value);
  return value;
}

/// Appends one value; `message.msg_controllen` counts what is there already, and there is room.
template <class Value>
void add_control(msghdr& message, int level, int type, const Value& value) {
  cmsghdr head{};
  head.cmsg_len = CMSG_LEN(sizeof value);
  head.cmsg_level = level;
  head.cmsg_type = type;
  auto* const at = static_cast<std::byte*>(message.msg_control) + message.msg_controllen;
  std::memset(at, 0, CMSG_SPACE(sizeof value));
  std::memcpy(at, &head, sizeof head);
  std::memcpy(at + CMSG_LEN(0), &value, sizeof value);
  message.msg_controllen += CMSG_SPACE(sizeof value);
}

/// in_addr or in6_addr.
template <class Address>
engine::IpAddress to_address(engine::Family family, const Address& address) {
  return engine::IpAddress::from(family, std::as_bytes(std::span(&address, 1)).data());
}

}  // namespace xfrmfs::netio
