// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/sysctl_cases.h"

#include <utility>

namespace xfrmfs::fs {
namespace {

using Result = SysctlResult;

constexpr auto kInvalid = std::nullopt;

SysctlCase both(std::string text, std::int64_t value) {
  const Result whole{text.size(), value};
  return {std::move(text), whole, whole};
}
SysctlCase neither(std::string text) {
  return {std::move(text), kInvalid, kInvalid};
}

std::string zeros(std::size_t count) {
  return std::string(count, '0');
}
std::string blanks(std::size_t count) {
  return std::string(count, ' ');
}

const std::vector<SysctlCase> kCases = {
    both("10", 10),
    both("10\n", 10),
    both(" 12 ", 12),
    both("\t12", 12),
    {"10 20", Result{5, 10}, Result{3, 10}},
    {"10\t20\n", Result{6, 10}, Result{3, 10}},
    {"10 abc", Result{6, 10}, Result{3, 10}},
    {"5\n6\n", Result{4, 5}, Result{2, 5}},
    {"5\n\n6", Result{4, 5}, Result{3, 5}},
    {"5 -", Result{3, 5}, Result{2, 5}},
    {std::string("5 \0 6", 5), Result{5, 5}, Result{2, 5}},
    both("5\n\n\n\n\n\n\n\n\n", 5),
    both("\n\n5", 5),
    // Bases.
    both("0x10", 16),
    both("0X1f", 31),
    both("010", 8),
    both("0", 0),
    neither("0x"),
    neither("0xg"),
    neither("08"),
    neither("018"),
    neither("0b1"),
    neither("00x10"),
    {"-010", kInvalid, Result{4, -8}},
    {"-0x10", kInvalid, Result{5, -16}},
    // Signs and ranges.
    {"-0", kInvalid, Result{2, 0}},
    {"-1", kInvalid, Result{2, -1}},
    {"-1\n", kInvalid, Result{3, -1}},
    {" -5", kInvalid, Result{3, -5}},
    {"-5 6", kInvalid, Result{3, -5}},
    both("2147483647", 2147483647),
    {"2147483648", Result{10, 2147483648}, kInvalid},
    {"-2147483648", kInvalid, Result{11, -2147483648}},
    neither("-2147483649"),
    {"4294967295", Result{10, 4294967295}, kInvalid},
    {"0xffffffff", Result{10, 4294967295}, kInvalid},
    neither("4294967296"),
    neither("99999999999"),
    neither("18446744073709551615"),
    neither("18446744073709551616"),
    // Long texts of small numbers.
    both(zeros(19) + "7", 7),
    neither(zeros(20) + "7"),
    neither(zeros(40)),
    {"-" + zeros(18) + "7", kInvalid, Result{20, -7}},
    neither("-" + zeros(19) + "7"),
    both("0x" + zeros(17) + "7", 7),
    neither("0x" + zeros(18) + "7"),
    // Not numbers.
    neither("abc"),
    neither("10abc"),
    neither("5;"),
    neither("1,2"),
    neither("1.5"),
    neither("+5"),
    neither("--5"),
    neither("- 5"),
    neither("-"),
    neither(std::string("5\0", 2)),
    neither(std::string("5\0006", 3)),
    neither(std::string("\0", 1)),
    neither(""),
    neither("\n"),
    neither(blanks(10)),
    // More blanks are skipped than end a number.
    both("\r5", 5),
    both("\v5", 5),
    both("\f5", 5),
    both("\xa0"
         "5",
         5),
    neither("5\r"),
    neither("5\r\n"),
    both("5 \r", 5),
    both("5 \xa0", 5),
    // 4095 bytes are looked at.
    both(blanks(4094) + "5", 5),
    neither(blanks(4095) + "5"),
    neither(blanks(5000)),
    both("5" + blanks(4095), 5),
    both("5" + blanks(9000), 5),
    both(blanks(4094) + "12", 1),
    both(blanks(4075) + zeros(25), 0),
    neither(blanks(4074) + zeros(25)),
    {"5" + blanks(4093) + "67", Result{4096, 5}, Result{4095, 5}},
};

}  // namespace

const std::vector<SysctlCase>& sysctl_cases() {
  return kCases;
}

}  // namespace xfrmfs::fs
