// SPDX-License-Identifier: Apache-2.0
#include "netio/netlink_message.h"

#include <array>
#include <cerrno>
#include <string>

#include <gtest/gtest.h>
#include <linux/xfrm.h>

#include "tests/netio/xfrm_messages.h"
#include "tests/support/hex.h"

namespace xfrmfs::netio {
namespace {

using namespace xfrmfs::testing;  // NOLINT: builders of requests

std::vector<std::uint32_t> lengths(Bytes datagram) {
  std::vector<std::uint32_t> out;
  DatagramReader reader(datagram);
  while (const auto message = reader.next()) {
    EXPECT_EQ(message->bytes.size(), message->header.nlmsg_len);
    out.push_back(message->header.nlmsg_len);
  }
  return out;
}

TEST(DatagramReaderTest, ReadsUnalignedMessagesOneAfterTheOther) {
  const auto datagram =
      joined({message(XFRM_MSG_FLUSHSA, 0, zeros(1)), message(XFRM_MSG_SETDEFAULT, 0, zeros(3)),
              message(XFRM_MSG_GETSADINFO, 0, zeros(4))});
  EXPECT_EQ(lengths(datagram), (std::vector<std::uint32_t>{17, 19, 20}));
}

TEST(DatagramReaderTest, EndsAtWhatIsNoWholeMessage) {
  const ByteVector one = message(XFRM_MSG_GETSADINFO, 0, zeros(4));
  for (std::size_t size = 0; size < one.size(); ++size) {
    EXPECT_TRUE(lengths(Bytes(one).first(size)).empty()) << size;
  }
  ByteVector two = joined({one, one});
  for (std::uint32_t claimed : {0u, 15u, 21u, 0xffffffffu}) {
    std::memcpy(&two[20], &claimed, sizeof claimed);
    EXPECT_EQ(lengths(two), std::vector<std::uint32_t>{20}) << claimed;
  }
}

constexpr std::array<AttributeShape, 6> kTestShapes{{
    {},
    {.kind = AttributeShape::Kind::kAtLeast, .size = 4},
    {.kind = AttributeShape::Kind::kExactly, .size = 4},
    {.kind = AttributeShape::Kind::kEmpty},
    {.kind = AttributeShape::Kind::kSmall, .size = 1, .low = 1, .high = 2},
    {.kind = AttributeShape::Kind::kUnused},
}};

std::expected<Attributes, Refusal> parse(const ByteVector& bytes, std::size_t first = 16) {
  const auto message = DatagramReader(bytes).next();
  if (!message) return std::unexpected(Refusal(EBADMSG));
  return Attributes::parse(*message, first, kTestShapes);
}

int error_of(std::uint16_t number, const ByteVector& content) {
  const auto parsed = parse(message(30, 0, {}, {{number, content}}));
  return parsed ? 0 : parsed.error().error;
}

TEST(AttributesTest, ChecksEachShapeAtItsEdges) {
  struct Case {
    std::uint16_t number;
    ByteVector content;
    int error;
  };
  for (const auto& [number, content, error] : {
           Case{1, zeros(0), ERANGE},  Case{1, zeros(3), ERANGE},  Case{1, zeros(4), 0},
           Case{1, zeros(5), 0},       Case{2, zeros(3), EINVAL},  Case{2, zeros(4), 0},
           Case{2, zeros(5), EINVAL},  Case{3, zeros(0), 0},       Case{3, zeros(1), ERANGE},
           Case{4, zeros(0), EINVAL},  Case{4, zeros(2), EINVAL},  Case{4, zeros(1), ERANGE},
           Case{4, {std::byte{1}}, 0}, Case{4, {std::byte{2}}, 0}, Case{4, {std::byte{3}}, ERANGE},
           Case{5, zeros(0), 0},       Case{5, zeros(9), 0},       Case{6, zeros(0), 0},
           Case{77, zeros(0), 0},      Case{0x3fff, zeros(1), 0},
       }) {
    EXPECT_EQ(error_of(number, content), error) << number << " with " << content.size();
  }
}

TEST(AttributesTest, NamesThePlaceOfTheFault) {
  const auto parsed = parse(message(30, 0, zeros(8), {{1, zeros(4)}, {1, zeros(3)}}), 16 + 8);
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().offset, 16u + 8 + 8);
  EXPECT_EQ(parsed.error().message, "Attribute failed policy validation");
}

TEST(AttributesTest, TheLastOfARepeatedAttributeCounts) {
  const ByteVector bytes =
      message(30, 0, {}, {{1, bytes_of(std::uint32_t{5})}, {1, bytes_of(std::uint32_t{6})}});
  const auto parsed = parse(bytes);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(load<std::uint32_t>(parsed->get(1)), 6u);
}

TEST(AttributesTest, FlagBitsOfTheNumberDoNotMatter) {
  const auto parsed =
      parse(message(30, 0, {}, {{1 | NLA_F_NESTED | NLA_F_NET_BYTEORDER, zeros(4)}}));
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->has(1));
}

TEST(AttributesTest, WhatIsUnusedOrUnknownIsNotPassedOn) {
  const auto parsed = parse(message(30, 0, {}, {{5, zeros(4)}, {6, zeros(4)}, {0, zeros(4)}}));
  ASSERT_TRUE(parsed);
  for (unsigned number : {0u, 5u, 6u, 47u, 48u, 0xffffu}) EXPECT_FALSE(parsed->has(number));
  EXPECT_TRUE(parsed->get(6).empty());
}

TEST(AttributesTest, TellsLeftoverFromPadding) {
  EXPECT_FALSE(parse(message(30, 0, {}, {{1, zeros(5)}}))->leftover());
  EXPECT_TRUE(parse(message(30, 0, zeros(3)))->leftover());
  EXPECT_TRUE(parse(message(30, 0, bytes_of(nlattr{9, 1})))->leftover());  // claims too much
  EXPECT_TRUE(parse(message(30, 0, bytes_of(nlattr{3, 1})))->leftover());  // and too little
  EXPECT_FALSE(parse(message(30, 0, zeros(1)), 16 + 4)->leftover());       // the base is unpadded
}

TEST(MessageBuilderTest, PadsItselfAndEveryPart) {
  Datagram out;
  for (int i = 0; i < 2; ++i) {
    MessageBuilder builder(out, 40, 2, 7, 8);
    builder.body(3)[0] = std::byte{1};
    builder.attribute_u32(5, 6);
    builder.attribute(9, 1)[0] = std::byte{0xff};
    builder.finish();
  }
  const std::string one =
      "24000000 2800 0200 07000000 08000000 01000000 0800 0500 06000000 0500 0900 ff000000";
  std::string twice = one + one;
  std::erase(twice, ' ');
  EXPECT_EQ(to_hex(Bytes(out)), twice);
}

// Answers of Linux 6.18 to the same requests; port id 0x237d, sequence 7.
TEST(AcknowledgementTest, LooksLikeAKernels) {
  struct Case {
    const char* what;
    ByteVector request;
    std::optional<Refusal> refusal;
    std::string warning;
    AcknowledgeStyle style;
    std::string answer;
  };
  const Refusal short_attribute(ERANGE, "Attribute failed policy validation", 40);
  ByteVector mark_too_short = message(XFRM_MSG_GETSA, 0, zeros(24), {{XFRMA_MARK, zeros(4)}});
  ByteVector leftover = message(XFRM_MSG_FLUSHSA, NLM_F_ACK, key(5));
  std::memcpy(&leftover[16], "\0\0\0\0\1", 5);
  for (const auto& [what, request, refusal, warning, style, answer] : {
           Case{"success",
                message(5, NLM_F_ACK, {}),
                {},
                "",
                {.extended = true},
                "24000000 0200 0001 07000000 7d230000 00000000 "
                "10000000 0500 0500 07000000 00000000"},
           Case{"success with a warning",
                leftover,
                {},
                "bytes leftover after parsing attributes",
                {.extended = true},
                "50000000 0200 0003 07000000 7d230000 00000000 "
                "15000000 1c00 0500 07000000 00000000 2c00 0100 "
                "6279746573206c6566746f766572206166746572207061727369"
                "6e67206174747269627574657300"},
           Case{"error without sentence",
                message(41, NLM_F_ACK, {}),
                Refusal(EINVAL),
                "",
                {.extended = true},
                "24000000 0200 0000 07000000 7d230000 eaffffff "
                "10000000 2900 0500 07000000 00000000"},
           Case{"error with sentence and place",
                mark_too_short,
                short_attribute,
                "",
                {.extended = true},
                "74000000 0200 0002 07000000 7d230000 deffffff "
                "30000000 1200 0100 07000000 00000000 "
                "000000000000000000000000000000000000000000000000 0800 1500 00000000 "
                "2700 0100 417474726962757465206661696c656420706f6c6963792076616c69646174696f"
                "6e00 00 0800 0200 28000000"},
           Case{"the same, capped",
                mark_too_short,
                short_attribute,
                "",
                {.capped = true, .extended = true},
                "54000000 0200 0003 07000000 7d230000 deffffff "
                "30000000 1200 0100 07000000 00000000 "
                "2700 0100 417474726962757465206661696c656420706f6c6963792076616c69646174696f"
                "6e00 00 0800 0200 28000000"},
           Case{"the same, plain",
                mark_too_short,
                short_attribute,
                "",
                {},
                "44000000 0200 0000 07000000 7d230000 deffffff "
                "30000000 1200 0100 07000000 00000000 "
                "000000000000000000000000000000000000000000000000 0800 1500 00000000"},
       }) {
    const auto read = DatagramReader(request).next();
    ASSERT_TRUE(read);
    std::string expected = answer;
    std::erase(expected, ' ');
    const Datagram made =
        acknowledgement(*read, refusal ? &*refusal : nullptr, warning, 0x237d, style);
    EXPECT_EQ(to_hex(Bytes(made)), expected) << what;
  }
}

}  // namespace
}  // namespace xfrmfs::netio
