#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Prints libgcrypt_esp.txt: ESP packets with every algorithm, sealed by libgcrypt. Run it by hand
# after the packets change.

import ctypes
import struct

ECB, CBC, CTR, CCM, GCM = 1, 3, 6, 8, 9  # GCRY_CIPHER_MODE_…
SET_CCM_LENGTHS = 69  # GCRYCTL_SET_CCM_LENGTHS

gcrypt = ctypes.CDLL("libgcrypt.so.20")
gcrypt.gcry_check_version(None)


def call(function, *arguments):
    error = getattr(gcrypt, function)(
        *(part for a in arguments for part in ((a, ctypes.c_size_t(len(a))) if type(a) is bytes else (a,)))
    )
    assert error == 0, f"{function}: {error & 0xFFFF}"


class Cipher:
    def __init__(self, name, mode, key):
        self.handle = ctypes.c_void_p()
        number = gcrypt.gcry_cipher_map_name(name.encode())
        assert number != 0, name
        call("gcry_cipher_open", ctypes.byref(self.handle), number, mode, 0)
        call("gcry_cipher_setkey", self.handle, key)

    def encrypt(self, text):
        out = ctypes.create_string_buffer(max(1, len(text)))
        call("gcry_cipher_encrypt", self.handle, out, ctypes.c_size_t(len(text)), text)
        return out.raw[: len(text)]


def aes(key):
    return {16: "AES", 24: "AES192", 32: "AES256"}[len(key)]


def aead(mode, key, nonce, associated, text, tag_size):
    """Ciphertext and tag."""
    cipher = Cipher(aes(key), mode, key)
    call("gcry_cipher_setiv", cipher.handle, nonce)
    if mode == CCM:
        lengths = (ctypes.c_uint64 * 3)(len(text), len(associated), tag_size)
        call("gcry_cipher_ctl", cipher.handle, SET_CCM_LENGTHS, lengths, ctypes.c_size_t(24))
    call("gcry_cipher_authenticate", cipher.handle, associated)
    sealed = cipher.encrypt(text)
    tag = ctypes.create_string_buffer(tag_size)
    call("gcry_cipher_gettag", cipher.handle, tag, ctypes.c_size_t(tag_size))
    return sealed, tag.raw


def ccm(key, iv, header, text, icv_size):
    return aead(CCM, key[:-3], key[-3:] + iv, header, text, icv_size)


def gmac(key, iv, header, text, icv_size):
    return text, aead(GCM, key[:-4], key[-4:] + iv, header + iv + text, b"", icv_size)[1]


def cbc(name):
    def encrypt(key, iv, text):
        cipher = Cipher(name or aes(key), CBC, key)
        call("gcry_cipher_setiv", cipher.handle, iv)
        return cipher.encrypt(text)

    return encrypt


def ctr(key, iv, text):
    cipher = Cipher(aes(key[:-4]), CTR, key[:-4])
    call("gcry_cipher_setctr", cipher.handle, key[-4:] + iv + b"\0\0\0\1")
    return cipher.encrypt(text)


def nothing(key, iv, text):
    return text


def mac(name):
    def compute(key, data):
        handle = ctypes.c_void_p()
        number = gcrypt.gcry_mac_map_name(name.encode())
        assert number != 0, name
        call("gcry_mac_open", ctypes.byref(handle), number, 0, None)
        call("gcry_mac_setkey", handle, key)
        call("gcry_mac_write", handle, data)
        out, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        call("gcry_mac_read", handle, out, ctypes.byref(size))
        return out.raw[: size.value]

    return compute


def xcbc(key, data):  # libgcrypt lacks it: RFC 3566 §4, block by block
    def add(a, b):
        return bytes(x ^ y for x, y in zip(a, b))

    k1, k2, k3 = (Cipher("AES", ECB, key).encrypt(bytes([n]) * 16) for n in (1, 2, 3))
    blocks = [data[i : i + 16] for i in range(0, len(data), 16)]
    last = blocks.pop()
    whole = len(last) == 16
    last = add(last, k2) if whole else add((last + b"\x80").ljust(16, b"\0"), k3)
    state = bytes(16)
    for block in blocks + [last]:
        state = Cipher("AES", ECB, k1).encrypt(add(state, block))
    return state


PAYLOADS = (
    bytes.fromhex("4500002000010000400100000a0901010a090302") + b"\x08\0\0\0abcdefgh",
    bytes(range(61)),
    b"\x5a",
    bytes(i * 7 & 255 for i in range(600)),
)


class Packet:
    made = 0

    def __init__(self, extended, key_size, iv_size, unit):
        Packet.made += 1
        self.number = Packet.made
        self.payload = PAYLOADS[self.number % len(PAYLOADS)]
        pad = -(len(self.payload) + 2) % unit
        self.text = self.payload + bytes(range(1, pad + 1)) + bytes([pad, 4])
        self.key = self.counting(key_size, 17, 3)
        self.iv = self.counting(iv_size, 0x80 + 5, 1)
        self.spi = struct.pack(">I", 0x1000 + self.number)
        sequence = ((0x1122 + self.number) << 32) + 0xFFFFFF00 + self.number
        self.high = struct.pack(">I", sequence >> 32) if extended else b""
        self.low = struct.pack(">I", sequence & 0xFFFFFFFF)

    def counting(self, size, first, step):
        return bytes((first * self.number + i * step) & 255 for i in range(size))

    def show(self, sealed, icv, **algorithms):
        fields = {
            "case": self.number, **algorithms, "key": self.key, "spi": self.spi,
            "esn": int(self.high != b""), "sequence": self.high + self.low, "iv": self.iv,
            "next_header": 4, "payload": self.payload, "ciphertext": sealed, "icv": icv,
        }
        print()
        for field, value in fields.items():
            print(field, "=", value.hex() if isinstance(value, bytes) else value)


def show_aead(name, seal, salt_size, icv_sizes):
    for key_size in (16, 24, 32):
        for extended in (False, True):
            for icv_size in icv_sizes:
                packet = Packet(extended, key_size + salt_size, 8, 4)
                header = packet.spi + packet.high + packet.low
                show = seal(packet.key, packet.iv, header, packet.text, icv_size)
                packet.show(*show, aead=name)


# Name: how, key sizes, size of the IV, unit of text.
CIPHERS = {
    "cbc(aes)": (cbc(None), (16, 24, 32), 16, 16),
    "rfc3686(ctr(aes))": (ctr, (20, 28, 36), 8, 4),
    "ecb(cipher_null)": (nothing, (0,), 0, 4),
    "cbc(camellia)": (cbc("CAMELLIA128"), (16,), 16, 16),
    "cbc(sm4)": (cbc("SM4"), (16,), 16, 16),
    "cbc(des3_ede)": (cbc("3DES"), (24,), 8, 8),
    "cbc(cast5)": (cbc("CAST5"), (16,), 8, 8),
    "cbc(blowfish)": (cbc("BLOWFISH"), (16,), 8, 8),
    "cbc(des)": (cbc("DES"), (8,), 8, 8),
}
# Name: how, sizes of key and ICV.
MACS = {
    "hmac(md5)": (mac("HMAC_MD5"), 16, 12),
    "hmac(sha1)": (mac("HMAC_SHA1"), 20, 12),
    "hmac(sha256)": (mac("HMAC_SHA256"), 32, 16),
    "hmac(sha384)": (mac("HMAC_SHA384"), 48, 24),
    "hmac(sha512)": (mac("HMAC_SHA512"), 64, 32),
    "hmac(rmd160)": (mac("HMAC_RIPEMD160"), 20, 12),
    "hmac(sm3)": (mac("HMAC_SM3"), 32, 32),
    "xcbc(aes)": (xcbc, 16, 12),
    "cmac(aes)": (mac("CMAC_AES"), 16, 12),
}


def show_pair(cipher, mac_name):
    encrypt, key_sizes, iv_size, unit = CIPHERS[cipher]
    compute, mac_key_size, icv_size = MACS[mac_name]
    for key_size in key_sizes:
        for extended in (False, True):
            packet = Packet(extended, key_size, iv_size, unit)
            mac_key = packet.counting(mac_key_size, 29, 7)
            sealed = encrypt(packet.key, packet.iv, packet.text)
            covered = packet.spi + packet.low + packet.iv + sealed + packet.high
            icv = compute(mac_key, covered)[:icv_size]
            packet.show(sealed, icv, cipher=cipher, mac=mac_name, mac_key=mac_key)


print("# ESP packets that libgcrypt sealed (libgcrypt_esp.py). key: salt or nonce at its end.")
show_aead("rfc4309(ccm(aes))", ccm, 3, (8, 12, 16))
show_aead("rfc4543(gcm(aes))", gmac, 4, (16,))
for mac_name in MACS:
    show_pair("cbc(aes)", mac_name)
for cipher in CIPHERS:
    show_pair(cipher, "hmac(sha1)")
