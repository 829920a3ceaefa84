// SPDX-License-Identifier: Apache-2.0
// What AH covers of an IP header: RFC 4302 appendix A as tables, and lengths that lie.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include "engine/transform/immutable_header.h"
#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::from_hex;
using testing::to_hex;

/// The masked header in hex, or "refused".
std::string masked(const std::vector<std::byte>& header) {
  std::vector<std::byte> out(header.size(), std::byte{0x5a});
  return write_immutable_header(header, out) ? to_hex(out) : "refused";
}
std::string masked(const std::string& hex) {
  return masked(from_hex(hex));
}

std::string compact(const std::string& hex) {
  return to_hex(from_hex(hex));
}

constexpr const char* kIpv4 = "45b9 004d 1234 4567 11 33 abcd c0000201 c6336409";

TEST(ImmutableHeaderTest, Ipv4Fields) {
  EXPECT_EQ(masked(kIpv4), compact("4500 004d 1234 0000 00 33 0000 c0000201 c6336409"));
}

TEST(ImmutableHeaderTest, EveryBitOfIpv4) {
  const auto header = from_hex(kIpv4);
  const std::string original = masked(header);
  for (std::size_t bit = 8; bit < 160; ++bit) {  // version and length are another matter
    auto changed = header;
    changed[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const std::size_t at = bit / 8;
    const bool may_change = at == 1 || (at >= 6 && at <= 8) || at == 10 || at == 11;
    EXPECT_EQ(masked(changed) == original, may_change) << bit;
  }
}

/// An IPv4 header with these options, padded with EOL to words.
std::string with_options(const std::string& options, const std::string& destination = "c6336409") {
  auto bytes = from_hex(options);
  while (bytes.size() % 4 != 0) bytes.push_back(std::byte{0});
  std::string header = "4000 0070 1234 0000 00 33 0000 c0000201" + destination + to_hex(bytes);
  header[1] = "0123456789abcdef"[5 + bytes.size() / 4];
  return header;
}

struct OptionCase {
  std::string about, options, covered;
};

TEST(ImmutableHeaderTest, Ipv4Options) {
  const std::vector<OptionCase> cases = {
      {"end of list", "00", "00"},
      {"what follows the end is padding", "00 07 ff 03", "00 07 ff 03"},
      {"no operation", "01 01 01 01", "01 01 01 01"},
      {"security", "82 04 aabb", "82 04 aabb"},
      {"extended security", "85 04 aabb", "85 04 aabb"},
      {"commercial security", "86 06 00000001", "86 06 00000001"},
      {"router alert", "94 04 0000", "94 04 0000"},
      {"sender directed multi-destination", "95 06 0a000001", "95 06 0a000001"},
      {"record route", "07 07 04 00000000", "00 00 00 00000000"},
      {"timestamp", "44 08 05 00 00000000", "00 00 00 00 00000000"},
      {"traceroute", "52 0c 0001 0002 0003 0a000001", "00 00 0000 0000 0000 00000000"},
      {"unknown", "9e 04 1234", "00 00 0000"},
      {"mutable between immutable", "01 94 04 0000 07 03 04 82 02 00",
       "01 94 04 0000 00 00 00 82 02 00"},
      {"shortest", "01 01 07 02", "01 01 00 00"},
  };
  for (const auto& [about, options, covered] : cases) {
    EXPECT_EQ(masked(with_options(options)), compact(with_options(covered))) << about;
  }
}

/// Both ends see the last address as the destination, whatever the way has done so far.
TEST(ImmutableHeaderTest, Ipv4SourceRoutes) {
  for (const std::string type : {"83", "89"}) {
    const std::string seen = compact(with_options("00000000000000 0000000000000000", "0a000003"));
    const auto route = [&](const std::string& pointer, const std::string& addresses,
                           const std::string& destination) {
      return masked(with_options(type + "0f" + pointer + addresses, destination));
    };
    EXPECT_EQ(route("04", "0a000001 0a000002 0a000003", "c6336409"), seen);
    EXPECT_EQ(route("08", "0a0000f1 0a000002 0a000003", "0a000001"), seen);
    EXPECT_EQ(route("0c", "0a0000f1 0a0000f2 0a000003", "0a000002"), seen);
    EXPECT_EQ(route("10", "0a0000f1 0a0000f2 0a0000f3", "0a000003"), seen);
    EXPECT_NE(route("10", "0a0000f1 0a0000f2 0a0000f3", "0a000004"), seen);
    EXPECT_EQ(masked(with_options(type + "03 04 00")), "refused");
    EXPECT_EQ(masked(with_options(type + "06 04 0a0000")), "refused");
  }
}

TEST(ImmutableHeaderTest, RefusesWrongIpv4Lengths) {
  for (const std::string options : {"07 00 00 00", "07 01 00 00", "07 05 00 00", "01 01 01 07",
                                    "94 04 0000 82 ff 0000", "01 01 07 03"}) {
    EXPECT_EQ(masked(with_options(options)), "refused") << options;
  }
  auto header = from_hex(kIpv4);
  header[0] = std::byte{0x46};
  EXPECT_EQ(masked(header), "refused");
  header[0] = std::byte{0x44};
  EXPECT_EQ(masked(header), "refused");
  header[0] = std::byte{0x44};
  header.resize(16);
  EXPECT_EQ(masked(header), "refused");
  for (const unsigned version : {0U, 1U, 3U, 5U, 7U, 15U}) {
    header = from_hex(kIpv4);
    header[0] = static_cast<std::byte>(version << 4 | 5);
    EXPECT_EQ(masked(header), "refused") << version;
  }
  EXPECT_EQ(masked(std::vector<std::byte>{}), "refused");
}

constexpr const char* kSource = "20010db8000000000000000000000001";
constexpr const char* kDestination = "20010db8000100000000000000000009";
constexpr const char* kFirst = "20010db8000200000000000000000001";
constexpr const char* kSecond = "20010db8000300000000000000000002";
constexpr const char* kThird = "20010db8000400000000000000000003";

/// An IPv6 header whose mutable fields are set, or zero.
std::string ipv6(bool set, const std::string& next, const std::string& source,
                 const std::string& destination, const std::string& extensions) {
  return (set ? "62eabcde 0100" : "60000000 0100") + next + (set ? "09" : "00") + source +
         destination + extensions;
}
std::string both(const std::string& next, const std::string& before, const std::string& after,
                 const std::string& what) {
  const std::string got = masked(ipv6(true, next, kSource, kDestination, before));
  const std::string wanted = compact(ipv6(false, next, kSource, kDestination, after));
  return got == wanted ? "" : what + ": " + got + " instead of " + wanted;
}

TEST(ImmutableHeaderTest, EveryBitOfIpv6) {
  const auto header = from_hex(ipv6(true, "33", kSource, kDestination, ""));
  const std::string original = masked(header);
  EXPECT_EQ(original, compact(ipv6(false, "33", kSource, kDestination, "")));
  for (std::size_t bit = 0; bit < 320; ++bit) {
    const std::size_t at = bit / 8;
    if (at == 0 && bit % 8 >= 4) continue;  // the version
    auto changed = header;
    changed[at] ^= static_cast<std::byte>(1 << bit % 8);
    const bool may_change = at <= 3 || at == 7;
    EXPECT_EQ(masked(changed) == original, may_change) << bit;
  }
}

TEST(ImmutableHeaderTest, Ipv6Options) {
  for (const std::string next : {"00", "3c"}) {
    EXPECT_EQ(both(next, "3300 0502 0003 0100", "3300 0502 0003 0100", "router alert"), "");
    EXPECT_EQ(both(next, "3301 3e06 616263646566 0502 0003 0100",
                   "3301 3e06 000000000000 0502 0003 0100", "data that may change"),
              "");
    EXPECT_EQ(both(next, "3300 1e04 61626364", "3300 1e04 61626364", "data that may not"), "");
    EXPECT_EQ(both(next, "3300 000000000000", "3300 000000000000", "padding by bytes"), "");
    EXPECT_EQ(both(next, "3300 0104 61626364", "3300 0104 61626364", "padding with data"), "");
    EXPECT_EQ(both(next, "3300 2200 0000 0000", "3300 2200 0000 0000", "empty"), "");
  }
  EXPECT_EQ(both("00", "3c00 2204 61626364 3300 2204 61626364",
                 "3c00 2204 00000000 3300 2204 00000000", "one after the other"),
            "");
}

TEST(ImmutableHeaderTest, RefusesWrongIpv6Lengths) {
  const auto refused = [](const std::string& next, const std::string& extensions) {
    return masked(ipv6(true, next, kSource, kDestination, extensions)) == "refused";
  };
  EXPECT_TRUE(refused("00", "3300 0505 00030000")) << "an option beyond its header";
  EXPECT_TRUE(refused("00", "3300 0000 000000 05")) << "an option without length";
  EXPECT_TRUE(refused("00", "3301 000000000000")) << "an extension beyond the end";
  EXPECT_TRUE(refused("00", "3300 0000")) << "half an extension";
  EXPECT_TRUE(refused("2c", "3300 0001 00000000")) << "a fragment header";
  EXPECT_TRUE(refused("33", "3300 0001 00000000")) << "AH itself";
  EXPECT_TRUE(refused("87", "3300 0001 00000000")) << "what is no extension known here";
  EXPECT_TRUE(refused("00", "2c00 000000000000 3300 0001 00000000")) << "a fragment header later";
  auto cut = from_hex(ipv6(true, "33", kSource, kDestination, ""));
  cut.pop_back();
  EXPECT_EQ(masked(cut), "refused");
}

TEST(ImmutableHeaderTest, RefusesMoreThanItsBound) {
  const auto extensions = [](std::size_t bytes) {
    auto header = from_hex(ipv6(true, "3c", kSource, kDestination, ""));
    for (std::size_t i = 0; i < bytes; i += 8) {
      for (const std::byte b : from_hex(i + 8 < bytes ? "3c00010400000000" : "3300010400000000")) {
        header.push_back(b);
      }
    }
    return masked(header);
  };
  EXPECT_NE(extensions(1024), "refused");
  EXPECT_EQ(extensions(1032), "refused");
  const auto header = from_hex(kIpv4);
  std::vector<std::byte> small(header.size() - 1);
  EXPECT_FALSE(write_immutable_header(header, small));
}

/// A packet on every stage of its way is seen alike.
TEST(ImmutableHeaderTest, RoutingHeaders) {
  const std::string d = kDestination, a = kFirst, b = kSecond, c = kThird;
  const auto route = [&](const std::string& destination, const std::string& left,
                         const std::string& addresses) {
    return masked(
        ipv6(true, "2b", kSource, destination, "3306 00" + left + "00000000" + addresses));
  };
  const std::string seen = compact(ipv6(false, "2b", kSource, c, "3306 0000 00000000" + d + a + b));
  EXPECT_EQ(route(d, "03", a + b + c), seen);
  EXPECT_EQ(route(a, "02", d + b + c), seen);
  EXPECT_EQ(route(b, "01", d + a + c), seen);
  EXPECT_EQ(route(c, "00", d + a + b), seen);
  EXPECT_EQ(route(d, "04", a + b + c), "refused");
  EXPECT_EQ(route(d, "ff", a + b + c), "refused");

  const auto mobile = [&](const std::string& destination, const std::string& rest) {
    return masked(ipv6(true, "2b", kSource, destination, rest));
  };
  EXPECT_EQ(mobile(d, "3302 0201 00000000" + a),
            compact(ipv6(false, "2b", kSource, a, "3302 0200 00000000" + d)));
  EXPECT_EQ(mobile(d, "3302 0200 00000000" + a),
            compact(ipv6(false, "2b", kSource, d, "3302 0200 00000000" + a)));
  EXPECT_EQ(mobile(d, "3304 0201 00000000" + a + b), "refused");
  EXPECT_EQ(mobile(d, "3302 0401 00000000" + a), "refused") << "segment routing";
  EXPECT_EQ(mobile(d, "3302 0400 00000000" + a),
            compact(ipv6(false, "2b", kSource, d, "3302 0400 00000000" + a)));
  EXPECT_EQ(mobile(d, "3301 0001 00000000 0000000000000000"), "refused") << "half an address";
  EXPECT_EQ(mobile(d, "3300 0001 00000000"), "refused") << "no address";
}

TEST(ImmutableHeaderTest, HomeAddresses) {
  const std::string care_of = kSource, home = kFirst;
  const std::string option = "3302 0102 0000 c910";
  EXPECT_EQ(masked(ipv6(true, "3c", care_of, kDestination, option + home)),
            compact(ipv6(false, "3c", home, kDestination, option + care_of)));
  EXPECT_EQ(masked(ipv6(true, "3c", care_of, kDestination, "3301 c90c" + std::string(24, '0'))),
            "refused");
  EXPECT_EQ(masked(ipv6(true, "3c", care_of, kDestination,
                        "3c02 0102 0000 c910" + home + "3302 0102 0000 c910" + home)),
            "refused");
}

/// Anything: it says yes or no, and touches nothing else; the sanitizers look on.
TEST(ImmutableHeaderTest, RandomHeaders) {
  std::mt19937 random(7);
  std::size_t accepted = 0;
  for (int i = 0; i < 50000; ++i) {
    std::vector<std::byte> header(20 + random() % 100);
    for (auto& b : header) b = static_cast<std::byte>(random() % 4 == 0 ? random() : random() % 4);
    if (i % 2 == 0) {
      header.resize(header.size() / 4 * 4);
      header.resize(std::min<std::size_t>(header.size(), 60));
      header[0] = static_cast<std::byte>(0x40 | header.size() / 4);
    } else {
      header.resize(std::max<std::size_t>(40, header.size() / 8 * 8));
      header[0] = std::byte{0x60};
      header[6] = static_cast<std::byte>(std::array{0, 43, 60, 51}[random() % 4]);
    }
    const std::vector<std::byte> copy = header;
    accepted += masked(header) != "refused" ? 1 : 0;
    ASSERT_EQ(header, copy);
  }
  EXPECT_GT(accepted, 500U);
}

}  // namespace
}  // namespace xfrmfs::engine
