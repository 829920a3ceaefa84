// SPDX-License-Identifier: Apache-2.0
// May these bytes describe an SA?
//
// What a kernel checks of NEWSA and UPDSA before it looks at algorithms and keys, in its order and
// with its errors (net/xfrm/xfrm_user.c: verify_newsa_info). What comes after that - algorithms,
// modes, transforms, replay windows - is the engine's affair, except for features that the engine
// would have to ignore: those are refused here, by name.

#pragma once

#include "netio/xfrm_wire.h"

namespace xfrmfs::netio {

/// Nothing if all is well. Pure.
wire::Check check_sa(const xfrm_usersa_info& info, const Attributes& attributes);

}  // namespace xfrmfs::netio
