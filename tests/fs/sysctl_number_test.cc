// SPDX-License-Identifier: Apache-2.0
#include "fs/sysctl_number.h"

#include <gtest/gtest.h>

#include <cctype>
#include <optional>
#include <string>

#include "tests/fs/sysctl_cases.h"

namespace xfrmfs::fs {
namespace {

std::optional<SysctlResult> result(const std::expected<SysctlNumber, std::errc>& parsed) {
  if (!parsed) {
    EXPECT_EQ(parsed.error(), std::errc::invalid_argument);
    return std::nullopt;
  }
  return SysctlResult{parsed->taken, parsed->value};
}

class SysctlNumberTest : public ::testing::TestWithParam<SysctlCase> {};

TEST_P(SysctlNumberTest, UnsignedAsInLinux) {
  EXPECT_EQ(result(parse_unsigned_sysctl(GetParam().text)), GetParam().for_unsigned);
}

TEST_P(SysctlNumberTest, SignedAsInLinux) {
  EXPECT_EQ(result(parse_signed_sysctl(GetParam().text)), GetParam().for_signed);
}

/// The text, made fit for a test's name.
std::string name_of(const ::testing::TestParamInfo<SysctlCase>& info) {
  std::string name = std::to_string(info.index) + "_";
  for (const char c : info.param.text.substr(0, 24)) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      name += c;
    } else {
      name += '_';
    }
  }
  return name + "_" + std::to_string(info.param.text.size());
}

INSTANTIATE_TEST_SUITE_P(Table, SysctlNumberTest, ::testing::ValuesIn(sysctl_cases()), name_of);

}  // namespace
}  // namespace xfrmfs::fs
