// SPDX-License-Identifier: Apache-2.0
#include "engine/crypto/self_test.h"

#define OPENSSL_SUPPRESS_DEPRECATED
#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "engine/base/bytes.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kHeaderSize = 8;
constexpr std::size_t kMaxText = 1408;  // of a packet in a tunnel over Ethernet, about
/// A library may do a few packets otherwise than many.
constexpr std::array<std::size_t, 4> kRuns = {1, 2, 10, 20};
constexpr std::size_t kPackets = std::accumulate(kRuns.begin(), kRuns.end(), std::size_t{0});
constexpr std::size_t kTimedPackets = 32;
constexpr std::size_t kSlot = kHeaderSize + 16 + kMaxText + 64 + 8;
constexpr std::chrono::microseconds kTimeToSpend{500};
constexpr int kFewestRounds = 4;

// clang-format off
constexpr KnownAnswer kGcm128[] = {
    {20, "7848adb26cb2172417ec8574f38c9633cc6b3c9b7c96ed56adf8fe94129a9157"},
};
constexpr KnownAnswer kGcm192[] = {
    {28, "5344b445ce994b1bbf0fc2e5e1efb221fc31942751b6874110f5f17cc8d9fea6"},
};
constexpr KnownAnswer kGcm256[] = {
    {36, "e126abfaba8de9301222bd31cb66cb8e3f6426a500ad58684920418fdb279d21"},
};
constexpr KnownAnswer kCbcSha1[] = {
    {16, "fbe63dd627d1195e007b18083d780d18cd54370a63444729e87d68521a0992ea"},
    {24, "2266535753addab59cbc95a14d77f7bbbf013a0dbdf937e2d13b7ad93acc8308"},
    {32, "be6e6307aa57b475131d2f006e5bb8768ab78ad6bea4a20bd65d32a8a15d48aa"},
};
constexpr KnownAnswer kCbcSha256[] = {
    {16, "52e95e656bf533105df55f8c75de9bf9c882bb3423fa846e695e1835223aeeff"},
    {24, "ace4f3e030dc1844d36ea0fe70525044f9e4b70a1e97e6818a83fe1c8239935b"},
    {32, "d2085e8963a3c49bfd471d96feacdc4e7633e40a53bc6b2d17cc8ea36930706d"},
};
constexpr KnownAnswer kCbcSha384[] = {
    {16, "07d5ad357583af07ef84138e0a826427769876f2a3b22640a529be13b0390655"},
    {24, "63cd18ad1067ff5016910e0b82cbcec97891cfe3ac87e4b8e6a4c2abb46d82ca"},
    {32, "b644aed8a3f012b449d6b438f75198c1dee7205351309e789e606bd0a3a085a8"},
};
constexpr KnownAnswer kCbcSha512[] = {
    {16, "b1cb203b7ad5867b9f4a557cd17c385fa316051aa4f7da904f7eda4198ad92bc"},
    {24, "cf8cd8e642144dce9c0f3e8f18de8ddcbcaf175dde7afd8fd0541c773cce6fa5"},
    {32, "fc8f669849e757072af1afbb52edb485aa21def1ad23a3f0373cd26312309a76"},
};
constexpr TestedAlgorithm kAlgorithms[] = {
    // label                  cipher               MAC             ICV  answers
    {"aes-gcm-128",           "rfc4106(gcm(aes))", "",             128, kGcm128},
    {"aes-gcm-192",           "rfc4106(gcm(aes))", "",             128, kGcm192},
    {"aes-gcm-256",           "rfc4106(gcm(aes))", "",             128, kGcm256},
    {"aes-cbc hmac(sha1)",    "cbc(aes)",          "hmac(sha1)",   96,  kCbcSha1},
    {"aes-cbc hmac(sha256)",  "cbc(aes)",          "hmac(sha256)", 128, kCbcSha256},
    {"aes-cbc hmac(sha384)",  "cbc(aes)",          "hmac(sha384)", 192, kCbcSha384},
    {"aes-cbc hmac(sha512)",  "cbc(aes)",          "hmac(sha512)", 256, kCbcSha512},
};
// clang-format on
static_assert(std::size(kAlgorithms) == CryptoBackends::kAlgorithms);

Secret counting(std::size_t size, unsigned first, unsigned step) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(first + i * step);
  return Secret(bytes);
}

std::array<std::span<Box>, kRuns.size()> runs_of(std::span<Box> boxes) {
  std::array<std::span<Box>, kRuns.size()> runs;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    runs[i] = boxes.first(kRuns[i]);
    boxes = boxes.subspan(kRuns[i]);
  }
  return runs;
}

std::string hexadecimal(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char octet : bytes) text += fmt::format("{:02x}", octet);
  return text;
}

}  // namespace

std::span<const TestedAlgorithm> tested_algorithms() {
  return kAlgorithms;
}

CryptoParams TestedAlgorithm::params(const KnownAnswer& answer) const {
  CryptoParams made;
  Secret key = counting(answer.key_size, 0x10, 5);
  if (mac.empty()) {
    made.aead = AeadParams{cipher, std::move(key), icv_bits};
  } else {
    made.cipher = CipherParams{cipher, std::move(key)};
    made.mac = MacParams{mac, counting(find_mac(mac)->digest_size, 0x40, 3), icv_bits};
  }
  return made;
}

SelfTest::SelfTest() : packets_(kPackets * kSlot), texts_(kPackets * kSlot) {}

bool SelfTest::passes(const SealerFactory& factory, CryptoLane* lane, const KnownAnswer& answer) {
  const BoxShape shape = factory.shape();
  const std::size_t head = kHeaderSize + shape.iv_size;
  SHA256_CTX digest;
  SHA256_Init(&digest);
  for (const bool extended : {false, true}) {
    const auto sealer = factory.make_sealer(extended);
    const auto opener = factory.make_opener(extended);
    if (sealer == nullptr || opener == nullptr) return false;
    std::array<Box, kPackets> boxes;
    for (std::size_t i = 0; i < kPackets; ++i) {
      std::byte* const packet = packets_.data() + i * kSlot;
      std::byte* const text = texts_.data() + i * kSlot;
      const std::size_t size = shape.alignment * (1 + i * 37 % (kMaxText / shape.alignment));
      const SeqNo sequence = (SeqNo{i} << 32) + 0x80000000 + i;
      store_be32(packet, 0x01020304);
      store_be32(packet + 4, static_cast<std::uint32_t>(sequence));
      for (std::size_t k = 0; k < shape.iv_size; ++k) {
        packet[kHeaderSize + k] = static_cast<std::byte>(i + k * 13);
      }
      for (std::size_t k = 0; k < size; ++k) text[k] = static_cast<std::byte>(k * 31 + i * 17 + 7);
      const bool elsewhere = i % 2 == 1;
      if (!elsewhere) std::memcpy(packet + head, text, size);
      boxes[i] = {.packet = packet,
                  .text_size = static_cast<std::uint32_t>(size),
                  .sequence = sequence,
                  .source = elsewhere ? text : nullptr};
    }
    for (const std::span<Box> run : runs_of(boxes)) sealer->seal(run, lane);
    for (Box& box : boxes) {
      if (box.result != BoxResult::kDone) return false;
      SHA256_Update(&digest, box.packet, head + box.text_size + shape.icv_size);
      box.source = nullptr;
    }
    constexpr std::size_t kChanged = 5;
    boxes[kChanged].packet[head] ^= std::byte{0x10};
    for (const std::span<Box> run : runs_of(boxes)) opener->open(run, lane);
    for (std::size_t i = 0; i < kPackets; ++i) {
      const bool right = i == kChanged
                             ? boxes[i].result == BoxResult::kIcvWrong
                             : boxes[i].result == BoxResult::kDone &&
                                   std::memcmp(boxes[i].packet + head, texts_.data() + i * kSlot,
                                               boxes[i].text_size) == 0;
      if (!right) return false;
    }
  }
  std::array<unsigned char, SHA256_DIGEST_LENGTH> result;
  SHA256_Final(result.data(), &digest);
  return hexadecimal(result) == answer.digest;
}

SealAndOpen<std::uint32_t> SelfTest::time(const SealerFactory& factory, CryptoLane* lane,
                                          std::size_t run) {
  using Clock = std::chrono::steady_clock;
  constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();
  const auto sealer = factory.make_sealer(false);
  const auto opener = factory.make_opener(false);
  if (sealer == nullptr || opener == nullptr) return {kNever, kNever};
  std::array<Box, kTimedPackets> boxes;
  const std::span<Box> timed(boxes.data(), std::min(run, boxes.size()));
  for (std::size_t i = 0; i < timed.size(); ++i) {
    timed[i] = {.packet = packets_.data() + i * kSlot, .text_size = kMaxText};
  }
  SealAndOpen<Clock::duration> best{Clock::duration::max(), Clock::duration::max()};
  const auto begin = Clock::now();
  for (int round = 0; round < kFewestRounds || Clock::now() - begin < kTimeToSpend; ++round) {
    const auto before = Clock::now();
    sealer->seal(timed, lane);
    const auto between = Clock::now();
    opener->open(timed, lane);
    best = {std::min(best.seal, between - before), std::min(best.open, Clock::now() - between)};
  }
  const auto per_packet = [&](Clock::duration spent) {
    const auto all = std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(all / static_cast<std::int64_t>(timed.size()), 1, kNever));
  };
  return {per_packet(best.seal), per_packet(best.open)};
}

}  // namespace xfrmfs::engine
