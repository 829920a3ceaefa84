// SPDX-License-Identifier: Apache-2.0
// AH from the wire, and the IP header in front of it, which is read before anything is known to be
// authentic.
//
//   input -> | suite 1 | sort 1 | size of the IP header 2 | IP header | the rest, by sort |
//
// The suite is an algorithm and an alignment. The sort's lowest bit is ESN, the next two say what
// the rest is.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <tuple>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/ah.h"
#include "engine/transform/immutable_header.h"
#include "tests/fuzz/require.h"

using namespace xfrmfs::engine;
using xfrmfs::testing::require;

namespace {

constexpr SeqNo kSequence = 0x100000007;
constexpr std::size_t kAlgorithms = 3;

/// Made once per suite: a key schedule for each input would be most of the time.
Ah& ah_of(std::uint8_t suite, bool extended) {
  struct Algorithm {
    std::string_view name;
    std::uint32_t bits;
  };
  static constexpr std::array<Algorithm, kAlgorithms> algorithms = {
      {{"hmac(sha1)", 96}, {"hmac(sha256)", 128}, {"hmac(sha512)", 512}}};
  static std::array<std::unique_ptr<Ah>, kAlgorithms * 4> all;
  const std::size_t index = suite % (kAlgorithms * 2);
  auto& ah = all[index * 2 + (extended ? 1 : 0)];
  if (!ah) {
    const std::array<std::byte, 20> key{};
    const auto& [name, bits] = algorithms[index % kAlgorithms];
    ah = Ah::create(Spi{0x00c0ffee}, extended,
                    {.name = name, .key = Secret(key), .truncation_bits = bits},
                    index < kAlgorithms ? AhAlignment::k8 : AhAlignment::k4, 1)
             .value();
  }
  return *ah;
}

/// Memory of exactly this size, so that a sanitizer sees one byte too many.
struct Exact {
  explicit Exact(Bytes bytes) : Exact(bytes.size()) {
    if (!bytes.empty()) std::memcpy(memory.get(), bytes.data(), bytes.size());
  }
  explicit Exact(std::size_t s) : memory(std::make_unique<std::byte[]>(s)), size(s) {}
  Bytes bytes() const { return {memory.get(), size}; }

  std::unique_ptr<std::byte[]> memory;
  std::size_t size;
};

struct Opened {
  OpenResult result;
  std::vector<std::byte> payload;
};

Opened open(Ah& ah, const Exact& header, Bytes packet) {
  const Exact copy(packet);
  OpenItem item{.data = copy.memory.get(),
                .size = copy.size,
                .sequence = kSequence,
                .ip_header_size = static_cast<std::uint32_t>(header.size),
                .ip_header = header.memory.get()};
  ah.open({}, {&item, 1});
  if (item.result != OpenResult::kOpened) {
    require(item.data == copy.memory.get() && item.size == copy.size);
    return {item.result, {}};
  }
  require(item.data > copy.memory.get() && item.data + item.size == copy.memory.get() + copy.size);
  return {item.result, {item.data, item.data + item.size}};
}

/// The packet around this payload; nothing if the header in front is refused.
std::vector<std::byte> seal(Ah& ah, const Exact& header, Bytes payload) {
  const Exact memory(ah.sealed_size(payload.size()));
  if (!payload.empty()) {
    std::memcpy(memory.memory.get() + ah.head_size(), payload.data(), payload.size());
  }
  SealItem item{.packet = memory.memory.get(),
                .room = memory.size,
                .payload = memory.memory.get() + ah.head_size(),
                .size = payload.size(),
                .next_header = Protocol::kIpip,
                .sequence = kSequence,
                .ip_header_size = static_cast<std::uint32_t>(header.size),
                .ip_header = header.memory.get()};
  ah.seal({}, {&item, 1});
  Exact out(header.size);
  require(item.ok == write_immutable_header(header.bytes(), {out.memory.get(), out.size}));
  if (!item.ok) return {};
  require(item.size == memory.size);
  return {memory.memory.get(), memory.memory.get() + memory.size};
}

/// What is seen of a header is seen of it again, and its size is its own.
void look_at(const Exact& header) {
  Exact seen(header.size);
  if (!write_immutable_header(header.bytes(), {seen.memory.get(), seen.size})) return;
  if (header.size > 0) {
    Exact cut(header.bytes().first(header.size - 1));
    Exact out(header.size);
    require(!write_immutable_header(cut.bytes(), {out.memory.get(), out.size}));
  }
}

/// The rest is changes to a real packet behind the header, and to the header: position 2, xor 1.
/// Opened if, and only if, nothing that counts was changed.
void open_tampered(Ah& ah, const Exact& header, Bytes rest) {
  const std::vector<std::byte> payload(64, std::byte{0x5c});
  const auto original = seal(ah, header, payload);
  if (original.empty()) return;
  auto packet = original;
  Exact changed(header.bytes());
  Reader reader(rest);
  while (const auto position = reader.be16()) {
    const auto change = reader.u8();
    if (!change) break;
    const std::size_t at = *position % (packet.size() + changed.size);
    if (at < changed.size) {
      changed.memory[at] ^= std::byte{*change};
    } else {
      packet[at - changed.size] ^= std::byte{*change};
    }
  }
  Exact before(header.size);
  Exact after(header.size);
  require(write_immutable_header(header.bytes(), {before.memory.get(), before.size}));
  const bool good_header =
      write_immutable_header(changed.bytes(), {after.memory.get(), after.size});
  const bool same = good_header && packet == original &&
                    std::memcmp(before.memory.get(), after.memory.get(), before.size) == 0;
  const Opened opened = open(ah, changed, packet);
  require(same == (opened.result == OpenResult::kOpened));
  require(good_header || opened.result == OpenResult::kMalformed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4 || size > 4096) return 0;
  Ah& ah = ah_of(data[0], (data[1] & 1) != 0);
  std::vector<std::byte> bytes(size - 2);
  std::memcpy(bytes.data(), data + 2, bytes.size());
  Reader reader(bytes);
  const std::size_t header_size = *reader.be16() % 1200;
  const auto front = reader.take(header_size);
  if (!front) return 0;
  const Exact header(*front);
  const Bytes rest = *reader.take(reader.left());
  switch (data[1] >> 1 & 3) {
    case 0:
      look_at(header);
      std::ignore = open(ah, header, rest);
      break;
    case 1:
      open_tampered(ah, header, rest);
      break;
    default: {
      const auto packet = seal(ah, header, rest);
      if (packet.empty()) break;
      const Opened opened = open(ah, header, packet);
      require(opened.result == OpenResult::kOpened);
      require(opened.payload == std::vector<std::byte>(rest.begin(), rest.end()));
      break;
    }
  }
  return 0;
}
