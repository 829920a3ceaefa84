#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Do readers, writers of sysctls, `ip xfrm` and traffic get on with each other?

      west                                   east
  192.0.1.254  xfrmfs ==== ESP ==== xfrmfs  192.0.2.254

All at once for some seconds: files read in loops, sysctls written, SAs and policies of strangers
added and removed, and a TCP stream through the tunnel, which must arrive whole. Every text that
was read must be well-formed.
"""

import re
import threading
import time

import lib

SECONDS = 6
STAT = re.compile(r"(Xfrm[A-Za-z]+ *\t\d+\n)+")
SPI = re.compile(r"([a-z]+0x[0-9a-f]+@\S+ [A-Z0-9_]+: dir=(in |out) src=\S+ .*\n)*")
EROUTE = re.compile(r"(\d+ +\S+ +-> \S+ +=> \S+\n)*")

west, east = lib.underlay()
engines = [lib.Engine(west, "--workers 2"), lib.Engine(east, "--workers 2")]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)
    lib.configure(engine, side)

ends = time.monotonic() + SECONDS
rounds, problems = {}, []


def repeat(what, action):
    def loop():
        count = 0
        try:
            while time.monotonic() < ends:
                action(count)
                count += 1
        except Exception as error:  # reported by the main thread
            problems.append(f"{what}: {error}")
        rounds[what] = count

    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def reader(engine, path, shape):
    def read(_):
        text = engine.read(path)
        if not shape.fullmatch(text):
            raise ValueError(f"{path} reads {text!r}")

    return read


def sysctl(count):
    path = "sys/net/core/xfrm_aevent_etime"
    engines[1].write(path, f"{count % 90 + 10}\n")
    if not re.fullmatch(r"\d+\n", engines[1].read(path)):
        raise ValueError(f"{path} is not a number")


def strangers(engine):
    def change(count):
        spi = 0x9000 + count % 50
        common = f"src 203.0.113.1 dst 203.0.113.2 proto esp spi {spi:#x}"
        engine.xfrm(f"state add {common} mode tunnel reqid 9 {lib.suite(lib.CBC_SHA256, 0)}")
        engine.xfrm(
            f"policy add src 203.0.113.0/25 dst 203.0.113.{spi % 50}/32 dir out "
            "tmpl src 203.0.113.1 dst 203.0.113.2 proto esp reqid 9 mode tunnel"
        )
        engine.xfrm("state")
        engine.xfrm(f"policy delete src 203.0.113.0/25 dst 203.0.113.{spi % 50}/32 dir out")
        engine.xfrm(f"state delete {common}")

    return change


def stream(_):
    if not lib.transfer(west, east, lib.INNER[4][1], 1_000_000):
        raise ValueError("the stream arrived changed")


def ping(_):
    east.run(f"ping -n -q -c 20 -i 0.01 -W 10 {lib.INNER[4][0]}")


before = [engine.counters() for engine in engines]
threads = [repeat("streams of 1 MB", stream), repeat("series of 20 pings", ping),
           repeat("sysctl writes", sysctl)]
for side, engine in enumerate(engines):
    threads += [
        repeat(f"reads of xfrm_stat, side {side}", reader(engine, "net/xfrm_stat", STAT)),
        repeat(f"reads of ipsec_spi, side {side}", reader(engine, "net/ipsec_spi", SPI)),
        repeat(f"reads of ipsec_eroute, side {side}", reader(engine, "net/ipsec_eroute", EROUTE)),
        repeat(f"changes by ip xfrm, side {side}", strangers(engine)),
    ]
for thread in threads:
    thread.join()

for what, count in sorted(rounds.items()):
    lib.check(count > 0, f"{count} {what}")
lib.check(not problems, "no error meanwhile", "\n".join(problems))
for side, engine in enumerate(engines):
    lib.check_equal(lib.moved(before[side], engine.counters()), {}, f"counters of side {side}")
lib.finish()
