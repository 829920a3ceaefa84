# SPDX-License-Identifier: Apache-2.0
"""A real Linux kernel with ESP, in qemu: the peer and the judge of the tests in this folder.

The guest has one NIC, eth0, on a TAP device of a network namespace. KVM is not needed. Commands
travel over a virtio port that is qemu's standard input and output; see guest_init.
"""

import base64
import os
import select
import subprocess
import tempfile
import time

import lib

HERE = os.path.dirname(os.path.abspath(__file__))

# Makes the guest the east of the usual tunnel; see lib.py.
SETUP = f"""
ip addr add {lib.OUTER[4][1]}/24 dev eth0
ip addr add {lib.OUTER[6][1]}/64 dev eth0 nodad
ip link set eth0 up
ip addr add {lib.INNER[4][1]}/32 dev lo
ip addr add {lib.INNER[6][1]}/128 dev lo nodad
ip route add {lib.NETS[4][0]} via {lib.OUTER[4][0]} src {lib.INNER[4][1]}
ip -6 route add {lib.NETS[6][0]} via {lib.OUTER[6][0]} src {lib.INNER[6][1]}
"""


def quoted(arguments):
    """A shell command of the guest from `ip xfrm` arguments."""
    return "ip xfrm " + arguments.replace("(", r"\(").replace(")", r"\)")


class Guest:
    """Boots on construction; `stop()` or the end of a `with` block ends it."""

    BOOT_SECONDS = 180  # measured 3 to 4 on an idle machine
    mac = "52:54:00:12:34:56"

    def __init__(self, netns, tap):
        files = subprocess.run(
            ["bash", os.path.join(HERE, "build_guest.sh")], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        self._console = tempfile.NamedTemporaryFile(prefix="xfrmfs-guest-console.")
        # Offloads off: what is on the wire is then what a capture shows, checksums included.
        offloads = "csum gso guest_csum guest_tso4 guest_tso6 guest_ecn host_tso4 host_tso6".split()
        self._qemu = subprocess.Popen(
            ["nsenter", f"--net=/var/run/netns/{netns}"]
            + ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"]
            + ["-no-reboot", "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "256"]
            + ["-kernel", f"{files}/vmlinuz", "-initrd", f"{files}/initrd"]
            + ["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off no_timer_check "
               "random.trust_cpu=on net.ifnames=0"]
            + ["-serial", f"file:{self._console.name}", "-device", "virtio-serial-pci"]
            + ["-chardev", "stdio,id=control,signal=off"]
            + ["-device", "virtserialport,chardev=control,name=xfrmfs.control"]
            + ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no,vhost=off"]
            + ["-device", f"virtio-net-pci,netdev=net,mac={self.mac}," + ",".join(f"{o}=off" for o in offloads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._console,
        )
        started = time.monotonic()
        try:
            line = self._line(self.BOOT_SECONDS)
            if line != b"ready":
                raise RuntimeError(f"the guest said {line!r} instead of ready")
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def run(self, script, seconds=60):
        """Runs a shell script in the guest: exit status and output (both streams, in order)."""
        self._qemu.stdin.write(base64.b64encode(script.encode()) + b"\n")
        self._qemu.stdin.flush()
        status, _, output = self._line(seconds).partition(b" ")
        return int(status), base64.b64decode(output).decode(errors="replace")

    def must(self, script, seconds=60):
        """As run(), for scripts that have to succeed: the output."""
        status, output = self.run(script, seconds)
        if status:
            raise RuntimeError(f"in the guest: {script}\nexit status {status}\n{output}")
        return output

    def counters(self):
        """net/xfrm_stat of the guest."""
        lines = self.must("cat /proc/net/xfrm_stat").splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}

    def stop(self):
        if self._qemu.poll() is None:
            self._qemu.terminate()
            try:
                self._qemu.wait(10)
            except subprocess.TimeoutExpired:
                self._qemu.kill()
                self._qemu.wait()

    def _line(self, seconds):
        line, deadline = bytearray(), time.monotonic() + seconds
        descriptor = self._qemu.stdout.fileno()
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError(f"no answer from the guest in {seconds} s\n{self._tail()}")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise RuntimeError(f"the guest ended\n{self._tail()}")
            line += piece
        return bytes(line[:-1])

    def _tail(self):
        with open(self._console.name, errors="replace") as console:
            return console.read()[-3000:]
