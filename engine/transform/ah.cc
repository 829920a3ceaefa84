// SPDX-License-Identifier: Apache-2.0
// The MAC runs over a copy of the headers, in which nothing counts that may change on the way, and
// over the payload where it lies.

#include "engine/transform/ah.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/crypto/constant_time.h"
#include "engine/transform/immutable_header.h"

namespace xfrmfs::engine {
namespace {

constexpr std::size_t kMaxPacket = 0xffff;  // no IP datagram holds more
constexpr std::size_t kLongestIcv = 64;
constexpr std::size_t kLongestHead = (kAhFixedSize + kLongestIcv + 7) / 8 * 8;
constexpr std::size_t kSequenceHalf = 4;  // bytes

/// RFC 4302 §2.2: in words of four bytes, less two.
std::byte length_field(std::size_t head_size) {
  return static_cast<std::byte>(head_size / 4 - 2);
}

/// Headers as the MAC sees them. Not initialised: what is used is written first.
struct Covered {
  std::array<std::byte, kLongestImmutableHeader + kLongestHead> bytes;
  std::size_t ip_size = 0;

  bool take(const std::byte* ip_header, std::size_t size) {
    ip_size = size;
    return size <= kLongestImmutableHeader && write_immutable_header({ip_header, size}, bytes);
  }
  std::byte* head() { return bytes.data() + ip_size; }
  Bytes with_head(std::size_t head_size) const { return Bytes(bytes).first(ip_size + head_size); }
};

}  // namespace

std::expected<std::unique_ptr<Ah>, ControlError> Ah::create(Spi spi, bool extended,
                                                            const MacParams& params,
                                                            AhAlignment alignment, unsigned lanes) {
  const MacAlgorithm* const row = find_mac(params.name);
  if (row == nullptr) {
    return std::unexpected(ControlError(ENOSYS, "Requested AUTH algorithm not found"));
  }
  const std::uint32_t bits =
      params.truncation_bits != 0 ? params.truncation_bits : row->default_truncation * 8U;
  if (bits > row->digest_size * 8U || bits > kLongestIcv * 8) {
    return std::unexpected(ControlError(EINVAL, "Invalid length requested for truncated ICV"));
  }
  if (bits < 8 || bits % 8 != 0) {
    return std::unexpected(
        ControlError(EINVAL, fmt::format("algorithm \"{}\": truncation to {} bits leaves no ICV of "
                                         "whole bytes",
                                         row->name, bits)));
  }
  std::unique_ptr<Ah> ah(new Ah(spi, extended, row->digest_size, bits / 8, alignment));
  ah->macs_.reserve(std::size_t{2} * lanes);
  for (unsigned i = 0; i < 2 * lanes; ++i) {
    ah->macs_.push_back(row->make(params.key.bytes()));
    if (ah->macs_.back() == nullptr) {
      return std::unexpected(
          ControlError(EINVAL, fmt::format("ah {:#010x}: the cryptographic library refuses the key",
                                           static_cast<std::uint32_t>(spi))));
    }
  }
  return ah;
}

void Ah::seal(const Lane& lane, std::span<SealItem> run) noexcept {
  Mac& mac = *macs_[std::size_t{2} * lane.index];
  for (SealItem& item : run) item.ok = seal_one(mac, item);
}

void Ah::open(const Lane& lane, std::span<OpenItem> run) noexcept {
  Mac& mac = *macs_[std::size_t{2} * lane.index + 1];
  for (OpenItem& item : run) item.result = open_one(mac, item);
}

bool Ah::seal_one(Mac& mac, SealItem& item) const {
  if (item.size > kMaxPacket || head_size_ + item.size > item.room) return false;
  Covered covered;
  if (!covered.take(item.ip_header, item.ip_header_size)) return false;

  std::byte* const payload = item.packet + head_size_;
  if (item.payload != payload && item.size != 0) {
    std::memcpy(payload, item.payload, item.size);
  }

  std::byte* const head = covered.head();
  std::memset(head, 0, head_size_);
  head[0] = static_cast<std::byte>(item.next_header);
  head[1] = length_field(head_size_);
  store_be32(head + 4, static_cast<std::uint32_t>(spi_));
  store_be32(head + 8, static_cast<std::uint32_t>(item.sequence));

  std::array<std::byte, kLongestIcv> icv;
  if (!authenticate(mac, covered.with_head(head_size_), {payload, item.size}, item.sequence,
                    MutableBytes(icv).first(icv_size_))) {
    return false;
  }
  std::memcpy(item.packet, head, head_size_);
  std::memcpy(item.packet + kAhFixedSize, icv.data(), icv_size_);
  item.size += head_size_;
  return true;
}

/// Everything the header says about itself is compared before it is used. Linux takes a header that
/// has room for the whole digest as well, its ICV truncated all the same; what follows the ICV is
/// covered as it is.
OpenResult Ah::open_one(Mac& mac, OpenItem& item) const {
  if (item.size < kAhFixedSize || item.size > kMaxPacket) return OpenResult::kMalformed;
  const std::size_t head_size = (std::to_integer<std::size_t>(item.data[1]) + 2) * 4;
  if ((head_size != head_size_ && head_size != longer_head_size_) || head_size > item.size ||
      head_size > kLongestHead) {
    return OpenResult::kMalformed;
  }
  Covered covered;
  if (!covered.take(item.ip_header, item.ip_header_size)) return OpenResult::kMalformed;

  std::byte* const head = covered.head();
  std::memcpy(head, item.data, head_size);
  std::array<std::byte, kLongestIcv> received;
  std::memcpy(received.data(), head + kAhFixedSize, icv_size_);
  std::memset(head + kAhFixedSize, 0, icv_size_);

  const MutableBytes payload(item.data + head_size, item.size - head_size);
  std::array<std::byte, kLongestIcv> expected;
  if (!authenticate(mac, covered.with_head(head_size), payload, item.sequence,
                    MutableBytes(expected).first(icv_size_))) {
    return OpenResult::kMalformed;
  }
  if (!equal_in_constant_time(received.data(), expected.data(), icv_size_)) {
    return OpenResult::kIntegrityFailed;
  }
  item.data = payload.data();
  item.size = payload.size();
  item.next_header = Protocol{std::to_integer<std::uint8_t>(head[0])};
  return OpenResult::kOpened;
}

/// With extended numbers the high half follows the payload (RFC 4302 §3.3.3.2.2), where memory may
/// be somebody else's; so the payload makes room, into the header in front of it, which was copied.
bool Ah::authenticate(Mac& mac, Bytes covered, MutableBytes payload, SeqNo sequence,
                      MutableBytes icv) const {
  if (!extended_) return mac.compute(covered, payload, icv);
  std::byte* const moved = payload.data() - kSequenceHalf;
  std::memmove(moved, payload.data(), payload.size());
  store_be32(moved + payload.size(), static_cast<std::uint32_t>(sequence >> 32));
  const bool done = mac.compute(covered, {moved, payload.size() + kSequenceHalf}, icv);
  std::memmove(payload.data(), moved, payload.size());
  return done;
}

}  // namespace xfrmfs::engine
