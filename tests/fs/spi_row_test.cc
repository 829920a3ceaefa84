// SPDX-License-Identifier: Apache-2.0
// Lines that KLIPS printed are taken apart and printed again.

#include "fs/spi_row.h"

#include <gtest/gtest.h>

#include <charconv>
#include <map>
#include <stdexcept>
#include <string>

#include "tests/fs/golden.h"
#include "tests/support/gateway.h"
#include "tests/support/hex.h"

namespace xfrmfs::fs {
namespace {

using engine::Protocol;
using testing::address;
using testing::prefix;

template <class T>
T number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw std::invalid_argument(std::string(text));
  }
  return value;
}

/// "esp0x1234@192.0.2.1"
Said parse_said(const std::string& text) {
  static const std::map<std::string, Protocol> kProtocols = {{"ah", Protocol::kAh},
                                                             {"esp", Protocol::kEsp},
                                                             {"tun", Protocol::kIpip},
                                                             {"comp", Protocol::kComp}};
  const auto number_at = text.find("0x");
  const auto at = text.find('@');
  return {
      .protocol = kProtocols.at(text.substr(0, number_at)),
      .spi = engine::Spi{number<std::uint32_t>(text.substr(number_at + 2, at - number_at - 2), 16)},
      .destination = address(text.substr(at + 1))};
}

/// "ESP_AES_HMAC_SHA1:"
void parse_transform(const std::string& text, SpiRow& row) {
  static const std::map<std::string, std::pair<std::uint8_t, std::uint8_t>> kNames = {
      {"ESP_3DES:", {3, 0}},           {"ESP_3DES_HMAC_MD5:", {3, 2}},
      {"ESP_ID2_HMAC_MD5:", {2, 2}},   {"ESP_TWOFISH_HMAC_SHA1:", {253, 3}},
      {"ESP_AES_HMAC_SHA1:", {12, 3}}, {"AH_HMAC_MD5:", {0, 2}},
      {"COMP_DEFLATE:", {2, 0}},       {"IPIP:", {0, 0}}};
  std::tie(row.cipher_id, row.mac_id) = kNames.at(text);
}

/// "bytes(0,384,0)usetime(1,0,0)"; both times happened long after boot.
void parse_life(const std::string& text, SpiRow& row) {
  const std::map<std::string, SpiRow::Life*> groups = {{"bytes", &row.bytes},
                                                       {"addtime", &row.addtime},
                                                       {"usetime", &row.usetime},
                                                       {"packets", &row.packets}};
  for (std::size_t begin = 0; begin < text.size();) {
    const auto open = text.find('(', begin);
    const auto close = text.find(')', open);
    const std::string name = text.substr(begin, open - begin);
    const std::string inside = text.substr(open + 1, close - open - 1);
    const auto comma = inside.find(',');
    const auto comma2 = inside.find(',', comma + 1);
    SpiRow::Life& life = *groups.at(name);
    life.current = number<std::uint64_t>(inside.substr(0, comma));
    life.soft = number<std::uint64_t>(inside.substr(comma + 1, comma2 - comma - 1));
    life.hard = number<std::uint64_t>(inside.substr(comma2 + 1));
    life.stored = name.ends_with("time") ? 1000 : life.current;
    begin = close + 1;
  }
}

SpiRow::Policy parse_policy(const std::string& text) {
  const auto arrow = text.find("->");
  return {prefix(text.substr(0, arrow)), prefix(text.substr(arrow + 2))};
}

void parse_field(const std::string& name, const std::string& value, SpiRow& row) {
  static const std::map<std::string, SpiRow::Encapsulation> kEncapsulations = {
      {"none", SpiRow::Encapsulation::kNone},
      {"nonike", SpiRow::Encapsulation::kNonIke},
      {"nonesp", SpiRow::Encapsulation::kNonEsp}};
  const auto u32 = [&] { return number<std::uint32_t>(value); };
  if (name == "dir") {
    row.inbound = value == "in";
  } else if (name == "src") {
    row.source = address(value);
  } else if (name == "policy") {
    row.policy = parse_policy(value);
  } else if (name == "iv_bits") {
    row.iv_size = number<std::size_t>(value.substr(0, value.find("bits"))) / 8;
  } else if (name == "iv") {
    const auto bytes = testing::from_hex(value.substr(2));
    std::copy(bytes.begin(), bytes.end(), row.iv.begin());
  } else if (name == "ooowin") {
    row.replay_window = u32();
  } else if (name == "seq") {
    row.sequence = u32();
  } else if (name == "bit") {
    row.bitmap = number<std::uint64_t>(value.substr(2), 16);
  } else if (name == "flags") {
    row.flags = number<std::uint32_t>(value.substr(2, value.find('<') - 2), 16);
  } else if (name == "alen") {
    row.digest_bits = u32();
  } else if (name == "aklen") {
    row.mac_key_bits = u32();
  } else if (name == "eklen") {
    row.cipher_key_bits = u32();
  } else if (name == "life(c,s,h)") {
    parse_life(value, row);
  } else if (name == "idle") {
    row.idle_seconds = number<std::uint64_t>(value);
  } else if (name == "natencap") {
    row.encapsulation = kEncapsulations.at(value);
  } else if (name == "natsport") {
    row.encapsulation_source_port = number<std::uint16_t>(value);
  } else if (name == "natdport") {
    row.encapsulation_destination_port = number<std::uint16_t>(value);
  } else if (name == "refcount") {
    row.refcount = u32();
  } else if (name == "ref") {
    row.ref = number<std::int32_t>(value);
  } else if (name == "refhim") {
    row.refhim = number<std::int32_t>(value);
  } else {
    throw std::invalid_argument("unknown field " + name);
  }
}

SpiRow parse(const std::string& line) {
  SpiRow row;
  const auto words = words_of(line);
  row.said = parse_said(words.at(0));
  parse_transform(words.at(1), row);
  for (std::size_t i = 2; i < words.size(); ++i) {
    const auto equals = words[i].find('=');
    parse_field(words[i].substr(0, equals), words[i].substr(equals + 1), row);
  }
  return row;
}

/// What releases before 2.6.14 and debugging builds print differently, and a placeholder.
std::string as_of_2_6_38(std::string line) {
  for (std::size_t at; (at = line.find("DEADF00D")) != std::string::npos;) {
    line.replace(at, 8, "deadf00d");
  }
  if (line.find(" natencap=") == std::string::npos) {
    line.insert(line.find(" refcount="), " natencap=none natsport=0 natdport=0");
  }
  line.resize(std::min(line.size(), line.find(" reftable=")));
  if (line.find(" refhim=") == std::string::npos) line += " refhim=0";
  return line;
}

TEST(SpiRowTest, PrintsWhatKlipsPrinted) {
  std::size_t lines = 0;
  for (const std::string& file : klips_goldens("spi-")) {
    for (const std::string& golden_line : lines_of(golden(file))) {
      const std::string line = as_of_2_6_38(golden_line);
      std::string out;
      append(out, parse(line));
      EXPECT_EQ(out, line + "\n") << file;
      ++lines;
    }
  }
  EXPECT_EQ(lines, 29u);
}

SpiRow esp_row() {
  return {.said = {.protocol = Protocol::kEsp,
                   .spi = engine::Spi{0x100},
                   .destination = address("192.0.2.1")},
          .source = address("192.0.2.2")};
}

std::string line_of(const SpiRow& row) {
  std::string out;
  append(out, row);
  return out;
}

bool contains(const std::string& line, const std::string& text) {
  return line.find(text) != std::string::npos;
}

TEST(SpiRowTest, UnnamedAlgorithmsShowTheirNumber) {
  SpiRow row = esp_row();
  const auto transform = [&](std::uint8_t cipher, std::uint8_t mac) {
    row.cipher_id = cipher;
    row.mac_id = mac;
    return words_of(line_of(row)).at(1);
  };
  EXPECT_EQ(transform(20, 0), "ESP_ID20:");
  EXPECT_EQ(transform(11, 5), "ESP_NULL_HMAC_SHA2_256:");
  EXPECT_EQ(transform(12, 6), "ESP_AES_HMAC_SHA2_384:");
  EXPECT_EQ(transform(252, 7), "ESP_SERPENT_HMAC_SHA2_512:");
  EXPECT_EQ(transform(22, 9), "ESP_ID22_ID9:");
  row.said.protocol = Protocol{99};
  EXPECT_EQ(transform(0, 0), "UNKNOWN_proto:");
  row.said.protocol = Protocol::kComp;
  EXPECT_EQ(transform(3, 0), "COMP_LZS:");
  EXPECT_EQ(transform(9, 0), "COMP_UNKNOWN_comp:");
}

TEST(SpiRowTest, ReplayFieldsNeedAnAlgorithm) {
  SpiRow row = esp_row();
  row.replay_window = 32;
  row.sequence = 3;
  row.bitmap = 7;
  row.replay_errors = 1;
  EXPECT_FALSE(contains(line_of(row), "ooo"));
  row.mac_id = 3;
  EXPECT_TRUE(contains(line_of(row), " ooowin=32 ooo_errs=1 seq=3 bit=0x7 life"));
}

TEST(SpiRowTest, SequenceIsSignedAndTheBitmapIsNotPadded) {
  SpiRow row = esp_row();
  row.cipher_id = 12;
  row.sequence = 0x8000'0000;
  row.bitmap = 0xffff'ffff'ffff'ffff;
  EXPECT_TRUE(contains(line_of(row), " seq=-2147483648 bit=0xffffffffffffffff "));
}

TEST(SpiRowTest, LifetimesAppearAboveOneOrWithALimit) {
  SpiRow row = esp_row();
  EXPECT_TRUE(contains(line_of(row), " life(c,s,h)= natencap=none"));
  row.packets = {1, 1, 0, 0};
  EXPECT_TRUE(contains(line_of(row), " life(c,s,h)= natencap=none"));
  row.packets = {2, 2, 0, 0};
  EXPECT_TRUE(contains(line_of(row), " life(c,s,h)=packets(2,0,0) natencap=none"));
  row.packets = {0, 0, 0, 9};
  row.bytes = {0, 0, 384, 0};
  EXPECT_TRUE(contains(line_of(row), " life(c,s,h)=bytes(0,384,0)packets(0,0,9) natencap=none"));
  row.bytes = row.packets = {};
  row.addtime = {2, 0, 0, 0};  // in the second second after boot, just now
  row.usetime = {1, 7, 0, 0};
  EXPECT_TRUE(contains(line_of(row), " life(c,s,h)=addtime(0,0,0) natencap=none"));
}

TEST(SpiRowTest, IdleIsShownAtZero) {
  SpiRow row = esp_row();
  EXPECT_FALSE(contains(line_of(row), "idle"));
  row.idle_seconds = 0;
  EXPECT_TRUE(contains(line_of(row), " idle=0 natencap"));
}

TEST(SpiRowTest, TheWidestLineFitsThe1024BytesOfItsReaders) {
  SpiRow row = esp_row();
  row.said.destination = address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  row.said.spi = engine::Spi{0xffffffff};
  row.source = row.said.destination;
  row.policy = {{row.source, 128}, {row.source, 128}};
  row.cipher_id = row.mac_id = 255;
  row.inbound = true;
  row.iv_size = SpiRow::kLargestIv;
  row.replay_window = row.replay_errors = row.sequence = row.flags = row.digest_bits = 0x8000'0000;
  row.mac_key_bits = row.integrity_errors = row.cipher_key_bits = row.refcount = 0xffff'ffff;
  row.bitmap = ~0ull;
  row.bytes = row.addtime = row.usetime = row.packets = {~0ull, ~0ull, ~0ull, ~0ull};
  row.idle_seconds = ~0ull;
  row.encapsulation = SpiRow::Encapsulation::kNonEsp;
  row.encapsulation_source_port = row.encapsulation_destination_port = 65535;
  row.ref = row.refhim = -2147483647;
  EXPECT_LE(line_of(row).size(), 1023u);
}

}  // namespace
}  // namespace xfrmfs::fs
