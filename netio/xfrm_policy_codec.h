// SPDX-License-Identifier: Apache-2.0
// Policies in the language of NETLINK_XFRM <-> the engine's values.
//
// <linux/xfrm.h> decides what the bytes mean, and a kernel's verify_newpolicy_info() and
// validate_tmpl() what may be in them, in which order, with which errors. A template may name
// anything that has the right shape; whether an SA can satisfy it is found out by packets.
//
// Pure functions; `base` and attributes as in xfrm_sa_codec.h.

#pragma once

#include <cstdint>

#include "engine/engine.h"
#include "engine/snapshot.h"
#include "engine/spd/policy_params.h"
#include "engine/spd/spd.h"
#include "netio/netlink_message.h"
#include "netio/xfrm_wire.h"

namespace xfrmfs::netio {

/// xfrm_userpolicy_info of NEWPOLICY and UPDPOLICY.
Decoded<engine::PolicyParams> read_policy(Bytes base, const Attributes& attributes);

/// xfrm_userpolicy_id of GETPOLICY and DELPOLICY.
Decoded<engine::PolicyKey> read_policy_key(Bytes base, const Attributes& attributes);

/// XFRMA_POLICY_TYPE; main if it is not there.
Decoded<engine::PolicyType> read_policy_type(const Attributes& attributes);

/// xfrm_userpolicy_default of SETDEFAULT: changes what it names in `actions`.
void read_defaults(Bytes base, engine::DefaultActions& actions);

/// Prefix lengths above which a kernel hashes policies. Kept and shown; our lookup does not hash.
struct HashThresholds {
  struct Bits {
    std::uint8_t local, remote;
  };
  Bits ipv4{32, 32};
  Bits ipv6{128, 128};
};
/// NEWSPDINFO's own attributes: changes what they name in `thresholds`, or nothing.
Decoded<void> read_thresholds(const Attributes& attributes, HashThresholds& thresholds);

/// The body of NEWPOLICY: xfrm_userpolicy_info and all attributes of a policy.
void write_policy(MessageBuilder& out, const engine::SecurityPolicy& policy, const Moment& now);

/// The body of NEWSPDINFO. `base` is that of the request: its flags are sent back.
void write_spd_info(MessageBuilder& out, Bytes base, const engine::SpdView& spd,
                    const HashThresholds& thresholds);

/// The body of GETDEFAULT.
void write_defaults(MessageBuilder& out, const engine::DefaultActions& actions);

}  // namespace xfrmfs::netio
