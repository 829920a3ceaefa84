// SPDX-License-Identifier: Apache-2.0
// Sealer: the cryptographic work of one SA on one thread, a run of boxes per call.
//
// A box is one ESP packet in memory (RFC 4303 §2), header first:
//
//   packet -> | SPI 4 | sequence 4 | IV iv_size | text text_size | ICV icv_size |
//
// AEAD, or cipher then MAC, is the sealer's affair; so is where the high half of an extended
// sequence number enters (AEAD: between SPI and low half, RFC 4106 §5; MAC: behind the text,
// RFC 4303 §2.2.1). The caller writes SPI, low sequence number and IV.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/prefetch.h"
#include "engine/base/types.h"

namespace xfrmfs::engine {

/// How the IV of each packet must be chosen.
enum class IvRule : std::uint8_t {
  kNone,           // there is no IV
  kUnique,         // never twice under one key: derived from the sequence number (RFC 4106 §3.1)
  kUnpredictable,  // from a random source (RFC 3602 §2.1)
};

/// The fixed shape of an algorithm's boxes.
struct BoxShape {
  std::uint8_t iv_size = 0;
  std::uint8_t icv_size = 0;
  std::uint8_t alignment = 4;  // text_size is a multiple of it: cipher block, 4 at least
  IvRule iv_rule = IvRule::kNone;
};

enum class BoxResult : std::uint8_t {
  kFailed,    // the library refused, or the text is not a whole number of cipher blocks
  kDone,      // sealed; or opened, and its ICV was right
  kIcvWrong,  // opening only
};

struct Box {
  std::byte* packet = nullptr;  // the ESP header
  std::uint32_t text_size = 0;
  SeqNo sequence = 0;  // all 64 bits; the high half matters with ESN only
  /// Sealing: the clear text, text_size bytes; null: it is in the box already. Elsewhere it does
  /// not overlap the box.
  const std::byte* source = nullptr;
  BoxResult result = BoxResult::kFailed;
};

/// What one thread in one direction lends to every sealer it calls: work space of a library that
/// works on many boxes at a time. Made by CryptoBackends::make_lane().
class CryptoLane {
 public:
  virtual ~CryptoLane() = default;
};

/// Made with the SA. A sealer that keeps state between calls is made for one thread and one
/// direction; one that has none serves all of them (SealerFactory::stateless()).
/// seal() and open() do not allocate, throw or lock. `lane` belongs to the caller; null if it has
/// none, which costs time only.
class Sealer {
 public:
  virtual ~Sealer() = default;
  /// Text becomes ciphertext, ICV is written. Unless kDone, the box's bytes are undefined.
  virtual void seal(std::span<Box> run, CryptoLane* lane) noexcept = 0;
  /// Verifies, then decrypts in place; the ICV is judged before anything else about the text.
  /// Unless kDone, the text is undefined and must not be used.
  virtual void open(std::span<Box> run, CryptoLane* lane) noexcept = 0;
  /// Lists what a packet of this size needs of a sealer.
  using Prefetch = void (*)(const Sealer& sealer, std::size_t size, FetchList& list) noexcept;
  /// What does so for sealers of this kind. Not a virtual function: the sealer itself is still in
  /// memory, and nobody shall wait for it.
  virtual Prefetch prefetcher() const noexcept {
    return [](const Sealer&, std::size_t, FetchList&) noexcept {};
  }
};

}  // namespace xfrmfs::engine
