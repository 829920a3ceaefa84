// SPDX-License-Identifier: Apache-2.0
// ESP from the wire: from a stranger, from an attacker who changes real packets, and from a peer
// with the right keys and bad intentions.
//
//   input -> | suite 1 | sort 1 | the rest, by sort |
//
// The suite's number counts all suites for each library in turn. The sort's lowest bit is ESN, the
// next two say what the rest is.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/esp.h"
#include "tests/fuzz/require.h"
#include "tests/support/esp_suites.h"

using namespace xfrmfs::engine;
using xfrmfs::testing::esp_backends;
using xfrmfs::testing::esp_suites;
using xfrmfs::testing::EspBackend;
using xfrmfs::testing::EspForger;
using xfrmfs::testing::require;

namespace {

constexpr Spi kSpi{0x00c0ffee};
constexpr SeqNo kSequence = 0x100000007;

/// Engines are made once per suite: a key schedule for each input would be most of the time.
struct Peer {
  Peer(const CryptoParams& params, bool extended, const EspBackend& backend)
      : esp(Esp::create(kSpi, extended, params, 1, IvOffset{0}, backend.backends).value()),
        crypto(backend.lane.get()),
        forger(params, extended) {}

  std::unique_ptr<Esp> esp;
  CryptoLane* crypto;
  EspForger forger;
};

Peer& peer_of(std::uint8_t suite, bool extended) {
  const std::size_t suites = esp_suites().size();
  static std::vector<std::array<std::unique_ptr<Peer>, 2>> peers(suites * esp_backends().size());
  const std::size_t index = suite % peers.size();
  auto& peer = peers[index][extended ? 1 : 0];
  if (!peer) {
    peer = std::make_unique<Peer>(esp_suites()[index % suites].params, extended,
                                  esp_backends()[index / suites]);
  }
  return *peer;
}

struct Opened {
  OpenResult result;
  std::vector<std::byte> payload;
  Protocol next_header{};
};

/// Opens a copy in memory of exactly its size, so that a sanitizer sees one byte too many.
Opened open(Peer& peer, Bytes packet) {
  const auto memory = std::make_unique<std::byte[]>(packet.size());
  if (!packet.empty()) std::memcpy(memory.get(), packet.data(), packet.size());
  OpenItem item{.data = memory.get(), .size = packet.size(), .sequence = kSequence};
  peer.esp->open({.crypto = peer.crypto}, {&item, 1});
  if (item.result != OpenResult::kOpened) {
    require(item.data == memory.get() && item.size == packet.size());
    return {item.result, {}};
  }
  require(item.data >= memory.get() && item.size > 0 &&
          item.data + item.size < memory.get() + packet.size());
  return {item.result, {item.data, item.data + item.size}, item.next_header};
}

/// The rest is a packet.
void open_stranger(Peer& peer, Bytes rest) {
  std::ignore = open(peer, rest);
}

/// The rest is text, trailer included, under a right ICV.
void open_traitor(Peer& peer, Bytes rest) {
  std::size_t size = rest.size();
  if (peer.esp->shape().alignment > 4) size -= size % peer.esp->shape().alignment;
  const Bytes text = rest.first(size);
  const Opened opened = open(peer, peer.forger.forge(kSpi, kSequence, text));
  require(opened.result != OpenResult::kIntegrityFailed);
  if (size < 2) {
    require(opened.result == OpenResult::kMalformed);
    return;
  }
  const auto pad = std::to_integer<std::size_t>(text[size - 2]);
  const Protocol next_header{std::to_integer<std::uint8_t>(text[size - 1])};
  const bool good = pad + 2 < size && next_header != Protocol::kNoNext;
  require(good == (opened.result == OpenResult::kOpened));
  if (!good) return;
  require(opened.next_header == next_header);
  require(opened.payload.size() == size - 2 - pad);
  require(std::memcmp(opened.payload.data(), text.data(), opened.payload.size()) == 0);
}

/// The rest is changes to a real packet: position 2, xor 1, ...; a xor of 0 cuts there.
void open_tampered(Peer& peer, Bytes rest) {
  const std::vector<std::byte> text(64, std::byte{0});
  const auto original = peer.forger.forge(kSpi, kSequence, text);
  auto packet = original;
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
  const Opened opened = open(peer, packet);
  require((packet == original) == (opened.result == OpenResult::kOpened));
}

class ZeroIvs final : public IvSource {
 public:
  void fill(MutableBytes iv) noexcept override { std::memset(iv.data(), 0, iv.size()); }
};

/// The rest is a room 2, which is what there is beyond head and payload, and a payload: sealed
/// within its room or not at all, and opened again.
void seal_and_open(Peer& peer, Bytes rest) {
  Reader reader(rest);
  const auto more = reader.be16();
  if (!more) return;
  const Bytes payload = *reader.take(reader.left());
  const std::size_t head = peer.esp->head_size();
  const std::size_t room = head + payload.size() + *more % 512;
  const auto memory = std::make_unique<std::byte[]>(room);
  if (!payload.empty()) std::memcpy(memory.get() + head, payload.data(), payload.size());
  ZeroIvs ivs;
  SealItem item{.packet = memory.get(),
                .room = room,
                .payload = memory.get() + head,
                .size = payload.size(),
                .next_header = Protocol::kIpv6,
                .sequence = kSequence};
  peer.esp->seal({.ivs = &ivs, .crypto = peer.crypto}, {&item, 1});
  const std::size_t whole = peer.esp->sealed_size(payload.size());
  require(item.ok == (whole <= room));
  if (!item.ok) return;
  require(item.size == whole);
  const Opened opened = open(peer, {item.packet, item.size});
  require((opened.result == OpenResult::kOpened) == !payload.empty());
  if (payload.empty()) return;
  require(opened.payload == std::vector<std::byte>(payload.begin(), payload.end()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 4096) return 0;
  Peer& peer = peer_of(data[0], (data[1] & 1) != 0);
  std::vector<std::byte> rest(size - 2);
  if (!rest.empty()) std::memcpy(rest.data(), data + 2, rest.size());
  switch (data[1] >> 1 & 3) {
    case 0:
      open_stranger(peer, rest);
      break;
    case 1:
      open_traitor(peer, rest);
      break;
    case 2:
      open_tampered(peer, rest);
      break;
    default:
      seal_and_open(peer, rest);
      break;
  }
  return 0;
}
