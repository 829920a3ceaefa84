// SPDX-License-Identifier: Apache-2.0
// Any sequence of opens, reads, writes and closes against the file layer, without a kernel.
//
// Four bytes are an operation: what (low two bits: open, read, write, close) and which descriptor
// or file, offset, size, and a byte that chooses the text.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "fs/open_file.h"
#include "fs/sysctl_file.h"
#include "tests/fuzz/require.h"
#include "tests/support/manual_clock.h"

namespace {

using namespace xfrmfs;
using testing::require;

/// A text of another length each time.
class ChangingReport : public fs::VirtualFile {
 public:
  std::string render(const engine::View&) const override {
    ++rendered_;
    return std::string(rendered_ % 70, static_cast<char>('a' + rendered_ % 26));
  }

 private:
  mutable unsigned rendered_ = 0;
};

constexpr std::string_view kTexts[] = {"1", "22\n", " 3 ", "4 5", "-6",
                                       "x", "0x7",  "",    "8\0", "4294967295"};
constexpr std::size_t kMost = 6;

class Machine {
 public:
  void open(unsigned which) {
    const fs::VirtualFile* kinds[] = {&report_, &unsigned_, &signed_};
    const fs::VirtualFile* file = kinds[which % 3];
    const auto number = files_.open(*file);
    require(number.has_value() == (open_.size() < kMost));
    if (number) require(open_.emplace(*number, file).second);
  }

  void close(std::uint64_t number) {
    files_.close(number);
    open_.erase(number);
    texts_.erase(number);
  }

  void read(std::uint64_t number, std::uint64_t offset, std::size_t size) {
    const auto file = files_.find(number);
    require((file != nullptr) == open_.contains(number));
    if (!file) return;
    const std::string bytes = file->read(view_, offset, size);
    require(bytes.size() <= size);
    if (open_[number] == &report_) {
      check_report(number, offset, size, bytes);
      return;
    }
    const std::string live = open_[number]->render(view_);
    if (offset == 0) require(bytes == live.substr(0, size));
    require(bytes.empty() || bytes == live.substr(0, size));
    if (open_[number] == &signed_ && offset != 0) require(bytes.empty());
  }

  void write(std::uint64_t number, std::uint64_t offset, bool append, std::string_view text) {
    const auto file = files_.find(number);
    if (!file) return;
    const std::string before = open_[number]->kind() == fs::FileKind::kReport
                                   ? std::string()
                                   : open_[number]->render(view_);
    const auto taken = file->write(view_, offset, append, text);
    if (open_[number] == &report_) {
      require(taken == std::unexpected(std::errc::permission_denied));
      return;
    }
    const bool changed = open_[number]->render(view_) != before;
    if (!taken) require(taken.error() == std::errc::invalid_argument && !changed);
    if (taken) require(*taken <= text.size() && (text.empty() || *taken > 0));
    if (open_[number] == &signed_ && offset != 0 && !append) require(taken && !changed);
  }

  void check_count() const { require(files_.size() == open_.size()); }

 private:
  /// Later offsets continue the text that offset 0 began.
  void check_report(std::uint64_t number, std::uint64_t offset, std::size_t size,
                    const std::string& bytes) {
    std::string& known = texts_[number];
    if (offset == 0) {
      known = bytes;
      whole_[number] = bytes.size() < size;
    } else if (offset + bytes.size() <= known.size()) {
      require(bytes == std::string_view(known).substr(static_cast<std::size_t>(offset), size));
    } else if (whole_[number] && !known.empty()) {
      require(bytes.empty());
    }
  }

  const engine::Published<engine::Snapshot> published_{std::make_shared<const engine::Snapshot>()};
  const engine::Counters counters_;
  const testing::ManualClock clock_;
  engine::Settings settings_;
  const engine::View view_{published_, counters_, settings_, clock_};
  const ChangingReport report_;
  const fs::UnsignedSysctl unsigned_{&engine::Settings::aevent_etime_100ms};
  const fs::SignedSysctl signed_{&engine::Settings::larval_drop};
  fs::OpenFiles files_{kMost};
  std::map<std::uint64_t, const fs::VirtualFile*> open_;
  std::map<std::uint64_t, std::string> texts_;  // of reports: what a read at 0 showed
  std::map<std::uint64_t, bool> whole_;         // and whether that was all
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Machine machine;
  for (std::size_t at = 0; size - at >= 4; at += 4) {
    const unsigned which = data[at] >> 2 & 7u;
    const std::uint64_t offset = data[at + 1];
    switch (data[at] & 3) {
      case 0:
        machine.open(which);
        break;
      case 1:
        machine.read(which, offset, data[at + 2]);
        break;
      case 2:
        machine.write(which, offset, (data[at] & 0x80) != 0,
                      kTexts[data[at + 3] % std::size(kTexts)]);
        break;
      default:
        machine.close(which);
    }
    machine.check_count();
  }
  return 0;
}
