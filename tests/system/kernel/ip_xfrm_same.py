#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does `ip xfrm` say the same about our SAs and policies as about those of a real kernel?

      host namespace "judge": xfrmfs          guest: Debian kernel in qemu
                           (no packets; commands and listings only)

The unmodified `ip` runs every line of ip_xfrm_commands.txt against both. What it prints and its
exit status have to be equal, and after each change so do the listings. Only the times at which
something was added or used are made equal first. What we do not have must be refused, not ignored.
"""

import os
import re
import shlex
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import lib
from guest import Guest

ALGORITHMS = {
    "gcm": "aead rfc4106(gcm(aes)) 0x" + "4a" * 20 + " 128",
    "gcm256": "aead rfc4106(gcm(aes)) 0x" + "7c" * 36 + " 128",
    "chacha": "aead rfc7539esp(chacha20,poly1305) 0x" + "5b" * 36 + " 128",
    "cbc": "enc cbc(aes) 0x" + "6d" * 16 + " auth-trunc hmac(sha256) 0x" + "15" * 32 + " 128",
    "null": "enc ecb(cipher_null) '' auth-trunc hmac(sha256) 0x" + "26" * 32 + " 128",
}
LISTINGS = ("ip -s xfrm state", "ip -s xfrm policy")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def commands():
    """Groups of command lines."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ip_xfrm_commands.txt")) as f:
        text = "".join(line for line in f if not line.startswith("#"))
    for group in re.split(r"\n\n+", text.strip()):
        yield [line.format(**ALGORITHMS) for line in group.splitlines()]


def in_full(line):
    return ("ip " if line.startswith("-") else "ip xfrm ") + line


def ours(command):
    result = engine.exec(command, check=False)
    return result.returncode, TIME.sub("TIME", result.stdout + result.stderr)


def theirs(command):
    status, output = guest.run(shlex.join(shlex.split(command)))
    return status, TIME.sub("TIME", output)


def without_keys(command):
    return re.sub(r"0x[0-9a-f]{12,}", "KEY", command)


def compare(command):
    kernel, xfrmfs = theirs(command), ours(command)
    same = kernel == xfrmfs
    if kernel[0] and kernel[1].startswith("RTNETLINK answers:"):
        # The bare text of an errno: we may explain it with a sentence.
        same = same or (kernel[0] == xfrmfs[0] and xfrmfs[1].startswith("Error: "))
    lib.check(
        same, without_keys(command),
        f"kernel, exit status {kernel[0]}:\n{kernel[1]}xfrmfs, exit status {xfrmfs[0]}:\n{xfrmfs[1]}",
    )


def refused(command):
    status, output = ours(command)
    lib.check(
        status == 2 and output.startswith("Error: "),
        f"refused with a reason: {without_keys(command)}", f"exit status {status}\n{output}",
    )


judge = lib.Namespace("judge")
judge.ip("tuntap add tap0 mode tap")
judge.ip("link set tap0 up")
with Guest(judge.name, "tap0") as guest:
    print(f"     guest: {guest.must('uname -r').strip()}, booted in {guest.boot_seconds:.1f} s")
    engine = lib.Engine(judge, underlay="tap0")
    for group in commands():
        for line in group:
            if line.startswith("! "):
                refused(in_full(line[2:]))
                continue
            command = in_full(line)
            compare(command)
            if re.search(r" xfrm (state|policy) (add|update|del|allocspi)", command):
                for listing in LISTINGS:
                    compare(listing)
        for what in ("state", "policy"):
            compare(f"ip xfrm {what} flush")
    for listing in LISTINGS:
        compare(listing)
lib.finish()
