#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Do two other implementations of ESP, scapy and Wireshark's, agree with ours?

    west (scapy: raw frames)                         east (xfrmfs)
      192.1.2.45, 2001:db8:f::45 ---- eth0 ---- 192.1.2.23, ::23    ipsec0    192.0.2.254 on lo

What scapy seals must reach the application unchanged; what east seals must be opened by scapy and
by tshark, with a good ICV. Payloads of many lengths: each asks for another padding.
"""

import os
import struct

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

import lib

LENGTHS = list(range(1, 36)) + [1000, 1300]
PORT = 7000
# Algorithm words of `ip xfrm`; scapy's; the names in Wireshark's table of SAs.
SUITES = {
    "GCM-128": (lib.GCM_128, ("AES-GCM", 20, None), "AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
    "GCM-256": (lib.GCM_256, ("AES-GCM", 36, None), "AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
    "CBC+SHA256": (
        lib.CBC_SHA256, ("AES-CBC", 16, "SHA2-256-128"), "AES-CBC [RFC3602]",
        "HMAC-SHA-256-128 [RFC4868]",
    ),
}


def keys(side, scapy_suite):
    """The key bytes that lib.suite() writes into the `ip xfrm` command."""
    cipher = bytes([(0x4A, 0x7C)[side]]) * scapy_suite[1]
    return cipher, bytes([(0x15, 0xE6)[side]]) * 32 if scapy_suite[2] else b""


def association(side, outer, scapy_suite):
    header = IP if outer == 4 else IPv6
    cipher, authentication = keys(side, scapy_suite)
    more = {"auth_algo": scapy_suite[2], "auth_key": authentication} if scapy_suite[2] else {}
    return SecurityAssociation(
        ESP, spi=lib.SPIS[side], crypt_algo=scapy_suite[0], crypt_key=cipher,
        tunnel_header=header(src=lib.OUTER[outer][side], dst=lib.OUTER[outer][1 - side]), **more,
    )


def write_pcap(path, packets):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))  # 101: raw IP
        for packet in packets:
            file.write(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)


def tshark(packets, outer, scapy_suite, encryption, authentication):
    """(verdict on the ICV, UDP payload) of each packet that tshark understands."""
    path = os.path.join(lib.DIRECTORY, "esp.pcap")
    write_pcap(path, packets)
    cipher, mac = (f"0x{key.hex()}" if key else "" for key in keys(1, scapy_suite))
    association_words = (
        f"IPv{outer}", lib.OUTER[outer][1], lib.OUTER[outer][0], f"{lib.SPIS[1]:#010x}",
        encryption, cipher, authentication, mac,
    )
    output = lib.run(
        ["tshark", "-n", "-r", path, "-o", "esp.enable_encryption_decode:TRUE"]
        + ["-o", "esp.enable_authentication_check:TRUE"]
        + ["-o", "uat:esp_sa:" + ",".join(f'"{word}"' for word in association_words)]
        + ["-d", f"udp.port=={PORT},data"]
        + ["-T", "fields", "-e", "esp.icv_good", "-e", "data.data"]
    ).stdout
    return [tuple(line.split("\t")) for line in output.splitlines()]


west, east = lib.underlay()
engine = lib.Engine(east)
lib.route_into_tun(engine, 1)
wire = lib.Wire(west, "eth0", (east, "eth0"))
application = east.socket(lib.socket.AF_INET, lib.socket.SOCK_DGRAM)
application.bind((lib.INNER[4][1], PORT))
application.settimeout(lib.PATIENCE)

for name, (kind, scapy_suite, encryption, authentication) in SUITES.items():
    for outer in (4, 6):
        case = f"{name}, IPv{outer} outside"
        payloads = [bytes((n + i) % 256 for i in range(n)) for n in LENGTHS]
        before = engine.counters()
        lib.configure(engine, 1, kind, outer, 4)

        theirs = association(0, outer, scapy_suite)
        for number, payload in enumerate(payloads, 1):
            inner = IP(src=lib.INNER[4][0], dst=lib.INNER[4][1]) / UDP(sport=7, dport=PORT)
            wire.send(bytes(theirs.encrypt(inner / Raw(payload), seq_num=number)))
        got = [application.recv(2000) for _ in payloads]
        lib.check(got == payloads, f"{case}: xfrmfs opens what scapy sealed")

        seen = len(wire.incoming())
        for payload in payloads:
            east.send_udp(lib.INNER[4][0], PORT, payload, lib.INNER[4][1])
        lib.wait_until(
            lambda: len(wire.incoming()) >= seen + len(payloads), f"{case}: ESP on the wire"
        )
        esp = wire.incoming()[seen:]
        header = IP if outer == 4 else IPv6
        opened = [association(1, outer, scapy_suite).decrypt(header(packet)) for packet in esp]
        lib.check(
            [bytes(packet[UDP].payload) for packet in opened] == payloads,
            f"{case}: scapy opens what xfrmfs sealed",
        )
        lib.check(
            all((packet[IP].src, packet[UDP].dport) == (lib.INNER[4][1], PORT) for packet in opened),
            f"{case}: scapy sees the inner addresses and port",
        )
        lib.check_equal(
            tshark(esp, outer, scapy_suite, encryption, authentication),
            [("1", payload.hex()) for payload in payloads],
            f"{case}: tshark opens it too, every ICV good",
        )
        lib.check_equal(lib.moved(before, engine.counters()), {}, f"{case}: no counter moved")
        engine.flush()

lib.finish()
