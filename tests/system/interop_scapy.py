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


class Suite:
    """A cipher and a MAC, as `ip xfrm`, scapy and Wireshark's table of SAs name them."""

    def __init__(self, cipher, mac=None):
        self.words, self.crypt, self.key_size, self.wireshark_crypt = cipher
        self.auth, self.mac_key_size, self.wireshark_auth = None, 0, "NULL"
        key = "0x" + "{0}" * self.key_size if self.key_size else "''"
        if mac is None:
            self.words = f"aead {self.words} {key} 128"
            return
        name, bits, self.auth, self.mac_key_size, self.wireshark_auth = mac
        self.words = f"enc {self.words} {key} auth-trunc {name} 0x{'{1}' * self.mac_key_size} {bits}"

    def keys(self, side):
        """The key bytes that lib.suite() writes into the `ip xfrm` command."""
        return (
            bytes([(0x4A, 0x7C)[side]]) * self.key_size,
            bytes([(0x15, 0xE6)[side]]) * self.mac_key_size,
        )

    def association(self, side, outer):
        header = IP if outer == 4 else IPv6
        key, mac_key = self.keys(side)
        more = {"auth_algo": self.auth, "auth_key": mac_key} if self.auth else {}
        return SecurityAssociation(
            ESP, spi=lib.SPIS[side], crypt_algo=self.crypt, crypt_key=key,
            tunnel_header=header(src=lib.OUTER[outer][side], dst=lib.OUTER[outer][1 - side]),
            **more,
        )


def gcm(size):
    return "rfc4106(gcm(aes))", "AES-GCM", size, "AES-GCM with 16 octet ICV [RFC4106]"


def cbc(size):
    return "cbc(aes)", "AES-CBC", size, "AES-CBC [RFC3602]"


MD5 = "hmac(md5)", 96, "HMAC-MD5-96", 16, "HMAC-MD5-96 [RFC2403]"
SHA1 = "hmac(sha1)", 96, "HMAC-SHA1-96", 20, "HMAC-SHA-1-96 [RFC2404]"
SHA256 = "hmac(sha256)", 128, "SHA2-256-128", 32, "HMAC-SHA-256-128 [RFC4868]"
SHA384 = "hmac(sha384)", 192, "SHA2-384-192", 48, "HMAC-SHA-384-192 [RFC4868]"
SHA512 = "hmac(sha512)", 256, "SHA2-512-256", 64, "HMAC-SHA-512-256 [RFC4868]"
CMAC = "cmac(aes)", 96, "AES-CMAC-96", 16, None
# Wireshark has no name, or decrypts otherwise, where there is None.
SUITES = {
    "GCM-128": Suite(gcm(20)),
    "GCM-256": Suite(gcm(36)),
    "CCM-128": Suite(("rfc4309(ccm(aes))", "AES-CCM", 19, None)),
    "CCM-256": Suite(("rfc4309(ccm(aes))", "AES-CCM", 35, None)),
    "ChaCha20-Poly1305": Suite(
        ("rfc7539esp(chacha20,poly1305)", "CHACHA20-POLY1305", 36, None)
    ),
    "CBC+SHA256": Suite(cbc(16), SHA256),
    "CBC-192+SHA384": Suite(cbc(24), SHA384),
    "CBC-256+SHA512": Suite(cbc(32), SHA512),
    "CBC+CMAC": Suite(cbc(16), CMAC),
    "CTR+SHA256": Suite(("rfc3686(ctr(aes))", "AES-CTR", 20, "AES-CTR [RFC3686]"), SHA256),
    "NULL+SHA256": Suite(("ecb(cipher_null)", "NULL", 0, "NULL"), SHA256),
    "3DES+MD5": Suite(("cbc(des3_ede)", "3DES", 24, "TripleDES-CBC [RFC2451]"), MD5),
    "Blowfish+SHA1": Suite(("cbc(blowfish)", "Blowfish", 16, "BLOWFISH-CBC [RFC2451]"), SHA1),
    "CAST5+SHA1": Suite(("cbc(cast5)", "CAST", 16, "CAST5-CBC [RFC2144]"), SHA1),
    "DES+MD5": Suite(("cbc(des)", "DES", 8, "DES-CBC [RFC2405]"), MD5),
}
BOTH_FAMILIES = ("GCM-128", "GCM-256", "CBC+SHA256")


def write_pcap(path, packets):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))  # 101: raw IP
        for packet in packets:
            file.write(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)


def tshark(packets, outer, suite):
    """(verdict on the ICV, UDP payload) of each packet that tshark understands."""
    path = os.path.join(lib.DIRECTORY, "esp.pcap")
    write_pcap(path, packets)
    cipher, mac = (f"0x{key.hex()}" if key else "" for key in suite.keys(1))
    association_words = (
        f"IPv{outer}", lib.OUTER[outer][1], lib.OUTER[outer][0], f"{lib.SPIS[1]:#010x}",
        suite.wireshark_crypt, cipher, suite.wireshark_auth, mac,
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
engine = lib.Engine(east, "--legacy")
lib.route_into_tun(engine, 1)
wire = lib.Wire(west, "eth0", (east, "eth0"))
application = east.socket(lib.socket.AF_INET, lib.socket.SOCK_DGRAM)
application.bind((lib.INNER[4][1], PORT))
application.settimeout(lib.PATIENCE)

for name, suite in SUITES.items():
    for outer in (4, 6) if name in BOTH_FAMILIES else (4,):
        case = f"{name}, IPv{outer} outside"
        payloads = [bytes((n + i) % 256 for i in range(n)) for n in LENGTHS]
        before = engine.counters()
        lib.configure(engine, 1, suite.words, outer, 4)

        theirs = suite.association(0, outer)
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
        opened = [suite.association(1, outer).decrypt(header(packet)) for packet in esp]
        lib.check(
            [bytes(packet[UDP].payload) for packet in opened] == payloads,
            f"{case}: scapy opens what xfrmfs sealed",
        )
        lib.check(
            all((packet[IP].src, packet[UDP].dport) == (lib.INNER[4][1], PORT) for packet in opened),
            f"{case}: scapy sees the inner addresses and port",
        )
        if suite.wireshark_crypt and suite.wireshark_auth:
            lib.check_equal(
                tshark(esp, outer, suite),
                [("1", payload.hex()) for payload in payloads],
                f"{case}: tshark opens it too, every ICV good",
            )
        lib.check_equal(lib.moved(before, engine.counters()), {}, f"{case}: no counter moved")
        engine.flush()

lib.finish()
