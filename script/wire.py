#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks at, and sends, Ethernet frames for script/demo; Python's own library suffices.

    wire.py only-esp PCAP       0 if every frame is an IPv4 packet of ESP between the outer addresses
    wire.py attack PCAP MAC     sends three bad packets on device "wire", made from captured ones
"""

import socket
import struct
import sys

OUTER = {socket.inet_aton("192.1.2.45"), socket.inet_aton("192.1.2.23")}
ESP = 50


def frames(path):
    with open(path, "rb") as file:
        data = file.read()
    position = 24
    while position + 16 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 8)
        if position + 16 + length > len(data):
            return  # still being written
        yield data[position + 16 : position + 16 + length]
        position += 16 + length


def is_esp(frame):
    return (
        frame[12:14] == b"\x08\x00" and frame[23] == ESP
        and frame[26:30] in OUTER and frame[30:34] in OUTER
    )


def only_esp(path):
    all_frames = list(frames(path))
    strangers = [frame for frame in all_frames if not is_esp(frame)]
    for frame in strangers[:5]:
        print("not ESP:", frame[:60].hex())
    print(f"{len(all_frames)} frames, {len(strangers)} of them not ESP")
    return bool(all_frames) and not strangers


def attack(path, mac):
    """From one captured packet: 8 bytes of ESP header follow 14 of Ethernet and 20 of IPv4."""
    packet = next(frame for frame in frames(path) if is_esp(frame) and frame[14] == 0x45)
    packet = bytes.fromhex(mac.replace(":", "")) + packet[6:]
    spi, number = struct.unpack_from(">II", packet, 34)

    def with_header(new_spi, new_number):
        return packet[:34] + struct.pack(">II", new_spi, new_number) + packet[42:]

    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("wire", 0))
        # A number not seen yet, else it would be refused as a replay before its ICV is looked at.
        raw.send(with_header(spi, number + 1000))
        raw.send(packet)
        raw.send(with_header(spi ^ 0x0BAD0000, number))
    return True


if __name__ == "__main__":
    action = {"only-esp": only_esp, "attack": attack}[sys.argv[1]]
    sys.exit(0 if action(*sys.argv[2:]) else 1)
