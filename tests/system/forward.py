#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Do two gateways carry the traffic of the hosts behind them, and does policy `fwd` decide it?

  left            west                          east            right
  192.0.1.1 ----- xfrmfs ======= ESP ======== xfrmfs ----- 192.0.2.1
  2001:db8:1::1   192.1.2.45, ::45 ---- 192.1.2.23, ::23   2001:db8:2::1

Hosts use an MTU of 1500, so they have to learn what fits into the tunnel.
"""

import lib

HOSTS = {4: ("192.0.1.1", "192.0.2.1"), 6: ("2001:db8:1::1", "2001:db8:2::1")}
GATEWAYS = {4: ("192.0.1.2", "192.0.2.2"), 6: ("2001:db8:1::2", "2001:db8:2::2")}
LENGTH = {4: 24, 6: 64}

gateways = lib.underlay()
hosts = (lib.Namespace("left"), lib.Namespace("right"))
for side, (host, gateway) in enumerate(zip(hosts, gateways)):
    lib.join(
        host, gateway,
        [f"{HOSTS[f][side]}/{LENGTH[f]}" for f in (4, 6)],
        [f"{GATEWAYS[f][side]}/{LENGTH[f]}" for f in (4, 6)],
        names=("eth0", "inside"),
    )
    for family in (4, 6):
        host.ip(f"-{family} route add default via {GATEWAYS[family][side]}")
    gateway.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
engines = [lib.Engine(gateway) for gateway in gateways]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)
wire = lib.Wire(gateways[1], "eth0")

for family in (4, 6):
    before = [engine.counters() for engine in engines]
    for side, engine in enumerate(engines):
        lib.configure(engine, side, outer=family, inner=family)
    target = HOSTS[family]
    ping = hosts[0].run(f"ping -n -c 3 -i 0.1 -W 5 {target[1]}", check=False)
    lib.check(" 3 received" in ping.stdout, f"IPv{family}: ping between the hosts", ping.stdout)
    lib.check(lib.transfer(*hosts, target[1], 2_000_000), f"IPv{family}: 2 MB eastwards")
    lib.check(lib.transfer(*hosts[::-1], target[0], 2_000_000), f"IPv{family}: 2 MB westwards")
    for side, engine in enumerate(engines):
        lib.check_equal(
            lib.moved(before[side], engine.counters()), {}, f"IPv{family}: counters of side {side}"
        )

    selector = f"src {lib.NETS[family][0]} dst {lib.NETS[family][1]} dir fwd"
    for action, counter in (("delete", "XfrmInNoPols"), ("block", "XfrmInPolBlock")):
        before = engines[1].counters()
        if action == "delete":
            engines[1].xfrm(f"policy delete {selector}")
        else:
            engines[1].xfrm(f"policy add {selector} action block")
        hosts[0].send_udp(target[1])
        lib.wait_until(lambda: lib.moved(before, engines[1].counters()), f"{counter} moves")
        lib.check_equal(
            lib.moved(before, engines[1].counters()), {counter: 1},
            f"IPv{family}: policy fwd, {action}: {counter}",
        )
    for engine in engines:
        engine.flush()

strangers = {lib.protocol(p) for _, p in wire.packets if not lib.is_multicast_report(p)} - {lib.ESP}
lib.check_equal(strangers, set(), "IP protocols on the wire other than ESP")
lib.finish()
