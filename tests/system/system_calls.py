#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How many system calls does a train cost?  Counted, not timed.

West sends trains of 40 datagrams, one by one, each when the one before has arrived. A train may
cost the lane one look for work, one read that takes it, one that finds nothing more, one write, and
one look for an answer to it; nothing that depends on its size.
"""

import collections
import os
import re
import socket

import lib

TRAINS = 50
SEGMENTS = 40
SIZE = 1200
UDP_SEGMENT = 103
# poll, the read, a read that finds nothing (of the sockets of ESP and of UDP, over both families,
# they take turns), the write, a look into the TUN device for an answer; the other thread when the
# tracer makes the one so slow that it gives work away.
MOST = 6.5

west, east = lib.underlay()
engines = [lib.Engine(west), lib.Engine(east)]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)
    for sender in (0, 1):
        engine.xfrm(lib.state(sender, more="encap espinudp 4500 4500 0.0.0.0"))
    engine.xfrm(lib.policy("out", side))
    engine.xfrm(lib.policy("in", 1 - side))

sink = east.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sink.bind((lib.INNER[4][1], 7000))
sink.settimeout(lib.PATIENCE)
source = west.socket(socket.AF_INET, socket.SOCK_DGRAM)
source.bind((lib.INNER[4][0], 0))
source.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SIZE)


def send_train(number):
    payload = bytes([number % 256]) * (SEGMENTS * SIZE)
    source.sendto(payload, (lib.INNER[4][1], 7000))
    for _ in range(SEGMENTS):
        assert sink.recv(65536) == payload[:SIZE]


send_train(0)  # neighbours are resolved, caches filled
traces = []
for engine in engines:
    path = f"{lib.DIRECTORY}/strace-{engine.namespace.name}"
    tracer = lib.start(["strace", "-f", "-q", "-o", path, "-p", str(engine.pid())])
    lib.wait_until(
        lambda pid=engine.pid(): "TracerPid:\t0" not in open(f"/proc/{pid}/status").read(),
        "strace attached",
    )
    traces.append((engine, path, tracer))
threads = [
    {
        task: open(f"/proc/{engine.pid()}/task/{task}/comm").read().strip()
        for task in map(int, os.listdir(f"/proc/{engine.pid()}/task"))
    }
    for engine in engines
]
for number in range(TRAINS):
    send_train(number + 1)
for (engine, path, tracer), names in zip(traces, threads):
    lib.stop(tracer)
    calls = collections.defaultdict(collections.Counter)
    with open(path) as lines:
        for line in lines:
            found = re.match(r"(\d+) +(?:<\.\.\. )?(\w+)", line)
            if found and "resumed>" not in line:
                calls[names.get(int(found[1]), "?")][found[2]] += 1
    lane = calls["xfrmfs/in0"] + calls["xfrmfs/out0"]
    cost = sum(lane.values()) / TRAINS
    lib.check(1 < cost <= MOST, f"{engine.namespace.name}: {cost:.2f} calls a train", dict(lane))
lib.finish()
