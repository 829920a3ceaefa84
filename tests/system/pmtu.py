#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan
"""Is a packet that does not fit answered with the right size, and does exactly that size pass?

      west                                   east
  192.0.1.254  xfrmfs ==== ESP ==== xfrmfs  192.0.2.254
               ipsec0, MTU 9000: the kernel fragments nothing for us
      underlay, MTU 1500: 192.1.2.45, 2001:db8:f::45 -- .23, ::23

The largest inner packet follows from RFC 4303 §2: outer header, ESP header (8), IV, then the inner
packet with trailer (2) padded to the block, then the ICV. ICMP comes back through the TUN device,
as from a router; no counter of net/xfrm_stat moves (RFC 4301 §8.2.1).
"""

import re

import lib

MTU = 1500
SUITES = {"GCM-128": (lib.GCM_128, 8, 4, 16), "CBC+SHA256": (lib.CBC_SHA256, 16, 16, 16)}


def largest(outer, iv, block, icv):
    room = MTU - (20 if outer == 4 else 40) - 8 - iv - icv
    return room // block * block - 2


def ping(inner, size):
    """One ping whose IP packet has `size` bytes, not to be fragmented."""
    target = lib.INNER[inner][1]
    payload = size - (28 if inner == 4 else 48)
    return west.run(f"ping -n -c 1 -W 3 -M do -s {payload} {target}", check=False)


def forget(inner):
    """The kernel keeps what it learned from ICMP; each case starts without it."""
    west.ip(f"-{inner} route flush cache")


west, east = lib.underlay(MTU)
engines = [lib.Engine(west, "--mtu 9000"), lib.Engine(east, "--mtu 9000")]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)

for outer, inner in ((4, 4), (4, 6), (6, 4), (6, 6)):
    for name, (kind, *sizes) in SUITES.items():
        case = f"IPv{inner} in IPv{outer}, {name}"
        fits = largest(outer, *sizes)
        before = [engine.counters() for engine in engines]
        for side, engine in enumerate(engines):
            lib.configure(engine, side, kind, outer, inner)

        forget(inner)
        good = ping(inner, fits)
        lib.check(" 1 received" in good.stdout, f"{case}: {fits} bytes pass", good.stdout)
        answer = ping(inner, fits + 1)
        told = re.search(r"mtu[ =]*(\d+)", answer.stdout + answer.stderr)
        lib.check_equal(
            told and int(told[1]), fits, f"{case}: {fits + 1} bytes are answered with MTU {fits}"
        )
        lib.check(" 0 received" in answer.stdout, f"{case}: and do not pass", answer.stdout)
        again = ping(inner, fits)
        lib.check(" 1 received" in again.stdout, f"{case}: {fits} bytes pass still", again.stdout)
        for side, engine in enumerate(engines):
            lib.check_equal(
                lib.moved(before[side], engine.counters()), {}, f"{case}: counters of side {side}"
            )
            engine.flush()

# TCP learns the size by itself.
for side, engine in enumerate(engines):
    lib.configure(engine, side)
forget(4)
lib.check(lib.transfer(west, east, lib.INNER[4][1], 1_000_000), "TCP finds the size of the path")
lib.finish()
