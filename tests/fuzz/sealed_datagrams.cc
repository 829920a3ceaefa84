// SPDX-License-Identifier: Apache-2.0
// Trains of any bytes: either refused, or cut into datagrams that are whole, and together the
// train.
//
// The first two bytes are the segment size, the rest is the train.
#include "netio/sealed_datagrams.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace xfrmfs;
  using testing::require;
  if (size < 2) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto train = bytes.subspan(2);
  const std::uint16_t segment_size = engine::load_be16(bytes.data());
  const auto cut = netio::TrainCut::of(train, segment_size);
  if (!cut) return 0;
  const std::size_t header_size = cut->head_size();
  std::size_t at = header_size;
  for (std::size_t i = 0; i < cut->count(); ++i) {
    const engine::Bytes piece = cut->data(i);
    std::vector<std::byte> datagram(header_size);
    cut->write_header(i, datagram.data());
    datagram.insert(datagram.end(), piece.begin(), piece.end());
    require(datagram.size() <= cut->largest());
    const auto header = engine::parse_ip_header(datagram);
    require(header && header->total_size == datagram.size());
    require(header->destination == cut->header().destination);
    require(std::ranges::equal(piece, train.subspan(at, piece.size())));
    at += piece.size();
  }
  require(at == cut->header().total_size);
  return 0;
}
