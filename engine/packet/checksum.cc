// SPDX-License-Identifier: Apache-2.0
// One's complement sums do not care about byte order (RFC 1071 §2 B), so whole native words are
// added and only the result is turned round.
//
// Every segment pays it once outbound and once inbound, so that it is worth wide vectors.

#include "engine/packet/checksum.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace xfrmfs::engine {
namespace {

/// The sum of native 32-bit words; missing last bytes count as zero.
std::uint64_t sum_words(const std::byte* p, std::size_t left) {
  std::uint64_t words = 0;
  for (; left >= 4; left -= 4, p += 4) {
    std::uint32_t word;
    std::memcpy(&word, p, sizeof word);
    words += word;
  }
  if (left > 0) {
    std::uint32_t word = 0;
    std::memcpy(&word, p, left);
    words += word;
  }
  return words;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) std::uint64_t sum_words_avx2(const std::byte* p, std::size_t left) {
  const __m256i low_half = _mm256_set1_epi64x(0xffffffff);
  __m256i even = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  for (; left >= 64; left -= 64, p += 64) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
    even = _mm256_add_epi64(even, _mm256_and_si256(a, low_half));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(a, 32));
    even = _mm256_add_epi64(even, _mm256_and_si256(b, low_half));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(b, 32));
  }
  const __m256i sums = _mm256_add_epi64(even, odd);
  alignas(32) std::uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + sum_words(p, left);
}

/// Even and odd bytes apart: a dot product with ones and zeros adds four bytes into each lane,
/// which overflow only behind four million steps.
__attribute__((target("avx512f,avx512vnni"))) std::uint64_t sum_words_vnni(const std::byte* p,
                                                                           std::size_t left) {
  const __m512i low_bytes = _mm512_set1_epi16(0x0001);
  const __m512i high_bytes = _mm512_set1_epi16(0x0100);
  __m512i low = _mm512_setzero_si512();
  __m512i high = _mm512_setzero_si512();
  __m512i low2 = _mm512_setzero_si512();
  __m512i high2 = _mm512_setzero_si512();
  for (; left >= 128; left -= 128, p += 128) {
    const __m512i a = _mm512_loadu_si512(p);
    const __m512i b = _mm512_loadu_si512(p + 64);
    low = _mm512_dpbusd_epi32(low, a, low_bytes);
    high = _mm512_dpbusd_epi32(high, a, high_bytes);
    low2 = _mm512_dpbusd_epi32(low2, b, low_bytes);
    high2 = _mm512_dpbusd_epi32(high2, b, high_bytes);
  }
  const auto lows =
      static_cast<std::uint64_t>(_mm512_reduce_add_epi32(_mm512_add_epi32(low, low2)));
  const auto highs =
      static_cast<std::uint64_t>(_mm512_reduce_add_epi32(_mm512_add_epi32(high, high2)));
  return lows + (highs << 8) + sum_words(p, left);
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
const bool kHasVnni =
    __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
#endif

std::uint64_t sum_of(Bytes bytes) {
#if defined(__x86_64__)
  if (bytes.size() >= 256 && kHasVnni) return sum_words_vnni(bytes.data(), bytes.size());
  if (bytes.size() >= 128 && kHasAvx2) return sum_words_avx2(bytes.data(), bytes.size());
#endif
  return sum_words(bytes.data(), bytes.size());
}

}  // namespace

std::uint16_t checksum_add(Bytes bytes, std::uint32_t sum) {
  const std::uint16_t native = checksum_fold(sum_of(bytes));
  return checksum_fold(std::uint64_t{sum} + __builtin_bswap16(native));
}

void fill_udp_checksum(MutableBytes packet) {
  constexpr std::uint32_t kUdp = 17;
  const bool ipv6 = std::to_integer<unsigned>(packet[0]) >> 4 == 6;
  const MutableBytes udp = packet.subspan(ipv6 ? 40 : 20);
  const Bytes addresses = ipv6 ? packet.subspan(8, 32) : packet.subspan(12, 8);
  store_be16(udp.data() + 6, 0);
  const std::uint32_t pseudo =
      checksum_add(addresses, kUdp + static_cast<std::uint32_t>(udp.size()));
  const std::uint16_t sum = checksum_add(udp, pseudo);
  // 0 would mean "no checksum".
  store_be16(udp.data() + 6, sum == 0xffff ? sum : static_cast<std::uint16_t>(~sum));
}

}  // namespace xfrmfs::engine
