#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Prints esp_ccm_gmac.txt: ESP packets with AES-CCM (RFC 4309) and AES-GMAC (RFC 4543), sealed by
# libgcrypt. Run it by hand after the packets change.

import ctypes
import struct

CIPHERS = {16: 7, 24: 8, 32: 9}  # GCRY_CIPHER_AES128 and so on
CCM, GCM = 8, 9  # GCRY_CIPHER_MODE_…
SET_CCM_LENGTHS = 69  # GCRYCTL_SET_CCM_LENGTHS

gcrypt = ctypes.CDLL("libgcrypt.so.20")
gcrypt.gcry_check_version(None)


def seal(mode, key, nonce, associated, text, tag_size):
    """Ciphertext and tag."""

    def call(function, *arguments):
        assert function(handle, *arguments) == 0, function.__name__

    size = ctypes.c_size_t
    handle = ctypes.c_void_p()
    assert gcrypt.gcry_cipher_open(ctypes.byref(handle), CIPHERS[len(key)], mode, 0) == 0
    call(gcrypt.gcry_cipher_setkey, key, size(len(key)))
    call(gcrypt.gcry_cipher_setiv, nonce, size(len(nonce)))
    if mode == CCM:
        lengths = (ctypes.c_uint64 * 3)(len(text), len(associated), tag_size)
        call(gcrypt.gcry_cipher_ctl, SET_CCM_LENGTHS, lengths, size(24))
    call(gcrypt.gcry_cipher_authenticate, associated, size(len(associated)))
    sealed = ctypes.create_string_buffer(max(1, len(text)))
    call(gcrypt.gcry_cipher_encrypt, sealed, size(len(text)), text, size(len(text)))
    tag = ctypes.create_string_buffer(tag_size)
    call(gcrypt.gcry_cipher_gettag, tag, size(tag_size))
    gcrypt.gcry_cipher_close(handle)
    return sealed.raw[: len(text)], tag.raw


PAYLOADS = (
    bytes.fromhex("4500002000010000400100000a0901010a090302") + b"\x08\0\0\0abcdefgh",
    bytes(range(61)),
    b"\x5a",
    bytes(i * 7 & 255 for i in range(1000)),
)


def packet(name, number, key_size, salt_size, extended, icv_size):
    def counting(size, first, step=1):
        return bytes((first + i * step) & 255 for i in range(size))

    payload = PAYLOADS[(number - 1) % len(PAYLOADS)]
    pad = -(len(payload) + 2) % 4
    text = payload + bytes(range(1, pad + 1)) + bytes([pad, 4])
    key = counting(key_size, 17 * number, 3)
    salt, iv = counting(salt_size, 0xC0 + number), counting(8, 0x80 + number * 5)
    spi = bytes([0, 0, 0x10, number])
    sequence = struct.pack(">Q", ((0x1122 + number) << 32) + 0xFFFFFFF0 + number)
    if not extended:
        sequence = sequence[4:]
    header = spi + sequence
    if name == "rfc4309(ccm(aes))":
        sealed, icv = seal(CCM, key, salt + iv, header, text, icv_size)
    else:
        sealed, icv = text, seal(GCM, key, salt + iv, header + iv + text, b"", icv_size)[1]
    fields = {
        "case": number, "algorithm": name, "key": key, "salt": salt, "spi": spi,
        "esn": int(extended), "sequence": sequence, "iv": iv, "next_header": 4, "payload": payload,
        "text": text, "ciphertext": sealed, "icv": icv,
    }
    print()
    for field, value in fields.items():
        print(field, "=", value.hex() if isinstance(value, bytes) else value)


print("# AES-CCM (RFC 4309) and AES-GMAC (RFC 4543) in ESP, made with libgcrypt (esp_ccm_gmac.py): the")
print("# RFCs have no packets. text is the payload with padding and trailer.")
for name, salt_size, icv_sizes in (
    ("rfc4309(ccm(aes))", 3, (8, 12, 16)), ("rfc4543(gcm(aes))", 4, (16,))
):
    cases = [(k, e, i) for k in (16, 24, 32) for e in (False, True) for i in icv_sizes]
    for number, (key_size, extended, icv_size) in enumerate(cases, 1):
        packet(name, number, key_size, salt_size, extended, icv_size)
