// SPDX-License-Identifier: Apache-2.0
// Raw streams, without zlib's header and checksum. What we make stays within Linux's window of
// 2 KiB; what we take may use all of 32 KiB.

#include "engine/transform/deflate.h"

#define ZLIB_CONST
#include <zlib.h>

#include <new>

namespace xfrmfs::engine {
namespace {

constexpr int kOurWindowBits = -11;  // negative: raw
constexpr int kAnyWindowBits = -15;
/// Symbols in a block, 2^(level + 6), and size of a table that is cleared for each packet. Measured
/// with that window: below it is slower and larger, above it is no smaller.
constexpr int kMemoryLevel = 6;

/// What zlib asks for while a stream is made. Later on it gets nothing, and fails: it asks only to
/// remember the text of a call for the next one, and there is none.
class Memory {
 public:
  void close() { closed_ = true; }

  static voidpf allocate(voidpf self, uInt count, uInt size) {
    return static_cast<Memory*>(self)->take(std::size_t{count} * size);
  }
  static void free(voidpf, voidpf) {}  // all at once, in the end

 private:
  void* take(std::size_t size) noexcept {
    if (closed_) return nullptr;
    try {
      // Zeroed, because zlib compares, for speed, bytes of its window that it has not written.
      blocks_.push_back(std::make_unique<std::byte[]>(size));
      return blocks_.back().get();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  bool closed_ = false;
};

Bytef* octets(std::byte* bytes) {
  return reinterpret_cast<Bytef*>(bytes);
}
const Bytef* octets(const std::byte* bytes) {
  return reinterpret_cast<const Bytef*>(bytes);
}

void aim(z_stream& stream, Bytes from, MutableBytes to) {
  stream.next_in = octets(from.data());
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = octets(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
}

bool too_long(Bytes from, MutableBytes to) {
  return from.size() > kLongestClearText || to.size() > kLongestClearText;
}

}  // namespace

struct Deflater::Stream {
  Memory memory;
  z_stream zlib{};
};

Deflater::Deflater() : stream_(std::make_unique<Stream>()) {
  z_stream& zlib = stream_->zlib;
  zlib.zalloc = Memory::allocate;
  zlib.zfree = Memory::free;
  zlib.opaque = &stream_->memory;
  if (deflateInit2(&zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kOurWindowBits, kMemoryLevel,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  stream_->memory.close();
}

Deflater::~Deflater() {
  deflateEnd(&stream_->zlib);
}

std::optional<std::size_t> Deflater::deflate(Bytes clear, MutableBytes out) noexcept {
  z_stream& zlib = stream_->zlib;
  if (too_long(clear, out) || deflateReset(&zlib) != Z_OK) return std::nullopt;
  aim(zlib, clear, out);
  if (::deflate(&zlib, Z_FINISH) != Z_STREAM_END || zlib.avail_out == 0) return std::nullopt;
  return out.size() - zlib.avail_out;
}

struct Inflater::Stream {
  Memory memory;
  z_stream zlib{};
};

Inflater::Inflater() : stream_(std::make_unique<Stream>()) {
  z_stream& zlib = stream_->zlib;
  zlib.zalloc = Memory::allocate;
  zlib.zfree = Memory::free;
  zlib.opaque = &stream_->memory;
  if (inflateInit2(&zlib, kAnyWindowBits) != Z_OK) throw std::bad_alloc();
  stream_->memory.close();
}

Inflater::~Inflater() {
  inflateEnd(&stream_->zlib);
}

std::optional<std::size_t> Inflater::inflate(Bytes compressed, MutableBytes out) noexcept {
  z_stream& zlib = stream_->zlib;
  if (too_long(compressed, out) || inflateReset(&zlib) != Z_OK) return std::nullopt;
  aim(zlib, compressed, out);
  if (::inflate(&zlib, Z_FINISH) != Z_STREAM_END) return std::nullopt;
  return out.size() - zlib.avail_out;
}

}  // namespace xfrmfs::engine
