#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Computes the known answers in engine/crypto/self_test.cc with another implementation.
#
# Packets: see SelfTest::passes(). Run it by hand after the test's packets change.

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PACKETS = 33
MAX_TEXT = 1408


def text_of(packet, unit):
    size = unit * (1 + packet * 37 % (MAX_TEXT // unit))
    return bytes((i * 31 + packet * 17 + 7) & 0xFF for i in range(size))


def cipher_key(size):
    return bytes((0x10 + i * 5) & 0xFF for i in range(size))


def mac_key(size):
    return bytes((0x40 + i * 3) & 0xFF for i in range(size))


def packets(iv_size, unit, seal):
    digest = hashlib.sha256()
    for extended in (False, True):
        for packet in range(PACKETS):
            head = struct.pack(">II", 0x01020304, 0x80000000 + packet)
            high = struct.pack(">I", packet) if extended else b""
            iv = bytes((packet + i * 13) & 0xFF for i in range(iv_size))
            digest.update(head + iv + seal(head, high, iv, text_of(packet, unit)))
    return digest.hexdigest()


def gcm(key_size):
    key = cipher_key(key_size)
    salt = key[-4:]

    def seal(head, high, iv, text):
        return AESGCM(key[:-4]).encrypt(salt + iv, text, head[:4] + high + head[4:])

    return packets(8, 4, seal)


def cbc(key_size, name, digest_size, icv_size):
    def seal(head, high, iv, text):
        encryptor = Cipher(algorithms.AES(cipher_key(key_size)), modes.CBC(iv)).encryptor()
        sealed = encryptor.update(text) + encryptor.finalize()
        icv = hmac.digest(mac_key(digest_size), head + iv + sealed + high, name)
        return sealed + icv[:icv_size]

    return packets(16, 16, seal)


for size in (20, 28, 36):
    print("gcm", size, gcm(size))
for name, digest_size, icv_size in (("sha1", 20, 12), ("sha256", 32, 16), ("sha384", 48, 24),
                                    ("sha512", 64, 32)):
    for size in (16, 24, 32):
        print("cbc", name, size, cbc(size, name, digest_size, icv_size))
