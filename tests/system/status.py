#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Does `xfrmfs status` tell what the engine is made of, and to whom?

  program -- control socket -- engine (mounted at MOUNTPOINT) -- TUN in the namespace "status"

Every line is compared with what the engine was told or with what the system says. What is no
engine, a dead engine, a silent one, and a user without privilege get one line on standard error.
"""

import os
import re
import shutil
import signal
import socket

import lib

NOBODY = 65534

namespace = lib.Namespace("status")
engine = lib.Engine(
    namespace, "--crypto openssl --udp-port 4511 --offload off --workers 2 --pin", underlay=""
)


def status(*arguments, program=lib.XFRMFS, **options):
    return lib.run([program, "status", *arguments], check=False, **options)


def refuses(reason, *arguments, **options):
    result = status(*arguments, **options)
    lib.check(
        result.returncode == 1 and len(result.stderr.splitlines()) == 1
        and reason in result.stderr and not result.stdout,
        f"refused: {reason}",
        f"exit status {result.returncode}\n{result.stdout}{result.stderr}",
    )


def source(mount):
    """The source of the mount at this place: the control socket."""
    with open("/proc/self/mountinfo") as file:
        line = next(line for line in file if line.split()[4] == mount)
    return line.split(" - ")[1].split()[1]


def parts(*arguments):
    """The lines of a status, and the rows below each key."""
    result = status(*arguments)
    lib.check(result.returncode == 0 and not result.stderr, "it is told", result.stderr)
    values, rows, key = {}, {}, None
    for line in result.stdout.splitlines():
        row = line.startswith("  ")
        name, _, value = line.strip().partition(": ")
        if not row:
            key = name
        (rows.setdefault(key, {}) if row else values)[name] = value
    return values, rows


# --- An engine that lives.

control = source(engine.mount)
values, rows = parts(engine.mount)
version = lib.run([lib.XFRMFS, "--version"]).stdout.split()[1]
for key, expected in {
    "version": version, "pid": str(engine.pid()), "mountpoint": engine.mount, "socket": control,
    "tun": engine.tun, "offload": "off", "workers": "2", "pinned": "yes", "udp-port": "4511",
    "raw-send": "auto", "raw-send-frames": "yes", "sas": "0", "policies": "0", "crypto": "openssl",
}.items():
    lib.check_equal(values.get(key), expected, key)
lib.check_equal(list(rows["pinned"]), ["worker 0", "worker 1"], "a row for each worker")
lib.check(len(rows["crypto"]) >= 27, "a row for each algorithm", rows["crypto"])
for name, row in rows["crypto"].items():
    raced = re.match(r"aes-gcm-|chacha20-|aes-cbc hmac\(sha[0-9]", name)
    outcome = "[0-9]+/[0-9]+ns" if raced else "not-measured"
    pattern = f"openssl forced=yes openssl={outcome} ipsec-mb=not-tried"
    if re.match("cast5-|blowfish-|des-", name):  # libcrypto may lack its provider "legacy"
        pattern += "|none forced=no openssl=not-offered ipsec-mb=not-tried"
    lib.check(re.fullmatch(pattern, row), f"{name}: OpenSSL, tried", row)

namespace.ip(f"link set {engine.tun} mtu 1234")
lib.configure(engine, 0)
values, _ = parts("--socket", control)
lib.check_equal(values["tun-mtu"], "1234", "the MTU of now, through the socket's path")
lib.check_equal((values["sas"], values["policies"]), ("2", "3"), "SAs and policies")
keys = [lib.suite(lib.GCM_128, side).split("0x")[1].split()[0] for side in (0, 1)]
text = status(engine.mount).stdout.lower()
lib.check(not any(key in text for key in keys), "no keys", text)

# A firewall where frames would pass it by.
namespace.run(["nft", "table inet t { chain o { type filter hook output priority 0; }; }"])
lib.wait_until(
    lambda: "\nraw-send-frames: no\n" in status(engine.mount).stdout, "raw-send-frames: no"
)
lib.check(True, "no more frames past a firewall")

# --- Nobody, or nobody who answers, or nobody for us.

refuses("not a mount of xfrmfs", lib.DIRECTORY)
refuses("No such file", lib.DIRECTORY + "/nothing/there")
refuses("no engine at", "--socket", lib.DIRECTORY + "/nothing")

silent_path = lib.DIRECTORY + "/silent"
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
    silent.bind(silent_path)
    silent.listen()
    refuses("does not answer within 2 s", "--socket", silent_path)
refuses("no engine at", "--socket", silent_path)

os.chmod(lib.DIRECTORY, 0o755)  # for nobody, who may not get at the build either
program = shutil.copy(lib.XFRMFS, lib.DIRECTORY)
nobody = {"program": program, "user": NOBODY, "group": NOBODY, "extra_groups": []}
refuses("no permission to ask", engine.mount, **nobody)

impostor_path = lib.DIRECTORY + "/impostor"
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as impostor:
    os.chmod(lib.DIRECTORY, 0o777)
    impostor.bind(impostor_path)
    os.seteuid(NOBODY)  # listen() is what tells whose it is
    impostor.listen()
    os.seteuid(0)
    refuses("neither root nor the caller", "--socket", impostor_path)
os.chmod(lib.DIRECTORY, 0o700)

os.kill(engine.pid(), signal.SIGSTOP)
refuses("does not answer within 2 s", engine.mount)
os.kill(engine.pid(), signal.SIGCONT)
parts(engine.mount)

process = engine.pid()
os.kill(process, signal.SIGKILL)
lib.wait_until(lambda: not os.path.exists(f"/proc/{process}"), "the engine is dead")
refuses("no engine at", engine.mount)
lib.finish()
