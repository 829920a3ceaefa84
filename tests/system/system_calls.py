#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How many system calls does a train cost?  Counted, not timed.

West sends trains of 40 datagrams, one by one, each when the one before has arrived. A train may
cost the lane one look for work, one read that takes it, one that finds nothing more, one write, and
one look for an answer to it; nothing that depends on its size. Only the receiver of raw ESP, where
a train comes as packets, may be woken more than once while it still arrives; that holds for each
time then.
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

ENCAPSULATED = "encap espinudp 4500 4500 0.0.0.0"

west, east = lib.underlay()
engines = [lib.Engine(west), lib.Engine(east)]
for side, engine in enumerate(engines):
    lib.route_into_tun(engine, side)

sink = east.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sink.bind((lib.INNER[4][1], 7000))
sink.settimeout(lib.PATIENCE)
source = west.socket(socket.AF_INET, socket.SOCK_DGRAM)
source.bind((lib.INNER[4][0], 0))
source.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SIZE)


def configure(more):
    for side, engine in enumerate(engines):
        engine.flush()
        for sender in (0, 1):
            engine.xfrm(lib.state(sender, more=more))
        engine.xfrm(lib.policy("out", side))
        engine.xfrm(lib.policy("in", 1 - side))


def send_train(number):
    payload = bytes([number % 256]) * (SEGMENTS * SIZE)
    source.sendto(payload, (lib.INNER[4][1], 7000))
    for _ in range(SEGMENTS):
        assert sink.recv(65536) == payload[:SIZE]


def trace(engine):
    path = f"{lib.DIRECTORY}/strace-{engine.namespace.name}"
    pid = engine.pid()
    tracer = lib.start(["strace", "-f", "-q", "-o", path, "-p", str(pid)])
    lib.wait_until(
        lambda: "TracerPid:\t0" not in open(f"/proc/{pid}/status").read(), "strace attached"
    )
    return path, tracer


def threads_of(engine):
    tasks = f"/proc/{engine.pid()}/task"
    return {int(task): open(f"{tasks}/{task}/comm").read().strip() for task in os.listdir(tasks)}


def count(more):
    """Calls of the sending and of the receiving lane, by name, in all trains."""
    configure(more)
    for number in range(10):  # until caches are filled and frames have found their way
        send_train(number)
    traces = [trace(engine) for engine in engines]
    names = [threads_of(engine) for engine in engines]
    for number in range(TRAINS):
        send_train(number)
    busy = []
    for (path, tracer), names_here in zip(traces, names):
        lib.stop(tracer)
        calls = collections.Counter()
        with open(path) as lines:
            for line in lines:
                found = re.match(r"(\d+) +(?:<\.\.\. )?(\w+)", line)
                if not found or "resumed>" in line:
                    continue
                if names_here.get(int(found[1])) in ("xfrmfs/in0", "xfrmfs/out0"):
                    calls[found[2]] += 1
        busy.append(calls)
    return busy


for what, more in (("UDP", ENCAPSULATED), ("raw ESP", "")):
    for side, calls in zip(("sender", "receiver"), count(more)):
        wakes = (what, side) == ("raw ESP", "receiver")
        cost = sum(calls.values()) / (calls["poll"] if wakes else TRAINS)
        each = "wake-up" if wakes else "train"
        lib.check(1 < cost <= MOST, f"{what}, {side}: {cost:.2f} calls a {each}", dict(calls))
lib.finish()
