#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""When `xfrmfs umount` returns, is everything gone, and only then?

  mount, control socket, process          TUN device in the namespace "umount"

No waiting here: what is not gone when the command returns is a failure.
"""

import os
import signal

import lib

namespace = lib.Namespace("umount")


class Case:
    """A fresh engine, and what there is of it."""

    def __init__(self, name):
        self.name = name
        self.engine = lib.Engine(namespace, underlay="", tun=f"t-{name}"[:15])
        self.mount = self.engine.mount
        self.process = self.engine.pid()
        self.socket = entry(self.mount).split(" - ")[1].split()[1]
        lib.check(os.path.exists(self.socket), f"{name}: the mount names the control socket")

    def umount(self, status, reason="", *options, path=None, **more):
        result = lib.run(
            [lib.XFRMFS, "umount", *options, path or self.mount], check=False, **more
        )
        lib.check(
            result.returncode == status and reason in result.stderr
            and len(result.stderr.splitlines()) == (1 if status else 0),
            f"{self.name}: umount{''.join(' ' + o for o in options)} returns {status} {reason}",
            f"exit status {result.returncode}\n{result.stderr}",
        )

    def is_gone(self):
        lib.check(entry(self.mount) is None, f"{self.name}: the mount is gone")
        lib.check(not is_running(self.process), f"{self.name}: the process is gone")
        lib.check(not os.path.exists(self.socket), f"{self.name}: the control socket is gone")
        lib.check(
            self.engine.tun not in namespace.ip("link"), f"{self.name}: the TUN device is gone"
        )
        if entry(self.mount) is None:
            self.engine.mount = None  # nothing left to clean up

    def is_whole(self):
        lib.check("XfrmInError" in self.engine.read("net/xfrm_stat"), f"{self.name}: files remain")
        lib.check(is_running(self.process), f"{self.name}: the process goes on")


def entry(mount):
    """The line of the mount at this place."""
    with open("/proc/self/mountinfo") as file:
        return next((line for line in file if line.split()[4] == mount), None)


def is_running(process):
    """Not if only its status is left. With more threads than the first it still closes things."""
    try:
        with open(f"/proc/{process}/stat") as file:
            ended = file.read().rpartition(")")[2].split()[0] in "ZX"
        return not ended or len(os.listdir(f"/proc/{process}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def sleeper(**options):
    process = lib.start(["sleep", "1000"], **options)
    lib.wait_until(
        lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("sleep"), "sleep has started"
    )
    return process


def kill(process):
    os.kill(process, signal.SIGKILL)
    lib.wait_until(lambda: not is_running(process), "the process is dead")


case = Case("idle")
case.umount(0)
case.is_gone()
case.umount(1, "not a mount of xfrmfs")

case = Case("relative")
os.symlink(case.mount, case.mount + "-link")
case.umount(0, path=os.path.basename(case.mount) + "-link", cwd=lib.DIRECTORY)
case.is_gone()

case = Case("busy")
inside = sleeper(cwd=case.mount)
case.umount(1, f"process {inside.pid} (sleep) works in it")
case.is_whole()
lib.stop(inside)
with open(case.mount + "/net/xfrm_stat") as file:
    with open("/proc/self/comm") as comm:
        name = comm.read().strip()
    case.umount(1, f"process {os.getpid()} ({name}) has one of its files open")
case.is_whole()
case.umount(0)
case.is_gone()

case = Case("lazy")
inside = sleeper(cwd=case.mount + "/net")
case.umount(0, "", "--lazy")
lib.check(entry(case.mount) is None, "lazy: the mount is gone")
lib.check(is_running(case.process), "lazy: the process goes on for its last user")
lib.stop(inside)
lib.wait_until(lambda: not is_running(case.process), "lazy: the process ends with its last user")
case.is_gone()

case = Case("lazy-idle")
case.umount(0, "", "-l")
case.is_gone()

case = Case("killed")
kill(case.process)
case.umount(0)
case.is_gone()

case = Case("killed-busy")
inside = sleeper(cwd=case.mount)
kill(case.process)
case.umount(0)
case.is_gone()
lib.stop(inside)

# A socket of somebody else at the same path is not ours to remove.
case = Case("killed-other")
kill(case.process)
os.unlink(case.socket)
with open(case.socket, "w"):
    pass
case.umount(0)
lib.check(os.path.exists(case.socket), "killed-other: a file that is no socket stays")
os.unlink(case.socket)
case.is_gone()

# A copy of the mount in another mount namespace keeps FUSE, but not our engine, alive.
case = Case("copied")
copy = lib.start(["unshare", "--mount", "--propagation", "private", "sleep", "1000"])
lib.wait_until(
    lambda: os.readlink(f"/proc/{copy.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    and os.readlink(f"/proc/{copy.pid}/exe").endswith("sleep"),
    "a copy of the mount exists",
)
case.umount(0)
case.is_gone()
lib.stop(copy)

case = Case("lost-socket")
os.unlink(case.socket)
case.umount(1, "cannot watch its daemon end")
lib.wait_until(lambda: not is_running(case.process), "lost-socket: the process ends nevertheless")
case.is_gone()

# --- Places that are not ours.

other = os.path.join(lib.DIRECTORY, "other")
os.mkdir(other)
lib.run(["mount", "-t", "tmpfs", "none", other])
case.umount(1, "not a mount of xfrmfs", path=other)
lib.check(entry(other) is not None, "other file systems stay mounted")
lib.run(["umount", other])
case.umount(1, "not a mount of xfrmfs", path="/proc/self")
case.umount(1, "No such file", path=other + "/nothing")

lib.finish()
