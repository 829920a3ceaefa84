// SPDX-License-Identifier: Apache-2.0
// SelfTest: does a library give the right answer, and how long does it take?
//
// The known answers are digests over a run of packets of many sizes, made by another implementation
// (tests/vectors/self_test_answers.py).

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "engine/crypto/algorithm.h"
#include "engine/crypto/sealer.h"

namespace xfrmfs::engine {

/// One key size of an algorithm.
struct KnownAnswer {
  std::size_t key_size;     // of the AEAD, salt included, or of the cipher
  std::string_view digest;  // SHA-256 over all packets of the test, hexadecimal
};

struct TestedAlgorithm {
  std::string_view label;   // e.g. "aes-cbc hmac(sha1)"
  std::string_view cipher;  // AEAD or cipher
  std::string_view mac;     // empty: `cipher` is an AEAD
  std::uint32_t icv_bits;
  std::span<const KnownAnswer> answers;
  bool raced;  // more than one library may have it, so that its time is taken

  /// With the keys of the test.
  CryptoParams params(const KnownAnswer& answer) const;
};

/// One for each row of CryptoBackends::table(), in its order.
std::span<const TestedAlgorithm> tested_algorithms();

/// Owns the memory for the packets. One thread.
class SelfTest {
 public:
  SelfTest();

  /// Seals and opens the packets of the test, with extended sequence numbers and without, in place
  /// and from elsewhere; true if every byte is right and a changed packet is noticed.
  bool passes(const SealerFactory& factory, CryptoLane* lane, const KnownAnswer& answer);
  /// Nanoseconds for a packet of 1408 bytes: the best of several runs of `run` packets, 32 at most;
  /// never 0.
  SealAndOpen<std::uint32_t> time(const SealerFactory& factory, CryptoLane* lane, std::size_t run);

 private:
  std::vector<std::byte> packets_;
  std::vector<std::byte> texts_;
};

}  // namespace xfrmfs::engine
