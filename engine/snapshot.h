// SPDX-License-Identifier: Apache-2.0
// What the engine publishes: both databases and what else decides about a packet, at one moment.

#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "engine/base/address.h"
#include "engine/base/types.h"
#include "engine/sad/sad.h"
#include "engine/spd/spd.h"

namespace xfrmfs::engine {

enum class DefaultAction : std::uint8_t { kBlock, kAccept };

/// What happens to a packet that no policy matches, by direction. In and forward as in a kernel;
/// out is block, because what is sent into the TUN device is meant to be protected.
struct DefaultActions {
  std::array<DefaultAction, kDirections> by_direction{DefaultAction::kAccept, DefaultAction::kBlock,
                                                      DefaultAction::kAccept};

  DefaultAction operator[](Direction d) const { return by_direction[static_cast<std::size_t>(d)]; }
  DefaultAction& operator[](Direction d) { return by_direction[static_cast<std::size_t>(d)]; }
  bool operator==(const DefaultActions&) const = default;
};

/// Immutable once published. Any thread.
struct Snapshot {
  SadView sad;
  SpdView spd;
  DefaultActions defaults;
  /// The host's own addresses, sorted: they tell direction in from forward.
  std::shared_ptr<const std::vector<IpAddress>> local_addresses =
      std::make_shared<const std::vector<IpAddress>>();

  bool is_local(const IpAddress& address) const {
    return std::binary_search(local_addresses->begin(), local_addresses->end(), address);
  }
};

}  // namespace xfrmfs::engine
