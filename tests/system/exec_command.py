#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Which programs does `xfrmfs exec` run, and do they reach the engine and nothing else?

  program -- adapter -- engine (mounted at MOUNTPOINT) -- TUN device in the namespace "exec"

Every kind of program file is tried: what cannot load the adapter would configure the kernel, and
is to be refused with a reason.
"""

import os
import shutil
import signal
import subprocess

import lib

NOBODY = 65534
OWN_FAILURE, CANNOT_RUN, NOT_FOUND = 125, 126, 127
SA = (
    "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001 mode tunnel reqid 1 "
    "aead rfc4106(gcm(aes)) 0x" + "4a" * 20 + " 128"
)

namespace = lib.Namespace("exec")
engine = lib.Engine(namespace, underlay="")

os.chmod(lib.DIRECTORY, 0o755)  # for nobody
programs = os.path.join(lib.DIRECTORY, "programs")
os.mkdir(programs)


def path(name):
    return os.path.join(programs, name)


def execute(*command, mount=None, **options):
    return lib.run([lib.XFRMFS, "exec", mount or engine.mount, *command], check=False, **options)


def refuses(status, reason, *command, **options):
    result = execute(*command, **options)
    lines = result.stderr.splitlines()
    lib.check(
        result.returncode == status and len(lines) == 1 and reason in lines[0],
        f"{' '.join(command)}: {status}, {reason}",
        f"exit status {result.returncode}\n{result.stderr}",
    )


def runs(text, *command, **options):
    result = execute(*command, **options)
    lib.check(
        result.returncode == 0 and text in result.stdout,
        f"{' '.join(command)}: prints {text!r}",
        f"exit status {result.returncode}\n{result.stdout}{result.stderr}",
    )


def script(name, text):
    with open(path(name), "w") as file:
        file.write(text)
    os.chmod(path(name), 0o755)
    return path(name)


def compiled(name, *options, compiler="gcc", source="int main(void) { return 0; }"):
    lib.run([compiler, "-x", "c", "-", "-o", path(name), *options], input=source)
    return path(name)


# --- The engine is reached, and the kernel is not.

runs("", "ip", "xfrm", "state", "add", *SA.split())
runs("spi 0x00001001", "ip", "xfrm", "state", "list")
lib.check("spi 0x00001001" not in namespace.ip("xfrm state list"), "the kernel heard nothing")
lib.check("0x1001@192.0.2.2" in engine.read("net/ipsec_spi"), "the mount shows the SA")
runs("spi 0x00001001", "sh", "-c", "ip xfrm state list")
runs("lo: ", "ip", "link")  # other netlink families stay with the kernel
runs("yes", "sh", "-c", "test -t 0 || echo yes", stdin=open("/dev/null"))
runs("a  b", "printf", "%s", "a  b")
runs("--help -v", "--", "echo", "--help", "-v")
runs(":/other.so", "sh", "-c", "echo $LD_PRELOAD", env={**os.environ, "LD_PRELOAD": "/other.so"})
runs("0", "sh", "-c", f"{lib.XFRMFS} exec {engine.mount} sh -c 'echo $LD_PRELOAD' | grep -c :; true")
lib.check_equal(execute("sh", "-c", "exit 7").returncode, 7, "the program's status is passed on")

for library in ("glibc", "fortified", "musl"):
    client = os.path.join(lib.BUILD, "tests/netio/preload", library)
    if not os.path.exists(client):
        continue
    for scenario in (
        "kind around_socket names port_ids unbound sending peeking options life threads "
        "cancellation foreign"
    ).split():
        runs("", client, scenario)

# --- Programs that are not there.

refuses(NOT_FOUND, "No such file", "xfrmfs-no-such-program")
refuses(NOT_FOUND, "No such file", path("nothing"))
refuses(NOT_FOUND, "No such file", "")
refuses(NOT_FOUND, "Not a directory", "/etc/passwd/x")
refuses(NOT_FOUND, "No such file", "ip", env={"PATH": programs})
refuses(CANNOT_RUN, "Permission denied", "/etc/passwd")
refuses(CANNOT_RUN, "Permission denied", programs)
script("in-path", "#!/bin/sh\necho found\n")
runs("found", "in-path", env={"PATH": f"/nowhere:{programs}"})

# --- Programs that would run past the adapter.

static = compiled("static", "-static")
refuses(CANNOT_RUN, "statically linked", static)
refuses(CANNOT_RUN, "statically linked", compiled("static-pie", "-static-pie"))
if shutil.which("musl-gcc"):
    runs("", compiled("musl", compiler="musl-gcc"))
    refuses(CANNOT_RUN, "statically linked", compiled("mstatic", "-static", compiler="musl-gcc"))
GO_NOTE = r'''
__asm__(".section .note.go.buildid,\"a\",@note\n.long 4, 4, 4\n.ascii \"Go\\0\\0idid\"\n.text");
int main(void) { return 0; }
'''
refuses(CANNOT_RUN, "Go program", compiled("go", source=GO_NOTE))

with open(compiled("foreign"), "r+b") as file:
    file.seek(18)
    file.write(b"\x15\x00")  # e_machine: PowerPC
refuses(CANNOT_RUN, "another architecture", path("foreign"))
with open(compiled("small"), "r+b") as file:
    file.seek(4)
    file.write(b"\x01")  # ELFCLASS32
refuses(CANNOT_RUN, "another architecture", path("small"))
with open(compiled("broken"), "r+b") as file:
    file.truncate(100)
refuses(CANNOT_RUN, "sound ELF", path("broken"))

runs("of a script", script("plain", "echo of a script\n"))
runs("also", script("with-words", "#! /bin/sh -e\necho also\n"))
refuses(CANNOT_RUN, static, script("of-static", f"#!{static} word\n"))
refuses(CANNOT_RUN, static, script("twice", f"#!{path('of-static')}\n"))
refuses(CANNOT_RUN, "interpreters", script("itself", f"#!{path('itself')}\n"))
refuses(CANNOT_RUN, "No such file", script("lost", "#!/no/such/interpreter\n"))

# --- Programs that gain privileges, for a caller who has none.

for name in ("xfrmfs", "libxfrmfs-preload.so"):
    shutil.copy(os.path.join(lib.BUILD, name), programs)
for name, mode in (("set-user", 0o4755), ("set-group", 0o2755), ("capable", 0o755)):
    shutil.copy("/bin/true", path(name))
    os.chmod(path(name), mode)
lib.run(["setcap", "cap_net_raw=ep", path("capable")])


def refuses_nobody(status, reason, *command):
    result = lib.run(
        [path("xfrmfs"), "exec", engine.mount, *command], check=False, user=NOBODY, group=NOBODY,
        extra_groups=[],
    )
    lib.check(
        result.returncode == status and reason in result.stderr,
        f"{' '.join(command)}, by nobody: {status}, {reason}",
        f"exit status {result.returncode}\n{result.stderr}",
    )


refuses_nobody(CANNOT_RUN, "set-user-ID", path("set-user"))
refuses_nobody(CANNOT_RUN, "set-group-ID", path("set-group"))
refuses_nobody(CANNOT_RUN, "capabilities", path("capable"))
refuses_nobody(0, "", "true")
refuses_nobody(1, "Operation not permitted", "ip", "xfrm", "state")
for name in ("set-user", "set-group", "capable"):
    runs("", path(name))  # root gains nothing

# --- Mounts that are none, and engines that are gone.

refuses(OWN_FAILURE, "not a mount of xfrmfs", "true", mount="/proc")
refuses(OWN_FAILURE, "not a mount of xfrmfs", "true", mount=programs)
refuses(OWN_FAILURE, "No such file", "true", mount=path("nothing"))

monitor = lib.start(
    [lib.XFRMFS, "exec", engine.mount, "ip", "xfrm", "monitor"],
    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
)


def waits_for_events():
    with open(f"/proc/{monitor.pid}/stat") as file:
        return "(ip) S" in file.read()


lib.wait_until(waits_for_events, "ip xfrm monitor waits")
os.kill(engine.pid(), signal.SIGKILL)
result = lib.wait_until(
    lambda: next((r for r in [execute("ip", "xfrm", "state")] if r.returncode), None),
    "the killed engine is missed",
)
lib.check_equal(
    (result.returncode, result.stderr),
    (1, "Cannot open netlink socket: Protocol not supported\n"),
    "without engine it is as on a kernel without XFRM",
)
runs("here", "echo", "here")
errors = monitor.communicate(timeout=lib.PATIENCE)[1]
lib.check(
    monitor.returncode not in (0, None) and "Connection reset" in errors,
    "ip xfrm monitor ends with an error",
    f"exit status {monitor.returncode}\n{errors}",
)

lib.finish()
