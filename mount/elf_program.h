// SPDX-License-Identifier: Apache-2.0
// Will a program load the client adapter?  elf(5) decides.
//
// Only the dynamic linker preloads. A program that does not name one, or that is of another
// architecture, would run without the adapter and silently talk to the kernel. So would a program
// of the Go language: it enters the kernel without the C library, even where it is linked
// dynamically. Such a one is told by a note that Go's linker leaves, and is missed without.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <elf.h>

namespace xfrmfs {

enum class ElfKind {
  kNone,     // not ELF: a script, or something for binfmt_misc
  kDynamic,  // takes the adapter
  kStatic,
  kForeign,  // of another architecture than this program
  kGo,
  kBroken,
};

namespace elf_detail {

#if defined(__x86_64__)
inline constexpr Elf64_Half kOurMachine = EM_X86_64;
#elif defined(__aarch64__)
inline constexpr Elf64_Half kOurMachine = EM_AARCH64;
#endif

/// Goes through the notes of one segment, as far as they lie in its first bytes.
template <typename ReadAt>
bool has_go_note(const ReadAt& read_at, const Elf64_Phdr& segment) {
  constexpr std::size_t kMostRead = 4096;
  constexpr std::array<char, 4> kGo = {'G', 'o', '\0', '\0'};
  std::array<std::byte, kMostRead> bytes;
  const std::size_t size = segment.p_filesz < kMostRead ? segment.p_filesz : kMostRead;
  if (!read_at(segment.p_offset, std::span(bytes).first(size))) return false;

  const auto padded = [](std::uint64_t length) { return (length + 3) / 4 * 4; };
  std::uint64_t offset = 0;
  Elf64_Nhdr note;
  while (offset + sizeof(note) + kGo.size() <= size) {
    std::memcpy(&note, bytes.data() + offset, sizeof(note));
    offset += sizeof(note);
    if (note.n_namesz == kGo.size() &&
        std::memcmp(bytes.data() + offset, kGo.data(), kGo.size()) == 0) {
      return true;
    }
    offset += padded(note.n_namesz) + padded(note.n_descsz);  // 32-bit lengths: no overflow
  }
  return false;
}

}  // namespace elf_detail

/// `read_at(offset, bytes)` fills all of `bytes` from the file, or returns false.
template <typename ReadAt>
ElfKind classify_elf(const ReadAt& read_at) {
  constexpr unsigned kMostSegments = 1024;  // real programs have about a dozen
  std::array<unsigned char, EI_NIDENT> identity;
  if (!read_at(0, std::as_writable_bytes(std::span(identity)))) return ElfKind::kNone;
  if (std::memcmp(identity.data(), ELFMAG, SELFMAG) != 0) return ElfKind::kNone;
  if (identity[EI_CLASS] != ELFCLASS64 || identity[EI_DATA] != ELFDATA2LSB) {
    return ElfKind::kForeign;
  }
  Elf64_Ehdr header;
  if (!read_at(0, std::as_writable_bytes(std::span(&header, 1)))) return ElfKind::kBroken;
  if (header.e_machine != elf_detail::kOurMachine) return ElfKind::kForeign;
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMostSegments) {
    return ElfKind::kBroken;
  }

  bool names_linker = false;
  bool written_in_go = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const std::uint64_t offset = header.e_phoff + i * sizeof(segment);
    if (!read_at(offset, std::as_writable_bytes(std::span(&segment, 1)))) return ElfKind::kBroken;
    if (segment.p_type == PT_INTERP) names_linker = true;
    if (segment.p_type == PT_NOTE && elf_detail::has_go_note(read_at, segment)) {
      written_in_go = true;
    }
  }
  if (!names_linker) return ElfKind::kStatic;
  return written_in_go ? ElfKind::kGo : ElfKind::kDynamic;
}

}  // namespace xfrmfs
