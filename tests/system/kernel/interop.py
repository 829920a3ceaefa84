#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Do we and the ESP of a real kernel carry each other's traffic?

      host namespace "west"                        guest "east": Debian kernel in qemu
  192.0.1.254  xfrmfs  tap0 ========= ESP ========= eth0  esp4/esp6  192.0.2.254 on lo
               192.1.2.45, 2001:db8:f::45           192.1.2.23, 2001:db8:f::23

Ping and TCP both ways for each outer family and algorithm; then every counter of both sides is
where it was, and nothing but ESP was on the link.
"""

import hashlib
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import lib
from guest import SETUP, Guest, quoted

SIZE = 400_000
AUTH = "auth-trunc hmac(sha256) 0x" + "5c" * 32 + " 128"
# Between the two hosts themselves.
HOST_TO_HOST = (
    ("GCM-128 in transport mode", lib.GCM_128, "esp", "transport"),
    ("CBC+SHA256 in transport mode", lib.CBC_SHA256, "esp", "transport"),
    ("AH in transport mode", AUTH, "ah", "transport"),
    ("AH in a tunnel", AUTH, "ah", "tunnel"),
)
PORT = 5001


def configure_guest(kind, outer, inner):
    commands = [lib.state(side, kind, outer, inner) for side in (0, 1)]
    commands.append(lib.policy("out", 1, outer, inner))
    commands.append(lib.policy("in", 0, outer, inner))
    guest.must("set -e\n" + "\n".join(map(quoted, commands)))


def host_to_host(outer, kind, proto, mode):
    """The commands of west and of the guest."""
    west_end, east_end = lib.OUTER[outer]
    ends = ((west_end, east_end, 0x2001), (east_end, west_end, 0x2002))
    states = [
        f"state add src {src} dst {dst} proto {proto} spi {spi} reqid 1 mode {mode} "
        f"replay-window 32 {kind.format('3c', '5c')}"
        for src, dst, spi in ends
    ]
    of = lambda src, dst: f"tmpl src {src} dst {dst}" if mode == "tunnel" else "tmpl"
    policies = [
        [f"policy add src {src} dst {dst} dir {'out' if side == sender else 'in'} "
         f"{of(src, dst)} proto {proto} reqid 1 mode {mode}"
         for sender, (src, dst, _) in enumerate(ends)]
        for side in (0, 1)
    ]
    return [states + policies[0], states + policies[1]]


def say_goodbye():
    """Waits until no TCP connection has anything left to send: it would be sent without an SA."""
    guest.must("while netstat -tn | grep -qE 'ESTABLISHED|FIN_WAIT|CLOS|LAST_ACK'; do :; done")
    lib.wait_until(
        lambda: not west.run("ss -Htn state connected exclude time-wait").stdout, "TCP has ended"
    )


def to_guest(inner, address=None):
    """Sends random bytes over TCP; true if the guest has the same digest of them."""
    data = os.urandom(SIZE)
    guest.must(f"nc -l -p {PORT} </dev/null >/tmp/received 2>/tmp/nc-errors &")
    guest.must(f"until netstat -ln | grep -q ':{PORT} '; do :; done")
    connect(inner, address, lambda stream: (stream.sendall(data), stream.shutdown(socket.SHUT_WR)))
    guest.must(f"until [ $(wc -c </tmp/received) = {SIZE} ]; do usleep 20000; done", lib.PATIENCE)
    return guest.must("sha256sum </tmp/received").split()[0] == hashlib.sha256(data).hexdigest()


def from_guest(inner, address=None):
    digest = guest.must(f"head -c {SIZE} /dev/urandom >/tmp/sent; sha256sum </tmp/sent").split()[0]
    guest.must(f"nc -l -p {PORT} </tmp/sent >/dev/null 2>/tmp/nc-errors &")
    guest.must(f"until netstat -ln | grep -q ':{PORT} '; do :; done")
    data = bytearray()

    def receive(stream):
        while len(data) < SIZE and (piece := stream.recv(1 << 16)):
            data.extend(piece)

    connect(inner, address, receive)
    return hashlib.sha256(data).hexdigest() == digest


def connect(inner, address, use):
    family = socket.AF_INET if inner == 4 else socket.AF_INET6
    with west.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(60)
        stream.connect((address or lib.INNER[inner][1], PORT))
        use(stream)


west = lib.Namespace("west")
west.ip("tuntap add tap0 mode tap")
west.ip(f"addr add {lib.OUTER[4][0]}/24 dev tap0")
west.ip(f"addr add {lib.OUTER[6][0]}/64 dev tap0")
west.ip("link set tap0 up")
for family in (4, 6):
    west.ip(f"addr add {lib.INNER[family][0]}/{32 if family == 4 else 128} dev lo")

with Guest(west.name, "tap0") as guest:
    print(f"     guest: {guest.must('uname -r').strip()}, booted in {guest.boot_seconds:.1f} s")
    guest.must(SETUP)
    # Neighbours first, so that only ESP is left on the link.
    for family in (4, 6):
        west.run(f"ping -n -c 1 -w 10 {lib.OUTER[family][1]}")
    engine = lib.Engine(west, underlay="tap0")
    lib.route_into_tun(engine, 0)
    wire = lib.Wire(west, "tap0")

    for outer, inner in ((4, 4), (6, 6), (4, 6), (6, 4)):
        for name, kind in (("GCM-128", lib.GCM_128), ("CBC+SHA256", lib.CBC_SHA256)):
            case = f"IPv{inner} in IPv{outer}, {name}"
            before, before_guest = engine.counters(), guest.counters()
            configure_guest(kind, outer, inner)
            lib.configure(engine, 0, kind, outer, inner)

            ping = west.run(f"ping -n -c 3 -i 0.1 -W 10 {lib.INNER[inner][1]}", check=False)
            lib.check(" 3 received" in ping.stdout, f"{case}: ping to the kernel", ping.stdout)
            status, output = guest.run(f"ping -c 3 -w 20 {lib.INNER[inner][0]}")
            lib.check(status == 0, f"{case}: ping from the kernel", output)
            lib.check(to_guest(inner), f"{case}: {SIZE} bytes to the kernel")
            lib.check(from_guest(inner), f"{case}: {SIZE} bytes from the kernel")
            say_goodbye()
            lib.check_equal(lib.moved(before, engine.counters()), {}, f"{case}: our counters")
            lib.check_equal(
                lib.moved(before_guest, guest.counters()), {}, f"{case}: the kernel's counters"
            )
            guest.must("ip xfrm state flush; ip xfrm policy flush")
            engine.flush()

    # These policies want neighbour discovery protected too, which then cannot work.
    ours = json.loads(west.run("ip -j link show tap0").stdout)[0]["address"]
    for outer in (4, 6):
        west.ip(f"neigh replace {lib.OUTER[outer][1]} lladdr {guest.mac} nud permanent dev tap0")
        guest.must(f"ip neigh replace {lib.OUTER[outer][0]} lladdr {ours} nud permanent dev eth0")
    for outer in (4, 6):
        for name, kind, proto, mode in HOST_TO_HOST:
            case = f"IPv{outer}, {name}"
            before, before_guest = engine.counters(), guest.counters()
            commands = host_to_host(outer, kind, proto, mode)
            guest.must("set -e\n" + "\n".join(map(quoted, commands[1])))
            for command in commands[0]:
                engine.xfrm(command)
            here, there = lib.OUTER[outer]
            west.ip(f"route add {there} dev {engine.tun} src {here}")

            ping = west.run(f"ping -n -c 3 -i 0.1 -W 10 {there}", check=False)
            lib.check(" 3 received" in ping.stdout, f"{case}: ping to the kernel", ping.stdout)
            status, output = guest.run(f"ping -c 3 -w 20 {here}")
            lib.check(status == 0, f"{case}: ping from the kernel", output)
            lib.check(to_guest(outer, there), f"{case}: {SIZE} bytes to the kernel")
            lib.check(from_guest(outer, there), f"{case}: {SIZE} bytes from the kernel")
            say_goodbye()
            lib.check_equal(lib.moved(before, engine.counters()), {}, f"{case}: our counters")
            lib.check_equal(
                lib.moved(before_guest, guest.counters()), {}, f"{case}: the kernel's counters"
            )
            guest.must("ip xfrm state flush; ip xfrm policy flush")
            engine.flush()
            west.ip(f"route del {there} dev {engine.tun}")

    esp = [p for _, p in wire.packets if lib.protocol(p) == lib.ESP]
    inner_nets = [p for _, p in wire.packets if b"\xc0\x00\x01\xfe" in p[12:20]]
    lib.check(len(esp) > 1000, f"{len(esp)} ESP packets on the link")
    lib.check_equal(inner_nets, [], "clear packets with protected addresses on the link")
lib.finish()
