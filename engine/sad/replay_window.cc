// SPDX-License-Identifier: Apache-2.0
#include "engine/sad/replay_window.h"

#include <algorithm>

namespace xfrmfs::engine {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

/// The 64-bit number that `low` stands for, given the window's top edge (RFC 4303 App. A2.2).
SeqNo infer(std::uint32_t low, SeqNo top, std::uint32_t window) {
  const auto top_low = static_cast<std::uint32_t>(top);
  const auto top_high = static_cast<std::uint32_t>(top >> 32);
  const std::uint32_t bottom_low = top_low - window + 1;  // modulo 2^32 in case B
  std::uint32_t high = top_high;
  if (top_low >= window - 1) {  // case A: the window lies within one epoch
    if (low < bottom_low) high = top_high + 1;
  } else if (low >= bottom_low) {  // case B: it spans two, and this is the older
    high = top_high - 1;
  }
  return (SeqNo{high} << 32) | low;
}

}  // namespace

ReplayWindow::Commits::Commits(ReplayWindow& window) : window_(window) {
  for (;;) {
    std::uint32_t seen = window_.version_.load(kRelaxed);
    if ((seen & 1) == 0 && window_.version_.compare_exchange_weak(
                               seen, seen + 1, std::memory_order_acquire, kRelaxed)) {
      return;
    }
  }
}

ReplayWindow::Commits::~Commits() {
  window_.version_.store(window_.version_.load(kRelaxed) + 1, std::memory_order_release);
}

ReplayWindow::ReplayWindow(const ReplayParams& params)
    : window_(params.window),
      top_(params.in_sequence),
      words_(params.kind == ReplayKind::kLegacy ? std::uint16_t{1}
                                                : static_cast<std::uint16_t>(params.bitmap_words)),
      kind_(params.kind),
      more_bits_(words_ > kWordsInside ? new Word[words_] : nullptr) {
  for (std::uint32_t i = 0; i < words_; ++i) {
    bits()[i].store(i < params.bitmap.size() ? params.bitmap[i] : 0, kRelaxed);
  }
}

// A version lock without fences: data is stored with release and loaded with acquire, so a reader
// that saw a committer's data sees its version too and reads again.
template <class Read>
auto ReplayWindow::consistently(Read&& read) const {
  for (;;) {
    const std::uint32_t before = version_.load(std::memory_order_acquire);
    auto result = read();
    if ((before & 1) == 0 && version_.load(kRelaxed) == before) return result;
  }
}

std::expected<SeqNo, ReplayFailure> ReplayWindow::check(std::uint32_t low) const {
  if (window_ == 0) return SeqNo{low};
  return consistently([&]() -> std::expected<SeqNo, ReplayFailure> {
    const SeqNo top = top_.load(std::memory_order_acquire);
    SeqNo number = low;
    if (kind_ == ReplayKind::kEsn) {
      if (low == 0 && top < window_ - 1) return std::unexpected(ReplayFailure::kZero);
      number = infer(low, top, window_);
    } else if (low == 0) {
      return std::unexpected(ReplayFailure::kZero);
    }
    if (const auto verdict = look(number); !verdict) return std::unexpected(verdict.error());
    return number;
  });
}

std::expected<void, ReplayFailure> ReplayWindow::look(SeqNo number) const {
  const SeqNo top = top_.load(std::memory_order_acquire);
  if (number > top) return {};
  if (top - number >= window_) return std::unexpected(ReplayFailure::kLeftOfWindow);
  if (seen(number, top)) return std::unexpected(ReplayFailure::kSeen);
  return {};
}

bool ReplayWindow::seen(SeqNo number, SeqNo top) const {
  if (kind_ == ReplayKind::kLegacy) {
    return (bits()[0].load(std::memory_order_acquire) >> (top - number) & 1) != 0;
  }
  const Place place = ring_place(number);
  return (bits()[place.word].load(std::memory_order_acquire) & place.bit) != 0;
}

std::expected<void, ReplayFailure> ReplayWindow::mark(SeqNo number) {
  if (window_ == 0) return {};
  if (const auto verdict = look(number); !verdict) return verdict;

  const SeqNo top = top_.load(kRelaxed);
  if (kind_ == ReplayKind::kLegacy) {
    std::uint32_t word = bits()[0].load(kRelaxed);
    if (number > top) {
      word = number - top < window_ ? (word << (number - top)) | 1 : 1;
    } else {
      word |= std::uint32_t{1} << (top - number);
    }
    bits()[0].store(word, std::memory_order_release);
  } else {
    if (number > top) advance_ring(number, top);
    const Place place = ring_place(number);
    Word& word = bits()[place.word];
    word.store(word.load(kRelaxed) | place.bit, std::memory_order_release);
  }
  if (number > top) top_.store(number, std::memory_order_release);
  return {};
}

/// Forgets the numbers that fall out when `number` becomes the top: their places are reused.
void ReplayWindow::advance_ring(SeqNo number, SeqNo top) {
  if (number - top >= window_) {
    for (std::uint32_t i = 0; i < words_; ++i) bits()[i].store(0, std::memory_order_release);
    return;
  }
  for (SeqNo n = top + 1; n < number; ++n) {
    const Place place = ring_place(n);
    Word& word = bits()[place.word];
    word.store(word.load(kRelaxed) & ~place.bit, std::memory_order_release);
  }
}

ReplayWindow::Place ReplayWindow::ring_place(SeqNo number) const {
  // Most windows are a power of two, and a division takes longer than all the rest.
  const SeqNo turn = number - 1;
  const SeqNo at =
      (window_ & (window_ - 1)) == 0 ? turn & (window_ - 1) : (number + window_ - 1) % window_;
  return {.word = static_cast<std::size_t>(at / 32), .bit = std::uint32_t{1} << (at % 32)};
}

ReplayParams ReplayWindow::state() const {
  ReplayParams state;
  state.kind = kind_;
  state.window = window_;
  if (kind_ != ReplayKind::kLegacy) state.bitmap_words = words_;
  state.bitmap.resize(words_);
  state.in_sequence = consistently([&] {
    const SeqNo top = top_.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < words_; ++i) {
      state.bitmap[i] = bits()[i].load(std::memory_order_acquire);
    }
    return top;
  });
  return state;
}

}  // namespace xfrmfs::engine
