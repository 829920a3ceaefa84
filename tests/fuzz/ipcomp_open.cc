// SPDX-License-Identifier: Apache-2.0
// IPComp from the wire: it is not authenticated by itself, and small packets become large ones.
//
//   input -> | sort 1 | room 2 | the rest, by sort |
//
// Sorts, by four: 0 the rest is a packet; 1 it is a payload, compressed and opened again; else it
// is changes to a real packet: position 2, xor 1, ...; a xor of 0 cuts there.

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/ipcomp.h"
#include "tests/fuzz/require.h"

using namespace xfrmfs::engine;
using xfrmfs::testing::require;

namespace {

Ipcomp& ipcomp() {
  static const auto only = Ipcomp::create(Spi{0x4300}, std::make_shared<DeflateLanes>(1)).value();
  return *only;
}

/// Memory of exactly this size, so that a sanitizer sees one byte too many.
std::unique_ptr<std::byte[]> exact(Bytes bytes) {
  auto memory = std::make_unique<std::byte[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(memory.get(), bytes.data(), bytes.size());
  return memory;
}

void open_stranger(Bytes packet, std::size_t room) {
  const auto memory = exact(packet);
  const auto place = std::make_unique<std::byte[]>(room);
  const auto attempt = [&] {
    OpenItem item{.data = memory.get(), .size = packet.size(), .place = place.get(), .room = room};
    ipcomp().open({}, {&item, 1});
    return item;
  };
  const OpenItem item = attempt();
  if (item.result != OpenResult::kOpened) {
    require(item.result == OpenResult::kMalformed);
    require(item.data == memory.get() && item.size == packet.size());
    return;
  }
  require(item.data == place.get() && item.size <= room && item.size >= packet.size());
  require(item.next_header == Protocol{std::to_integer<std::uint8_t>(packet[0])});
  const std::vector<std::byte> first(item.data, item.data + item.size);
  const OpenItem again = attempt();
  require(again.result == OpenResult::kOpened);
  require(std::vector<std::byte>(again.data, again.data + again.size) == first);
}

void seal_and_open(Bytes payload, std::size_t room) {
  const auto clear = exact(payload);
  const auto memory = std::make_unique<std::byte[]>(room);
  SealItem item{.packet = memory.get(),
                .room = room,
                .payload = clear.get(),
                .size = payload.size(),
                .next_header = Protocol::kIpv6};
  ipcomp().seal({}, {&item, 1});
  require(item.ok == (payload.size() <= room));
  if (!item.ok) return;
  if (item.bare) {
    require(item.size == payload.size());
    require(payload.empty() || std::memcmp(memory.get(), payload.data(), payload.size()) == 0);
    return;
  }
  require(payload.size() >= kIpcompThreshold && item.size < payload.size());
  const auto place = std::make_unique<std::byte[]>(payload.size());
  OpenItem opened{
      .data = item.packet, .size = item.size, .place = place.get(), .room = payload.size()};
  ipcomp().open({}, {&opened, 1});
  require(opened.result == OpenResult::kOpened && opened.size == payload.size());
  require(opened.next_header == Protocol::kIpv6);
  require(std::memcmp(opened.data, payload.data(), payload.size()) == 0);
}

void open_tampered(Bytes rest, std::size_t room) {
  std::vector<std::byte> clear(1200);
  for (std::size_t i = 0; i < clear.size(); ++i) {
    clear[i] = static_cast<std::byte>(i * i % 251 * (i / 300 % 2) + i % 9);
  }
  std::vector<std::byte> packet(clear.size());
  SealItem item{.packet = packet.data(),
                .room = packet.size(),
                .payload = clear.data(),
                .size = clear.size(),
                .next_header = Protocol::kUdp};
  ipcomp().seal({}, {&item, 1});
  require(item.ok && !item.bare);
  packet.resize(item.size);
  Reader reader(rest);
  while (const auto position = reader.be16()) {
    const auto change = reader.u8();
    if (!change || packet.empty()) break;
    const std::size_t at = *position % packet.size();
    if (*change == 0) {
      packet.resize(at);
    } else {
      packet[at] ^= std::byte{*change};
    }
  }
  open_stranger(packet, room);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3 || size > 8192) return 0;
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), data, size);
  const std::size_t room = load_be16(&bytes[1]);
  const Bytes rest = Bytes(bytes).subspan(3);
  switch (data[0] & 3) {
    case 0:
      open_stranger(rest, room);
      break;
    case 1:
      seal_and_open(rest, room);
      break;
    default:
      open_tampered(rest, room);
      break;
  }
  return 0;
}
