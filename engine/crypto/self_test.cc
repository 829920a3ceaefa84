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
constexpr KnownAnswer kCcm128[] = {
    {19, "e29607c3d89b9491bcc1dcd5334c5f668cc9f02b2970eb7e932d9f7d69b0e701"},
};
constexpr KnownAnswer kCcm192[] = {
    {27, "20b7296af2c1bf2a649679e54c052d42425af0ee90664d53a28785bbd0061826"},
};
constexpr KnownAnswer kCcm256[] = {
    {35, "56ccfef4caed5002c8a8540ace6d58d94756cc7c7bb891b23dbb0190e4998076"},
};
constexpr KnownAnswer kGmac128[] = {
    {20, "b87c0e907244a84467b3c700edc2b7cc7e585564cf7e66072bc1bb6f5a9b9c1e"},
};
constexpr KnownAnswer kGmac192[] = {
    {28, "0cb05d4cbb3d38374c4f380db5aa01672e4386b9040bc683723693c4b3296c9c"},
};
constexpr KnownAnswer kGmac256[] = {
    {36, "73d6f2ce4061a7c3691a4a4c085943f2c36e30c56179a18bf0d69e65d452e858"},
};
constexpr KnownAnswer kChaCha[] = {
    {36, "7e35c99a160597f9a4ff7de43f230448145376ed3bfb6ad7fcf2b7d94239ed86"},
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
constexpr KnownAnswer kCbcMd5[] = {
    {16, "96730ce788301c8d1f27755280adad69860a0800dd34bc7674c7c0738c49f411"},
};
constexpr KnownAnswer kCbcRmd160[] = {
    {16, "9c2595919267ab5891951160bceab507723498b8a6d9c9ce59800f827aa1fc67"},
};
constexpr KnownAnswer kCbcSm3[] = {
    {16, "6d918e3e3fba9864f48f5e3527e15fdb6712c0b6977033c9b823117ad69b74a7"},
};
constexpr KnownAnswer kCbcXcbc[] = {
    {16, "2ed8b2f4ca3854c961c25157e363e4c5d3e1e1c7097a17ed0cbd3579b82ff11b"},
};
constexpr KnownAnswer kCbcCmac[] = {
    {16, "93ecefcaffb89ca55afd906efc67e51c658445e63467766560297ef2736af42a"},
};
constexpr KnownAnswer kAesCtr[] = {
    {20, "98e65752deaefbdc0f898817900b7667cc2f93f9f2a5fb8d30e61e82a54dc08d"},
    {28, "33138fbeb4896b094888ff9394abf65e8c99a1133361a9be09da505dc8aeaee6"},
    {36, "1c975006d5f621f43b759ae27904052126a89edc42ec46ec51660a41eef7c7b6"},
};
constexpr KnownAnswer kNull[] = {
    {0, "6938eda0f42fa6983d8ca0d8f36f5bc49b5c0d2f7afd693ada2ab40f52c90279"},
};
constexpr KnownAnswer kCamellia[] = {
    {16, "a17a448e3d49f11d9024fbb3d11cee7248c6cac68b5310aeb1f1a99051061701"},
    {24, "d52c87add393016af7cdf449fe8ec71866aa765e9af8646865fbede560720ab6"},
    {32, "76ededa2040281ce6f5a1491d36d631948fba171ab841ce2ba20dfd9b3402b33"},
};
constexpr KnownAnswer kSm4[] = {
    {16, "7c9d8b719f4fa5b4c2e7302f55ad160c15a2e02c00e8af26d811bb6d3d22d472"},
};
constexpr KnownAnswer kTripleDes[] = {
    {24, "8a33bbd40a0c3094d7a0ba3d0c5525c29119effbf51224cca21412254a329334"},
};
constexpr KnownAnswer kCast5[] = {
    {5, "7abf80acdfd1e751a5d10c5e13f5091b6353529e8484acfc2553f37ccd9e4822"},
    {10, "e6078fa31d0fcc1d5b6da8651773a78efa7ac8193c291a2eef472d2a3bac9452"},
    {16, "c85b70ad468b8c38e010c885278b77c58b7f777af2a2a3a56f2a7ee8d5ec321b"},
};
constexpr KnownAnswer kBlowfish[] = {
    {5, "1bd62dd48f6809c0a3fdd613d59571af7545f52f75fb19ec1d063b2927f488e3"},
    {16, "d5adb9451dbaf7149d8237887e15e170458f88a36a0015d01aaaa13d6257b2da"},
    {56, "bf4f2858887894cea9972ce4d70d75031b37b0cf17d684fb840c97a4ea77415c"},
};
constexpr KnownAnswer kDes[] = {
    {8, "ddda7ad6ae9772c455f315df7232a5d51cb709ff7117cb05c38ffd82b95ddbe6"},
};
constexpr TestedAlgorithm kAlgorithms[] = {
    // label, cipher, MAC, bits of ICV, answers, whether two libraries may have it
    {"aes-gcm-128", "rfc4106(gcm(aes))", "", 128, kGcm128, true},
    {"aes-gcm-192", "rfc4106(gcm(aes))", "", 128, kGcm192, true},
    {"aes-gcm-256", "rfc4106(gcm(aes))", "", 128, kGcm256, true},
    {"aes-ccm-128", "rfc4309(ccm(aes))", "", 128, kCcm128, false},
    {"aes-ccm-192", "rfc4309(ccm(aes))", "", 128, kCcm192, false},
    {"aes-ccm-256", "rfc4309(ccm(aes))", "", 128, kCcm256, false},
    {"aes-gmac-128", "rfc4543(gcm(aes))", "", 128, kGmac128, false},
    {"aes-gmac-192", "rfc4543(gcm(aes))", "", 128, kGmac192, false},
    {"aes-gmac-256", "rfc4543(gcm(aes))", "", 128, kGmac256, false},
    {"chacha20-poly1305", "rfc7539esp(chacha20,poly1305)", "", 128, kChaCha, true},
    {"aes-cbc hmac(sha1)", "cbc(aes)", "hmac(sha1)", 96, kCbcSha1, true},
    {"aes-cbc hmac(sha256)", "cbc(aes)", "hmac(sha256)", 128, kCbcSha256, true},
    {"aes-cbc hmac(sha384)", "cbc(aes)", "hmac(sha384)", 192, kCbcSha384, true},
    {"aes-cbc hmac(sha512)", "cbc(aes)", "hmac(sha512)", 256, kCbcSha512, true},
    {"aes-cbc hmac(md5)", "cbc(aes)", "hmac(md5)", 96, kCbcMd5, false},
    {"aes-cbc hmac(rmd160)", "cbc(aes)", "hmac(rmd160)", 96, kCbcRmd160, false},
    {"aes-cbc hmac(sm3)", "cbc(aes)", "hmac(sm3)", 256, kCbcSm3, false},
    {"aes-cbc xcbc(aes)", "cbc(aes)", "xcbc(aes)", 96, kCbcXcbc, false},
    {"aes-cbc cmac(aes)", "cbc(aes)", "cmac(aes)", 96, kCbcCmac, false},
    {"aes-ctr hmac(sha256)", "rfc3686(ctr(aes))", "hmac(sha256)", 128, kAesCtr, false},
    {"null hmac(sha256)", "ecb(cipher_null)", "hmac(sha256)", 128, kNull, false},
    {"camellia-cbc hmac(sha256)", "cbc(camellia)", "hmac(sha256)", 128, kCamellia, false},
    {"sm4-cbc hmac(sha256)", "cbc(sm4)", "hmac(sha256)", 128, kSm4, false},
    {"3des-cbc hmac(sha256)", "cbc(des3_ede)", "hmac(sha256)", 128, kTripleDes, false},
    {"cast5-cbc hmac(sha256)", "cbc(cast5)", "hmac(sha256)", 128, kCast5, false},
    {"blowfish-cbc hmac(sha256)", "cbc(blowfish)", "hmac(sha256)", 128, kBlowfish, false},
    {"des-cbc hmac(sha256)", "cbc(des)", "hmac(sha256)", 128, kDes, false},
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
  std::ranges::fill(packets_, std::byte{0});  // or a text that nobody put there would be right
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
