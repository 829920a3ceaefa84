// SPDX-License-Identifier: Apache-2.0
// Memory for many objects of one size that are used in random order: big pages, packed.
//
// With a million SAs, finding the page of an address costs more than reading it: in pages of 4 KiB
// each first touch of an SA walks the page tables too, in a virtual machine those of the host
// besides. So these objects come out of chunks of 2 MiB, for which the kernel is asked for one big
// page each; the first chunk of a size stays in small pages, so that a small table stays small. A
// chunk without objects is given back, but for the last.
//
// Any thread; a lock, a leaf, is held for each allocation. Not for the packet path.

#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace xfrmfs::engine {

/// `size` bytes, aligned to a cache line. Throws std::bad_alloc.
void* slab_allocate(std::size_t size);
/// `size`: as it was allocated.
void slab_free(void* memory, std::size_t size) noexcept;

template <class T>
struct SlabAllocator {
  using value_type = T;
  static_assert(alignof(T) <= 64);

  SlabAllocator() = default;
  template <class U>
  explicit SlabAllocator(const SlabAllocator<U>&) {}

  T* allocate(std::size_t count) { return static_cast<T*>(slab_allocate(count * sizeof(T))); }
  void deallocate(T* memory, std::size_t count) { slab_free(memory, count * sizeof(T)); }
  bool operator==(const SlabAllocator&) const = default;
};

/// std::make_shared, in a slab.
template <class T, class... Arguments>
std::shared_ptr<T> make_shared_in_slab(Arguments&&... arguments) {
  return std::allocate_shared<T>(SlabAllocator<std::remove_const_t<T>>(),
                                 std::forward<Arguments>(arguments)...);
}

}  // namespace xfrmfs::engine
