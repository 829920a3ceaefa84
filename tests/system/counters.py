#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan
"""Does every line of net/xfrm_stat that a packet can reach move alone, and by exactly one?

    west (this test: raw frames)                     east (xfrmfs)
      192.1.2.45 --------- eth0 ---------- 192.1.2.23    ipsec0    192.0.2.254 on lo
                                                          routes to 192.0.1.0/24, 198.51.100.9

The cases are in counter_cases.py. Packets go through the real socket and the real TUN device, the
counters are read through the mount. A fence packet in each direction, with a counter of its own,
tells when everything before it has been dealt with.
"""

import socket
import time

import lib
from counter_cases import CASES, EAST_IN, PORT, WEST_IN, raw_esp

FENCE = "198.51.100.9"
FENCE_POLICY = f"policy add src 0.0.0.0/0 dst {FENCE}/32 dir out action block priority 1"
FENCE_MOVES = ("XfrmInNoStates", "XfrmOutPolBlock")


def fence():
    """Returns when all that was sent before has been dealt with."""
    before = engine.counters()
    wire.send(raw_esp(bytes.fromhex("fe0ce0ff") + bytes(60)))
    east.send_udp(FENCE)
    lib.wait_until(
        lambda: all(engine.counters()[name] > before[name] for name in FENCE_MOVES),
        "the fence packets are counted",
    )


def delivered():
    """How many datagrams wait at the application."""
    count = 0
    while True:
        try:
            application.recv(100)
            count += 1
        except BlockingIOError:
            return count


west, east = lib.underlay()
engine = lib.Engine(east, "--workers 1")
lib.route_into_tun(engine, 1)
east.ip(f"route add {FENCE} dev {engine.tun} src {EAST_IN}")
wire = lib.Wire(west, "eth0", (east, "eth0"))
application = east.socket(socket.AF_INET, socket.SOCK_DGRAM)
application.bind((EAST_IN, PORT))
application.setblocking(False)

for case in CASES:
    engine.flush()
    for command in [FENCE_POLICY] + case.tables:
        engine.xfrm(command)
    fence()
    before, seen_before, fences = engine.counters(), len(wire.incoming()), 1
    for packet in case.arriving:
        wire.send(packet)
        if case.one_by_one:
            fence()
            fences += 1
    for _ in range(case.leaving):
        east.send_udp(WEST_IN, PORT)
    fence()
    seen = lib.moved(before, engine.counters())
    for counter in FENCE_MOVES:
        seen[counter] -= fences
    seen = {counter: by for counter, by in seen.items() if by}
    lib.check_equal(seen, case.moves, f"{case.name}: {case.moves or 'no counter'}")

    deadline = time.monotonic() + lib.PATIENCE
    count = delivered()
    while time.monotonic() < deadline and (
        count < case.delivered or len(wire.incoming()) < seen_before + case.sent
    ):
        time.sleep(0.01)
        count += delivered()
    lib.check_equal(count, case.delivered, f"{case.name}: {case.delivered} delivered")
    lib.check_equal(
        [lib.protocol(p) for p in wire.incoming()[seen_before:]], [lib.ESP] * case.sent,
        f"{case.name}: {case.sent} on the wire",
    )

lib.finish()
