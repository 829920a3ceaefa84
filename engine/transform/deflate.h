// SPDX-License-Identifier: Apache-2.0
// DEFLATE (RFC 1951, as RFC 2394 uses it), packet by packet, by zlib.
//
// Nothing is left from one packet to the next. All memory is taken when an object is made: there
// is no way for a packet to make it allocate, however the library handles it.

#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {

/// The longest text on either side: no IP datagram holds more.
inline constexpr std::size_t kLongestClearText = 0xffff;

/// For one thread. Made on the control thread; throws std::bad_alloc.
class Deflater {
 public:
  Deflater();
  ~Deflater();
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  /// The compressed size, always less than out.size(): zlib, when no byte is left, does not know
  /// that it has finished. Nothing, and `out` is undefined, if it does not fit. They do not
  /// overlap.
  std::optional<std::size_t> deflate(Bytes clear, MutableBytes out) noexcept;

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

/// For one thread. Made on the control thread; throws std::bad_alloc.
class Inflater {
 public:
  Inflater();
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// The clear size; nothing, and `out` is undefined, if the text is damaged, cut off, or does not
  /// fit. Never writes more than out.size() bytes. What follows the end of the compressed text is
  /// not looked at, as in Linux. They do not overlap.
  std::optional<std::size_t> inflate(Bytes compressed, MutableBytes out) noexcept;

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

/// What the threads of an engine lend to every SA that compresses: one pair per lane, because it is
/// some 180 KiB.
class DeflateLanes {
 public:
  /// Control thread; throws std::bad_alloc.
  explicit DeflateLanes(unsigned lanes) : outbound_(lanes), inbound_(lanes) {}

  /// The lane's outbound thread.
  struct Outbound {
    Deflater deflater;
    std::unique_ptr<std::byte[]> text{new std::byte[kLongestClearText]};
  };
  /// The lane's inbound thread.
  struct Inbound {
    Inflater inflater;
    std::unique_ptr<std::byte[]> text{new std::byte[kLongestClearText]};
  };
  Outbound& outbound(unsigned lane) { return outbound_[lane]; }
  Inbound& inbound(unsigned lane) { return inbound_[lane]; }
  std::size_t size() const { return outbound_.size(); }

 private:
  std::vector<Outbound> outbound_;
  std::vector<Inbound> inbound_;
};

}  // namespace xfrmfs::engine
