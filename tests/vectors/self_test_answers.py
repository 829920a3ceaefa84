#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Computes the known answers in engine/crypto/self_test.cc with another implementation.
#
# Packets: see SelfTest::passes(). Run it by hand after the test's packets change.

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives import cmac, hashes
from cryptography.hazmat.primitives import hmac as library_hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

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


def cbc(algorithm):
    """Encryption, with the sizes of an IV and of a unit of text."""

    def encrypt(key, iv, text):
        encryptor = Cipher(algorithm(key), modes.CBC(iv)).encryptor()
        return encryptor.update(text) + encryptor.finalize()

    size = algorithm.block_size // 8
    return encrypt, size, size


def ctr(key, iv, text):
    counter = key[-4:] + iv + b"\0\0\0\1"
    encryptor = Cipher(algorithms.AES(key[:-4]), modes.CTR(counter)).encryptor()
    return encryptor.update(text) + encryptor.finalize()


def des(key):
    return algorithms.TripleDES(3 * key)


des.block_size = 64


def hashed(name):
    return lambda key, data: hmac.digest(key, data, name)


def sm3(key, data):
    mac = library_hmac.HMAC(key, hashes.SM3())
    mac.update(data)
    return mac.finalize()


def cmac_aes(key, data):
    mac = cmac.CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def xcbc_aes(key, data):
    def aes(key, block):
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        return encryptor.update(block) + encryptor.finalize()

    def add(a, b):
        return bytes(x ^ y for x, y in zip(a, b))

    k1, k2, k3 = (aes(key, bytes([n]) * 16) for n in (1, 2, 3))
    blocks = [data[i:i + 16] for i in range(0, len(data), 16)] or [b""]
    last = blocks.pop()
    if len(last) == 16:
        last = add(last, k2)
    else:
        last = add(last + b"\x80" + b"\0" * (15 - len(last)), k3)
    state = bytes(16)
    for block in blocks + [last]:
        state = aes(k1, add(state, block))
    return state


# Name: how, key sizes.
CIPHERS = {
    "aes-cbc": (cbc(algorithms.AES), (16, 24, 32)),
    "aes-ctr": ((ctr, 8, 4), (20, 28, 36)),
    "null": ((lambda key, iv, text: text, 0, 4), (0,)),
    "camellia-cbc": (cbc(algorithms.Camellia), (16, 24, 32)),
    "sm4-cbc": (cbc(algorithms.SM4), (16,)),
    "3des-cbc": (cbc(algorithms.TripleDES), (24,)),
    "cast5-cbc": (cbc(algorithms.CAST5), (5, 10, 16)),
    "blowfish-cbc": (cbc(algorithms.Blowfish), (5, 16, 56)),
    "des-cbc": (cbc(des), (8,)),
}
# Name: how, sizes of digest and ICV.
MACS = {
    "hmac(md5)": (hashed("md5"), 16, 12),
    "hmac(sha1)": (hashed("sha1"), 20, 12),
    "hmac(sha256)": (hashed("sha256"), 32, 16),
    "hmac(sha384)": (hashed("sha384"), 48, 24),
    "hmac(sha512)": (hashed("sha512"), 64, 32),
    "hmac(rmd160)": (hashed("ripemd160"), 20, 12),
    "hmac(sm3)": (sm3, 32, 32),
    "xcbc(aes)": (xcbc_aes, 16, 12),
    "cmac(aes)": (cmac_aes, 16, 12),
}


def pair(cipher, mac):
    (encrypt, iv_size, unit), key_sizes = CIPHERS[cipher]
    digest, digest_size, icv_size = MACS[mac]
    for key_size in key_sizes:

        def seal(head, high, iv, text):
            sealed = encrypt(cipher_key(key_size), iv, text)
            return sealed + digest(mac_key(digest_size), head + iv + sealed + high)[:icv_size]

        print(cipher, mac, key_size, packets(iv_size, unit, seal))


def aead(name, key_size, salt_size, encrypt):
    key = cipher_key(key_size)

    def seal(head, high, iv, text):
        return encrypt(key[:-salt_size], key[-salt_size:] + iv, text, head[:4] + high + head[4:], iv)

    print(name, key_size, packets(8, 4, seal))


for size in (16, 24, 32):
    aead("gcm", size + 4, 4,
         lambda key, nonce, text, header, iv: AESGCM(key).encrypt(nonce, text, header))
for size in (16, 24, 32):
    aead("ccm", size + 3, 3,
         lambda key, nonce, text, header, iv: AESCCM(key).encrypt(nonce, text, header))
for size in (16, 24, 32):
    aead("gmac", size + 4, 4,
         lambda key, nonce, text, header, iv: text + AESGCM(key).encrypt(nonce, b"",
                                                                         header + iv + text))
aead("chacha20-poly1305", 36, 4,
     lambda key, nonce, text, header, iv: ChaCha20Poly1305(key).encrypt(nonce, text, header))
for mac_name in MACS:
    pair("aes-cbc", mac_name)
for cipher_name in CIPHERS:
    if cipher_name != "aes-cbc":
        pair(cipher_name, "hmac(sha256)")
