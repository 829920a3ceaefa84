// SPDX-License-Identifier: Apache-2.0
// Requests as clients send them, and answers taken apart: with kernel structures, not with the
// codec that is being tested.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <sys/socket.h>

namespace xfrmfs::testing {

using ByteVector = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

template <class T>
ByteVector bytes_of(const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

inline ByteVector zeros(std::size_t size) {
  return ByteVector(size);
}

template <class T>
T load(ByteSpan from, std::size_t offset = 0) {
  T value{};
  if (from.size() >= offset + sizeof value) {
    std::memcpy(&value, from.data() + offset, sizeof value);
  }
  return value;
}

struct TestAttribute {
  std::uint16_t number;
  ByteVector content;
};

/// One message, `body` and attributes each padded to 4 bytes, but for the last thing in it.
inline ByteVector message(std::uint16_t type, unsigned flags, const ByteVector& body,
                          std::initializer_list<TestAttribute> attributes = {},
                          std::uint32_t sequence = 7) {
  ByteVector out(sizeof(nlmsghdr));
  const auto append = [&](const ByteVector& more) {
    out.resize((out.size() + 3) & ~std::size_t{3});
    out.insert(out.end(), more.begin(), more.end());
  };
  append(body);
  for (const TestAttribute& attribute : attributes) {
    append(bytes_of(
        nlattr{static_cast<std::uint16_t>(4 + attribute.content.size()), attribute.number}));
    append(attribute.content);
  }
  const nlmsghdr header{static_cast<std::uint32_t>(out.size()), type,
                        static_cast<std::uint16_t>(flags | NLM_F_REQUEST), sequence, 0};
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

inline ByteVector joined(std::initializer_list<ByteVector> messages) {
  ByteVector out;
  for (const ByteVector& one : messages) {
    out.resize((out.size() + 3) & ~std::size_t{3});
    out.insert(out.end(), one.begin(), one.end());
  }
  return out;
}

inline xfrm_address_t address(std::string_view text) {
  xfrm_address_t out{};
  const std::string copy(text);
  inet_pton(text.find(':') == text.npos ? AF_INET : AF_INET6, copy.c_str(), &out);
  return out;
}

/// esp 10.9.0.1 -> 10.9.0.2, tunnel, without limits: what `ip xfrm state add` sends.
inline xfrm_usersa_info sa_info(std::uint32_t spi = 0x100) {
  xfrm_usersa_info info;
  std::memset(&info, 0, sizeof info);
  info.id.daddr = address("10.9.0.2");
  info.id.spi = htonl(spi);
  info.id.proto = IPPROTO_ESP;
  info.saddr = address("10.9.0.1");
  info.lft.soft_byte_limit = info.lft.hard_byte_limit = XFRM_INF;
  info.lft.soft_packet_limit = info.lft.hard_packet_limit = XFRM_INF;
  info.family = AF_INET;
  info.mode = XFRM_MODE_TUNNEL;
  return info;
}

inline xfrm_usersa_id sa_id(std::uint32_t spi = 0x100) {
  xfrm_usersa_id id;
  std::memset(&id, 0, sizeof id);
  id.daddr = address("10.9.0.2");
  id.spi = htonl(spi);
  id.family = AF_INET;
  id.proto = IPPROTO_ESP;
  return id;
}

/// 10.1.0.0/16 -> 10.2.0.0/16, out, allow.
inline xfrm_userpolicy_info policy_info() {
  xfrm_userpolicy_info info;
  std::memset(&info, 0, sizeof info);
  info.sel.daddr = address("10.2.0.0");
  info.sel.saddr = address("10.1.0.0");
  info.sel.prefixlen_d = info.sel.prefixlen_s = 16;
  info.sel.family = AF_INET;
  info.lft.soft_byte_limit = info.lft.hard_byte_limit = XFRM_INF;
  info.lft.soft_packet_limit = info.lft.hard_packet_limit = XFRM_INF;
  info.dir = XFRM_POLICY_OUT;
  return info;
}

inline xfrm_user_tmpl tmpl() {
  xfrm_user_tmpl out;
  std::memset(&out, 0, sizeof out);
  out.id.daddr = address("10.9.0.1");
  out.id.proto = IPPROTO_ESP;
  out.family = AF_INET;
  out.saddr = address("10.9.0.2");
  out.mode = XFRM_MODE_TUNNEL;
  out.aalgos = out.ealgos = out.calgos = ~0u;
  return out;
}

inline ByteVector key(std::size_t size) {
  ByteVector out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i);
  return out;
}

/// xfrm_algo, or with `extra` xfrm_algo_auth and xfrm_algo_aead. `bits`: a lie about the key.
inline ByteVector algorithm(std::string_view name, const ByteVector& key,
                            std::optional<std::uint32_t> extra = {},
                            std::optional<std::uint32_t> bits = {}) {
  ByteVector out(64);
  std::memcpy(out.data(), name.data(), name.size());
  const auto append = [&](const ByteVector& more) {
    out.insert(out.end(), more.begin(), more.end());
  };
  append(bytes_of(bits.value_or(static_cast<std::uint32_t>(8 * key.size()))));
  if (extra) append(bytes_of(*extra));
  append(key);
  return out;
}

inline TestAttribute cbc_aes() {
  return {XFRMA_ALG_CRYPT, algorithm("cbc(aes)", key(16))};
}
inline TestAttribute hmac_sha256() {
  return {XFRMA_ALG_AUTH_TRUNC, algorithm("hmac(sha256)", key(32), 128)};
}
inline TestAttribute gcm_aes() {
  return {XFRMA_ALG_AEAD, algorithm("rfc4106(gcm(aes))", key(20), 128)};
}

/// xfrm_replay_state_esn with `words` words of bitmap behind it, whatever bmp_len says.
inline TestAttribute esn(std::uint32_t bmp_len, std::uint32_t window, std::size_t words) {
  ByteVector out = bytes_of(xfrm_replay_state_esn{bmp_len, 0, 0, 0, 0, window});
  out.resize(out.size() + 4 * words);
  return {XFRMA_REPLAY_ESN_VAL, out};
}

template <class T>
TestAttribute attribute(std::uint16_t number, const T& value) {
  return {number, bytes_of(value)};
}

inline ByteVector add_sa(std::uint32_t spi = 0x100, unsigned flags = NLM_F_ACK) {
  return message(XFRM_MSG_NEWSA, flags, bytes_of(sa_info(spi)), {cbc_aes(), hmac_sha256()});
}

/// One message of an answer, taken apart.
struct Answer {
  nlmsghdr header{};
  ByteVector body;

  std::uint16_t type() const { return header.nlmsg_type; }
  bool is_error() const { return type() == NLMSG_ERROR; }
  /// Of NLMSG_ERROR and NLMSG_DONE; positive.
  int error() const { return -load<std::int32_t>(body); }

  /// What follows `base` bytes of the body, by number, in order of appearance.
  std::vector<std::pair<unsigned, ByteVector>> attributes(std::size_t base) const {
    std::vector<std::pair<unsigned, ByteVector>> out;
    std::size_t at = (base + 3) & ~std::size_t{3};
    while (at + sizeof(nlattr) <= body.size()) {
      const auto attribute = load<nlattr>(body, at);
      if (attribute.nla_len < sizeof(nlattr) || at + attribute.nla_len > body.size()) break;
      out.emplace_back(
          attribute.nla_type,
          ByteVector(body.begin() + static_cast<std::ptrdiff_t>(at + 4),
                     body.begin() + static_cast<std::ptrdiff_t>(at + attribute.nla_len)));
      at += (attribute.nla_len + std::size_t{3}) & ~std::size_t{3};
    }
    return out;
  }
  ByteVector attribute(std::size_t base, unsigned number) const {
    for (const auto& [n, content] : attributes(base)) {
      if (n == number) return content;
    }
    return {};
  }
  /// The sentence of an acknowledgement; empty if it has none.
  std::string text() const {
    if (!is_error() || (header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
    const auto echoed = load<nlmsghdr>(body, 4);
    const bool capped = (header.nlmsg_flags & NLM_F_CAPPED) != 0;
    const ByteVector content =
        attribute(4 + (capped ? sizeof(nlmsghdr) : echoed.nlmsg_len), NLMSGERR_ATTR_MSG);
    if (content.empty()) return {};
    return reinterpret_cast<const char*>(content.data());  // ends with NUL
  }
};

/// The messages of one datagram. A malformed rest shows as a message of type 0.
inline std::vector<Answer> answers_in(ByteSpan datagram) {
  std::vector<Answer> out;
  while (!datagram.empty()) {
    const auto header = load<nlmsghdr>(datagram);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > datagram.size() ||
        header.nlmsg_len % 4 != 0) {
      out.emplace_back();
      return out;
    }
    const ByteSpan body = datagram.first(header.nlmsg_len).subspan(sizeof header);
    out.push_back({header, ByteVector(body.begin(), body.end())});
    datagram = datagram.subspan(header.nlmsg_len);
  }
  return out;
}

}  // namespace xfrmfs::testing
