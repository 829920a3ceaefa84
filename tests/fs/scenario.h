// SPDX-License-Identifier: Apache-2.0
// An engine with something to show in every listing.
//
//        10.1.0.0/16  192.0.2.1 ===== 198.51.100.2  10.2.0.0/16       reqid 1
//   2001:db8:1::/48  2001:db8::1 === 2001:db8::2  2001:db8:2::/48     reqid 2
//
// 65 s after everything was made, 2 packets came in through the first tunnel; 5 s later 3 went out
// there and 4 were blocked; 5 s later it is now. One SA of an unknown host pair is larval.

#pragma once

#include "engine/view.h"
#include "tests/support/gateway.h"

namespace xfrmfs::fs {

class Scenario {
 public:
  Scenario();

  testing::Gateway& gateway() { return gateway_; }
  engine::View view() { return gateway_.engine().view(); }

 private:
  void add_associations();
  void add_policies();
  void pass_packets();

  testing::Gateway gateway_;
};

/// The engine takes it, or the test ends with the engine's sentence.
engine::SaPtr add(engine::Engine& engine, engine::SaParams params);
void add(engine::Engine& engine, engine::PolicyParams params);

}  // namespace xfrmfs::fs
