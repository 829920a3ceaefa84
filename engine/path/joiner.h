// SPDX-License-Identifier: Apache-2.0
// Joiner: consecutive segments of one TCP or UDP flow become one train for the TUN device, as
// receive offload in a network card would do it.
//
// Joined is only what a cut of the train gives back bit for bit, but for identifications of IPv4
// packets that may not be fragmented anyway (RFC 6864): same headers but for lengths, sequence
// numbers that continue, full segments but the last. So nothing with another DSCP, ECN, TTL, flow
// label or option is joined, and nothing whose checksum is wrong.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/bytes.h"
#include "engine/datapath.h"
#include "engine/packet/ip_header.h"

namespace xfrmfs::engine {

/// One thread. The packets put in are left alone by everybody until the next flush().
class Joiner {
 public:
  /// Packets whose train the sink refused.
  using Refused = std::size_t;

  /// Before packets come, and after a flush().
  void set_sink(ClearSink& sink) {
    sink_ = &sink;
    takes_ = sink.joins();
  }
  /// `packet` begins with the IP header that `header` describes and has its size.
  Refused add(const IpHeader& header, MutableBytes packet);
  /// Delivers what waits.
  Refused flush();

 private:
  /// A packet as far as joining cares.
  struct Candidate {
    std::byte* packet = nullptr;
    std::uint32_t shape = 0;  // of family, protocol and size of the headers; 0: never joined
    Cut cut = Cut::kWhole;    // kWhole: never joined
    bool ipv6 = false;
    bool closes = false;  // nothing may follow it
    std::uint16_t transport = 0;
    std::uint16_t header = 0;
    std::uint16_t data = 0;
    std::uint32_t sequence = 0;
  };

  Candidate judge(const IpHeader& header, MutableBytes packet) const;
  bool continues(const Candidate& next) const;
  bool same_ip(const std::byte* a, const std::byte* b) const;
  bool same_tcp(const std::byte* a, const std::byte* b) const;
  bool join_alike(MutableBytes packet);
  void write_headers();

  ClearSink* sink_ = nullptr;
  Joins takes_{};
  Candidate first_;
  bool closed_ = false;
  std::size_t count_ = 0;     // of pieces
  std::size_t size_ = 0;      // of all, the headers once
  std::uint16_t number_ = 0;  // IPv4 identification of the last
  std::uint8_t flags_ = 0;    // TCP, of the last
  std::array<Bytes, Joins::kMostPieces> pieces_;
};

}  // namespace xfrmfs::engine
