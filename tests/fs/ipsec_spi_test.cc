// SPDX-License-Identifier: Apache-2.0
#include "fs/ipsec_spi.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/fs/golden.h"
#include "tests/fs/scenario.h"

namespace xfrmfs::fs {
namespace {

using engine::Protocol;
using testing::address;
using testing::TunnelPolicy;
using testing::TunnelSa;

TEST(SpiBucketTest, IsThatOfALittleEndianKlips) {
  const auto bucket = [](Protocol protocol, std::uint32_t spi, const char* destination) {
    return spi_bucket(
        {.protocol = protocol, .spi = engine::Spi{spi}, .destination = address(destination)});
  };
  EXPECT_EQ(bucket(Protocol::kIpip, 0x1001, "192.1.2.23"), 189u);
  EXPECT_EQ(bucket(Protocol::kIpip, 0x1002, "192.1.2.45"), 166u);
  EXPECT_EQ(bucket(Protocol::kEsp, 0xa7d8251a, "192.1.2.45"), 160u);
  EXPECT_EQ(bucket(Protocol::kEsp, 0xab6836be, "192.1.2.23"), 151u);
  EXPECT_EQ(bucket(Protocol::kComp, 0x68dd, "192.1.2.45"), 138u);
  EXPECT_EQ(bucket(Protocol::kComp, 0x6593, "192.1.2.23"), 232u);
  EXPECT_EQ(bucket(Protocol::kIpip, 0x1000, "2001:db8::1"), 20u);
  EXPECT_EQ(bucket(Protocol::kIpip, 0x1001, "2001:db8::1"), 19u);
  EXPECT_EQ(bucket(Protocol::kEsp, 0xafaae4b1, "2001:db8::1"), 106u);
}

TEST(IpsecSpiTest, EmptyDatabaseEmptyFile) {
  testing::Gateway gateway;
  EXPECT_EQ(IpsecSpi().render(gateway.engine().view()), "");
}

TEST(IpsecSpiTest, RendersTheGolden) {
  Scenario scenario;
  EXPECT_EQ(IpsecSpi().render(scenario.view()), golden("files/ipsec_spi"));
}

/// The lines of an engine, to be asked by SAID.
class Listing {
 public:
  explicit Listing(testing::Gateway& gateway)
      : lines_(lines_of(IpsecSpi().render(gateway.engine().view()))) {}

  std::size_t size() const { return lines_.size(); }
  /// The line of an SAID, or "".
  std::string line(const std::string& said) const {
    for (const std::string& line : lines_) {
      if (line.starts_with(said + ' ')) return line;
    }
    return "";
  }
  /// The value of a field in the line of an SAID, or "".
  std::string field(const std::string& said, const std::string& name) const {
    for (const std::string& word : words_of(line(said))) {
      if (word.starts_with(name + '=')) return word.substr(name.size() + 1);
    }
    return "";
  }

 private:
  std::vector<std::string> lines_;
};

class IpsecSpiFieldTest : public ::testing::Test {
 protected:
  IpsecSpiFieldTest() { gateway_.engine().set_local_addresses({address("192.0.2.1")}); }

  engine::Engine& engine() { return gateway_.engine(); }
  Listing listing() {
    engine().publish();
    return Listing(gateway_);
  }

  static constexpr TunnelSa kOut{
      .source = "192.0.2.1", .destination = "198.51.100.2", .spi = 0x101};
  static constexpr TunnelSa kIn{.source = "198.51.100.2", .destination = "192.0.2.1", .spi = 0x102};

  testing::Gateway gateway_;
};

TEST_F(IpsecSpiFieldTest, AlgorithmsBySize) {
  const auto crypto = [](std::size_t key_bytes, std::uint32_t icv_bits) {
    engine::SaParams params = make(kOut);
    params.id.spi = engine::Spi{0x1000 + icv_bits};
    params.crypto.aead->key = engine::Secret(std::vector<std::byte>(key_bytes, std::byte{7}));
    params.crypto.aead->icv_bits = icv_bits;
    return params;
  };
  add(engine(), crypto(20, 64));
  add(engine(), crypto(28, 96));
  add(engine(), crypto(36, 128));
  const Listing listing = this->listing();
  const std::pair<const char*, std::pair<const char*, const char*>> cases[] = {
      {"esp0x1040@198.51.100.2", {"ESP_ID18:", "128"}},
      {"esp0x1060@198.51.100.2", {"ESP_ID19:", "192"}},
      {"esp0x1080@198.51.100.2", {"ESP_ID20:", "256"}}};
  for (const auto& [said, expected] : cases) {
    EXPECT_EQ(words_of(listing.line(said)).at(1), expected.first);
    EXPECT_EQ(listing.field(said, "eklen"), expected.second);
    EXPECT_EQ(listing.field(said, "alen"), "");
    EXPECT_EQ(listing.field(said, "iv"), "0xa5a6a7a8a9aaabac");
  }
}

TEST_F(IpsecSpiFieldTest, MacByItsWholeDigest) {
  const std::tuple<const char*, std::size_t, const char*, const char*> cases[] = {
      {"hmac(sha1)", 20, "ESP_AES_HMAC_SHA1:", "160"},
      {"hmac(sha256)", 32, "ESP_AES_HMAC_SHA2_256:", "256"},
      {"hmac(sha384)", 48, "ESP_AES_HMAC_SHA2_384:", "384"},
      {"hmac(sha512)", 64, "ESP_AES_HMAC_SHA2_512:", "512"}};
  for (const auto& [name, key, transform, bits] : cases) {
    TunnelSa sa = kOut;
    sa.cbc = true;
    engine::SaParams params = make(sa);
    params.crypto.mac->name = name;
    params.crypto.mac->key = engine::Secret(std::vector<std::byte>(key, std::byte{7}));
    params.crypto.mac->truncation_bits = 96;
    add(engine(), std::move(params));
    const Listing listing = this->listing();
    const std::string said = "esp0x101@198.51.100.2";
    EXPECT_EQ(words_of(listing.line(said)).at(1), transform);
    EXPECT_EQ(listing.field(said, "alen"), bits);
    EXPECT_EQ(listing.field(said, "aklen"), bits);
    EXPECT_EQ(listing.field(said, "iv"), "0xa5a6a7a8a9aaabacadaeafb0b1b2b3b4");
    engine().flush_sas(std::nullopt);
  }
}

TEST_F(IpsecSpiFieldTest, LarvalAssociationsAreNotListed) {
  engine::SaParams params = make(kIn);
  params.id.spi = {};
  params.crypto = {};
  ASSERT_TRUE(engine().allocate_spi(std::move(params), 0x100, 0x1ff));
  EXPECT_EQ(listing().size(), 0u);
}

TEST_F(IpsecSpiFieldTest, RefhimIsTheYoungestOpposite) {
  const auto opposite = [](std::uint32_t spi, std::uint32_t reqid) {
    TunnelSa sa = kOut;
    sa.spi = spi;
    sa.reqid = reqid;
    return make(sa);
  };
  add(engine(), make(kIn));  // serial 1
  EXPECT_EQ(listing().field("esp0x102@192.0.2.1", "refhim"), "0");
  add(engine(), opposite(0x201, 1));  // 2
  add(engine(), opposite(0x202, 1));  // 3
  add(engine(), opposite(0x203, 5));  // 4: of another reqid
  const Listing listing = this->listing();
  EXPECT_EQ(listing.field("esp0x102@192.0.2.1", "ref"), "1");
  EXPECT_EQ(listing.field("tun0x1001@192.0.2.1", "ref"), "2");
  EXPECT_EQ(listing.field("esp0x102@192.0.2.1", "refhim"), "5");
  EXPECT_EQ(listing.field("tun0x1001@192.0.2.1", "refhim"), "6");
  EXPECT_EQ(listing.field("esp0x202@198.51.100.2", "ref"), "5");
  EXPECT_EQ(listing.field("esp0x202@198.51.100.2", "refhim"), "0");
}

TunnelPolicy in_policy(std::string_view destination, std::uint32_t reqid = 1) {
  return {.direction = engine::Direction::kIn,
          .source = "10.2.0.0/16",
          .destination = destination,
          .tunnel_source = "198.51.100.2",
          .tunnel_destination = "192.0.2.1",
          .reqid = reqid};
}

TEST_F(IpsecSpiFieldTest, PolicyOfAnInboundTunnelIsTheFirstThatFits) {
  const std::string tunnel = "tun0x1001@192.0.2.1";
  add(engine(), make(kIn));
  engine::PolicyParams other_reqid = make(in_policy("10.7.0.0/16", 7));
  other_reqid.priority = 1;
  add(engine(), std::move(other_reqid));
  EXPECT_EQ(listing().field(tunnel, "policy"), "");
  EXPECT_EQ(listing().field(tunnel, "flags"), "");

  engine::PolicyParams late = make(in_policy("10.8.9.9/16"));  // with host bits
  late.priority = 9;
  add(engine(), std::move(late));
  EXPECT_EQ(listing().field(tunnel, "policy"), "10.2.0.0/16->10.8.0.0/16");
  EXPECT_EQ(listing().field(tunnel, "flags"), "0x8<>");

  engine::PolicyParams any_source = make(in_policy("10.4.0.0/16"));
  any_source.priority = 5;
  any_source.templates[0].source = engine::IpAddress::any(engine::Family::kIpv4);
  add(engine(), std::move(any_source));
  EXPECT_EQ(listing().field(tunnel, "policy"), "10.2.0.0/16->10.4.0.0/16");

  engine::PolicyParams other_spi = make(in_policy("10.5.0.0/16"));
  other_spi.priority = 2;
  other_spi.templates[0].spi = engine::Spi{0x999};
  add(engine(), std::move(other_spi));
  EXPECT_EQ(listing().field(tunnel, "policy"), "10.2.0.0/16->10.4.0.0/16");
  EXPECT_EQ(listing().field("esp0x102@192.0.2.1", "policy"), "");
}

TEST_F(IpsecSpiFieldTest, PolicyIsNotShownOutbound) {
  add(engine(), make(kOut));
  add(engine(), make(TunnelPolicy{.direction = engine::Direction::kIn,
                                  .source = "10.2.0.0/16",
                                  .destination = "10.1.0.0/16",
                                  .tunnel_source = "192.0.2.1",
                                  .tunnel_destination = "198.51.100.2"}));
  EXPECT_EQ(listing().field("tun0x1001@198.51.100.2", "policy"), "");
}

TEST_F(IpsecSpiFieldTest, BitmapStartsWithTheNewestInEveryLayout) {
  struct Layout {
    engine::ReplayKind kind;
    std::uint32_t window, words;
    engine::SeqNo top;
    std::vector<std::uint32_t> bitmap;
    const char* expected;
  };
  const Layout layouts[] = {
      {engine::ReplayKind::kLegacy, 32, 0, 40, {0x8000'0005}, "0x80000005"},
      {engine::ReplayKind::kLegacy, 0, 0, 0, {0}, ""},
      // Number n is bit (n-1) % 64: 66 at bit 1, 65 at 0, 64 at 63, 60 at 59.
      {engine::ReplayKind::kBitmap, 64, 2, 66, {0x3, 0x8800'0000}, "0x47"},
      {engine::ReplayKind::kEsn, 128, 4, 3, {0x7, 0, 0, 0}, "0x7"},
      // Bit 63 would be number 0.
      {engine::ReplayKind::kBitmap, 64, 2, 2, {0x3, 0x8000'0000}, "0x3"},
      // 2^32 + 1 at bit 0 of 128, 2^32 - 63 at bit 64: out of sight.
      {engine::ReplayKind::kEsn,
       128,
       4,
       (1ull << 32) + 1,
       {1, 0, 3, 0x8000'0000},
       "0x8000000000000003"},
  };
  for (const Layout& layout : layouts) {
    engine::SaParams params = make(kIn);
    params.replay = {.kind = layout.kind,
                     .window = layout.window,
                     .bitmap_words = layout.words,
                     .in_sequence = layout.top,
                     .bitmap = layout.bitmap};
    if (layout.kind == engine::ReplayKind::kEsn) params.flags |= engine::kSaEsn;
    add(engine(), std::move(params));
    EXPECT_EQ(listing().field("esp0x102@192.0.2.1", "bit"), layout.expected);
    engine().flush_sas(std::nullopt);
  }
}

TEST_F(IpsecSpiFieldTest, SequenceAndBitmapAreThoseOfTheDirection) {
  const engine::ReplayParams replay = {.kind = engine::ReplayKind::kLegacy,
                                       .window = 32,
                                       .out_sequence = 0x1'0000'0007,
                                       .in_sequence = 5,
                                       .bitmap = {3}};
  for (const TunnelSa& sa : {kOut, kIn}) {
    engine::SaParams params = make(sa);
    params.replay = replay;
    add(engine(), std::move(params));
  }
  const Listing listing = this->listing();
  EXPECT_EQ(listing.field("esp0x101@198.51.100.2", "seq"), "7");
  EXPECT_EQ(listing.field("esp0x101@198.51.100.2", "bit"), "");
  EXPECT_EQ(listing.field("esp0x102@192.0.2.1", "seq"), "5");
  EXPECT_EQ(listing.field("esp0x102@192.0.2.1", "bit"), "0x3");
}

TEST_F(IpsecSpiFieldTest, LimitsAndTimes) {
  using namespace std::chrono_literals;
  engine::SaParams params = make(kOut);
  params.limits.soft_packets = 10;
  params.limits.hard_packets = 20;
  params.limits.soft_add_seconds = 30;
  params.limits.soft_use_seconds = 40;
  params.limits.hard_use_seconds = 50;
  add(engine(), std::move(params));
  gateway_.clock().advance(12'900ms);
  EXPECT_EQ(listing().field("esp0x101@198.51.100.2", "life(c,s,h)"),
            "addtime(12,30,0)usetime(0,40,50)packets(0,10,20)");
  EXPECT_EQ(listing().field("esp0x101@198.51.100.2", "idle"), "");
}

TEST_F(IpsecSpiFieldTest, DirectionFollowsTheHostsAddresses) {
  add(engine(), make(kOut));
  EXPECT_EQ(listing().field("esp0x101@198.51.100.2", "dir"), "out");
  engine().set_local_addresses({address("198.51.100.2")});
  EXPECT_EQ(listing().field("esp0x101@198.51.100.2", "dir"), "in");
}

TEST_F(IpsecSpiFieldTest, BucketsAscendAndTheNewestComesFirst) {
  for (std::uint32_t i = 0; i < 600; ++i) {
    TunnelSa sa = kOut;
    sa.spi = 0x1000 + i;
    add(engine(), make(sa));
  }
  engine().publish();
  unsigned last_bucket = 0;
  std::uint64_t last_ref = ~0ull;
  std::size_t lines = 0;
  for (const std::string& line : lines_of(IpsecSpi().render(engine().view()))) {
    const bool tunnel = line.starts_with("tun");
    const unsigned bucket = spi_bucket(
        {.protocol = tunnel ? Protocol::kIpip : Protocol::kEsp,
         .spi = engine::Spi{static_cast<std::uint32_t>(std::stoul(line.substr(5), nullptr, 16))},
         .destination = address("198.51.100.2")});
    const std::uint64_t ref = std::stoull(line.substr(line.find(" ref=") + 5));
    ASSERT_GE(bucket, last_bucket);
    if (bucket == last_bucket) {
      ASSERT_LT(ref, last_ref);
    }
    last_bucket = bucket;
    last_ref = ref;
    ++lines;
  }
  EXPECT_EQ(lines, 1200u);
}

}  // namespace
}  // namespace xfrmfs::fs
