#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Makes scapy_ah.txt: packets under AH by another implementation. Run it by hand, output to the file.
#
# No IPv4 source route among them: scapy leaves the first hop in the header where RFC 4302
# §3.3.3.1.1.2 wants the last.

from scapy.layers.inet import (ICMP, IP, UDP, IPOption_RR, IPOption_Router_Alert,
                               IPOption_Security, IPOption_Timestamp)
from scapy.layers.inet6 import (HBHOptUnknown, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt,
                                IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, RouterAlert)
from scapy.layers.ipsec import AH, SecurityAssociation

NAMES = {"HMAC-SHA1-96": ("hmac(sha1)", 20, 96), "SHA2-256-128": ("hmac(sha256)", 32, 128),
         "SHA2-384-192": ("hmac(sha384)", 48, 192), "SHA2-512-256": ("hmac(sha512)", 64, 256)}

V4 = {"src": "192.0.2.1", "dst": "198.51.100.9", "tos": 0xB9, "ttl": 17, "id": 0x1234, "flags": "DF"}
V6 = {"src": "2001:db8::1", "dst": "2001:db8:1::9", "tc": 0x2E, "fl": 0xABCDE, "hlim": 9}
DATAGRAM = UDP(sport=4000, dport=5000) / b"what is said, and by whom"
TIMESTAMP = IPOption_Timestamp(length=12, pointer=9, oflw=3, flg=1, internet_address="10.0.0.1",
                               timestamp=0x01020304)
MANY = [IPOption_Router_Alert(), TIMESTAMP, IPOption_Security(security=7),
        IPOption_RR(length=7, pointer=8, routers=["10.9.8.7"])]
HOPS = IPv6ExtHdrHopByHop(options=[RouterAlert(value=3), HBHOptUnknown(otype=0x3E, optdata=b"abcdef")])
STOPS = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"stays"),
                                   HBHOptUnknown(otype=0x22, optdata=b"changes")])
ROUTE = IPv6ExtHdrRouting(addresses=["2001:db8:2::1", "2001:db8:3::2", "2001:db8:4::3"], segleft=3)

CASES = [
    ("IPv4", "HMAC-SHA1-96", IP(**V4) / DATAGRAM, None),
    ("IPv4, ICV of 16 bytes", "SHA2-256-128", IP(**V4) / DATAGRAM, None),
    ("IPv4 with options", "HMAC-SHA1-96", IP(**V4, options=MANY) / DATAGRAM, None),
    ("IPv4, extended numbers", "SHA2-256-128", IP(**V4) / DATAGRAM, 5),
    ("IPv4, SHA-384", "SHA2-384-192", IP(**V4) / ICMP() / b"echo", None),
    ("IPv6", "HMAC-SHA1-96", IPv6(**V6) / DATAGRAM, None),
    ("IPv6, ICV of 16 bytes", "SHA2-256-128", IPv6(**V6) / DATAGRAM, None),
    ("IPv6, hop-by-hop options", "SHA2-256-128", IPv6(**V6) / HOPS / DATAGRAM, None),
    ("IPv6, routing header", "HMAC-SHA1-96", IPv6(**V6) / ROUTE / DATAGRAM, None),
    ("IPv6, all, extended numbers", "SHA2-512-256",
     IPv6(**V6) / HOPS / STOPS / ROUTE / ICMPv6EchoRequest(data=b"echo"), 0xFFFFFFFF),
]

print("""# Packets under AH, made by scapy 2.5.0; see scapy_ah.py. ip_header is what AH has in front, with
# its extension headers; packet begins with AH.
""")
for number, (about, algorithm, packet, high) in enumerate(CASES, 1):
    name, key_size, bits = NAMES[algorithm]
    key = bytes(range(number, number + key_size))
    sa = SecurityAssociation(AH, spi=0x1000 + number, seq_num=0x700 + number, auth_algo=algorithm,
                             auth_key=key, esn_en=high is not None, esn=high or 0)
    sealed = sa.encrypt(packet)
    whole = bytes(sealed)
    covered = bytes(sealed[AH])
    payload = bytes(sealed[AH].payload)
    print(f"""# {about}
case = {number}
algorithm = {name}
key = {key.hex()}
truncation = {bits}
spi = {sa.spi:08x}
esn = {0 if high is None else 1}
sequence = {(high or 0) << 32 | 0x700 + number:016x}
next_header = {sealed[AH].nh}
ip_header = {whole[:-len(covered)].hex()}
payload = {payload.hex()}
packet = {covered.hex()}
""")
