// SPDX-License-Identifier: Apache-2.0
// Whatever a netlink datagram says about lengths: nothing is read beyond it.
#include "netio/rtnetlink.h"

#include <cstddef>
#include <cstdint>
#include <span>

#include "netio/netfilter_probe.h"
#include "netio/nftables.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace xfrmfs;
  const auto datagram = std::as_bytes(std::span(data, size));
  for (const netio::RouteMessage& message : netio::split_messages(datagram)) {
    netio::read_link(message.body);
    netio::read_address(message.body);
    netio::read_route(message.body);
    netio::read_neighbour(message.body);
    netio::is_output_chain(message.body);
    netio::read_counter(message.body);
  }
  return 0;
}
