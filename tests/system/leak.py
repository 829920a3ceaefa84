#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan
"""Does clear text ever reach the wire, whatever is missing?

      west                                   east
  192.0.1.254  xfrmfs ------- eth0 -------  (listens for the marker)
  2001:db8:1::254
      routes to east's protected networks lead into ipsec0; everything else goes to east in
      clear, and so would what the engine let slip

West sends a marker through the TUN device again and again while the tunnel is whole, while parts
of it are missing, while it is being changed and after the engine was killed. The marker may never
be seen on the underlay, in neither family.
"""

import os
import signal

import lib

MARKER = b"xfrmfs-clear-text-marker"

west, east = lib.underlay()
wire = lib.Wire(east, "eth0")
engine = lib.Engine(west)
lib.route_into_tun(engine, 0)
for family in (4, 6):
    west.ip(f"-{family} route add default via {lib.OUTER[family][1]} dev eth0")


def send(count=20):
    for number in range(count):
        for family in (4, 6):
            west.send_udp(lib.INNER[family][1], 7000 + number, MARKER, lib.INNER[family][0])


def esp_seen():
    return len(wire.incoming(lambda packet: lib.protocol(packet) == lib.ESP))


def case(name, commands=(), expect_esp=False):
    for command in commands:
        engine.xfrm(command)
    before = esp_seen()
    send()
    if expect_esp:
        lib.wait_until(lambda: esp_seen() >= before + 40, f"{name}: 40 ESP packets")
    settle()
    leaked = wire.incoming(lambda packet: MARKER in packet)
    lib.check(not leaked, f"{name}: no clear text", [packet.hex() for packet in leaked[:3]])
    if not expect_esp:
        lib.check_equal(esp_seen() - before, 0, f"{name}: nothing at all")


def settle():
    """A datagram past the engine marks the end of what was sent before on this link."""
    seen = wire.incoming(lambda packet: b"end of case" in packet)
    west.send_udp(lib.OUTER[4][1], 9, b"end of case")
    lib.wait_until(
        lambda: len(wire.incoming(lambda packet: b"end of case" in packet)) > len(seen), "the end"
    )


BOTH_STATES = [lib.state(0), lib.state(0, inner=6, outer=6)]
BOTH_POLICIES = [lib.policy("out", 0), lib.policy("out", 0, inner=6, outer=6)]

case("no SA, no policy")
case("SA without policy", BOTH_STATES)
case("whole tunnel", BOTH_POLICIES, expect_esp=True)
case("policy without SA", ["state flush"])
case("blocked", ["policy flush"] + [
    f"policy add src {a} dst {b} dir out action block" for a, b in (lib.NETS[4], lib.NETS[6])
])
case("policy that allows clear text: a TUN has no road for it", ["policy flush"] + [
    f"policy add src {a} dst {b} dir out action allow" for a, b in (lib.NETS[4], lib.NETS[6])
])
case("optional template without an SA", ["policy flush"] + [
    f"policy add src {a} dst {b} dir out tmpl proto esp mode transport level use"
    for a, b in (lib.NETS[4], lib.NETS[6])
])
engine.flush()
case("default action of direction out is accept", ["policy setdefault in block fwd block out accept"])

engine.xfrm("policy setdefault in block fwd block out block")
for command in BOTH_STATES + BOTH_POLICIES:
    engine.xfrm(command)
for round_ in range(10):
    send(5)
    engine.xfrm(("state flush", "policy flush")[round_ % 2])
    send(5)
    for command in (BOTH_STATES, BOTH_POLICIES)[round_ % 2]:
        engine.xfrm(command)
settle()
lib.check(not wire.incoming(lambda p: MARKER in p), "SAs and policies come and go: no clear text")

# The routes into the device go with the device; what is to be safe even then needs routes behind.
for family in (4, 6):
    west.ip(f"-{family} route add blackhole {lib.NETS[family][1]} metric 4000000000")
os.kill(engine.pid(), signal.SIGKILL)
send()
lib.wait_until(lambda: "ipsec0" not in west.ip("link"), "the kernel has taken the device away")
send()
settle()
lib.check(not wire.incoming(lambda p: MARKER in p), "engine killed: no clear text")

# The test itself must be able to see the marker: without the blackhole it goes out by default.
for family in (4, 6):
    west.ip(f"-{family} route del blackhole {lib.NETS[family][1]}")
send()
lib.wait_until(lambda: wire.incoming(lambda p: MARKER in p), "the marker can be seen")
lib.check(True, "the marker is seen where nothing holds it back")
lib.finish()
