#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Do the sysctls and net/xfrm_stat of a mount behave like those of the kernel below it?

    namespace:  xfrmfs, its files under the test's directory
                the kernel's own sysctls and net/xfrm_stat of the same namespace

The same operations are done on both, and what system calls return is compared. Nothing is expected
here that the kernel has not just shown. Exit status 77 where the kernel has no XFRM.
"""

import ctypes
import errno
import os
import random
import select
import sys

import lib

UNSIGNED, SIGNED = "xfrm_aevent_etime", "xfrm_larval_drop"
SYSCTLS = (UNSIGNED, SIGNED, "xfrm_aevent_rseqth", "xfrm_acq_expires")
STRANGER = 4711
CLONE_NEWUSER = 0x10000000


class Procfs:
    def __init__(self, core, xfrm_stat):
        self.core = core
        self.xfrm_stat = xfrm_stat
        self.net = os.path.dirname(xfrm_stat)

    def sysctl(self, name):
        return os.path.join(self.core, name)


def outcome(operation, *arguments):
    """What it returns, or the name of its errno."""
    try:
        return operation(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


class File:
    """An open file whose operations return outcomes."""

    def __init__(self, path, flags):
        self.descriptor = outcome(os.open, path, flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if isinstance(self.descriptor, int):
            os.close(self.descriptor)

    def __getattr__(self, name):
        if not isinstance(self.descriptor, int):
            return lambda *_: self.descriptor
        return lambda *arguments: outcome(getattr(os, name), self.descriptor, *arguments)


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def store(path, text):
    """Writes at once; what write(2) returns, and what the file shows then."""
    with File(path, os.O_WRONLY) as file:
        returned = file.write(text)
    return returned, contents(path)


# --- What is compared: each takes a Procfs and returns something to compare.


def attributes(fs):
    seen = []
    for path in [fs.sysctl(name) for name in SYSCTLS] + [fs.xfrm_stat]:
        s = os.stat(path)
        seen.append((oct(s.st_mode), s.st_uid, s.st_gid, s.st_size, s.st_blocks, s.st_blksize, s.st_nlink))
    return seen, oct(os.stat(fs.core).st_mode)


def defaults(fs):
    return [contents(fs.sysctl(name)) for name in SYSCTLS]


def counters(fs):
    return contents(fs.xfrm_stat)


def reads(fs):
    seen = []
    for path in (fs.sysctl(UNSIGNED), fs.sysctl(SIGNED)):
        store(path, b"123456")
        with File(path, os.O_RDONLY) as file:
            seen += [file.read(1), file.read(1), file.lseek(0, 0), file.read(4), file.read(4)]
            seen += [file.pread(99, at) for at in (0, 1, 6, 7, 100)]
            seen += [file.lseek(0, 0), file.read(99), file.read(99), file.read(0)]
            seen += [file.write(b"1")]
    return seen


def positions(fs):
    seen = []
    for name in (UNSIGNED, SIGNED):
        path = fs.sysctl(name)
        store(path, b"7")
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
            with File(path, flags) as file:
                for text in (b"5", b"6", b"77\n"):
                    seen += [file.write(text), contents(path)]
        for at in (1, 100, 0):
            with File(path, os.O_WRONLY) as file:
                seen += [file.pwrite(b"34", at), contents(path)]
        with File(path, os.O_RDWR) as file:
            seen += [file.write(b"8"), file.lseek(0, 0), file.write(b"9"), contents(path)]
            seen += [file.lseek(0, 0), file.read(99), file.read(99), file.ftruncate(3)]
        with File(path, os.O_RDWR) as file:
            seen += [file.write(b"8"), file.read(99), file.read(99), file.write(b"4"), contents(path)]
        seen += [outcome(os.truncate, path, 0), outcome(os.truncate, path, 5), contents(path)]
        seen += [store(path, b"9" + b" " * 300000), os.stat(path).st_size]
    return seen


def seeks(fs):
    seen = []
    for path in (fs.sysctl(UNSIGNED), fs.sysctl(SIGNED)):
        with File(path, os.O_RDONLY) as file:
            seen += [file.lseek(*where) for where in
                     ((5000, 0), (-1, 0), (10, 1), (-6000, 1), (0, 2), (7, 2), (-1, 2), (0, 3), (0, 4))]
    with File(fs.xfrm_stat, os.O_RDONLY) as file:
        seen += [file.lseek(*where) for where in ((5000, 0), (-1, 0), (10, 1), (-6000, 1), (0, 3))]
    return seen


def statistics(fs):
    with File(fs.xfrm_stat, os.O_RDONLY) as file:
        seen = [file.pread(99, at) for at in (24, 863, 864, 1 << 40)]
        seen += [file.read(1 << 16), file.read(1 << 16)]
    with File(fs.xfrm_stat, os.O_RDONLY) as file:
        collected = b""
        while byte := file.read(1):
            collected += byte
    seen.append(collected)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with File(fs.xfrm_stat, flags) as file:
            seen += [isinstance(file.descriptor, int), file.write(b"1")]
    return seen + [outcome(os.truncate, fs.xfrm_stat, 0)]


def other_operations(fs):
    seen = []
    for path in (fs.sysctl(UNSIGNED), fs.sysctl(SIGNED), fs.xfrm_stat):
        with File(path, os.O_RDWR) as file:
            seen += [file.fsync(), file.fdatasync()]
            poll = select.poll()
            poll.register(file.descriptor, select.POLLIN | select.POLLPRI | select.POLLOUT)
            seen.append([event for _, event in poll.poll(0)])
        with File(path, os.O_RDONLY | os.O_DIRECT) as file:
            seen.append(file.descriptor)
        seen.append(outcome(os.setxattr, path, "user.a", b"x"))
        seen.append(outcome(os.getxattr, path, "user.a"))
    return seen


def changes_of_the_tree(fs):
    seen = []
    for folder, name in ((fs.core, UNSIGNED), (fs.net, "xfrm_stat")):
        old, new = os.path.join(folder, name), os.path.join(folder, "brand-new")
        seen += [
            outcome(os.unlink, old), outcome(os.unlink, new),
            outcome(os.rename, old, new), outcome(os.link, old, new), outcome(os.symlink, "a", new),
            outcome(os.mkdir, new), outcome(os.mkdir, old), outcome(os.mknod, new),
            outcome(os.open, new, os.O_CREAT | os.O_WRONLY),
            outcome(os.open, old, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        ]
    sysctl = fs.sysctl(UNSIGNED)
    seen += [outcome(os.rename, sysctl, fs.sysctl(SIGNED)), outcome(os.rmdir, fs.core)]
    return seen + [outcome(os.chmod, sysctl, 0o666), outcome(os.chown, sysctl, 1, 1)]


def attempts(paths, inherited):
    seen = []
    for path, descriptor in zip(paths, inherited):
        seen += [outcome(os.pread, descriptor, 9, 0), outcome(os.write, descriptor, b"55")]
        seen += [outcome(os.open, path, flags) for flags in (os.O_WRONLY, os.O_RDWR)]
        seen += [outcome(os.truncate, path, 0), outcome(os.chmod, path, 0o666)]
        seen += [outcome(os.unlink, path), contents(path)[:9]]
    return seen


def strangers(fs):
    """In a child without privilege that inherits descriptors of root."""
    paths = (fs.sysctl(UNSIGNED), fs.sysctl(SIGNED), fs.xfrm_stat)
    inherited = [os.open(path, os.O_RDWR) for path in paths]
    output, answer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
            seen = attempts(paths, inherited)
            # Once more as somebody who has all capabilities, but in a user namespace of his own.
            seen.append(ctypes.CDLL(None).unshare(CLONE_NEWUSER))
            seen += attempts(paths, inherited)
            os.write(answer, repr(seen).encode())
        finally:
            os._exit(0)
    os.close(answer)
    os.waitpid(child, 0)
    with open(output) as file:
        seen = file.read()
    for descriptor in inherited:
        os.close(descriptor)
    return seen


def texts():
    """Numbers and what is nearly one."""
    fixed = [
        b"0", b"00", b"08", b"0x", b"0X1f", b"-0", b"-1", b"+1", b"--1", b"- 1", b"10 20", b"10\t20\n",
        b"5\n6\n", b"1,2", b"1.5", b"10abc", b"5\0", b"5 \0", b"\r5", b"5\r", b"5 \r", b"\xa05", b"\n", b" ",
        b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"4294967295", b"4294967296",
        b"18446744073709551616", b"0" * 19 + b"7", b"0" * 20 + b"7", b"-" + b"0" * 18 + b"7",
        b"-" + b"0" * 19 + b"7", b"0x" + b"0" * 17 + b"7", b"0x" + b"0" * 18 + b"7",
        b" " * 4094 + b"5", b" " * 4095 + b"5", b" " * 4094 + b"12", b"5" + b" " * 4095,
        b"5" + b" " * 4093 + b"67", b" " * 4075 + b"0" * 25, b" " * 4074 + b"0" * 25,
    ]
    dice = random.Random(20251121)
    alphabet = [bytes([c]) for c in b"0123456789" * 3 + b"abcfxX--+  \t\n\n\r\v\0;.\xa0"]
    drawn = [b"".join(dice.choices(alphabet, k=dice.randint(1, 24))) for _ in range(3000)]
    near = [str(dice.choice((1, -1)) * 2 ** dice.randint(28, 34) + dice.randint(-2, 2)).encode()
            for _ in range(300)]
    return fixed + drawn + near


def main():
    os.chmod(lib.DIRECTORY, 0o711)  # strangers must get to the mount
    namespace = lib.Namespace("procfs")
    with namespace.inside():
        kernel = Procfs("/proc/sys/net/core", "/proc/thread-self/net/xfrm_stat")
        if not os.path.exists(kernel.xfrm_stat) or not os.path.exists(kernel.sysctl(UNSIGNED)):
            print("skipped: this kernel has no net/xfrm_stat or no sys/net/core/xfrm_*")
            sys.exit(77)
        engine = lib.Engine(namespace, underlay="")
        mount = Procfs(engine.mount + "/sys/net/core", engine.mount + "/net/xfrm_stat")
        for compare in (attributes, defaults, counters, reads, positions, seeks, statistics,
                        other_operations, changes_of_the_tree, strangers):
            lib.check_equal(compare(mount), compare(kernel), compare.__name__.replace("_", " "))
        for name in (UNSIGNED, SIGNED):
            different = []
            for text in texts():
                for fs in (mount, kernel):
                    store(fs.sysctl(name), b"7")
                seen, expected = (store(fs.sysctl(name), text) for fs in (mount, kernel))
                if seen != expected:
                    different.append((text, seen, expected))
            lib.check(not different, f"{len(texts())} texts written to {name}", different[:5])
    lib.finish()


main()
