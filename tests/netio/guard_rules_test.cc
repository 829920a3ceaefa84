// SPDX-License-Identifier: Apache-2.0
// What becomes of policies as rules: as text for a dozen of them, and against a walk over the SPD
// for many that overlap.

#include "netio/guard_rules.h"

#include <array>
#include <bit>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "netio/system_clock.h"

namespace xfrmfs::netio {
namespace {

using namespace engine;

// --- Rules as text.

std::string hex(std::span<const std::uint8_t> bytes) {
  std::string out;
  for (const std::uint8_t byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

std::string text(GuardTarget target) {
  switch (target) {
    case GuardTarget::kPass:
      return "pass";
    case GuardTarget::kTmplMismatch:
      return "mismatch";
    case GuardTarget::kNoPols:
      return "no-pols";
    case GuardTarget::kPolBlock:
      return "block";
    case GuardTarget::kBufferError:
      return "buffer";
    case GuardTarget::kAfterSub:
      break;
  }
  return fmt::format("after-sub-{}",
                     static_cast<int>(target) - static_cast<int>(GuardTarget::kAfterSub));
}

std::string text(const GuardField& field) {
  const auto mask = std::span(field.mask).first(field.size);
  switch (field.where) {
    case GuardField::Where::kSource:
      return "src&" + hex(mask);
    case GuardField::Where::kDestination:
      return "dst&" + hex(mask);
    case GuardField::Where::kMark: {
      std::uint32_t value;
      std::memcpy(&value, field.mask.data(), sizeof value);
      return fmt::format("mark&{:x}", value);
    }
    case GuardField::Where::kTransport:
      break;
  }
  return fmt::format("th+{}&{}", field.offset, hex(mask));
}

std::string text(const GuardChain& chain) {
  std::string out;
  for (const GuardLookup& lookup : chain.lookups) {
    const GuardShape& shape = lookup.shape;
    out += shape.family == Family::kIpv4 ? "v4" : "v6";
    if (shape.protocol) out += fmt::format(" proto {}", static_cast<int>(*shape.protocol));
    if (shape.interface != 0) out += fmt::format(" if {}", shape.interface);
    for (const GuardTest& test : shape.tests) {
      out += ' ' + text(test.field) + "==" + hex(std::span(test.value).first(test.field.size));
    }
    for (const GuardField& field : shape.fields) out += ' ' + text(field);
    out += ':';
    for (const GuardElement& element : lookup.elements) {
      out += ' ' + hex(element.key) + "->" + text(element.target);
    }
    out += '\n';
  }
  return out + "else " + text(chain.otherwise) + '\n';
}

// --- Policies.

Prefix prefix(const char* address, unsigned length) {
  return {*IpAddress::parse(address), static_cast<std::uint8_t>(length)};
}

/// 10.1.0.0/16 to 192.0.2.0/24.
PolicyParams policy(Direction direction = Direction::kIn) {
  PolicyParams params;
  params.direction = direction;
  params.selector.family = Family::kIpv4;
  params.selector.source = prefix("10.1.0.0", 16);
  params.selector.destination = prefix("192.0.2.0", 24);
  return params;
}

Template any_template(bool optional) {
  Template tmpl;
  tmpl.optional = optional;
  return tmpl;
}

PolicyParams with_templates(PolicyParams params, std::size_t count = 1, bool optional = false) {
  params.templates.assign(count, any_template(optional));
  return params;
}

class GuardRulesTest : public testing::Test {
 protected:
  void add(const PolicyParams& params) { ASSERT_TRUE(engine_.add_policy(params)); }
  std::string rules(Direction direction = Direction::kIn,
                    DefaultAction otherwise = DefaultAction::kAccept) const {
    const GuardDirection all = guard_rules(engine_.current().spd, direction, otherwise);
    std::string out = text(all.first);
    for (const GuardChain& chain : all.after_sub) out += "- " + text(chain);
    return out;
  }

  SystemClock clock_;
  Engine engine_{1, clock_};
};

TEST_F(GuardRulesTest, NothingToSay) {
  EXPECT_EQ(rules(), "else pass\n");
  EXPECT_EQ(rules(Direction::kIn, DefaultAction::kBlock), "else no-pols\n");
  EXPECT_FALSE(
      guard_rules(engine_.current().spd, Direction::kIn, DefaultAction::kAccept).refuses());
  EXPECT_TRUE(guard_rules(engine_.current().spd, Direction::kIn, DefaultAction::kBlock).refuses());
}

TEST_F(GuardRulesTest, EachDirectionHasItsOwn) {
  add(with_templates(policy(Direction::kIn)));
  add(with_templates(policy(Direction::kOut)));
  EXPECT_EQ(rules(Direction::kIn),
            "v4 src&ffff0000 dst&ffffff00: 0a010000c0000200->mismatch\nelse pass\n");
  EXPECT_EQ(rules(Direction::kForward), "else pass\n");
}

TEST_F(GuardRulesTest, WhatPassesInTheEndNeedsNoRule) {
  add(policy());
  PolicyParams optional = with_templates(policy(), 2, true);
  optional.selector.protocol = Protocol::kTcp;
  add(optional);
  EXPECT_EQ(rules(), "else pass\n");
  EXPECT_EQ(rules(Direction::kIn, DefaultAction::kBlock),
            "v4 src&ffff0000 dst&ffffff00: 0a010000c0000200->pass\n"
            "v4 proto 6 src&ffff0000 dst&ffffff00: 0a010000c0000200->pass\n"
            "else no-pols\n");
}

TEST_F(GuardRulesTest, ActionsAndTemplates) {
  PolicyParams params = policy();
  params.action = PolicyAction::kBlock;
  add(with_templates(params));
  params = with_templates(policy(), 6, true);
  params.selector.source = prefix("10.2.0.0", 16);
  add(params);
  EXPECT_EQ(rules(),
            "v4 src&ffff0000 dst&ffffff00: 0a010000c0000200->block 0a020000c0000200->buffer\n"
            "else pass\n");
}

TEST_F(GuardRulesTest, OneShapeIsOneLookup) {
  for (const char* source : {"10.1.0.0", "10.2.0.0", "10.3.0.0"}) {
    PolicyParams params = with_templates(policy());
    params.selector.source = prefix(source, 16);
    add(params);
    params.selector.source = prefix(source, 32);
    add(params);
  }
  EXPECT_EQ(rules(),
            "v4 src&ffff0000 dst&ffffff00: 0a010000c0000200->mismatch "
            "0a020000c0000200->mismatch 0a030000c0000200->mismatch\n"
            "v4 src&ffffffff dst&ffffff00: 0a010000c0000200->mismatch "
            "0a020000c0000200->mismatch 0a030000c0000200->mismatch\n"
            "else pass\n");
}

TEST_F(GuardRulesTest, OrderStaysWhereItMatters) {
  // Wide and narrow ones in turn; every second one passes.
  for (unsigned i = 0; i < 3; ++i) {
    PolicyParams wide = with_templates(policy());
    wide.selector.source = prefix(fmt::format("10.{}.0.0", i).c_str(), 16);
    wide.priority = 2 * i;
    add(wide);
    PolicyParams narrow = policy();
    narrow.selector.source = prefix(fmt::format("10.{}.0.1", i + 1).c_str(), 32);
    narrow.priority = 2 * i + 1;
    add(narrow);
  }
  EXPECT_EQ(rules(),
            "v4 src&ffff0000 dst&ffffff00: 0a000000c0000200->mismatch\n"
            "v4 src&ffffffff dst&ffffff00: 0a010001c0000200->pass\n"
            "v4 src&ffff0000 dst&ffffff00: 0a010000c0000200->mismatch\n"
            "v4 src&ffffffff dst&ffffff00: 0a020001c0000200->pass\n"
            "v4 src&ffff0000 dst&ffffff00: 0a020000c0000200->mismatch\n"
            "else pass\n");
}

TEST_F(GuardRulesTest, PortsMarksInterfaces) {
  PolicyParams params = with_templates(policy());
  params.selector.protocol = Protocol::kUdp;
  params.selector.destination_port = {0x1b58, 0xfff0};
  params.selector.interface_index = 3;
  params.mark = {.value = 0x5, .mask = 0xff};
  add(params);
  std::string mark = "05000000";
  if constexpr (std::endian::native == std::endian::big) mark = "00000005";
  EXPECT_EQ(rules(),
            "v4 proto 17 if 3 src&ffff0000 dst&ffffff00 mark&ff th+2&fff0: "
            "0a010000c0000200" +
                mark + "1b500000->mismatch\nelse pass\n");
}

TEST_F(GuardRulesTest, IcmpTypeAndCodeAreBytes) {
  PolicyParams params = with_templates(policy());
  params.selector = {.family = Family::kIpv4, .protocol = Protocol::kIcmp};
  params.selector.source_port = {8, 0xffff};
  params.selector.destination_port = {0, 0xffff};
  add(params);
  params.selector.source_port = {0x108, 0xffff};  // no packet has such a type
  add(params);
  EXPECT_EQ(rules(), "v4 proto 1 th+0&ff th+1&ff: 0800000000000000->mismatch\nelse pass\n");
}

TEST_F(GuardRulesTest, PortsOfAnyProtocolAreThoseOfEach) {
  PolicyParams params = with_templates(policy());
  params.selector = {.family = Family::kIpv6};
  params.selector.source_port = {5, 0xffff};
  add(params);
  EXPECT_EQ(rules(),
            "v6 proto 6 th+0&ffff: 00050000->mismatch\n"
            "v6 proto 17 th+0&ffff: 00050000->mismatch\n"
            "v6 proto 136 th+0&ffff: 00050000->mismatch\n"
            "v6 proto 132 th+0&ffff: 00050000->mismatch\n"
            "v6 proto 33 th+0&ffff: 00050000->mismatch\n"
            "v6 proto 58 th+0&ff: 05000000->mismatch\n"
            "v6 proto 135 th+2&ff: 05000000->mismatch\n"
            "v6 proto 47 th+0&a000==2000 th+4&ffff: 00050000->mismatch\n"
            "v6 proto 47 th+0&a000==a000 th+8&ffff: 00050000->mismatch\n"
            "else pass\n");
}

TEST_F(GuardRulesTest, WhatNoClearPacketCanMatch) {
  PolicyParams params = with_templates(policy());
  params.if_id = 7;
  add(params);
  params.if_id = 0;
  params.mark = {.value = 0x100, .mask = 0xff};
  add(params);
  params.mark = {};
  params.selector.protocol = Protocol::kEsp;
  params.selector.source_port = {5, 0xffff};  // has no ports
  add(params);
  EXPECT_EQ(rules(), "else pass\n");
}

TEST_F(GuardRulesTest, SubPoliciesGoFirst) {
  PolicyParams params = policy();
  params.type = PolicyType::kSub;
  add(params);
  params.selector.source = prefix("10.2.0.0", 16);
  add(with_templates(params, 3, true));
  params.selector.source = prefix("10.3.0.0", 16);
  add(with_templates(params, 3));
  params.selector.source = prefix("10.4.0.0", 16);
  params.action = PolicyAction::kBlock;
  add(params);
  PolicyParams main = with_templates(policy(), 3, true);
  main.selector.source = prefix("10.0.0.0", 8);
  add(main);
  EXPECT_EQ(rules(Direction::kIn, DefaultAction::kBlock),
            "v4 src&ffff0000 dst&ffffff00: 0a010000c0000200->after-sub-0 "
            "0a020000c0000200->after-sub-1 0a030000c0000200->after-sub-2 "
            "0a040000c0000200->block\n"
            "v4 src&ff000000 dst&ffffff00: 0a000000c0000200->pass\n"
            "else no-pols\n"
            "- else pass\n"
            "- v4 src&ff000000 dst&ffffff00: 0a000000c0000200->buffer\nelse pass\n"
            "- v4 src&ff000000 dst&ffffff00: 0a000000c0000200->buffer\nelse mismatch\n");
}

// --- Against a walk.

class Dice {
 public:
  explicit Dice(unsigned seed) : random_(seed) {}

  std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random_()) % below; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return *(choices.begin() + pick(static_cast<std::uint32_t>(choices.size())));
  }
  Family family() { return pick(3) == 0 ? Family::kIpv6 : Family::kIpv4; }
  IpAddress address(Family family) {
    std::array<std::byte, 16> bytes{};
    const std::size_t size = address_size(family);
    bytes[0] = std::byte{10};
    bytes[size - 2] = static_cast<std::byte>(pick(2));
    bytes[size - 1] = static_cast<std::byte>(pick(3));
    return IpAddress::from(family, bytes.data());
  }
  Prefix prefix(Family family) {
    const auto width = static_cast<std::uint8_t>(8 * address_size(family));
    return {address(family), one_of<std::uint8_t>({0, 8, static_cast<std::uint8_t>(width - 8),
                                                   static_cast<std::uint8_t>(width - 1), width})};
  }
  PortMatch port() {
    return {static_cast<std::uint16_t>(pick(4)),
            one_of<std::uint16_t>({0, 0, 0, 0xffff, 0xfffe, 0x0001, 0xff00})};
  }
  Protocol protocol() {
    return one_of(
        {Protocol::kUdp, Protocol::kTcp, Protocol::kIcmp, Protocol::kIcmpv6, Protocol::kEsp});
  }
  PolicyParams policy() {
    PolicyParams params;
    params.direction = Direction::kIn;
    params.type = pick(6) == 0 ? PolicyType::kSub : PolicyType::kMain;
    params.action = pick(3) == 0 ? PolicyAction::kBlock : PolicyAction::kAllow;
    params.templates.assign(one_of({0u, 0u, 1u, 3u, 6u}), any_template(pick(2) == 0));
    Selector& selector = params.selector;
    if (pick(40) != 0) {
      selector.family = family();
      selector.source = prefix(selector.family);
      selector.destination = prefix(selector.family);
      selector.protocol = pick(2) == 0 ? Protocol{} : protocol();
      selector.source_port = port();
      selector.destination_port = port();
      selector.interface_index = pick(8) == 0 ? 2 : 0;
    }
    params.priority = pick(9);
    params.mark = pick(4) == 0 ? Mark{.value = pick(4), .mask = one_of({1u, 3u})} : Mark{};
    params.if_id = pick(10) == 0 ? 1 : 0;
    return params;
  }

 private:
  std::mt19937 random_;
};

struct Packet {
  Flow flow;
  std::uint32_t mark = 0;
  std::uint32_t interface = 0;
};

const SecurityPolicy* first_match(const SpdView& spd, PolicyType type, const Packet& packet) {
  const SecurityPolicy* found = nullptr;
  spd.in_order(Direction::kIn, type, [&](const SecurityPolicy& policy) {
    const PolicyParams& params = policy.params();
    const auto interface = static_cast<std::uint32_t>(params.selector.interface_index);
    if (params.mark.matches(packet.mark) && params.if_id == 0 &&
        params.selector.matches(packet.flow) && (interface == 0 || interface == packet.interface)) {
      found = &policy;
    }
    return found == nullptr;
  });
  return found;
}

/// By the book: the inbound check of a packet to which no SA was applied.
GuardTarget expected(const SpdView& spd, const Packet& packet, DefaultAction otherwise) {
  const SecurityPolicy* const sub = first_match(spd, PolicyType::kSub, packet);
  if (sub != nullptr && sub->params().action == PolicyAction::kBlock) return GuardTarget::kPolBlock;
  const SecurityPolicy* const main = first_match(spd, PolicyType::kMain, packet);
  if (sub == nullptr && main == nullptr) {
    return otherwise == DefaultAction::kBlock ? GuardTarget::kNoPols : GuardTarget::kPass;
  }
  std::vector<Template> templates;
  for (const SecurityPolicy* policy : {sub, main}) {
    if (policy == nullptr) continue;
    if (policy->params().action == PolicyAction::kBlock) return GuardTarget::kPolBlock;
    const auto& more = policy->params().templates;
    templates.insert(templates.end(), more.begin(), more.end());
  }
  if (templates.size() > kUsableTemplates) return GuardTarget::kBufferError;
  for (const Template& tmpl : templates) {
    if (!tmpl.optional) return GuardTarget::kTmplMismatch;
  }
  return GuardTarget::kPass;
}

/// The field's bytes in a packet, masked and padded; nothing if the packet has no such bytes.
std::optional<std::vector<std::uint8_t>> bytes_at(const GuardField& field, const Packet& packet) {
  std::vector<std::uint8_t> bytes(field.size);
  const auto address = [&](const IpAddress& from) {
    std::memcpy(bytes.data(), from.storage().data(), field.size);
  };
  switch (field.where) {
    case GuardField::Where::kSource:
      address(packet.flow.source);
      break;
    case GuardField::Where::kDestination:
      address(packet.flow.destination);
      break;
    case GuardField::Where::kMark:
      std::memcpy(bytes.data(), &packet.mark, sizeof packet.mark);
      break;
    case GuardField::Where::kTransport: {
      if (!packet.flow.ports_known) return std::nullopt;
      const auto [source, destination] =
          std::pair(packet.flow.source_port, packet.flow.destination_port);
      const bool icmp =
          packet.flow.protocol == Protocol::kIcmp || packet.flow.protocol == Protocol::kIcmpv6;
      std::array<std::uint8_t, 4> header{
          static_cast<std::uint8_t>(source >> 8), static_cast<std::uint8_t>(source),
          static_cast<std::uint8_t>(destination >> 8), static_cast<std::uint8_t>(destination)};
      if (icmp) header = {header[1], header[3], 0, 0};
      if (field.offset + field.size > 4) return std::nullopt;
      std::memcpy(bytes.data(), &header[field.offset], field.size);
      break;
    }
  }
  for (std::size_t i = 0; i < field.size; ++i) bytes[i] &= field.mask[i];
  bytes.resize((field.size + 3u) / 4 * 4);
  return bytes;
}

GuardTarget evaluate(const GuardDirection& rules, const GuardChain& chain, const Packet& packet) {
  for (const GuardLookup& lookup : chain.lookups) {
    const GuardShape& shape = lookup.shape;
    if (shape.family != packet.flow.family() ||
        (shape.protocol && *shape.protocol != packet.flow.protocol) ||
        (shape.interface != 0 && shape.interface != packet.interface) || !shape.tests.empty()) {
      continue;
    }
    std::vector<std::uint8_t> key;
    bool readable = true;
    for (const GuardField& field : shape.fields) {
      const auto bytes = bytes_at(field, packet);
      readable = readable && bytes;
      if (bytes) key.insert(key.end(), bytes->begin(), bytes->end());
    }
    if (!readable) continue;
    for (const GuardElement& element : lookup.elements) {
      if (element.key != key) continue;
      if (element.target < GuardTarget::kAfterSub) return element.target;
      const auto next = static_cast<std::size_t>(element.target) -
                        static_cast<std::size_t>(GuardTarget::kAfterSub);
      return evaluate(rules, rules.after_sub.at(next), packet);
    }
  }
  return chain.otherwise;
}

TEST(GuardRulesModelTest, AgreeWithAWalk) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    Dice dice(seed);
    SystemClock clock;
    Engine engine(1, clock);
    for (unsigned i = dice.pick(120); i > 0; --i) std::ignore = engine.add_policy(dice.policy());
    const SpdView& spd = engine.current().spd;
    const auto otherwise = dice.one_of({DefaultAction::kAccept, DefaultAction::kBlock});
    const GuardDirection rules = guard_rules(spd, Direction::kIn, otherwise);
    for (int i = 0; i < 500; ++i) {
      Packet packet{.flow = {}, .mark = dice.pick(4), .interface = 1 + dice.pick(2)};
      const Family family = dice.family();
      packet.flow.source = dice.address(family);
      packet.flow.destination = dice.address(family);
      do {
        packet.flow.protocol = dice.protocol();
      } while (packet.flow.protocol ==
               (family == Family::kIpv4 ? Protocol::kIcmpv6 : Protocol::kIcmp));
      packet.flow.ports_known = packet.flow.protocol != Protocol::kEsp && dice.pick(8) != 0;
      if (packet.flow.ports_known) {
        packet.flow.source_port = static_cast<std::uint16_t>(dice.pick(4));
        packet.flow.destination_port = static_cast<std::uint16_t>(dice.pick(4));
      }
      ASSERT_EQ(text(evaluate(rules, rules.first, packet)), text(expected(spd, packet, otherwise)))
          << "seed " << seed << " packet " << i;
    }
  }
}

}  // namespace
}  // namespace xfrmfs::netio
