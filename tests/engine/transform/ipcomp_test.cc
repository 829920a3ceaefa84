// SPDX-License-Identifier: Apache-2.0
// IPComp: a Linux kernel's packets, our own read by plain zlib, and what tries to do harm.

#include <gtest/gtest.h>
#define ZLIB_CONST
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/ipcomp.h"
#include "tests/support/golden_files.h"
#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::from_hex;
using testing::Row;
using testing::to_hex;

constexpr Spi kCpi{0x4300};
constexpr std::size_t kHead = kIpcompHeaderSize;

std::unique_ptr<Ipcomp> make_ipcomp(unsigned lanes = 1, Spi cpi = kCpi) {
  return Ipcomp::create(cpi, std::make_shared<DeflateLanes>(lanes)).value();
}

std::vector<std::byte> text(std::size_t size) {
  const std::string phrase = "all work and no play makes a dull packet; ";
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(phrase[i % phrase.size()]);
  }
  return bytes;
}

std::vector<std::byte> noise(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::vector<std::byte> bytes(size);
  for (auto& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

/// By the library itself, with its own memory.
std::vector<std::byte> plain_deflate(const std::vector<std::byte>& clear, int level = 9,
                                     int window_bits = -15, int strategy = Z_DEFAULT_STRATEGY) {
  std::vector<std::byte> out(clear.size() + clear.size() / 100 + 100);
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, level, Z_DEFLATED, window_bits, 9, strategy), Z_OK);
  stream.next_in = reinterpret_cast<const Bytef*>(clear.data());
  stream.avail_in = static_cast<uInt>(clear.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// With Linux's window, in small steps, so that no distance beyond it goes unnoticed.
std::optional<std::vector<std::byte>> linux_inflate(Bytes compressed) {
  std::vector<std::byte> out;
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, -11), Z_OK);
  stream.next_in = reinterpret_cast<const Bytef*>(compressed.data());
  stream.avail_in = static_cast<uInt>(compressed.size());
  int status = Z_OK;
  while (status == Z_OK) {
    std::array<Bytef, 61> step;
    stream.next_out = step.data();
    stream.avail_out = step.size();
    status = inflate(&stream, Z_SYNC_FLUSH);
    for (std::size_t i = 0; i < step.size() - stream.avail_out; ++i)
      out.push_back(std::byte{step[i]});
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END) return std::nullopt;
  return out;
}

std::vector<std::byte> packet_of(const std::vector<std::byte>& compressed) {
  std::vector<std::byte> packet = from_hex("11004300");
  packet.insert(packet.end(), compressed.begin(), compressed.end());
  return packet;
}

struct Opened {
  OpenResult result;
  std::vector<std::byte> payload;
  Protocol next_header{};
};

Opened open(Ipcomp& ipcomp, std::vector<std::byte> packet, std::size_t room = 0xffff,
            unsigned lane = 0) {
  std::vector<std::byte> place(room + 16, std::byte{0x77});
  OpenItem item{.data = packet.data(), .size = packet.size(), .place = place.data(), .room = room};
  ipcomp.open({.index = lane}, {&item, 1});
  EXPECT_TRUE(std::all_of(place.begin() + static_cast<std::ptrdiff_t>(room), place.end(),
                          [](std::byte b) { return b == std::byte{0x77}; }));
  if (item.result != OpenResult::kOpened) {
    EXPECT_EQ(item.data, packet.data());
    EXPECT_EQ(item.size, packet.size());
    return {item.result, {}};
  }
  EXPECT_EQ(item.data, place.data());
  EXPECT_LE(item.size, room);
  return {item.result, {item.data, item.data + item.size}, item.next_header};
}

struct Sealed {
  bool ok, bare;
  std::vector<std::byte> packet;
};

Sealed seal(Ipcomp& ipcomp, const std::vector<std::byte>& payload, unsigned lane = 0) {
  std::vector<std::byte> memory(kHead + payload.size() + 16, std::byte{0x77});
  std::ranges::copy(payload, memory.begin() + kHead);
  SealItem item{.packet = memory.data(),
                .room = kHead + payload.size(),
                .payload = memory.data() + kHead,
                .size = payload.size(),
                .next_header = Protocol::kUdp};
  ipcomp.seal({.index = lane}, {&item, 1});
  EXPECT_TRUE(std::all_of(memory.end() - 16, memory.end(),
                          [](std::byte b) { return b == std::byte{0x77}; }));
  return {item.ok, item.bare, {item.packet, item.packet + item.size}};
}

TEST(IpcompTest, OpensLinuxPackets) {
  std::size_t packets = 0;
  const auto frames = testing::read_pcap("golden/ipcomp/ipcomp-tr4.pcap");
  const auto ipcomp = make_ipcomp();
  for (const Row& row : testing::read_tsv("golden/ipcomp/ipcomp-tr4.plain.tsv")) {
    SCOPED_TRACE(row[0]);
    const auto& frame = frames.at(std::stoul(row[0]) - 1);
    const Opened opened = open(*ipcomp, {frame.begin() + 20, frame.end()});
    ASSERT_EQ(opened.result, OpenResult::kOpened);
    EXPECT_EQ(to_hex(opened.payload), row[6 + 1]);
    EXPECT_EQ(opened.next_header, Protocol::kUdp);

    // And what we make of it has the same shape.
    const Sealed sealed = seal(*ipcomp, opened.payload);
    EXPECT_FALSE(sealed.bare);
    EXPECT_EQ(to_hex(Bytes(sealed.packet).first(kHead)), to_hex(Bytes(frame).subspan(20, kHead)));
    EXPECT_LE(sealed.packet.size(), frame.size() - 20 + 2);
    ++packets;
  }
  EXPECT_EQ(packets, 3U);
}

/// Everything that Linux left alone, we leave alone, and nothing else.
TEST(IpcompTest, CompressesWhatLinuxCompressed) {
  const auto ipcomp = make_ipcomp();
  std::size_t bare = 0;
  for (const auto& frame : testing::read_pcap("golden/ipcomp/ipcomp-tr4.pcap")) {
    if (frame[9] == std::byte{108}) continue;
    const std::vector<std::byte> payload(frame.begin() + 20, frame.end());
    const Sealed sealed = seal(*ipcomp, payload);
    ASSERT_TRUE(sealed.ok);
    EXPECT_TRUE(sealed.bare);
    EXPECT_EQ(to_hex(sealed.packet), to_hex(payload));
    ++bare;
  }
  EXPECT_EQ(bare, 9U);
}

TEST(IpcompTest, OthersReadWhatWeSend) {
  const auto ipcomp = make_ipcomp();
  for (const std::size_t size : {90U, 91U, 500U, 1400U, 5000U, 20000U, 65531U}) {
    SCOPED_TRACE(size);
    auto payload = text(size);
    for (std::size_t i = 0; i < size; i += 97) payload[i] = static_cast<std::byte>(i * 31 >> 3);
    const Sealed sealed = seal(*ipcomp, payload);
    ASSERT_TRUE(sealed.ok);
    ASSERT_FALSE(sealed.bare);
    EXPECT_LT(sealed.packet.size(), size);
    EXPECT_EQ(to_hex(Bytes(sealed.packet).first(kHead)), "11004300");
    const auto clear = linux_inflate(Bytes(sealed.packet).subspan(kHead));
    ASSERT_TRUE(clear);
    EXPECT_EQ(*clear, payload);
    EXPECT_EQ(open(*ipcomp, sealed.packet).payload, payload);
  }
}

/// Repetition further back than Linux's window is not referred to.
TEST(IpcompTest, StaysInLinuxWindow) {
  const auto ipcomp = make_ipcomp();
  auto payload = noise(3000);
  const auto again = payload;
  payload.insert(payload.end(), again.begin(), again.end());
  EXPECT_TRUE(seal(*ipcomp, payload).bare);
  const Opened opened = open(*ipcomp, packet_of(plain_deflate(payload)));
  EXPECT_EQ(opened.result, OpenResult::kOpened) << "but others may refer to it";
  EXPECT_EQ(opened.payload, payload);
}

TEST(IpcompTest, LeavesSmallPayloadsAlone) {
  const auto ipcomp = make_ipcomp();
  for (std::size_t size = 0; size <= 120; ++size) {
    const std::vector<std::byte> payload(size, std::byte{'a'});
    const Sealed sealed = seal(*ipcomp, payload);
    ASSERT_TRUE(sealed.ok);
    EXPECT_EQ(sealed.bare, size < 90) << size;
    if (sealed.bare) {
      EXPECT_EQ(to_hex(sealed.packet), to_hex(payload));
    }
  }
}

TEST(IpcompTest, LeavesAloneWhatDoesNotShrink) {
  const auto ipcomp = make_ipcomp();
  for (const std::size_t size : {90U, 1400U, 9000U, 65535U}) {
    const auto payload = noise(size);
    const Sealed sealed = seal(*ipcomp, payload);
    ASSERT_TRUE(sealed.ok);
    EXPECT_TRUE(sealed.bare);
    EXPECT_EQ(sealed.packet, payload);
  }
}

/// Noise, with ever more of what compresses behind it: header included, one byte must be saved.
TEST(IpcompTest, ShrinkingByTheHeaderIsNotEnough) {
  const auto ipcomp = make_ipcomp();
  std::size_t by_the_header = 0;
  std::size_t by_one_more = 0;
  for (std::size_t noisy = 100; noisy < 180; ++noisy) {
    for (std::size_t more = 0; more < 24; ++more) {
      auto payload = noise(noisy);
      payload.resize(noisy + more, std::byte{'a'});
      const std::size_t compressed = plain_deflate(payload, 6, -11).size();
      const Sealed sealed = seal(*ipcomp, payload);
      ASSERT_TRUE(sealed.ok);
      ASSERT_EQ(sealed.bare, compressed + kHead >= payload.size());
      ASSERT_EQ(sealed.bare ? sealed.packet : open(*ipcomp, sealed.packet).payload, payload);
      by_the_header += compressed + kHead == payload.size() ? 1 : 0;
      by_one_more += compressed + kHead + 1 == payload.size() ? 1 : 0;
    }
  }
  EXPECT_GT(by_the_header, 10U);
  EXPECT_GT(by_one_more, 10U);
}

TEST(IpcompTest, SealsFromElsewhere) {
  const auto ipcomp = make_ipcomp();
  for (const auto& payload : {text(1000), noise(1000), text(50)}) {
    auto clear = payload;
    std::vector<std::byte> memory(payload.size());
    SealItem item{.packet = memory.data(),
                  .room = memory.size(),
                  .payload = clear.data(),
                  .size = clear.size(),
                  .next_header = Protocol::kUdp};
    ipcomp->seal({}, {&item, 1});
    ASSERT_TRUE(item.ok);
    EXPECT_EQ(clear, payload);
    memory.resize(item.size);
    EXPECT_EQ(memory, seal(*ipcomp, payload).packet);
  }
}

TEST(IpcompTest, StaysInItsRoom) {
  const auto ipcomp = make_ipcomp();
  std::vector<std::byte> memory(0x10010, std::byte{'a'});
  SealItem item{.packet = memory.data(),
                .room = 499,
                .payload = memory.data() + kHead,
                .size = 500,
                .next_header = Protocol::kUdp};
  ipcomp->seal({}, {&item, 1});
  EXPECT_FALSE(item.ok);
  EXPECT_EQ(item.size, 500U);
  item.room = memory.size();
  item.size = 0x10000;
  ipcomp->seal({}, {&item, 1});
  EXPECT_FALSE(item.ok);
}

TEST(IpcompTest, Sizes) {
  const auto ipcomp = make_ipcomp();
  EXPECT_FALSE(ipcomp->exact_size());
  EXPECT_FALSE(ipcomp->covers_ip_header());
  EXPECT_EQ(ipcomp->head_size(), 4U);
  EXPECT_EQ(ipcomp->sealed_size(1000), 1000U);
  EXPECT_EQ(ipcomp->largest_payload(1000), 1000U);
}

TEST(IpcompTest, CpisHave16Bits) {
  const auto lanes = std::make_shared<DeflateLanes>(1);
  EXPECT_TRUE(Ipcomp::create(Spi{0xffff}, lanes));
  const auto refused = Ipcomp::create(Spi{0x10000}, lanes);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error, EINVAL);
  const auto other = make_ipcomp(1, Spi{0xfedc});
  EXPECT_EQ(to_hex(Bytes(seal(*other, text(100)).packet).first(kHead)), "1100fedc");
}

/// Small packets that want to be large: never more than the room, and never more than a datagram.
TEST(IpcompTest, BombsDoNotGoOff) {
  const auto ipcomp = make_ipcomp();
  for (const std::size_t size : {1000U, 1001U, 65535U}) {
    const auto packet = packet_of(plain_deflate(std::vector<std::byte>(size)));
    EXPECT_EQ(open(*ipcomp, packet, 1000).result,
              size <= 1000 ? OpenResult::kOpened : OpenResult::kMalformed);
    EXPECT_EQ(open(*ipcomp, packet, size).result, OpenResult::kOpened);
    EXPECT_EQ(open(*ipcomp, packet, size - 1).result, OpenResult::kMalformed);
    EXPECT_EQ(open(*ipcomp, packet, 0).result, OpenResult::kMalformed);
  }
  for (const std::size_t size : {65536U, 100000U, 10000000U}) {
    const auto packet = packet_of(plain_deflate(std::vector<std::byte>(size)));
    ASSERT_LT(packet.size(), 0xffffU);
    EXPECT_EQ(open(*ipcomp, packet, 0x20000).result, OpenResult::kMalformed);
  }
  EXPECT_EQ(open(*ipcomp, packet_of(plain_deflate(text(500)))).payload, text(500))
      << "nothing is left of them";
}

/// Without a place, nothing is written anywhere.
TEST(IpcompTest, NeedsAPlace) {
  const auto ipcomp = make_ipcomp();
  auto packet = packet_of(plain_deflate(text(500)));
  OpenItem item{.data = packet.data(), .size = packet.size()};
  ipcomp->open({}, {&item, 1});
  EXPECT_EQ(item.result, OpenResult::kMalformed);
}

TEST(IpcompTest, ThePlaceMayHoldThePacket) {
  const auto ipcomp = make_ipcomp();
  for (const std::size_t offset : {0U, 20U, 300U}) {
    const auto packet = packet_of(plain_deflate(text(500)));
    std::vector<std::byte> memory(1000);
    std::ranges::copy(packet, memory.begin() + static_cast<std::ptrdiff_t>(offset));
    OpenItem item{.data = memory.data() + offset,
                  .size = packet.size(),
                  .place = memory.data(),
                  .room = memory.size()};
    ipcomp->open({}, {&item, 1});
    ASSERT_EQ(item.result, OpenResult::kOpened);
    EXPECT_EQ(item.data, memory.data());
    EXPECT_EQ(std::vector(item.data, item.data + item.size), text(500));
  }
}

TEST(IpcompTest, RefusesWhatIsCutOff) {
  const auto ipcomp = make_ipcomp();
  auto payload = text(700);
  for (std::size_t i = 0; i < payload.size(); i += 5) payload[i] = static_cast<std::byte>(i);
  for (const int strategy : {Z_DEFAULT_STRATEGY, Z_FIXED}) {
    const auto packet = packet_of(plain_deflate(payload, 9, -15, strategy));
    ASSERT_EQ(open(*ipcomp, packet).payload, payload);
    for (std::size_t size = 0; size < packet.size(); ++size) {
      EXPECT_EQ(open(*ipcomp, {packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(size)})
                    .result,
                OpenResult::kMalformed);
    }
  }
}

/// As Linux: what follows the end of the compressed text is not looked at.
TEST(IpcompTest, IgnoresWhatFollows) {
  const auto ipcomp = make_ipcomp();
  auto packet = packet_of(plain_deflate(text(500)));
  for (const std::byte b : noise(40)) packet.push_back(b);
  EXPECT_EQ(open(*ipcomp, packet).payload, text(500));
}

/// As Linux: it must have been worth it.
TEST(IpcompTest, RefusesWhatDidNotShrink) {
  const auto ipcomp = make_ipcomp();
  EXPECT_EQ(open(*ipcomp, packet_of(plain_deflate(noise(200), 0))).result, OpenResult::kMalformed);
  // Compressed text and header together as long as the clear text: the last that is taken.
  auto packet = packet_of(plain_deflate(std::vector<std::byte>(40)));
  while (packet.size() < 40) packet.push_back(std::byte{0});
  EXPECT_EQ(open(*ipcomp, packet).result, OpenResult::kOpened);
  packet.push_back(std::byte{0});
  EXPECT_EQ(open(*ipcomp, packet).result, OpenResult::kMalformed);
}

/// Bits by hand, each good stream beside what is wrong with it.
TEST(InflaterTest, RefusesDamage) {
  Inflater inflater;
  const auto inflated = [&](const std::string& hex) -> std::string {
    std::array<std::byte, 100> out;
    const auto size = inflater.inflate(from_hex(hex), out);
    return size ? to_hex(Bytes(out).first(*size)) : "refused";
  };
  EXPECT_EQ(inflated("0300"), "") << "a block without anything";
  EXPECT_EQ(inflated("0200"), "refused") << "not the last one";
  EXPECT_EQ(inflated("0700"), "refused") << "a type that does not exist";
  EXPECT_EQ(inflated("010100feff61"), "61") << "stored";
  EXPECT_EQ(inflated("010100ffff61"), "refused") << "lengths that differ";
  EXPECT_EQ(inflated("010200fdff61"), "refused") << "more than there is";
  EXPECT_EQ(inflated("4b040200"), "61616161") << "a match one byte back";
  EXPECT_EQ(inflated("4b044200"), "refused") << "two bytes back, before the beginning";
  EXPECT_EQ(inflated(""), "refused");
  EXPECT_EQ(inflated("789c4b040200"), "refused") << "zlib's header";
}

TEST(IpcompTest, LanesAreEqual) {
  const auto ipcomp = make_ipcomp(3);
  const auto wanted = seal(*ipcomp, text(1000));
  for (const unsigned lane : {2U, 1U, 0U}) {
    const Sealed sealed = seal(*ipcomp, text(1000), lane);
    EXPECT_EQ(sealed.packet, wanted.packet);
    EXPECT_EQ(open(*ipcomp, sealed.packet, 1000, 2 - lane).payload, text(1000));
  }
}

/// Nothing of one packet shows in another, whatever became of it.
TEST(IpcompTest, PacketsDoNotKnowEachOther) {
  const auto lanes = std::make_shared<DeflateLanes>(1);
  const auto one = Ipcomp::create(Spi{1}, lanes).value();
  const auto two = Ipcomp::create(Spi{1}, lanes).value();
  const auto wanted = seal(*one, text(1000)).packet;
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    switch (random() % 4) {
      case 0:
        seal(*two, noise(random() % 2000));
        break;
      case 1:
        open(*two, noise(random() % 2000));
        break;
      case 2:
        open(*two, packet_of(plain_deflate(text(5000))), random() % 6000);
        break;
      default:
        EXPECT_EQ(seal(*one, text(1000)).packet, wanted);
        EXPECT_EQ(open(*one, wanted).payload, text(1000));
        break;
    }
  }
}

}  // namespace
}  // namespace xfrmfs::engine
