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

/// A dot product with ones adds two 16-bit words into each lane by one instruction. It takes them
/// as signed, so that 0x8000 is taken from each first and put back at the end.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) std::uint64_t sum_words_vnni(
    const std::byte* p, std::size_t left) {
  constexpr std::size_t kVector = 64;
  constexpr std::uint64_t kBias = kVector / 2 * 0x8000;
  const __m512i bias = _mm512_set1_epi16(-0x8000);
  const __m512i ones = _mm512_set1_epi16(1);
  const auto add = [&](__m512i sum, __m512i words)
                       __attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) {
                         return _mm512_dpwssd_epi32(sum, _mm512_xor_si512(words, bias), ones);
                       };
  __m512i a = _mm512_setzero_si512();
  __m512i b = _mm512_setzero_si512();
  __m512i c = _mm512_setzero_si512();
  __m512i d = _mm512_setzero_si512();
  std::uint64_t vectors = 0;
  // Loads that cross a line cost two: the first one ends at a line's end, as if zeros were in
  // front.
  const std::size_t into = reinterpret_cast<std::uintptr_t>(p) % kVector;
  if (into % 2 == 0) {
    a = add(a, _mm512_maskz_loadu_epi8(~std::uint64_t{0} << into, p - into));
    p += kVector - into;
    left -= kVector - into;
    vectors = 1;
  }
  vectors += (left + kVector - 1) / kVector;
  for (; left >= 4 * kVector; left -= 4 * kVector, p += 4 * kVector) {
    a = add(a, _mm512_loadu_si512(p));
    b = add(b, _mm512_loadu_si512(p + kVector));
    c = add(c, _mm512_loadu_si512(p + 2 * kVector));
    d = add(d, _mm512_loadu_si512(p + 3 * kVector));
  }
  for (; left >= kVector; left -= kVector, p += kVector) b = add(b, _mm512_loadu_si512(p));
  if (left > 0) c = add(c, _mm512_maskz_loadu_epi8(~std::uint64_t{0} >> (kVector - left), p));
  const __m512i all = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
  const __m256i half = _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xff, all, 0),
                                        _mm512_maskz_extracti64x4_epi64(0xff, all, 1));
  __m128i rest = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  rest = _mm_add_epi32(rest, _mm_shuffle_epi32(rest, 0x4e));
  rest = _mm_add_epi32(rest, _mm_shuffle_epi32(rest, 0xb1));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si32(rest)) + vectors * kBias;
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
const bool kHasVnni = __builtin_cpu_supports("avx512f") != 0 &&
                      __builtin_cpu_supports("avx512bw") != 0 &&
                      __builtin_cpu_supports("avx512vnni") != 0;
/// Its lanes, and their sum, hold twice as much.
constexpr std::size_t kMostVnni = 65536;
#endif

}  // namespace

std::uint64_t checksum_words(Bytes bytes) {
#if defined(__x86_64__)
  if (bytes.size() >= 128 && bytes.size() <= kMostVnni && kHasVnni) {
    return sum_words_vnni(bytes.data(), bytes.size());
  }
  if (bytes.size() >= 128 && kHasAvx2) return sum_words_avx2(bytes.data(), bytes.size());
#endif
  return sum_words(bytes.data(), bytes.size());
}

std::uint16_t checksum_add(Bytes bytes, std::uint32_t sum) {
  const std::uint16_t native = checksum_fold(checksum_words(bytes));
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

void renew_transport_checksum(const IpHeader& header, MutableBytes packet) {
  if (header.is_fragment) return;
  const bool tcp = header.protocol == Protocol::kTcp;
  const MutableBytes upper = packet.first(header.total_size).subspan(header.header_size);
  if (upper.size() < (tcp ? kTcpHeaderSize : kUdpHeaderSize)) return;
  if (!tcp && (header.protocol != Protocol::kUdp || load_be16(upper.data() + kUdpChecksum) == 0)) {
    return;
  }
  std::byte* const at = upper.data() + (tcp ? kTcpChecksum : kUdpChecksum);
  const bool ipv6 = header.family == Family::kIpv6;
  const Bytes addresses = ipv6 ? packet.subspan(8, 32) : packet.subspan(12, 8);
  store_be16(at, 0);
  const auto pseudo = checksum_add(addresses, static_cast<std::uint32_t>(header.protocol) +
                                                  static_cast<std::uint32_t>(upper.size()));
  const std::uint16_t sum = checksum_add(upper, pseudo);
  store_be16(at, !tcp && sum == 0xffff ? sum : static_cast<std::uint16_t>(~sum));
}

}  // namespace xfrmfs::engine
