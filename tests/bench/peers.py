# SPDX-License-Identifier: Apache-2.0
"""The tunnels script/bench compares: how each is started between two namespaces, and where the
processes are whose time and memory count.

A peer is a function (west, east) -> Tunnel. On return both daemons run, and what goes from one
protected network to the other is routed into the tunnel; the caller waits for the first ping. All
of it ends with the enclosing lib.scope(). What cannot be started raises, and `log_files()` say why.
"""

import contextlib
import glob
import os
import shutil
from dataclasses import dataclass, field

import lib
import options

CACHE = os.path.join(lib.BUILD, "peers")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TUN = "tunnel"


@dataclass
class Tunnel:
    version: str
    pids: list = field(default_factory=list)  # both ends; none if there are no processes


def log_files():
    return sorted(glob.glob(os.path.join(lib.DIRECTORY, "*.log")) + [
        path for path in (os.path.join(lib.DIRECTORY, "log"),) if os.path.exists(path)
    ])


def _daemon(namespace, side, command, **more):
    """Starts a daemon that stays in the foreground and is its own process (no fork before it)."""
    with open(os.path.join(lib.DIRECTORY, f"{('west', 'east')[side]}.log"), "w") as log:
        return namespace.start(command, stdout=log, stderr=log, **more).pid


def _route(namespace, side, device):
    namespace.ip(f"route add {lib.NETS[4][1 - side]} dev {device} src {lib.INNER[4][side]}")


def _wait_for_device(namespace, device, pid):
    def there():
        if not os.path.exists(f"/proc/{pid}/exe"):
            raise RuntimeError(f"the daemon ended before it made {device}")
        return device in namespace.ip("-br link show")

    lib.wait_until(there, f"device {device}", 15)


def _package(name):
    return lib.run(["dpkg-query", "-W", "-f", "${Version}", name]).stdout


# --- Ours.


def _ours(encapsulation, crypto):
    def start(west, east):
        more = f"--mtu {options.INNER_MTU} --crypto {crypto}"
        engines = [lib.Engine(namespace, more) for namespace in (west, east)]
        for side, engine in enumerate(engines):
            for sender in (0, 1):
                engine.xfrm(lib.state(sender, more=encapsulation))
            engine.xfrm(lib.policy("out", side))
            engine.xfrm(lib.policy("in", 1 - side))
            _route(engine.namespace, side, engine.tun)
        return Tunnel(_our_version(), [engine.pid() for engine in engines])

    return start


def _our_version():
    version = lib.run([lib.XFRMFS, "--version"]).stdout.strip().split()[-1]
    here = os.path.dirname(__file__)
    commit = lib.run(["git", "-C", here, "describe", "--always", "--dirty"], check=False)
    return f"{version} ({commit.stdout.strip()})" if commit.stdout.strip() else version


# --- wireguard-go, of another release of Debian than the one that runs here.


def fetch_wireguard_go(suite):
    """Downloads the package with apt in a directory of its own, once; nothing is installed.

    The mirror is that of the machine's own source of Debian's main component.
    Returns (program, version).
    """
    root = os.path.join(CACHE, f"wireguard-go-{suite}")
    program, version = (os.path.join(root, n) for n in ("usr/bin/wireguard-go", "version"))
    if not os.path.exists(version):
        shutil.rmtree(root, ignore_errors=True)
        for name in ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial",
                     "var/lib/dpkg"):
            os.makedirs(os.path.join(root, name))
        status = os.path.join(root, "var/lib/dpkg/status")
        open(status, "w").close()
        with open(os.path.join(root, "etc/apt/sources.list"), "w") as sources:
            sources.write(f"deb [signed-by={KEYRING}] {_debian_mirror()} {suite} main\n")
        apt = ["apt-get", "-q", "-o", f"Dir={root}", "-o", f"Dir::State::status={status}",
               "-o", "APT::Sandbox::User=root"]
        lib.run(apt + ["update", "--error-on=any"], seconds=300)
        lib.run(apt + ["download", "wireguard-go"], seconds=300, cwd=root)
        (package,) = glob.glob(os.path.join(root, "*.deb"))
        lib.run(["dpkg", "-x", package, root])
        names = lib.run(["apt-get", "indextargets", "-o", f"Dir={root}", "--format", "$(CODENAME)",
                         "Created-By: Packages"]).stdout.split()
        shutil.rmtree(os.path.join(root, "var"))
        with open(version, "w") as file:
            file.write(lib.run(["dpkg-deb", "-f", package, "Version"]).stdout.strip())
            file.write(f" (Debian {names[0]})")
    with open(version) as file:
        return program, file.read()


def _debian_mirror():
    lines = lib.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
         "Origin: Debian", "Label: Debian", "Component: main"]
    ).stdout.splitlines()
    if not lines:
        raise RuntimeError("apt knows no source of Debian's main component here; apt-get update?")
    return lines[0]


def _wireguard_go(suite):
    def start(west, east):
        program, version = fetch_wireguard_go(suite)
        # The sockets for `wg` lie in one directory for all namespaces: two names are needed.
        devices = [f"wg{os.getpid()}-{side}" for side in (0, 1)]
        sockets = [f"/var/run/wireguard/{device}.sock" for device in devices]
        pids, keys = [], []
        for side, namespace in enumerate((west, east)):
            lib.at_end(_remove, sockets[side])
            pids.append(_daemon(namespace, side, [program, "-f", devices[side]],
                                env={**os.environ, "WG_PROCESS_FOREGROUND": "1"}))
            secret = lib.run("wg genkey").stdout
            keys.append((secret, lib.run("wg pubkey", input=secret).stdout.strip()))
        for side, namespace in enumerate((west, east)):
            device = devices[side]
            _wait_for_device(namespace, device, pids[side])
            path = os.path.join(lib.DIRECTORY, "key")
            with open(path, "w", opener=_private) as file:
                file.write(keys[side][0])
            lib.wait_until(lambda s=sockets[side]: os.path.exists(s), sockets[side], 15)
            namespace.run(
                f"wg set {device} listen-port 51820 private-key {path} peer {keys[1 - side][1]} "
                f"allowed-ips {lib.NETS[4][1 - side]} endpoint {lib.OUTER[4][1 - side]}:51820"
            )
            namespace.ip(f"link set {device} mtu {options.INNER_MTU} up")
            _route(namespace, side, device)
        return Tunnel(version, pids)

    return start


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _private(path, flags):
    return os.open(path, flags, 0o600)


# --- OpenVPN.


def _openvpn(west, east):
    for name in ("west", "east"):
        lib.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            f"-subj /CN={name} -keyout {name}.key -out {name}.crt", cwd=lib.DIRECTORY,
        )
    prints = [
        lib.run(f"openssl x509 -in {name}.crt -noout -fingerprint -sha256", cwd=lib.DIRECTORY)
        .stdout.strip().split("=")[1]
        for name in ("west", "east")
    ]
    pids = []
    for side, (namespace, name) in enumerate(((west, "west"), (east, "east"))):
        role = ("--tls-client", "--tls-server --dh none")[side]
        ends = ("192.0.3.1", "192.0.3.2")
        pids.append(_daemon(
            namespace, side,
            f"openvpn --dev {TUN} --dev-type tun --disable-dco --proto udp --port 1194 {role} "
            f"--local {lib.OUTER[4][side]} --remote {lib.OUTER[4][1 - side]} "
            f"--cert {name}.crt --key {name}.key --peer-fingerprint {prints[1 - side]} "
            f"--cipher AES-128-GCM --data-ciphers AES-128-GCM --tun-mtu {options.INNER_MTU} "
            f"--ifconfig {ends[side]} {ends[1 - side]} --connect-retry 1 --verb 3",
            cwd=lib.DIRECTORY,
        ))
    for side, namespace in enumerate((west, east)):
        _wait_for_device(namespace, TUN, pids[side])
        lib.wait_until(lambda n=namespace: "UP" in n.ip(f"link show {TUN}"), f"{TUN} is up", 15)
        _route(namespace, side, TUN)
    return Tunnel(_package("openvpn"), pids)


# --- strongSwan.

_CHARON = """
charon {{
  load = random nonce aesni aes openssl hmac kdf kernel-libipsec kernel-netlink socket-default vici
  filelog {{ log {{ path = /dev/stderr
                    default = 1 }} }}
  plugins {{ vici {{ socket = unix://{socket} }} }}
}}
"""

_CONNECTION = """
connections {{ tunnel {{
  version = 2
  local_addrs = {outer[0]}
  remote_addrs = {outer[1]}
  proposals = aes128gcm16-prfsha256-ecp256
  local {{ auth = psk
           id = {outer[0]} }}
  remote {{ auth = psk
            id = {outer[1]} }}
  children {{ tunnel {{
    local_ts = {net[0]}
    remote_ts = {net[1]}
    esp_proposals = aes128gcm16
  }} }}
}} }}
secrets {{ ike {{ secret = "of this machine, for a few seconds" }} }}
"""


def _libipsec(west, east):
    pids, sockets = [], []
    for side, (namespace, name) in enumerate(((west, "west"), (east, "east"))):
        base = os.path.join(lib.DIRECTORY, name)
        sockets.append(base + ".vici")
        outer, net = ((pair[side], pair[1 - side]) for pair in (lib.OUTER[4], lib.NETS[4]))
        with open(base + ".conf", "w") as file:
            file.write(_CHARON.format(socket=sockets[side]))
        with open(base + ".swanctl", "w") as file:
            file.write(_CONNECTION.format(outer=outer, net=net))
        # Each has a /run of its own, where charon insists on one process ID file.
        pids.append(_daemon(
            namespace, side,
            ["unshare", "--mount", "sh", "-c",
             "mount -t tmpfs tmpfs /run && exec /usr/lib/ipsec/charon"],
            env={**os.environ, "STRONGSWAN_CONF": base + ".conf"},
        ))
    for side, namespace in enumerate((west, east)):
        _wait_for_device(namespace, "ipsec0", pids[side])
        lib.wait_until(lambda s=sockets[side]: os.path.exists(s), sockets[side], 15)
        name = ("west", "east")[side]
        lib.run(f"swanctl --load-all --noprompt --uri unix://{sockets[side]} "
                f"--file {lib.DIRECTORY}/{name}.swanctl")
    lib.run(f"swanctl --initiate --child tunnel --timeout 15 --uri unix://{sockets[0]}")
    for namespace in (west, east):
        namespace.ip(f"link set ipsec0 mtu {options.INNER_MTU}")
    return Tunnel(_package("libcharon-extra-plugins"), pids)


# --- None.


def _veth(west, east):
    for side, namespace in enumerate((west, east)):
        namespace.ip(f"link set eth0 mtu {options.INNER_MTU}")
        namespace.ip(f"route add {lib.NETS[4][1 - side]} via {lib.OUTER[4][1 - side]} "
                     f"src {lib.INNER[4][side]}")
    return Tunnel("Linux " + os.uname().release)


def starters(suite):
    """The function that starts each variant, by its name."""
    udp = "encap espinudp 4500 4500 0.0.0.0"
    return {
        "ours-udp-mb": _ours(udp, "ipsec-mb"),
        "ours-udp-openssl": _ours(udp, "openssl"),
        "ours-raw-mb": _ours("", "ipsec-mb"),
        "ours-raw-openssl": _ours("", "openssl"),
        "wireguard-go": _wireguard_go(suite),
        "openvpn": _openvpn,
        "libipsec": _libipsec,
        "veth": _veth,
    }
