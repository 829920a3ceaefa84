// SPDX-License-Identifier: Apache-2.0
#include "engine/base/slab.h"

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include <sys/mman.h>

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kChunk = std::size_t{2} << 20;
/// Larger ones get pages of their own.
constexpr std::size_t kLargest = kChunk / 8;

// A checker of memory accesses must see each object come and go.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kChecked = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif
#else
constexpr bool kChecked = false;
#endif

std::size_t in_lines(std::size_t size) {
  return (size + kLine - 1) / kLine * kLine;
}

void* map_pages(std::size_t size, bool big) {
  void* memory = std::aligned_alloc(kChunk, (size + kChunk - 1) / kChunk * kChunk);
  if (memory == nullptr) throw std::bad_alloc();
  if (big) ::madvise(memory, size, MADV_HUGEPAGE);  // a wish: without, it is only slower
  return memory;
}

/// A free object, in its own memory.
struct Free {
  Free* next;
};

/// In the first line of its 2 MiB; objects lie behind it.
struct Chunk {
  Free* free = nullptr;       // given back
  std::size_t fresh = kLine;  // never used from here on
  std::size_t live = 0;
  Chunk* before = nullptr;  // of those with room
  Chunk* behind = nullptr;

  static Chunk* of(void* object) {
    return reinterpret_cast<Chunk*>(reinterpret_cast<std::uintptr_t>(object) & ~(kChunk - 1));
  }
  bool full(std::size_t size) const { return free == nullptr && fresh + size > kChunk; }
  void* take(std::size_t size) {
    ++live;
    if (free != nullptr) return std::exchange(free, free->next);
    void* object = reinterpret_cast<std::byte*>(this) + fresh;
    fresh += size;
    return object;
  }
};
static_assert(sizeof(Chunk) <= kLine);

/// All objects of one size.
class Slab {
 public:
  explicit Slab(std::size_t size) : size_(size) {}

  void* allocate() {
    if (room_ == nullptr) {
      link(new (map_pages(kChunk, chunks_ > 0)) Chunk);
      ++chunks_;
    }
    Chunk* const chunk = room_;
    void* object = chunk->take(size_);
    if (chunk->full(size_)) unlink(chunk);
    return object;
  }

  void free(void* object) {
    Chunk* const chunk = Chunk::of(object);
    if (chunk->full(size_)) link(chunk);
    chunk->free = new (object) Free{chunk->free};
    if (--chunk->live > 0 || chunks_ == 1) return;  // the last one stays
    unlink(chunk);
    std::free(chunk);
    --chunks_;
  }

 private:
  void link(Chunk* chunk) {
    chunk->before = nullptr;
    chunk->behind = room_;
    if (room_ != nullptr) room_->before = chunk;
    room_ = chunk;
  }
  void unlink(Chunk* chunk) {
    if (chunk->behind != nullptr) chunk->behind->before = chunk->before;
    (chunk->before != nullptr ? chunk->before->behind : room_) = chunk->behind;
  }

  const std::size_t size_;
  Chunk* room_ = nullptr;  // chunks that are not full
  std::size_t chunks_ = 0;
};

struct Slabs {
  std::mutex mutex;
  std::map<std::size_t, Slab> by_size;
};

/// Never destroyed: objects of static storage may outlive everything else.
Slabs& slabs() {
  static Slabs& all = *new Slabs;
  return all;
}

}  // namespace

void* slab_allocate(std::size_t size) {
  const std::size_t whole = in_lines(size);
  if (kChecked) return ::operator new(whole, std::align_val_t{kLine});
  if (whole > kLargest) return map_pages(whole, true);
  const std::scoped_lock lock(slabs().mutex);
  return slabs().by_size.try_emplace(whole, whole).first->second.allocate();
}

void slab_free(void* memory, std::size_t size) noexcept {
  const std::size_t whole = in_lines(size);
  if (kChecked) return ::operator delete(memory, std::align_val_t{kLine});
  if (whole > kLargest) return std::free(memory);
  const std::scoped_lock lock(slabs().mutex);
  slabs().by_size.find(whole)->second.free(memory);
}

}  // namespace xfrmfs::engine
