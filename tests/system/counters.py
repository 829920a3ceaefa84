#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan
"""Does every line of net/xfrm_stat that a packet can reach move alone, and by exactly one?

    west (this test: raw frames)                     east (xfrmfs)
      192.1.2.45 --------- eth0 ---------- 192.1.2.23    ipsec0    192.0.2.254 on lo
                                                          routes to 192.0.1.0/24, 198.51.100.9

Each case starts from empty tables, sends packets through the real socket or the real TUN device
and reads the counters through the mount. A fence packet in each direction, with a counter of its
own, tells when everything before it has been dealt with.
"""

import struct
import sys
import time

from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

import lib

WEST_OUT, EAST_OUT = lib.OUTER[4]
WEST_IN, EAST_IN = lib.INNER[4]
FENCE = "198.51.100.9"
KEY = bytes([0x4A]) * 20  # lib.GCM_128 of west

west, east = lib.underlay()
engine = lib.Engine(east, "--workers 1")
lib.route_into_tun(engine, 1)
east.ip(f"route add {FENCE} dev {engine.tun} src {EAST_IN}")
wire = lib.Wire(west, "eth0", (east, "eth0"))


# --- Packets towards east's socket.


def sealed(number, port=7000, spi=lib.SPIS[0], next_header=None):
    """One ESP packet as west would send it: tunnel mode, or any next header by transport mode."""
    outer = IP(src=WEST_OUT, dst=EAST_OUT)
    tunnel = None if next_header else outer
    association = SecurityAssociation(
        ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=KEY, tunnel_header=tunnel
    )
    if next_header:
        inner = IP(src=WEST_OUT, dst=EAST_OUT, proto=next_header) / Raw(b"not an IP header")
    else:
        inner = IP(src=WEST_IN, dst=EAST_IN) / UDP(sport=7, dport=port) / Raw(b"clear")
    packet = bytes(association.encrypt(inner, seq_num=number or 1))
    return packet if number else packet[:24] + bytes(4) + packet[28:]  # scapy refuses number 0


def arrive(*packets):
    for packet in packets:
        wire.send(packet)


def raw_esp(payload):
    return bytes(IP(src=WEST_OUT, dst=EAST_OUT, proto=lib.ESP) / Raw(payload))


def tampered(packet):
    return packet[:-1] + bytes([packet[-1] ^ 1])


# --- Packets into east's TUN device.


def leave(count=1):
    for _ in range(count):
        east.send_udp(WEST_IN, 7000)


# --- Tables.

IN_SA = lib.state(0)
OUT_SA = lib.state(1)
IN_POLICY = lib.policy("in", 0)
OUT_POLICY = lib.policy("out", 1)
OUT_SELECTOR = f"src {lib.NETS[4][1]} dst {lib.NETS[4][0]}"
IN_SELECTOR = f"src {lib.NETS[4][0]} dst {lib.NETS[4][1]}"


def six_templates(direction, side, selector):
    """Six are what one policy can hold, and one more than the path accepts."""
    template = (
        f"tmpl src {lib.OUTER[4][side]} dst {lib.OUTER[4][1 - side]} proto esp reqid 1 mode tunnel "
    )
    return f"policy add {selector} dir {direction} " + template * 6


# name of the case; tables; what is sent; the counters that move (and nothing else may).
CASES = [
    ("good packets, both ways", [IN_SA, IN_POLICY, OUT_SA, OUT_POLICY],
     lambda: (arrive(sealed(1), sealed(2)), leave()), {}),

    ("ESP of four bytes", [IN_SA, IN_POLICY],
     lambda: arrive(raw_esp(b"\0\0\x10\x01")), {"XfrmInHdrError": 1}),
    ("unknown SPI", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(1, spi=0x1002)), {"XfrmInNoStates": 1}),
    ("SPI 0", [IN_SA, IN_POLICY],
     lambda: arrive(raw_esp(bytes(64))), {"XfrmInNoStates": 1}),
    ("a bit of the ICV flipped", [IN_SA, IN_POLICY],
     lambda: arrive(tampered(sealed(1))), {"XfrmInStateProtoError": 1}),
    ("a tampered packet does not use up its number", [IN_SA, IN_POLICY],
     lambda: arrive(tampered(sealed(1)), sealed(1)), {"XfrmInStateProtoError": 1}),
    ("only the ESP header", [IN_SA, IN_POLICY],
     lambda: arrive(raw_esp(struct.pack(">II", lib.SPIS[0], 1))), {"XfrmInStateProtoError": 1}),
    ("dummy packet (next header 59)", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(1, next_header=59)), {"XfrmInStateProtoError": 1}),
    ("the same packet twice", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(1), sealed(1)), {"XfrmInStateSeqError": 1}),
    ("sequence number 0", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(0)), {"XfrmInStateSeqError": 1}),
    ("left of the window by one", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(40), sealed(8)), {"XfrmInStateSeqError": 1}),
    ("left edge of the window", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(40), sealed(9)), {}),
    ("replayed and tampered: the number decides", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(1), tampered(sealed(1))), {"XfrmInStateSeqError": 1}),
    ("fourth packet of three", [lib.state(0, more="limit packet-hard 3"), IN_POLICY],
     lambda: arrive(*map(sealed, (1, 2, 3, 4))), {"XfrmInStateExpired": 1}),
    ("next header UDP in a tunnel", [IN_SA, IN_POLICY],
     lambda: arrive(sealed(1, next_header=17)), {"XfrmInStateModeError": 1}),
    ("selector of the SA does not match",
     [lib.state(0, more=f"sel {IN_SELECTOR} proto udp dport 7000"), IN_POLICY],
     lambda: arrive(sealed(1, port=7000), sealed(2, port=7002)), {"XfrmInStateMismatch": 1}),
    ("template asks for another reqid", [IN_SA, lib.policy("in", 0, reqid=2)],
     lambda: arrive(sealed(1)), {"XfrmInTmplMismatch": 1}),
    ("policy without template, packet from a tunnel",
     [IN_SA, f"policy add {IN_SELECTOR} dir in"],
     lambda: arrive(sealed(1)), {"XfrmInTmplMismatch": 1}),
    ("tunnel without a policy", [IN_SA],
     lambda: arrive(sealed(1)), {"XfrmInNoPols": 1}),
    ("only a forward policy for a local address", [IN_SA, lib.policy("fwd", 0)],
     lambda: arrive(sealed(1)), {"XfrmInNoPols": 1}),
    ("blocked inbound", [IN_SA, f"policy add {IN_SELECTOR} dir in action block"],
     lambda: arrive(sealed(1)), {"XfrmInPolBlock": 1}),
    ("six templates inbound", [IN_SA, six_templates("in", 0, IN_SELECTOR)],
     lambda: arrive(sealed(1)), {"XfrmInBufferError": 1}),
    ("packet for a larval SA",
     [f"state allocspi src {WEST_OUT} dst {EAST_OUT} proto esp mode tunnel min 0x600 max 0x600"],
     lambda: arrive(sealed(1, spi=0x600)), {"XfrmAcquireError": 1}),

    ("no policy outbound: dropped without a counter", [OUT_SA], leave, {}),
    ("template without an SA", [OUT_POLICY], leave, {"XfrmOutNoStates": 1}),
    ("blocked outbound", [OUT_SA, f"policy add {OUT_SELECTOR} dir out action block"],
     leave, {"XfrmOutPolBlock": 1}),
    ("six templates outbound", [OUT_SA, six_templates("out", 1, OUT_SELECTOR)],
     leave, {"XfrmOutPolError": 1}),
    ("third packet of two", [lib.state(1, more="limit packet-hard 2"), OUT_POLICY],
     lambda: leave(3), {"XfrmOutStateExpired": 1}),
    ("sequence numbers used up", [lib.state(1, more="replay-oseq 0xfffffffd"), OUT_POLICY],
     lambda: leave(3), {"XfrmOutStateSeqError": 1}),
]
# How many ESP packets east sends in the outbound cases; in the others none.
SENT = {"good packets, both ways": 1, "third packet of two": 2, "sequence numbers used up": 2}
# Cases whose packet reaches the application: how many of the packets to port 7000.
DELIVERED = {
    "good packets, both ways": 2, "a tampered packet does not use up its number": 1,
    "the same packet twice": 1, "left of the window by one": 1, "left edge of the window": 2,
    "replayed and tampered: the number decides": 1, "fourth packet of three": 3,
    "selector of the SA does not match": 1,
}


def fence():
    """Returns when all that was sent before has been dealt with; moves these two by one."""
    before = engine.counters()
    arrive(raw_esp(bytes.fromhex("fe0ce0ff") + bytes(60)))
    east.send_udp(FENCE)
    lib.wait_until(
        lambda: all(engine.counters()[name] > before[name] for name in FENCE_MOVES),
        "the fence packets are counted",
    )


FENCE_MOVES = {"XfrmInNoStates": 1, "XfrmOutPolBlock": 1}
FENCE_POLICY = f"policy add src 0.0.0.0/0 dst {FENCE}/32 dir out action block priority 1"


def delivered():
    """How many datagrams wait at the application."""
    count = 0
    while True:
        try:
            application.recv(100)
            count += 1
        except BlockingIOError:
            return count


application = east.socket(lib.socket.AF_INET, lib.socket.SOCK_DGRAM)
application.bind((EAST_IN, 7000))
application.setblocking(False)

only = sys.argv[2:]
for name, tables, send, expected in CASES:
    if only and not any(word in name for word in only):
        continue
    engine.flush()
    for command in [FENCE_POLICY] + tables:
        engine.xfrm(command)
    fence()
    before, seen_before = engine.counters(), len(wire.incoming())
    send()
    fence()
    seen = lib.moved(before, engine.counters())
    for counter, by in FENCE_MOVES.items():
        seen[counter] = seen.get(counter, 0) - by
    seen = {counter: by for counter, by in seen.items() if by}
    lib.check_equal(seen, expected, f"{name}: {expected or 'no counter'}")

    sent = SENT.get(name, 0)
    if sent:
        lib.wait_until(lambda: len(wire.incoming()) >= seen_before + sent, f"{name}: ESP on the wire")
    lib.check_equal(
        [lib.protocol(p) for p in wire.incoming()[seen_before:]], [lib.ESP] * sent,
        f"{name}: {sent} packets on the wire",
    )
    count, wanted = delivered(), DELIVERED.get(name, 0)
    deadline = time.monotonic() + lib.PATIENCE
    while count < wanted and time.monotonic() < deadline:
        count += delivered()
    lib.check_equal(count, wanted, f"{name}: {wanted} packets delivered")

lib.finish()
