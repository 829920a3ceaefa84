#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Does a tunnel of ESP in UDP carry traffic, with every kind of port?

      west                                   east
  192.0.1.254  xfrmfs == UDP 4500 == xfrmfs 192.0.2.254
      underlay 192.1.2.45, 2001:db8:f::45 -- .23, ::23

TCP in both directions, the bytes compared, and pings; then no counter may have moved. With two
lanes on one side, with and without offloads, and from a port that is not the socket's. Keep-alives
and IKE are dropped in silence; a port that is taken is named.
"""

import socket

import lib

west, east = lib.underlay()


def tunnel(engines, outer, ports=(4500, 4500)):
    """SAs and policies for both inner families; `ports`: of west, of east."""
    for side, engine in enumerate(engines):
        for sender in (0, 1):
            encap = f"encap espinudp {ports[sender]} {ports[1 - sender]} 0.0.0.0"
            engine.xfrm(lib.state(sender, outer=outer, inner=outer, more=encap + " flag af-unspec"))
        for inner in (4, 6):
            engine.xfrm(lib.policy("out", side, outer, inner))
            engine.xfrm(lib.policy("in", 1 - side, outer, inner))


def check_traffic(engines, case):
    before = [engine.counters() for engine in engines]
    for inner in (4, 6):
        target = lib.INNER[inner]
        ping = west.run(f"ping -n -c 5 -i 0.05 -W 5 {target[1]}", check=False)
        lib.check(" 5 received" in ping.stdout, f"{case}: IPv{inner} ping", ping.stdout)
        lib.check(lib.transfer(west, east, target[1], 4_000_000), f"{case}: IPv{inner} eastwards")
        lib.check(lib.transfer(east, west, target[0], 4_000_000), f"{case}: IPv{inner} westwards")
    for side, engine in enumerate(engines):
        lib.check_equal(lib.moved(before[side], engine.counters()), {}, f"{case}: counters {side}")


VARIANTS = (("", ""), ("--workers 2", ""), ("--offload off", ""), ("--offload off", "--pin"))
for number, options in enumerate(VARIANTS):
    engines = [
        lib.Engine(namespace, of_side, tun=f"ipsec{number}")
        for namespace, of_side in zip((west, east), options)
    ]
    for side, engine in enumerate(engines):
        lib.route_into_tun(engine, side)
    for outer in (4, 6):
        wire = lib.Wire(west, "eth0")
        tunnel(engines, outer)
        check_traffic(engines, f"IPv{outer}, options {options}")
        protocols = {lib.protocol(p) for _, p in wire.packets if not lib.is_multicast_report(p)}
        lib.check_equal(protocols - {socket.IPPROTO_ICMPV6}, {socket.IPPROTO_UDP}, "on the wire")
        for engine in engines:
            engine.flush()
    if options == ("", ""):
        before = engines[1].counters()
        with west.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for payload in (b"\xff", bytes(4) + b"IKE", b"short", b"no SA of ours"):
                peer.sendto(payload, (lib.OUTER[4][1], 4500))
        expected = {"XfrmInHdrError": 1, "XfrmInNoStates": 1}
        lib.wait_until(lambda: lib.moved(before, engines[1].counters()) == expected, expected)
        lib.check(True, "keep-alives and IKE are no errors")
    for engine in engines:
        engine.umount()

# From another port than the socket's, trains included: cut into datagrams by the raw socket's port.
engines = [lib.Engine(namespace, tun="ipsec8") for namespace in (west, east)]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)
for outer in (4, 6):
    wire = lib.Wire(west, "eth0")
    for engine in engines:
        for sender, port in enumerate((4501, 4500)):
            encap = f"encap espinudp {port} 4500 0.0.0.0"
            engine.xfrm(lib.state(sender, outer=outer, inner=outer, more=encap + " flag af-unspec"))
    for side, engine in enumerate(engines):
        for inner in (4, 6):
            engine.xfrm(lib.policy("out", side, outer, inner))
            engine.xfrm(lib.policy("in", 1 - side, outer, inner))
    check_traffic(engines, f"IPv{outer}, from another port")
    ports = {p[20:22] if p[0] >> 4 == 4 else p[40:42] for _, p in wire.packets
             if lib.protocol(p) == socket.IPPROTO_UDP}
    lib.check_equal(ports, {(4501).to_bytes(2, "big"), (4500).to_bytes(2, "big")}, "ports")
    for engine in engines:
        engine.flush()
for engine in engines:
    engine.umount()

# Without the port: what leaves goes through the raw socket, what arrives goes to nobody.
with west.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
    other.bind(("0.0.0.0", 4500))
    refused = west.run(
        [lib.XFRMFS, "mount", lib.DIRECTORY, "--udp-port", "4500", "-f"], check=False
    )
    lib.check(refused.returncode == 1, "a port that was asked for must be free")
    lib.check("UDP port 4500" in refused.stderr, "and is named", refused.stderr)
    engine = lib.Engine(west, tun="ipsec9")
    lib.route_into_tun(engine, 0)
    tunnel([engine], 4, (4500, 4500))
    wire = lib.Wire(west, "eth0")
    west.run("ping -n -c 1 -W 1 192.0.2.254", check=False)
    lib.wait_until(
        lambda: any(lib.protocol(p) == socket.IPPROTO_UDP for _, p in wire.packets), "ESP in UDP"
    )
    lib.check(True, "the default port may be taken")
lib.finish()
