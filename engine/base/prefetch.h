// SPDX-License-Identifier: Apache-2.0
// Asking for memory before it is needed: many lines at once, so that nothing waits for one of them.
//
// A processor goes on while a line comes, but not past some hundred instructions while the address
// of one is being translated; and with a million SAs most translations come from memory too. So
// addresses are collected first and asked for in a loop that does nothing else: then dozens of
// translations are under way together.

#pragma once

#include <array>
#include <cstddef>

namespace xfrmfs::engine {

inline constexpr std::size_t kCacheLine = 64;

/// One thread. Addresses may be any.
class FetchList {
 public:
  /// The line at `p`.
  void add(const void* p) noexcept {
    if (count_ == lines_.size()) fetch();
    lines_[count_++] = p;
  }
  /// All lines that `size` bytes at `p` touch.
  void add(const void* p, std::size_t size) noexcept {
    const auto* const begin = static_cast<const std::byte*>(p);
    for (std::size_t at = 0; at < size; at += kCacheLine) add(begin + at);
    if (size % kCacheLine != 1) add(begin + size - 1);
  }
  /// Asks for all that were added, and forgets them.
  void fetch() noexcept {
    for (std::size_t i = 0; i < count_; ++i) __builtin_prefetch(lines_[i]);
    // GCC takes what does nothing but prefetch for code without effect, and removes calls of it.
    asm volatile("");
    count_ = 0;
  }

 private:
  std::size_t count_ = 0;
  std::array<const void*, 512> lines_;
};

}  // namespace xfrmfs::engine
