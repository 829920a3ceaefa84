// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden_esp.h"

#include <stdexcept>

#include "engine/packet/ip_header.h"
#include "tests/support/golden_files.h"
#include "tests/support/hex.h"

namespace xfrmfs::testing {
namespace {

/// What lies behind the outer IP header, and the UDP header if there is one.
std::vector<std::byte> esp_of(const std::vector<std::byte>& packet) {
  const auto header = engine::parse_ip_header(packet);
  if (!header) throw std::runtime_error("not an IP packet");
  std::size_t at = header->header_size;
  if (header->protocol == engine::Protocol::kUdp) at += 8;
  return {packet.begin() + static_cast<std::ptrdiff_t>(at),
          packet.begin() + static_cast<std::ptrdiff_t>(header->total_size)};
}

engine::CryptoParams crypto_of(const Row& row) {
  const auto secret = [](const std::string& hex) { return engine::Secret(from_hex(hex)); };
  const auto bits = static_cast<std::uint32_t>(std::stoul(row[10]));
  engine::CryptoParams params;
  if (row[8].empty()) {
    params.aead = engine::AeadParams{engine::find_aead(row[6])->name, secret(row[7]), bits};
  } else {
    params.cipher = engine::CipherParams{engine::find_cipher(row[6])->name, secret(row[7])};
    params.mac = engine::MacParams{engine::find_mac(row[8])->name, secret(row[9]), bits};
  }
  if (const auto resolved = engine::resolve(params); !resolved) {
    throw std::runtime_error(row[0] + ": " + resolved.error().message);
  }
  return params;
}

}  // namespace

std::vector<GoldenSa> read_golden_esp() {
  const std::string folder = "golden/esp/";
  std::vector<GoldenSa> associations;
  for (const Row& key : read_tsv(folder + "keys.tsv")) {
    GoldenSa sa;
    sa.name = key[0];
    sa.spi = engine::Spi{static_cast<std::uint32_t>(std::stoul(key[4], nullptr, 0))};
    sa.extended = key[11] == "1";
    sa.crypto = crypto_of(key);
    const auto frames = read_pcap(folder + sa.name + ".pcap");
    for (const Row& row : read_tsv(folder + sa.name + ".plain.tsv")) {
      if (row[3] != key[4]) continue;
      GoldenPacket packet;
      packet.frame = static_cast<unsigned>(std::stoul(row[0]));
      packet.sequence = std::stoull(row[4]);
      packet.next_header = engine::Protocol{static_cast<std::uint8_t>(std::stoul(row[5]))};
      packet.pad_length = static_cast<unsigned>(std::stoul(row[6]));
      packet.payload = from_hex(row[7]);
      packet.esp = esp_of(frames.at(packet.frame - 1));
      sa.packets.push_back(std::move(packet));
    }
    if (sa.packets.empty()) throw std::runtime_error(sa.name + ": no packets");
    associations.push_back(std::move(sa));
  }
  return associations;
}

}  // namespace xfrmfs::testing
