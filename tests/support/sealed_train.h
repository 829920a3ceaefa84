// SPDX-License-Identifier: Apache-2.0
// Sealed packets and trains as a test wants them: the bytes behind the SPI are a pattern.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "engine/packet/ip_header.h"
#include "netio/ports.h"

namespace xfrmfs::test {

struct SealedTrain {
  std::string source = "127.0.0.1";
  std::string destination = "127.0.0.1";
  std::size_t payload_size = 100;  // of ESP, with SPI and sequence number; of all segments
  std::uint32_t spi = 0x1000;
  std::uint8_t traffic_class = 0;
  std::uint8_t hop_limit = 64;
  bool dont_fragment = false;
  std::uint16_t segment_size = 0;
  std::uint16_t identification = 0;
  bool udp = false;  // in UDP, port 4500 to port 14500, checksum 0
};

/// Each segment begins with the SPI.
inline engine::SealedPacket seal(engine::PacketPool& pool, const SealedTrain& train) {
  struct Door : netio::WirePort {
    using WirePort::received;
  };
  const auto source = *engine::IpAddress::parse(train.source);
  const std::size_t ip_size = engine::outer_header_size(source.family());
  const std::size_t header_size = ip_size + (train.udp ? engine::kUdpHeaderSize : 0);
  engine::Buffer buffer = pool.take();
  std::byte* const at = buffer.data() + engine::kHeadroom;
  engine::write_outer_header(
      {.source = source,
       .destination = *engine::IpAddress::parse(train.destination),
       .protocol = train.udp ? engine::Protocol::kUdp : engine::Protocol::kEsp,
       .traffic_class = train.traffic_class,
       .hop_limit = train.hop_limit,
       .dont_fragment = train.dont_fragment,
       .identification = train.identification},
      header_size - ip_size + train.payload_size, at);
  if (train.udp) {
    engine::store_be16(at + ip_size, 4500);
    engine::store_be16(at + ip_size + 2, 14500);
    engine::store_be16(at + ip_size + 4,
                       static_cast<std::uint16_t>(engine::kUdpHeaderSize + train.payload_size));
    engine::store_be16(at + ip_size + 6, 0);
  }
  std::byte* const payload = at + header_size;
  for (std::size_t i = 0; i < train.payload_size; ++i) payload[i] = static_cast<std::byte>(i * 7);
  const std::size_t step = train.segment_size == 0 ? train.payload_size : train.segment_size;
  for (std::size_t i = 0; i + 4 <= train.payload_size; i += step) {
    engine::store_be32(payload + i, train.spi);
  }
  return Door::received(
      engine::PacketBytes(std::move(buffer), engine::kHeadroom, header_size + train.payload_size),
      train.segment_size);
}

}  // namespace xfrmfs::test
