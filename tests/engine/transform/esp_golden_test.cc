// SPDX-License-Identifier: Apache-2.0
// Packets that a Linux kernel sealed: we open them, and seal them again byte for byte.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/transform/esp.h"
#include "tests/support/esp_suites.h"
#include "tests/support/golden_esp.h"
#include "tests/support/hex.h"

namespace xfrmfs::engine {
namespace {

using testing::EspBackend;
using testing::FixedIvs;
using testing::GoldenPacket;
using testing::GoldenSa;
using testing::to_hex;

void expect_opens(const GoldenSa& sa, const EspBackend& backend) {
  const auto esp = Esp::create(sa.spi, sa.extended, sa.crypto, 1, std::nullopt, backend.backends);
  ASSERT_TRUE(esp);
  for (const GoldenPacket& packet : sa.packets) {
    SCOPED_TRACE(packet.frame);
    auto bytes = packet.esp;
    OpenItem item{.data = bytes.data(), .size = bytes.size(), .sequence = packet.sequence};
    (*esp)->open({.crypto = backend.lane.get()}, {&item, 1});
    ASSERT_EQ(item.result, OpenResult::kOpened);
    EXPECT_EQ(to_hex({item.data, item.size}), to_hex(packet.payload));
    EXPECT_EQ(item.next_header, packet.next_header);
  }
}

void expect_seals(const GoldenSa& sa, const EspBackend& backend) {
  const BoxShape shape = (*Esp::create(sa.spi, sa.extended, sa.crypto, 0))->shape();
  std::optional<IvOffset> offset;
  for (const GoldenPacket& packet : sa.packets) {
    SCOPED_TRACE(packet.frame);
    const std::vector<std::byte> iv(packet.esp.begin() + 8, packet.esp.begin() + 8 + shape.iv_size);
    if (shape.iv_rule == IvRule::kUnique) {
      const IvOffset this_offset{load_be64(iv.data()) ^ packet.sequence};
      EXPECT_EQ(this_offset, offset.value_or(this_offset)) << "not a constant of the SA";
      offset = this_offset;
    }
    const auto esp = Esp::create(sa.spi, sa.extended, sa.crypto, 1, offset, backend.backends);
    ASSERT_TRUE(esp);
    EXPECT_EQ((*esp)->sealed_size(packet.payload.size()), packet.esp.size());

    std::vector<std::byte> memory(packet.esp.size(), std::byte{0x99});
    std::byte* const payload = memory.data() + (*esp)->head_size();
    std::memcpy(payload, packet.payload.data(), packet.payload.size());
    SealItem item{.packet = memory.data(),
                  .room = memory.size(),
                  .payload = payload,
                  .size = packet.payload.size(),
                  .next_header = packet.next_header,
                  .sequence = packet.sequence};
    FixedIvs ivs(iv);
    (*esp)->seal({.ivs = &ivs, .crypto = backend.lane.get()}, {&item, 1});
    ASSERT_TRUE(item.ok);
    EXPECT_EQ(to_hex({item.packet, item.size}), to_hex(packet.esp));
    EXPECT_EQ(item.size - 8 - shape.iv_size - packet.payload.size() - 2 - shape.icv_size,
              packet.pad_length);
  }
}

TEST(EspGoldenTest, OpensWhatTheKernelSealed) {
  const auto associations = testing::read_golden_esp();
  EXPECT_EQ(associations.size(), 30U);
  for (const GoldenSa& sa : associations) {
    for (const EspBackend& backend : testing::esp_backends()) {
      SCOPED_TRACE(sa.name + " by " + backend.name);
      expect_opens(sa, backend);
    }
  }
}

TEST(EspGoldenTest, SealsWhatTheKernelSealed) {
  for (const GoldenSa& sa : testing::read_golden_esp()) {
    for (const EspBackend& backend : testing::esp_backends()) {
      SCOPED_TRACE(sa.name + " by " + backend.name);
      expect_seals(sa, backend);
    }
  }
}

}  // namespace
}  // namespace xfrmfs::engine
