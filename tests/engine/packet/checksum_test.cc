// SPDX-License-Identifier: Apache-2.0
// Every way of adding gives what RFC 1071 §1 says, word by word.
#include "engine/packet/checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace xfrmfs::testing {
namespace {

using namespace engine;

std::uint16_t word_by_word(Bytes bytes, std::uint32_t sum) {
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const auto high = std::to_integer<std::uint32_t>(bytes[i]);
    const auto low = i + 1 < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i + 1]) : 0;
    sum += high << 8 | low;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<std::uint16_t>((sum & 0xffff) + (sum >> 16));
}

/// `size` bytes at the end of a piece of memory of their own, and `into` bytes behind a line's
/// start: what is read in front or behind belongs to somebody else.
void expect_right(const std::vector<std::byte>& pattern, std::size_t into, std::size_t size) {
  std::vector<std::byte> memory(64 + into + size);
  const std::size_t past_line = reinterpret_cast<std::uintptr_t>(memory.data()) % 64;
  const std::size_t start = (64 - past_line) % 64 + into;
  memory.resize(start + size, std::byte{0xee});
  std::copy_n(pattern.begin(), size, memory.begin() + static_cast<std::ptrdiff_t>(start));
  const Bytes bytes = Bytes(memory).subspan(start);
  EXPECT_EQ(checksum_add(bytes, 0x1234), word_by_word(bytes, 0x1234)) << into << " " << size;
  const auto native = checksum_fold(checksum_words(bytes));
  EXPECT_EQ(static_cast<std::uint16_t>(__builtin_bswap16(native)), word_by_word(bytes, 0))
      << into << " " << size;
}

TEST(ChecksumTest, EverySizeAtEveryPlace) {
  std::minstd_rand random(1);
  std::vector<std::byte> bytes(70000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  for (std::size_t size = 0; size < 700; ++size) {
    for (const std::size_t into : {0u, 1u, 2u, 4u, 31u, 32u, 52u, 62u, 63u}) {
      expect_right(bytes, into, size);
    }
  }
  for (std::size_t into = 0; into < 64; ++into) {
    for (const std::size_t size : {1347u, 1348u, 1380u, 1400u}) expect_right(bytes, into, size);
  }
  for (const std::size_t size : {65471u, 65534u, 65535u, 65536u, 65537u, 70000u}) {
    for (const std::size_t into : {0u, 1u, 52u}) expect_right(bytes, into, size);
  }
}

TEST(ChecksumTest, ExtremesDoNotOverflow) {
  for (const unsigned value : {0x00u, 0x7fu, 0x80u, 0xffu}) {
    const std::vector<std::byte> bytes(70000, static_cast<std::byte>(value));
    for (const std::size_t size : {0u, 1u, 2u, 128u, 1400u, 65535u, 65536u, 70000u}) {
      expect_right(bytes, 52, size);
    }
  }
}

TEST(ChecksumTest, FoldKeepsApartTheTwoZeros) {
  EXPECT_EQ(checksum_fold(0), 0);
  EXPECT_EQ(checksum_fold(0xffff), 0xffff);
  EXPECT_EQ(checksum_fold(0x10000), 1);
  EXPECT_EQ(checksum_fold(0x1fffe), 0xffff);
  EXPECT_EQ(checksum_fold(0xffffffff), 0xffff);
  EXPECT_EQ(checksum_fold(0x1fffffffe), 0xffff);
  EXPECT_EQ(checksum_fold(~std::uint64_t{0}), 0xffff);
  EXPECT_EQ(checksum_fold(0xffff0000ffff0001), 1);
}

}  // namespace
}  // namespace xfrmfs::testing
