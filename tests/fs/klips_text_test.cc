// SPDX-License-Identifier: Apache-2.0
#include "fs/klips_text.h"

#include <gtest/gtest.h>

#include "tests/support/gateway.h"

namespace xfrmfs::fs {
namespace {

using engine::Protocol;
using engine::Spi;
using testing::address;
using testing::prefix;

std::string text_of(const engine::IpAddress& a) {
  std::string out;
  append_klips_address(out, a);
  return out;
}

TEST(KlipsAddressTest, CompressesTheLeftmostRunOfZeroGroups) {
  const std::pair<const char*, const char*> cases[] = {
      {"0.0.0.0", "0.0.0.0"},
      {"192.0.2.1", "192.0.2.1"},
      {"255.255.255.255", "255.255.255.255"},
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"1:2:0:0:3:4:0:0", "1:2::3:4:0:0"},
      {"1:0:0:2:0:0:0:3", "1::2:0:0:0:3"},  // RFC 5952 would take the longer run
      {"1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"},
      {"1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"},
      {"0:1:2:3:4:5:0:0", "0:1:2:3:4:5::"},
      {"::2:3:4:5:6:7", "::2:3:4:5:6:7"},
      {"0:2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
      {"::ffff:1.2.3.4", "::ffff:102:304"},
      {"2001:db8:0:1::", "2001:db8:0:1::"},
      {"ABCD:EF01::0010", "abcd:ef01::10"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
  };
  for (const auto& [given, expected] : cases) EXPECT_EQ(text_of(address(given)), expected);
}

TEST(KlipsSubnetTest, PrintsHostBitsAsTheyAre) {
  const auto text = [](const engine::Prefix& p) {
    std::string out;
    append_klips_subnet(out, p);
    return out;
  };
  EXPECT_EQ(text(prefix("192.0.2.9/24")), "192.0.2.9/24");
  EXPECT_EQ(text(prefix("0.0.0.0/0")), "0.0.0.0/0");
  EXPECT_EQ(text(prefix("::/0")), "::/0");
}

TEST(KlipsSubnetTest, HostBitsCanBeCleared) {
  const std::pair<const char*, const char*> cases[] = {
      {"192.168.9.47/24", "192.168.9.0/24"},  {"192.168.9.47/32", "192.168.9.47/32"},
      {"192.168.9.47/31", "192.168.9.46/31"}, {"192.168.9.47/0", "0.0.0.0/0"},
      {"192.168.9.47/1", "128.0.0.0/1"},      {"2001:db8:1:ffff::1/49", "2001:db8:1:8000::/49"},
      {"2001:db8::1/128", "2001:db8::1/128"}, {"2001:db8::1/0", "::/0"},
  };
  for (const auto& [given, expected] : cases) {
    EXPECT_EQ(without_host_bits(prefix(given)), prefix(expected)) << given;
  }
}

TEST(SaidTest, NamesAssociationsAndShunts) {
  const auto text = [](const Said& said) {
    std::string out;
    append_said(out, said);
    return out;
  };
  const auto sa = [&](Protocol protocol, std::uint32_t spi, const char* destination) {
    return text({.protocol = protocol, .spi = Spi{spi}, .destination = address(destination)});
  };
  EXPECT_EQ(sa(Protocol::kIpip, 0x1002, "192.1.2.45"), "tun0x1002@192.1.2.45");
  EXPECT_EQ(sa(Protocol::kEsp, 0x43952d72, "2001:db8:1:2::23"), "esp0x43952d72@2001:db8:1:2::23");
  EXPECT_EQ(sa(Protocol::kAh, 0xf, "192.0.2.1"), "ah0xf@192.0.2.1");
  EXPECT_EQ(sa(Protocol::kComp, 0, "192.0.2.1"), "comp0x0@192.0.2.1");
  EXPECT_EQ(sa(Protocol{99}, 0xffffffff, "192.0.2.1"), "unk990xffffffff@192.0.2.1");
  EXPECT_EQ(text({.kind = Said::Kind::kPass}), "%pass");
  EXPECT_EQ(text({.kind = Said::Kind::kDrop}), "%drop");
  EXPECT_EQ(text({.kind = Said::Kind::kReject}), "%reject");
  EXPECT_EQ(text({.kind = Said::Kind::kHold}), "%hold");
  EXPECT_EQ(text({.kind = Said::Kind::kTrap}), "%trap");
  EXPECT_EQ(text({.kind = Said::Kind::kTrapSubnet}), "%trapsubnet");
}

}  // namespace
}  // namespace xfrmfs::fs
