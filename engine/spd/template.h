// SPDX-License-Identifier: Apache-2.0
// Template: what a policy demands of one SA.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/address.h"
#include "engine/base/slab.h"
#include "engine/base/types.h"

namespace xfrmfs::engine {

/// What a policy demands of one SA of the bundle. Element 0 of a policy is the innermost.
struct Template {
  Family family = Family::kNone;  // of source and destination
  IpAddress source;               // of the tunnel; zero: any
  IpAddress destination;
  Spi spi{};  // 0: any
  Protocol protocol{};
  Reqid reqid{};
  Mode mode = Mode::kTransport;
  std::uint8_t share = 0;  // kept and shown, as in the kernel
  bool optional = false;
  std::uint32_t auth_algorithms = ~0u;  // kept and shown
  std::uint32_t cipher_algorithms = ~0u;
  std::uint32_t compression_algorithms = ~0u;

  bool operator==(const Template&) const = default;
};

/// In a slab: among many policies, the next packet's is in no cache.
using Templates = std::vector<Template, SlabAllocator<Template>>;

/// More can be configured, and make the policy unusable, exactly as in the kernel.
inline constexpr std::size_t kMaxTemplates = 6;
inline constexpr std::size_t kUsableTemplates = 5;

}  // namespace xfrmfs::engine
