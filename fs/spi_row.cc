// SPDX-License-Identifier: Apache-2.0
#include "fs/spi_row.h"

#include <string_view>

#include "fs/text.h"

namespace xfrmfs::fs {
namespace {

using engine::Protocol;

struct Named {
  std::uint8_t id;
  std::string_view name;
};

constexpr Named kProtocols[] = {{51, "AH"}, {50, "ESP"}, {4, "IPIP"}, {108, "COMP"}};
constexpr Named kCiphers[] = {
    {3, "_3DES"}, {11, "_NULL"}, {12, "_AES"}, {252, "_SERPENT"}, {253, "_TWOFISH"}};
constexpr Named kMacs[] = {{2, "_HMAC_MD5"},
                           {3, "_HMAC_SHA1"},
                           {5, "_HMAC_SHA2_256"},
                           {6, "_HMAC_SHA2_384"},
                           {7, "_HMAC_SHA2_512"}};
constexpr Named kCompressions[] = {{0, "_NONE"}, {2, "_DEFLATE"}, {3, "_LZS"}};

template <std::size_t n>
std::string_view name_of(const Named (&names)[n], std::uint8_t id) {
  for (const Named& named : names) {
    if (named.id == id) return named.name;
  }
  return {};
}

/// "_AES", or "_ID20" for what KLIPS has no name for; nothing for 0.
template <std::size_t n>
void append_algorithm(std::string& out, const Named (&names)[n], std::uint8_t id) {
  if (id == 0) return;
  const std::string_view name = name_of(names, id);
  if (!name.empty()) {
    out += name;
    return;
  }
  out += "_ID";
  append_decimal(out, id);
}

void append_transform(std::string& out, const SpiRow& row) {
  const std::string_view protocol =
      name_of(kProtocols, static_cast<std::uint8_t>(row.said.protocol));
  out += protocol.empty() ? "UNKNOWN_proto" : protocol;
  if (row.said.protocol == Protocol::kComp) {
    const std::string_view compression = name_of(kCompressions, row.cipher_id);
    out += compression.empty() ? "_UNKNOWN_comp" : compression;
    return;
  }
  append_algorithm(out, kCiphers, row.cipher_id);
  append_algorithm(out, kMacs, row.mac_id);
}

template <class T>
void append_field(std::string& out, std::string_view name, T value) {
  out += name;
  append_decimal(out, value);
}

/// Most numbers are printed only if there is something to tell.
template <class T>
void append_unless_zero(std::string& out, std::string_view name, T value) {
  if (value != 0) append_field(out, name, value);
}

void append_iv(std::string& out, const SpiRow& row) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (row.iv_size == 0) return;
  append_field(out, " iv_bits=", row.iv_size * 8);
  out += "bits iv=0x";
  for (std::size_t i = 0; i < row.iv_size; ++i) {
    const auto byte = std::to_integer<unsigned>(row.iv[i]);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
}

void append_replay(std::string& out, const SpiRow& row) {
  if (row.cipher_id == 0 && row.mac_id == 0) return;
  append_unless_zero(out, " ooowin=", row.replay_window);
  append_unless_zero(out, " ooo_errs=", row.replay_errors);
  append_unless_zero(out, " seq=", static_cast<std::int32_t>(row.sequence));
  if (row.bitmap != 0) {
    out += " bit=0x";
    append_hex(out, row.bitmap);
  }
}

void append_life(std::string& out, std::string_view name, const SpiRow::Life& life) {
  if (life.stored <= 1 && life.soft == 0 && life.hard == 0) return;
  out += name;
  append_field(out, "(", life.current);
  append_field(out, ",", life.soft);
  append_field(out, ",", life.hard);
  out += ')';
}

void append_encapsulation(std::string& out, const SpiRow& row) {
  constexpr std::string_view kNames[] = {"none", "nonike", "nonesp"};
  out += " natencap=";
  out += kNames[static_cast<std::size_t>(row.encapsulation)];
  append_field(out, " natsport=", row.encapsulation_source_port);
  append_field(out, " natdport=", row.encapsulation_destination_port);
}

}  // namespace

void append(std::string& out, const SpiRow& row) {
  append_said(out, row.said);
  out += ' ';
  append_transform(out, row);
  out += row.inbound ? ": dir=in  src=" : ": dir=out src=";
  append_klips_address(out, row.source);
  if (row.policy) {
    out += " policy=";
    append_klips_subnet(out, row.policy->source);
    out += "->";
    append_klips_subnet(out, row.policy->destination);
  }
  append_iv(out, row);
  append_replay(out, row);
  if (row.flags != 0) {
    out += " flags=0x";
    append_hex(out, row.flags);
    out += "<>";
  }
  append_unless_zero(out, " alen=", row.digest_bits);
  append_unless_zero(out, " aklen=", row.mac_key_bits);
  append_unless_zero(out, " auth_errs=", row.integrity_errors);
  append_unless_zero(out, " eklen=", row.cipher_key_bits);
  out += " life(c,s,h)=";
  append_life(out, "bytes", row.bytes);
  append_life(out, "addtime", row.addtime);
  append_life(out, "usetime", row.usetime);
  append_life(out, "packets", row.packets);
  if (row.idle_seconds) append_field(out, " idle=", *row.idle_seconds);
  append_encapsulation(out, row);
  append_field(out, " refcount=", row.refcount);
  append_field(out, " ref=", row.ref);
  append_field(out, " refhim=", row.refhim);
  out += '\n';
}

}  // namespace xfrmfs::fs
