# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: namespaces, engines on real mounts, wires, waiting, checks.

A test is a program: `TEST BUILD_DIR`, exit status 0 or 1, topology drawn at its top. It runs as
root and cleans up what it made, also when interrupted. Namespaces, mounts and processes carry
names of their own, so tests may run side by side. A sanitizer report of any engine fails the test.
"""

import atexit
import contextlib
import ctypes
import glob
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build/release")
XFRMFS = os.path.join(BUILD, "xfrmfs")
DIRECTORY = tempfile.mkdtemp(prefix="xfrmfs-test.")
PATIENCE = 30.0  # seconds; waits end when their condition holds, so this costs only failures

_LIBC = ctypes.CDLL(None, use_errno=True)
_ETH_P_ALL = 3
_undo = contextlib.ExitStack()


@contextlib.contextmanager
def scope():
    """What is made in the block ends with the block, not with the program."""
    global _undo
    outer, _undo = _undo, contextlib.ExitStack()
    try:
        yield
    finally:
        inner, _undo = _undo, outer
        inner.close()


def at_end(function, *arguments):
    """Calls the function when the scope or else the program ends."""
    _undo.callback(function, *arguments)


# --- Checks: every one prints a line; finish() ends the test.

_failed = 0


def check(good, text, details=""):
    """Prints one line, and `details` if it failed. Returns `good`."""
    global _failed
    print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)
    if not good:
        _failed += 1
        if details:
            print("     " + str(details).replace("\n", "\n     "), flush=True)
    return good


def check_equal(seen, expected, text):
    return check(seen == expected, text, f"expected {expected!r}\nseen     {seen!r}")


def finish():
    """Cleans up and exits: 1 if a check failed."""
    clean_up()
    sys.exit(1 if _failed else 0)


def wait_until(condition, what, seconds=PATIENCE):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s still not: {what}")
        time.sleep(0.01)


# --- Programs.


def run(command, check=True, seconds=120, **options):
    """Runs a command (a list, or a string split as a shell would) and returns its result."""
    words = shlex.split(command) if isinstance(command, str) else command
    result = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds, **options
    )
    if check and result.returncode:
        raise RuntimeError(
            f"{shlex.join(words)}\nexit status {result.returncode}\n{result.stdout}{result.stderr}"
        )
    return result


def start(command, **options):
    """Starts a program in the background; it ends with the test at the latest."""
    words = shlex.split(command) if isinstance(command, str) else command
    options = {"stdin": subprocess.DEVNULL, "text": True, **options}
    process = subprocess.Popen(words, **options)
    _undo.callback(stop, process)
    return process


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- Namespaces and wires.


class Namespace:
    """A network namespace without IPv6 chatter of its own (no DAD, no router solicitation)."""

    def __init__(self, label):
        self.name = f"xfrmfs-{os.getpid()}-{label}"
        run(["ip", "netns", "add", self.name])
        _undo.callback(run, ["ip", "netns", "del", self.name], check=False)
        self.run(
            "sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 "
            "net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.addr_gen_mode=1"
        )
        self.ip("link set lo up")

    def words(self, command):
        command = shlex.split(command) if isinstance(command, str) else command
        return ["nsenter", f"--net=/var/run/netns/{self.name}"] + command

    def run(self, command, **options):
        return run(self.words(command), **options)

    def start(self, command, **options):
        return start(self.words(command), **options)

    def ip(self, arguments):
        """`ip ARGUMENTS` of this namespace's kernel."""
        return run(["ip", "-n", self.name] + shlex.split(arguments)).stdout

    @contextlib.contextmanager
    def inside(self):
        """What this thread opens in the block belongs to the namespace."""
        with open("/proc/thread-self/ns/net") as home, open(f"/var/run/netns/{self.name}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, *arguments):
        with self.inside():
            made = socket.socket(*arguments)
        _undo.callback(made.close)
        return made

    def send_udp(self, destination, port=9, payload=b"x", source=None):
        """Sends one datagram; returns the errno with which the kernel refused, or 0."""
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        with self.inside(), socket.socket(family, socket.SOCK_DGRAM) as udp:
            if source:
                udp.bind((source, 0))
            try:
                udp.sendto(payload, (destination, port))
                return 0
            except OSError as error:
                return error.errno


def _setns(descriptor):
    if _LIBC.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def join(one, other, one_addresses, other_addresses, mtu=1500, names=("eth0", "eth0")):
    """A veth pair between two namespaces, with addresses and permanent neighbours: no ARP, no ND."""
    ends = ((one, names[0], one_addresses), (other, names[1], other_addresses))
    run(
        ["ip", "link", "add", names[0], "netns", one.name, "mtu", str(mtu)]
        + ["type", "veth", "peer", "name", names[1], "netns", other.name, "mtu", str(mtu)]
    )
    for namespace, name, addresses in ends:
        for address in addresses:
            namespace.ip(f"addr add {address} dev {name}")
        namespace.ip(f"link set {name} up")
    for (here, name, _), (there, far_name, far_addresses) in (ends, ends[::-1]):
        for address in far_addresses:
            here.ip(
                f"neigh replace {address.split('/')[0]} lladdr {mac(there, far_name)} "
                f"dev {name} nud permanent"
            )


def mac(namespace, interface):
    return namespace.ip(f"-o link show {interface}").split("link/ether ")[1].split()[0]


class Wire:
    """One end of a link: injects IP packets to the neighbour and records what arrives or passes.

    `packets` grows in the background: (incoming, bytes from the IP header on).
    """

    def __init__(
        self, namespace, interface, neighbour=None, hardware_address=None, link_header=14
    ):
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._link_header = link_header
        if neighbour:
            hardware_address = mac(*neighbour)
        if hardware_address:
            self._addresses = bytes.fromhex(
                (hardware_address + mac(namespace, interface)).replace(":", "")
            )
        self.packets = []
        threading.Thread(target=self._record, daemon=True).start()

    def send(self, packet):
        kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
        self._socket.send(self._addresses + kind + packet)

    def incoming(self, condition=lambda packet: True):
        """Packets that arrived at this end, those of them that meet the condition."""
        return [p for came_in, p in list(self.packets) if came_in and condition(p)]

    def wait_for(self, condition, what):
        """The first packet that arrived and meets the condition."""
        return wait_until(lambda: self.incoming(condition), what)[0]

    def _record(self):
        while True:
            try:
                frame, (_, kind, how, *_) = self._socket.recvfrom(65600)
            except OSError:
                return
            if kind in (0x0800, 0x86DD):
                self.packets.append((how != socket.PACKET_OUTGOING, frame[self._link_header :]))


def protocol(packet):
    """The IP protocol of a packet; IPv6 extension headers are not followed."""
    return packet[9] if packet[0] >> 4 == 4 else packet[6]


def is_multicast_report(packet):
    """MLD, which no switch of the kernel turns off: IPv6 to ff02::/16 with hop-by-hop options."""
    return packet[0] >> 4 == 6 and packet[24:26] == b"\xff\x02" and packet[6] == 0


ESP = 50


# --- Engines.


class Engine:
    """xfrmfs in a namespace, with its mount under the test's directory."""

    def __init__(self, namespace, options="", underlay="eth0", tun="ipsec0"):
        self.namespace = namespace
        self.tun = tun
        self.mount = os.path.join(DIRECTORY, namespace.name + "-" + tun)
        os.mkdir(self.mount)
        words = [XFRMFS, "mount", self.mount, "--netns", namespace.name, "--tun", tun]
        if underlay:
            words += ["--underlay", underlay]
        # The engine may close its standard error; reports then still reach the directory.
        reports = f"log_path={DIRECTORY}/sanitizer:exitcode=66"
        environment = dict(os.environ)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            environment[name] = ":".join(filter(None, (environment.get(name), reports)))
        with open(os.path.join(DIRECTORY, "log"), "a") as log:
            subprocess.run(
                words + shlex.split(options), check=True, timeout=60, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        _undo.callback(self.umount)
        namespace.ip(f"link set {tun} up")

    def pid(self):
        """The process that serves the mount."""
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError), open(path, "rb") as cmdline:
                words = cmdline.read().split(b"\0")
                if words[1:2] == [b"mount"] and self.mount.encode() in words:
                    return int(path.split("/")[2])
        return None

    def umount(self):
        if self.mount is None:
            return
        mount, pid, self.mount = self.mount, self.pid(), None
        run([XFRMFS, "umount", mount], check=False)
        if os.path.ismount(mount):
            run(["umount", "-l", mount], check=False)
        if pid:
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the engine has ended", 20)
                return
            check(False, f"the engine of {mount} ends after umount")
            os.kill(pid, signal.SIGKILL)

    def exec(self, command, **options):
        words = shlex.split(command) if isinstance(command, str) else command
        return run([XFRMFS, "exec", self.mount] + words, **options)

    def xfrm(self, arguments, **options):
        """`ip xfrm ARGUMENTS` against this engine."""
        return self.exec(["ip", "xfrm"] + shlex.split(arguments), **options)

    def batch(self, lines):
        """Many `ip` commands ("xfrm state add …") in one process."""
        path = os.path.join(DIRECTORY, f"batch-{threading.get_ident()}")
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        return self.exec(["ip", "-batch", path])

    def flush(self):
        self.xfrm("state flush")
        self.xfrm("policy flush")

    def read(self, path):
        with open(os.path.join(self.mount, path)) as file:
            return file.read()

    def write(self, path, text):
        with open(os.path.join(self.mount, path), "w") as file:
            file.write(text)

    def counters(self):
        lines = self.read("net/xfrm_stat").splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}


def moved(before, after):
    """The counters that moved, with their difference."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def transfer(source, destination, address, size):
    """Sends `size` random bytes over TCP; true if they arrive as they were sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sent, received = os.urandom(size), bytearray()
    listener, sender = (n.socket(family, socket.SOCK_STREAM) for n in (destination, source))

    def receive():
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            while piece := connection.recv(1 << 16):
                received.extend(piece)

    with listener, sender:
        listener.settimeout(PATIENCE)
        sender.settimeout(PATIENCE)
        listener.bind((address, 0))
        listener.listen()
        thread = threading.Thread(target=receive)
        thread.start()
        sender.connect((address, listener.getsockname()[1]))
        sender.sendall(sent)
        sender.shutdown(socket.SHUT_WR)
        thread.join()
    return bytes(received) == sent


# --- A tunnel between two namespaces, as most tests want it.

OUTER = {4: ("192.1.2.45", "192.1.2.23"), 6: ("2001:db8:f::45", "2001:db8:f::23")}
INNER = {4: ("192.0.1.254", "192.0.2.254"), 6: ("2001:db8:1::254", "2001:db8:2::254")}
NETS = {4: ("192.0.1.0/24", "192.0.2.0/24"), 6: ("2001:db8:1::/64", "2001:db8:2::/64")}
SPIS = (0x1001, 0x2001)  # of the SA that leaves west, of the SA that leaves east


def underlay(mtu=1500):
    """Namespaces west and east, joined, each with its protected addresses on lo."""
    west, east = Namespace("west"), Namespace("east")
    join(
        west, east,
        (OUTER[4][0] + "/24", OUTER[6][0] + "/64"), (OUTER[4][1] + "/24", OUTER[6][1] + "/64"), mtu,
    )
    for side, namespace in enumerate((west, east)):
        namespace.ip(f"addr add {INNER[4][side]}/32 dev lo")
        namespace.ip(f"addr add {INNER[6][side]}/128 dev lo")
    return west, east


def route_into_tun(engine, side):
    """Routes the other side's protected networks into the TUN device."""
    for family in (4, 6):
        engine.namespace.ip(
            f"-{family} route add {NETS[family][1 - side]} dev {engine.tun} "
            f"src {INNER[family][side]}"
        )


GCM_128 = "aead rfc4106(gcm(aes)) 0x" + "{0}" * 20 + " 128"
GCM_256 = "aead rfc4106(gcm(aes)) 0x" + "{0}" * 36 + " 128"
CBC_SHA256 = (
    "enc cbc(aes) 0x" + "{0}" * 16 + " auth-trunc hmac(sha256) 0x" + "{1}" * 32 + " 128"
)


def suite(kind, side):
    """The algorithms and keys of the SA that leaves `side`, as `ip xfrm state add` takes them."""
    return kind.format(("4a", "7c")[side], ("15", "e6")[side])


def state(side, kind=GCM_128, outer=4, inner=4, more=""):
    """`ip xfrm` words that add the tunnel SA that leaves `side`."""
    source, destination = OUTER[outer][side], OUTER[outer][1 - side]
    anything = {4: "sel src 0.0.0.0/0 dst 0.0.0.0/0", 6: "sel src ::/0 dst ::/0"}
    selector = anything[inner] if outer != inner and "sel " not in more else ""
    return (
        f"state add src {source} dst {destination} proto esp spi {SPIS[side]:#x} mode tunnel "
        f"reqid 1 replay-window 32 {suite(kind, side)} {more} {selector}"
    )


def policy(direction, side, outer=4, inner=4, reqid=1):
    """`ip xfrm` words that add the policy for traffic that leaves `side`, in any direction."""
    source, destination = NETS[inner][side], NETS[inner][1 - side]
    return (
        f"policy add src {source} dst {destination} dir {direction} "
        f"tmpl src {OUTER[outer][side]} dst {OUTER[outer][1 - side]} proto esp reqid {reqid} "
        "mode tunnel"
    )


def configure(engine, side, kind=GCM_128, outer=4, inner=4):
    """Both SAs and all policies of a tunnel, on one side."""
    for sender in (0, 1):
        engine.xfrm(state(sender, kind, outer, inner))
    engine.xfrm(policy("out", side, outer, inner))
    engine.xfrm(policy("in", 1 - side, outer, inner))
    engine.xfrm(policy("fwd", 1 - side, outer, inner))


# --- Cleaning up.


def clean_up():
    _undo.close()
    if os.path.isdir(DIRECTORY):
        for report in sorted(glob.glob(os.path.join(DIRECTORY, "sanitizer*"))):
            with open(report, errors="replace") as file:
                check(False, "no sanitizer report", file.read())
        if _failed:
            with contextlib.suppress(OSError), open(os.path.join(DIRECTORY, "log")) as log:
                print("--- log of the engines\n" + log.read())
        shutil.rmtree(DIRECTORY, ignore_errors=True)


atexit.register(clean_up)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if not os.access(XFRMFS, os.X_OK):
    sys.exit(f"no program {XFRMFS}; usage: {sys.argv[0]} BUILD_DIR")
