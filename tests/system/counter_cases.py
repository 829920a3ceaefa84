# SPDX-License-Identifier: Apache-2.0
"""Which packets move which line of net/xfrm_stat: a table of cases, for us and for a real kernel.

Seen from east, which has 192.1.2.23 outside and 192.0.2.254 inside. Every case starts with empty
tables. `counters.py` runs the table against xfrmfs, `kernel/counters_same.py` against Linux.
"""

import dataclasses
import struct

from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

import lib

WEST_OUT, EAST_OUT = lib.OUTER[4]
WEST_IN, EAST_IN = lib.INNER[4]
KEY = bytes([0x4A]) * 20  # lib.GCM_128 of west
PORT = 7000


@dataclasses.dataclass
class Case:
    name: str
    tables: list  # `ip xfrm` commands
    arriving: list = dataclasses.field(default_factory=list)  # packets from the wire
    leaving: int = 0  # packets towards 192.0.1.254
    moves: dict = dataclasses.field(default_factory=dict)  # all counters that move
    sent: int = 0  # ESP packets that leave
    delivered: int = 0  # datagrams that reach port 7000
    of_kernel: bool = True  # a kernel, which is no TUN engine, does the same
    one_by_one: bool = False  # each packet only after the one before has been dealt with


def sealed(number, port=PORT, spi=lib.SPIS[0], next_header=None):
    """One ESP packet as west would send it: tunnel mode, or any next header by transport mode."""
    outer = IP(src=WEST_OUT, dst=EAST_OUT)
    association = SecurityAssociation(
        ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=KEY,
        tunnel_header=None if next_header else outer,
    )
    if next_header:
        inner = IP(src=WEST_OUT, dst=EAST_OUT, proto=next_header) / Raw(b"not an IP header")
    else:
        inner = IP(src=WEST_IN, dst=EAST_IN) / UDP(sport=7, dport=port) / Raw(b"clear")
    packet = bytes(association.encrypt(inner, seq_num=number or 1))
    return packet if number else packet[:24] + bytes(4) + packet[28:]  # scapy refuses number 0


def raw_esp(payload):
    return bytes(IP(src=WEST_OUT, dst=EAST_OUT, proto=lib.ESP) / Raw(payload))


def tampered(packet):
    return packet[:-1] + bytes([packet[-1] ^ 1])


def six_templates(direction, side, selector):
    """Six are what one policy can hold, and one more than the path accepts."""
    template = (
        f"tmpl src {lib.OUTER[4][side]} dst {lib.OUTER[4][1 - side]} proto esp reqid 1 mode tunnel "
    )
    return f"policy add {selector} dir {direction} " + template * 6


IN_SA, OUT_SA = lib.state(0), lib.state(1)
IN_POLICY, OUT_POLICY = lib.policy("in", 0), lib.policy("out", 1)
IN_SELECTOR = f"src {lib.NETS[4][0]} dst {lib.NETS[4][1]}"
OUT_SELECTOR = f"src {lib.NETS[4][1]} dst {lib.NETS[4][0]}"
IN = [IN_SA, IN_POLICY]

CASES = [
    Case("good packets, both ways", IN + [OUT_SA, OUT_POLICY], [sealed(1), sealed(2)], leaving=1,
         sent=1, delivered=2),

    # Before the SA is known.
    Case("ESP of four bytes", IN, [raw_esp(b"\0\0\x10\x01")], moves={"XfrmInHdrError": 1}),
    Case("unknown SPI", IN, [sealed(1, spi=0x1002)], moves={"XfrmInNoStates": 1}),
    Case("SPI 0", IN, [raw_esp(bytes(64))], moves={"XfrmInNoStates": 1}),
    Case("a larval SA",
         [f"state allocspi src {WEST_OUT} dst {EAST_OUT} proto esp mode tunnel min 0x600 max 0x600"],
         [sealed(1, spi=0x600)], moves={"XfrmAcquireError": 1}),

    # The SA's own checks.
    Case("a bit of the ICV flipped", IN, [tampered(sealed(1))],
         moves={"XfrmInStateProtoError": 1}),
    Case("a tampered packet does not use up its number", IN, [tampered(sealed(1)), sealed(1)],
         moves={"XfrmInStateProtoError": 1}, delivered=1),
    Case("only the ESP header", IN, [raw_esp(struct.pack(">II", lib.SPIS[0], 1))],
         moves={"XfrmInStateProtoError": 1}),
    Case("dummy packet, next header 59", IN, [sealed(1, next_header=59)],
         moves={"XfrmInStateProtoError": 1}),
    Case("the same packet twice", IN, [sealed(1), sealed(1)],
         moves={"XfrmInStateSeqError": 1}, delivered=1),
    Case("sequence number 0", IN, [sealed(0)], moves={"XfrmInStateSeqError": 1}),
    Case("left of the window by one", IN, [sealed(40), sealed(8)],
         moves={"XfrmInStateSeqError": 1}, delivered=1),
    Case("left edge of the window", IN, [sealed(40), sealed(9)], delivered=2),
    # In one batch the second would be opened before the first has taken its number.
    Case("replayed and tampered: the number decides", IN, [sealed(1), tampered(sealed(1))],
         one_by_one=True, moves={"XfrmInStateSeqError": 1}, delivered=1),
    Case("fourth packet of three", [lib.state(0, more="limit packet-hard 3"), IN_POLICY],
         [sealed(n) for n in (1, 2, 3, 4)], moves={"XfrmInStateExpired": 1}, delivered=3),
    Case("next header UDP in a tunnel", IN, [sealed(1, next_header=17)],
         moves={"XfrmInStateModeError": 1}),

    # Policy.
    Case("selector of the SA does not match",
         [lib.state(0, more=f"sel {IN_SELECTOR} proto udp dport {PORT}"), IN_POLICY],
         [sealed(1), sealed(2, port=PORT + 2)], moves={"XfrmInStateMismatch": 1}, delivered=1),
    Case("template asks for another reqid", [IN_SA, lib.policy("in", 0, reqid=2)], [sealed(1)],
         moves={"XfrmInTmplMismatch": 1}),
    Case("policy without template", [IN_SA, f"policy add {IN_SELECTOR} dir in"], [sealed(1)],
         moves={"XfrmInTmplMismatch": 1}),
    Case("tunnel without a policy", [IN_SA], [sealed(1)], moves={"XfrmInNoPols": 1}),
    Case("only a forward policy for a local address", [IN_SA, lib.policy("fwd", 0)], [sealed(1)],
         moves={"XfrmInNoPols": 1}),
    Case("blocked inbound", [IN_SA, f"policy add {IN_SELECTOR} dir in action block"], [sealed(1)],
         moves={"XfrmInPolBlock": 1}),
    Case("six templates inbound", [IN_SA, six_templates("in", 0, IN_SELECTOR)], [sealed(1)],
         moves={"XfrmInBufferError": 1}),

    # Outbound.
    Case("no policy outbound: nothing leaves, nothing counts", [OUT_SA], leaving=1,
         of_kernel=False),
    Case("template without an SA", [OUT_POLICY], leaving=1, moves={"XfrmOutNoStates": 1}),
    Case("blocked outbound", [OUT_SA, f"policy add {OUT_SELECTOR} dir out action block"],
         leaving=1, moves={"XfrmOutPolBlock": 1}),
    Case("six templates outbound", [OUT_SA, six_templates("out", 1, OUT_SELECTOR)], leaving=1,
         moves={"XfrmOutPolError": 1}),
    Case("third packet of two", [lib.state(1, more="limit packet-hard 2"), OUT_POLICY], leaving=3,
         moves={"XfrmOutStateExpired": 1}, sent=2),
    Case("sequence numbers used up", [lib.state(1, more="replay-oseq 0xfffffffd"), OUT_POLICY],
         leaving=3, moves={"XfrmOutStateSeqError": 1}, sent=2),
]
