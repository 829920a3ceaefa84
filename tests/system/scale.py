#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Are ten thousand SAs and policies all there, and what do they cost?

    one namespace, one engine, `ip -batch` as the only client

Asserts completeness; prints the figures, for they depend on the machine.
"""

import time

import lib

COUNT = 10_000


def resident_megabytes():
    with open(f"/proc/{engine.pid()}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def timed(what, action):
    began = time.monotonic()
    result = action()
    print(f"     {what}: {time.monotonic() - began:.2f} s")
    return result


def inner(number):
    return f"10.{number >> 8}.{number & 255}.1/32"


east = lib.Namespace("east")
engine = lib.Engine(east, underlay="lo")
print(f"     memory of the empty engine: {resident_megabytes():.1f} MB")

states = [
    f"xfrm state add src 192.1.2.45 dst 192.1.2.23 proto esp spi {0x1000 + n:#x} mode tunnel "
    f"reqid {n + 1} replay-window 32 {lib.suite(lib.GCM_128, 0)}"
    for n in range(COUNT)
]
policies = [
    f"xfrm policy add src {inner(n)} dst 192.0.2.0/24 dir in tmpl src 192.1.2.45 dst 192.1.2.23 "
    f"proto esp reqid {n + 1} mode tunnel"
    for n in range(COUNT)
]
timed(f"ip -batch, {COUNT} SAs", lambda: engine.batch(states))
print(f"     memory: {resident_megabytes():.1f} MB")
timed(f"ip -batch, {COUNT} policies", lambda: engine.batch(policies))
print(f"     memory: {resident_megabytes():.1f} MB")

lib.check("SAD count 10000" in engine.xfrm("state count").stdout, "state count")
spi_lines = timed("cat net/ipsec_spi", lambda: engine.read("net/ipsec_spi")).splitlines()
spis = {line.split("@")[0] for line in spi_lines if line.startswith("esp0x")}
lib.check_equal(
    spis, {f"esp{0x1000 + n:#x}" for n in range(COUNT)}, "net/ipsec_spi shows every SA"
)
lib.check_equal(len(spi_lines), 2 * COUNT, "each with a line for ESP and one for its tunnel")
dump = timed("ip xfrm state", lambda: engine.xfrm("state").stdout)
lib.check_equal(dump.count("\tproto esp spi 0x"), COUNT, "ip xfrm state shows every SA")
dump = timed("ip xfrm policy", lambda: engine.xfrm("policy").stdout)
lib.check_equal(dump.count("src 10."), COUNT, "ip xfrm policy shows every policy")
timed("ip xfrm state flush", lambda: engine.xfrm("state flush"))
timed("ip xfrm policy flush", lambda: engine.xfrm("policy flush"))
lib.check_equal(engine.read("net/ipsec_spi"), "", "after the flush net/ipsec_spi is empty")
lib.check_equal(engine.xfrm("policy").stdout, "", "after the flush there is no policy")
print(f"     memory after the flush: {resident_megabytes():.1f} MB")
lib.finish()
