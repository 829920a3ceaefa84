// SPDX-License-Identifier: Apache-2.0
// How the packet path asks for the control thread.

#pragma once

namespace xfrmfs::engine {

/// Hears from workers that Engine::advance() has something to do. Called on any worker; must not
/// block.
class AttentionSink {
 public:
  virtual ~AttentionSink() = default;
  virtual void engine_needs_attention() noexcept = 0;
};

}  // namespace xfrmfs::engine
