// SPDX-License-Identifier: Apache-2.0
// Big-endian numbers in bytes: the only place where byte order exists.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace xfrmfs::engine {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

inline std::uint16_t load_be16(const std::byte* p) {
  std::uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap16(v);
}
inline std::uint32_t load_be32(const std::byte* p) {
  std::uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap32(v);
}
inline std::uint64_t load_be64(const std::byte* p) {
  std::uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap64(v);
}
/// As they must be put into memory, and what they are there.
inline std::uint16_t to_be16(std::uint16_t v) {
  return __builtin_bswap16(v);
}
inline std::uint32_t to_be32(std::uint32_t v) {
  return __builtin_bswap32(v);
}
inline void store_be16(std::byte* p, std::uint16_t v) {
  v = __builtin_bswap16(v);
  std::memcpy(p, &v, sizeof v);
}
inline void store_be32(std::byte* p, std::uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(p, &v, sizeof v);
}
inline void store_be64(std::byte* p, std::uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(p, &v, sizeof v);
}

/// Reads hostile bytes from the front. Every length is compared before anything is taken, so no
/// subtraction can go below zero (a short input gives nothing, and the reader stays where it was).
class Reader {
 public:
  explicit Reader(Bytes bytes) : left_(bytes) {}

  std::size_t left() const { return left_.size(); }

  std::optional<Bytes> take(std::size_t size) {
    if (size > left_.size()) return std::nullopt;
    const Bytes taken = left_.first(size);
    left_ = left_.subspan(size);
    return taken;
  }
  std::optional<std::uint8_t> u8() {
    const auto b = take(1);
    if (!b) return std::nullopt;
    return std::to_integer<std::uint8_t>((*b)[0]);
  }
  std::optional<std::uint16_t> be16() {
    const auto b = take(2);
    if (!b) return std::nullopt;
    return load_be16(b->data());
  }
  std::optional<std::uint32_t> be32() {
    const auto b = take(4);
    if (!b) return std::nullopt;
    return load_be32(b->data());
  }

 private:
  Bytes left_;
};

}  // namespace xfrmfs::engine
