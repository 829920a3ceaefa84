// SPDX-License-Identifier: Apache-2.0
// Segments: a train cut into its packets, header by header, as a network card with segmentation
// offload would (Linux, Documentation/networking/segmentation-offloads.rst).
//
// The data stays where it is; each packet's header is written wherever the caller wants it. What
// differs between headers is little, so that a copy of the first and the sum of what stays the
// same are made once.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/bytes.h"
#include "engine/packet/ip_header.h"
#include "engine/packet/packet.h"

namespace xfrmfs::engine {

class Segments {
 public:
  /// IPv6 with extension headers, and TCP with all its options; room for what a port can make.
  static constexpr std::size_t kMaxHeader = 128;

  /// Of a train from the TUN device; `header` is its IP header. Nothing if it is not what it claims
  /// to be: another protocol, a fragment, no data, a header that is too long.
  static std::optional<Segments> of(ClearPacket& train, const IpHeader& header);
  /// Of a sealed train, to be sealed again: only lengths, identifications and checksums differ.
  /// `header_size` bytes in front of the data, an IP header of `ip_size` and maybe UDP's.
  static std::optional<Segments> of_sealed(MutableBytes train, std::size_t ip_size,
                                           std::size_t header_size, std::uint16_t segment_size);

  std::size_t count() const { return count_; }
  std::size_t header_size() const { return header_size_; }
  /// Data bytes of segment `k`.
  std::size_t data_size(std::size_t k) const { return k + 1 < count_ ? segment_size_ : last_size_; }
  /// Of the whole packet `k`.
  std::size_t size(std::size_t k) const { return header_size_ + data_size(k); }
  /// Of all packets from `k` to before `end`.
  std::size_t sizes(std::size_t k, std::size_t end) const;
  std::byte* data(std::size_t k) const { return data_.data() + k * segment_size_; }

  /// What packet `k`'s data adds to its checksum, as checksum_words(); 0 if nothing is summed.
  std::uint64_t data_sum(std::size_t k) const;
  /// Writes the header of packet `k`, whose data_sum() is `sum`; `at` has header_size() bytes of
  /// room. Data in front of that of `k` may be gone already.
  void write_header(std::size_t k, std::uint64_t sum, std::byte* at) const;
  /// The first `size` bytes of the header of packet `k`, those of its IP header, whose length and
  /// checksum are not right. Returns its identification, 0 for IPv6.
  std::uint16_t copy_front(std::size_t k, std::size_t size, std::byte* at) const;

 private:
  enum class Kind : std::uint8_t { kPlain, kTcp, kUdp, kUdpWithoutChecksum };

  bool begin(MutableBytes train, std::size_t transport, std::size_t header_size,
             std::size_t segment_size, Kind kind);

  std::uint8_t flags_of(bool first, bool last) const;
  void adapt(std::size_t k, std::byte* at, std::uint64_t& ip_sum,
             std::uint64_t& transport_sum) const;

  /// Of one in the middle, identification, sequence number and checksums 0.
  std::array<std::byte, kMaxHeader> header_;
  MutableBytes data_;
  std::size_t count_ = 0;
  std::size_t segment_size_ = 0;
  std::size_t last_size_ = 0;
  std::size_t header_size_ = 0;
  std::size_t transport_ = 0;  // offset of the transport header
  Kind kind_ = Kind::kPlain;
  bool ipv6_ = false;
  std::uint16_t identification_ = 0;
  std::uint32_t tcp_sequence_ = 0;
  std::uint8_t tcp_flags_ = 0;
  // Of words as they lie in memory, as in header_.
  std::uint64_t ip_sum_ = 0;         // the IPv4 header
  std::uint64_t transport_sum_ = 0;  // pseudo and transport header
};

}  // namespace xfrmfs::engine
