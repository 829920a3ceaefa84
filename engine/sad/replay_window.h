// SPDX-License-Identifier: Apache-2.0
// The anti-replay window of one SA.
//
// Which numbers may still arrive?  RFC 4303 §3.4.3; with extended sequence numbers, Appendix A2,
// because only the low 32 bits travel and the high half is inferred from the window's position.
//
// A packet asks twice: check() before its ICV is verified, commit() after. In between another
// worker may have committed the same number, so commit() looks again.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>

#include "engine/base/types.h"
#include "engine/sad/sa_params.h"

namespace xfrmfs::engine {

/// Why a number was refused. Each is XfrmInStateSeqError; an SA's own statistics tell them apart.
enum class ReplayFailure : std::uint8_t {
  kZero,          // number 0 is never sent; no statistic of the SA moves
  kLeftOfWindow,  // too old: statistic replay_window
  kSeen,          // a duplicate: statistic replay
};

class ReplayWindow {
 public:
  explicit ReplayWindow(const ReplayParams& params);

  /// Decides whether a number may still be accepted. Moves nothing.
  ///
  /// `low` is the number in the packet, host order. On success the full 64-bit number (equal to
  /// `low` without ESN). Window 0 accepts everything. Any worker.
  std::expected<SeqNo, ReplayFailure> check(std::uint32_t low) const;

  /// Marks verified numbers as seen and moves the window; looks again first. One at a time: while it
  /// lives, for the packets of one run, others wait and so does check(). Any worker.
  class Commits {
   public:
    explicit Commits(ReplayWindow& window);
    ~Commits();
    Commits(const Commits&) = delete;
    Commits& operator=(const Commits&) = delete;
    std::expected<void, ReplayFailure> add(SeqNo number) { return window_.mark(number); }

   private:
    ReplayWindow& window_;
  };
  /// One number alone.
  std::expected<void, ReplayFailure> commit(SeqNo number) { return Commits(*this).add(number); }

  /// A consistent copy in the layout of ReplayParams, out_sequence left 0. Never waits. Any thread.
  ReplayParams state() const;

  ReplayKind kind() const { return kind_; }
  std::uint32_t window() const { return window_; }

 private:
  std::expected<void, ReplayFailure> mark(SeqNo number);
  template <class Read>
  auto consistently(Read&& read) const;
  std::expected<void, ReplayFailure> look(SeqNo number) const;
  bool seen(SeqNo number, SeqNo top) const;
  void advance_ring(SeqNo number, SeqNo top);

  using Word = std::atomic<std::uint32_t>;
  struct Place {
    std::size_t word;
    std::uint32_t bit;
  };
  Place ring_place(SeqNo number) const;
  Word* bits() { return words_ > kWordsInside ? more_bits_.get() : bits_.data(); }
  const Word* bits() const { return words_ > kWordsInside ? more_bits_.get() : bits_.data(); }

  /// Windows up to 64 need no memory of their own. All of it is 40 bytes: SecurityAssociation has
  /// no more room in the cache line where it lies.
  static constexpr std::size_t kWordsInside = 2;

  // Odd while a Commits lives, for tens of nanoseconds: then readers and others try again.
  std::atomic<std::uint32_t> version_{0};
  const std::uint32_t window_;  // in numbers; 0: no protection
  std::atomic<SeqNo> top_;      // highest accepted
  // Legacy: one word, bit 0 is top_. Else a ring: bit (n - 1) % window_ stands for number n.
  std::array<Word, kWordsInside> bits_{};
  const std::uint16_t words_;  // of 32 bits; legacy: 1
  const ReplayKind kind_;
  const std::unique_ptr<Word[]> more_bits_;  // instead of bits_, if they are more
};

}  // namespace xfrmfs::engine
