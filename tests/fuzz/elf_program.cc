// SPDX-License-Identifier: Apache-2.0
// Program files of any content, as `xfrmfs exec` inspects them before it runs one.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "mount/elf_program.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  const auto read_at = [file](std::uint64_t offset, std::span<std::byte> bytes) {
    if (offset > file.size() || bytes.size() > file.size() - offset) return false;
    if (!bytes.empty()) std::memcpy(bytes.data(), file.data() + offset, bytes.size());
    return true;
  };
  using xfrmfs::ElfKind;
  const ElfKind kind = xfrmfs::classify_elf(read_at);
  const bool has_magic = size >= EI_NIDENT && std::memcmp(data, ELFMAG, SELFMAG) == 0;
  xfrmfs::testing::require((kind == ElfKind::kNone) == !has_magic);
  return 0;
}
