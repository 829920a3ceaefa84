#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Does a tunnel carry traffic: every pair of families, every recommended algorithm?

      west                                   east
  192.0.1.254  xfrmfs ==== ESP ==== xfrmfs  192.0.2.254
  2001:db8:1::254                           2001:db8:2::254
      underlay 192.1.2.45, 2001:db8:f::45 -- .23, ::23

Ping and TCP in both directions, the bytes compared; then no counter may have moved on either side
and nothing but ESP may have been on the wire.
"""

import lib

west, east = lib.underlay()
wire = lib.Wire(west, "eth0")
engines = [lib.Engine(west), lib.Engine(east)]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)

for outer, inner in ((4, 4), (4, 6), (6, 4), (6, 6)):
    for name, kind in (
        ("GCM-128", lib.GCM_128), ("GCM-256", lib.GCM_256), ("CBC+SHA256", lib.CBC_SHA256)
    ):
        case = f"IPv{inner} in IPv{outer}, {name}"
        before = [engine.counters() for engine in engines]
        for side, engine in enumerate(engines):
            lib.configure(engine, side, kind, outer, inner)

        target = lib.INNER[inner]
        ping = west.run(f"ping -n -c 5 -i 0.05 -W 5 {target[1]}", check=False)
        lib.check(" 5 received" in ping.stdout, f"{case}: ping", ping.stdout + ping.stderr)
        lib.check(lib.transfer(west, east, target[1], 2_000_000), f"{case}: 2 MB eastwards")
        lib.check(lib.transfer(east, west, target[0], 2_000_000), f"{case}: 2 MB westwards")
        for side, engine in enumerate(engines):
            lib.check_equal(
                lib.moved(before[side], engine.counters()), {}, f"{case}: counters of side {side}"
            )
            engine.flush()

strangers = {lib.protocol(p) for _, p in wire.packets if not lib.is_multicast_report(p)} - {lib.ESP}
lib.check(len(wire.packets) > 1000, f"{len(wire.packets)} packets seen on the wire")
lib.check_equal(strangers, set(), "IP protocols on the wire other than ESP")
lib.finish()
