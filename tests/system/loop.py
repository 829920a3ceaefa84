#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does ESP ever go round in a circle when everything is routed into the TUN device?

      west:  xfrmfs without --underlay, `default dev ipsec0` and no other route
      192.0.1.254 on lo; 192.1.2.45 on lo, so the outer source exists

The tunnel's far end then lies behind the tunnel itself. Each clear packet may cost at most one
round: the engine notices its own ESP in the device, drops it and counts it.
"""

import time

import lib

PACKETS = 50

west = lib.Namespace("west")
west.ip(f"addr add {lib.INNER[4][0]}/32 dev lo")
west.ip(f"addr add {lib.OUTER[4][0]}/32 dev lo")
engine = lib.Engine(west, underlay=None)
west.ip(f"route add default dev {engine.tun} src {lib.INNER[4][0]}")
tun = lib.Wire(west, engine.tun, link_header=0)

engine.xfrm(lib.state(0))
# For every destination, the tunnel's far end included: the worst that a user can ask for.
engine.xfrm(
    f"policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir out tmpl src {lib.OUTER[4][0]} "
    f"dst {lib.OUTER[4][1]} proto esp reqid 1 mode tunnel"
)
before = engine.counters()
for _ in range(PACKETS):
    west.send_udp(lib.INNER[4][1], 7000, b"clear", lib.INNER[4][0])
lib.wait_until(lambda: sum(lib.moved(before, engine.counters()).values()) >= PACKETS, "drops counted")


def quiet():
    seen = len(tun.packets)
    time.sleep(0.5)  # the one thing to observe is that nothing happens any more
    return len(tun.packets) == seen


lib.wait_until(quiet, "the TUN device falls silent", 10)
clear = [p for _, p in tun.packets if lib.protocol(p) == 17]
esp = [p for _, p in tun.packets if lib.protocol(p) == lib.ESP]
moved = lib.moved(before, engine.counters())
lib.check_equal(len(clear), PACKETS, "every clear packet went into the device")
lib.check(len(esp) <= PACKETS, f"{len(esp)} ESP packets in the device, at most {PACKETS}")
lib.check(sum(moved.values()) == PACKETS, f"every packet counted once: {moved}")
lib.finish()
