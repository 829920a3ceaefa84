#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Do packets in clear stay outside when the policies want them protected, and are they counted?

  west (clear text)                       east (xfrmfs)                     right
    192.1.2.45, 2001:db8:f::45 --- eth0 --- 192.1.2.23, 2001:db8:f::23
    192.0.1.254, 2001:db8:1::254 on lo      192.0.2.254, 2001:db8:2::254 on lo
                                            203.0.113.1 --- inside --- 203.0.113.2

West sends datagrams in clear to port 7000. Each case says which counter moves, and whether they
arrive; a datagram of a flow that no policy is about tells when all before it have been dealt with.
"""

import json
import os
import signal
import socket
import subprocess

import lib

PORT, FENCE_PORT, COUNT = 7000, 7001, 3
WEST, EAST = lib.INNER[4][0], lib.INNER[4][1]
INSIDE, RIGHT = "203.0.113.1", "203.0.113.2"
SELECTOR = f"src {lib.NETS[4][0]} dst {lib.NETS[4][1]}"
TEMPLATE = f"tmpl src {lib.OUTER[4][0]} dst {lib.OUTER[4][1]} proto esp reqid 1 mode tunnel"
OPTIONAL = TEMPLATE + " level use"
MISMATCH, NO_POLS, BLOCK, BUFFER = (
    "XfrmInTmplMismatch", "XfrmInNoPols", "XfrmInPolBlock", "XfrmInBufferError"
)

west, east = lib.underlay()
right = lib.Namespace("right")
lib.join(right, east, [RIGHT + "/24"], [INSIDE + "/24"], names=("eth0", "inside"))
right.ip(f"route add default via {INSIDE}")
east.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
for family in (4, 6):
    for side, namespace in enumerate((west, east)):
        namespace.ip(
            f"-{family} route add {lib.NETS[family][1 - side]} "
            f"via {lib.OUTER[family][1 - side]} src {lib.INNER[family][side]}"
        )
west.ip(f"route add 203.0.113.0/24 via {lib.OUTER[4][1]} src {WEST}")


def listener(namespace, port):
    made = namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.bind(("::", port))
    made.setblocking(False)
    return made


applications = {east: listener(east, PORT), right: listener(right, PORT)}
fences = {east: listener(east, FENCE_PORT), right: listener(right, FENCE_PORT)}


def received(listening):
    count = 0
    while True:
        try:
            listening.recv(100)
            count += 1
        except BlockingIOError:
            return count


def fence(target=east):
    """Returns when what was sent to the target before has arrived, or never will."""
    address = lib.OUTER[6][1] if target is east else RIGHT
    source = lib.OUTER[6][0] if target is east else lib.OUTER[4][0]

    def arrived():
        west.send_udp(address, FENCE_PORT, source=source)
        return received(fences[target])

    lib.wait_until(arrived, "a fence packet arrives")


def nft(arguments, namespace=east):
    return namespace.run(["nft"] + arguments.split()).stdout


def tables(namespace=east):
    return [line.split()[-1] for line in nft("list tables", namespace).splitlines()]


def dropped():
    """What the counters of the table say: the engine's are not older than a moment."""
    objects = json.loads(nft("-j list counters"))["nftables"]
    return sum(o["counter"]["packets"] for o in objects if "counter" in o)


def probe(source=WEST, destination=EAST, port=PORT, target=east):
    """Sends datagrams in clear; returns the counters that moved, and how many arrived."""
    before, drops = engine.counters(), dropped()
    for _ in range(COUNT):
        west.send_udp(destination, port, source=source)
    fence(target)
    new = dropped() - drops
    lib.wait_until(
        lambda: sum(lib.moved(before, engine.counters()).values()) >= new, "the drops are counted"
    )
    return lib.moved(before, engine.counters()), received(applications[target])


def settled(text, present=True):
    """Waits until the table says this, or no more."""
    lib.wait_until(
        lambda: (text in nft("list ruleset")) == present, f"{text!r} {present} in the table"
    )


serial = 0


def case(name, policies, counter, **packets):
    """`counter` is what moves for each packet; none: all arrive."""
    global serial
    serial += 1
    engine.flush()
    engine.xfrm("policy flush ptype sub")
    # A last policy that nobody meets, and whose rule shows that the others are in the table.
    sentinel = f"192.88.99.{serial}"
    for policy in policies + [f"policy add src 0.0.0.0/0 dst {sentinel}/32 dir in action block"]:
        # In the namespace, where names of interfaces are known.
        east.run([lib.XFRMFS, "exec", engine.mount, "ip", "xfrm"] + policy.split())
    settled(sentinel)
    expected = ({counter: COUNT}, 0) if counter else ({}, COUNT)
    lib.check_equal(probe(**packets), expected, name)


engine = lib.Engine(east)
lib.check_equal(tables(), ["xfrmfs_ipsec0"], "there is one table")
lib.check("hook" not in nft("list ruleset"), "without a policy nothing is hooked")

# --- What the policies say.

case("no policy about it", [], None)
case("a policy with a template", [f"policy add {SELECTOR} dir in {TEMPLATE}"], MISMATCH)
case("another flow", [f"policy add {SELECTOR} dir in {TEMPLATE}"], None,
     source=lib.OUTER[4][0], destination=lib.OUTER[4][1])
case("a policy of another direction", [f"policy add {SELECTOR} dir fwd {TEMPLATE}"], None)
case("a template that may be left out", [f"policy add {SELECTOR} dir in {OPTIONAL}"], None)
case("blocked", [f"policy add {SELECTOR} dir in action block"], BLOCK)
case("six templates", [f"policy add {SELECTOR} dir in " + (OPTIONAL + " ") * 6], BUFFER)

SPECIAL = f"policy add src {WEST}/32 dst {EAST}/32"
case("an exception that comes first",
     [f"policy add {SELECTOR} dir in priority 2 {TEMPLATE}", f"{SPECIAL} dir in priority 1"], None)
case("an exception that comes too late",
     [f"policy add {SELECTOR} dir in priority 1 {TEMPLATE}", f"{SPECIAL} dir in priority 2"],
     MISMATCH)
case("the older of two",
     [f"policy add {SELECTOR} dir in action block", f"{SPECIAL} dir in {TEMPLATE}"], BLOCK)

PORTS = f"policy add {SELECTOR} proto"
case("its port", [f"{PORTS} udp dport {PORT} dir in {TEMPLATE}"], MISMATCH)
case("another port", [f"{PORTS} udp dport {PORT + 2} dir in {TEMPLATE}"], None)
case("another protocol", [f"{PORTS} tcp dport {PORT} dir in {TEMPLATE}"], None)
case("a prefix within a byte",
     [f"policy add src 192.0.0.0/23 dst 192.0.2.192/26 dir in {TEMPLATE}"], MISMATCH)
case("beside the prefix", [f"policy add src 192.0.1.0/25 dst 192.0.2.192/26 dir in {TEMPLATE}"],
     None)
case("its interface", [f"policy add {SELECTOR} dev eth0 dir in {TEMPLATE}"], MISMATCH)
case("another interface", [f"policy add {SELECTOR} dev inside dir in {TEMPLATE}"], None)
case("with an interface id", [f"policy add {SELECTOR} dir in {TEMPLATE} if_id 7"], None)

case("mark that it has not", [f"policy add {SELECTOR} dir in mark 5 mask 0xff {TEMPLATE}"], None)
east.run(["nft", "table inet marks { chain c { type filter hook prerouting priority 0; "
                 "ip saddr 192.0.1.254 meta mark set 0x305; }; }"])
case("its mark", [f"policy add {SELECTOR} dir in mark 5 mask 0xff {TEMPLATE}"], MISMATCH)
nft("delete table inet marks")

ICMP = f"policy add {SELECTOR} proto icmp type"
for kind, answers, counter in (("0", 3, {}), ("8", 0, {MISMATCH: 3})):
    engine.flush()
    settled("hook", False)
    engine.xfrm(f"{ICMP} {kind} dir in {TEMPLATE}")
    settled("icmp type")
    before = engine.counters()
    ping = west.run(f"ping -n -c 3 -i 0.1 -W 1 {EAST}", check=False)
    lib.check(f" {answers} received" in ping.stdout, f"ICMP type {kind}: {answers} answers",
              ping.stdout)
    if counter:
        lib.wait_until(lambda: engine.counters()[MISMATCH] >= before[MISMATCH] + 3, "counted")
    lib.check_equal(lib.moved(before, engine.counters()), counter, f"ICMP type {kind}: {counter}")

# What the nft program makes of rules that few have.
engine.flush()
settled("hook", False)
for policy in (
    f"{SELECTOR} proto gre key 7 dir in {TEMPLATE}",
    f"src 2001:db8::/33 dst ::/0 proto 135 type 5 dir in {TEMPLATE}",
    f"src 2001:db8::/33 dst ::/0 proto ipv6-icmp type 128 dir in mark 1 mask 3 action block",
):
    engine.xfrm("policy add " + policy)
settled("icmpv6 type vmap")
PREFIXES = "ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0"
lib.check_equal(
    [line.strip() for line in nft("list chain inet xfrmfs_ipsec0 input").splitlines()
     if "vmap" in line],
    [f"meta l4proto 47-47 th sport & 40960 == 8192 {PREFIXES} . @th,32,16 . @th,48,16 vmap @input_0",
     f"meta l4proto 47-47 th sport & 40960 == 40960 {PREFIXES} . @th,64,16 . @th,80,16 vmap @input_1",
     "meta l4proto 135-135 ip6 saddr & ffff:ffff:8000:: . @th,16,8 vmap @input_2",
     "ip6 saddr & ffff:ffff:8000:: . meta mark & 0x00000003 . icmpv6 type vmap @input_3"],
    "GRE, Mobility Header, ICMPv6 and a mark as nft shows them",
)

# --- Sub policies: both must allow.

SUB = f"policy add {SELECTOR} dir in ptype sub"
case("sub policy with a template", [f"{SUB} {TEMPLATE}"], MISMATCH)
case("sub policy that allows", [SUB], None)
case("both allow", [SUB, f"policy add {SELECTOR} dir in"], None)
case("sub policy allows, main wants a template",
     [SUB, f"policy add {SELECTOR} dir in {TEMPLATE}"], MISMATCH)
case("sub policy wants a template, main blocks",
     [f"{SUB} {TEMPLATE}", f"policy add {SELECTOR} dir in action block"], BLOCK)
case("six templates in both",
     [f"{SUB} " + (OPTIONAL + " ") * 3, f"policy add {SELECTOR} dir in " + (OPTIONAL + " ") * 3],
     BUFFER)
case("sub policy blocks", [f"{SUB} action block", f"policy add {SELECTOR} dir in"], BLOCK)

# --- The default; what passes in any case.

engine.xfrm("policy setdefault in block")
FENCE_POLICY = "policy add src 2001:db8:f::/64 dst ::/0 dir in"
case("default block", [FENCE_POLICY], NO_POLS)
case("default block, and a policy that allows", [FENCE_POLICY, f"policy add {SELECTOR} dir in"],
     None)
engine.xfrm("policy setdefault in accept")

engine.flush()
engine.xfrm(f"policy add src ::/0 dst ::/0 dir in {TEMPLATE}")
settled("nfproto ipv6 goto input_tmpl_mismatch")
before = engine.counters()
west.ip("neigh flush dev eth0")
west.ip(f"-6 neigh del {lib.OUTER[6][1]} dev eth0")
west.send_udp(lib.OUTER[6][1])
lib.wait_until(
    lambda: "lladdr" in west.ip(f"-6 neigh show {lib.OUTER[6][1]} dev eth0"),
    "neighbour discovery works",
)
lib.wait_until(lambda: engine.counters()[MISMATCH] > before[MISMATCH], "the datagram is counted")
lib.check_equal(lib.moved(before, engine.counters()), {MISMATCH: 1},
                "all of IPv6 protected: neighbours are found, datagrams are not let in")
for namespace, other, side in ((west, east, 1), (east, west, 0)):
    for family in (4, 6):
        namespace.ip(f"neigh replace {lib.OUTER[family][side]} "
                     f"lladdr {lib.mac(other, 'eth0')} dev eth0 nud permanent")

# --- Forwarding.

FORWARD = "policy add src 192.0.1.0/24 dst 203.0.113.0/24 dir fwd"
TO_RIGHT = {"destination": RIGHT, "target": right}
case("forwarded, no policy", [], None, **TO_RIGHT)
case("forwarded, a policy with a template", [f"{FORWARD} {TEMPLATE}"], MISMATCH, **TO_RIGHT)
case("forwarded, blocked", [f"{FORWARD} action block"], BLOCK, **TO_RIGHT)
case("forwarded, a policy of direction in",
     [FORWARD.replace("fwd", "in") + " " + TEMPLATE], None, **TO_RIGHT)
engine.xfrm("policy setdefault fwd block")
case("forwarded, default block", ["policy add src 192.1.2.45 dst 0.0.0.0/0 dir fwd"], NO_POLS,
     **TO_RIGHT)
engine.xfrm("policy setdefault fwd accept")

# --- Changes, and the tunnel itself.

engine.flush()
settled("hook", False)
engine.xfrm(f"policy add {SELECTOR} dir in {TEMPLATE}")
settled("hook input")
lib.check_equal(probe(), ({MISMATCH: COUNT}, 0), "protected")
engine.xfrm(f"policy delete {SELECTOR} dir in")
settled("hook input", False)
lib.check_equal(probe(), ({}, COUNT), "no more: the policy is gone")

# Elements of a map come, change and go; the rules stay.
engine.xfrm(f"policy add src 192.0.3.0/24 dst {lib.NETS[4][1]} dir in {TEMPLATE}")
settled("192.0.3.0")
rules = nft("-a list chain inet xfrmfs_ipsec0 input")
engine.xfrm(f"policy add {SELECTOR} dir in action block")
settled("goto input_pol_block")
lib.check_equal(probe(), ({BLOCK: COUNT}, 0), "one more policy: blocked")
engine.xfrm(f"policy update {SELECTOR} dir in {TEMPLATE}")
settled("goto input_pol_block", False)
lib.check_equal(probe(), ({MISMATCH: COUNT}, 0), "the policy changes: protected")
engine.xfrm(f"policy delete {SELECTOR} dir in")
settled("192.0.1.0", False)
lib.check_equal(probe(), ({}, COUNT), "the policy goes")
settled("192.0.3.0")
lib.check_equal(nft("-a list chain inet xfrmfs_ipsec0 input"), rules, "the rules were left alone")

for family in (4, 6):
    with lib.scope():
        other = lib.Engine(west, tun=f"ipsec{family}")
        for side, one in enumerate((other, engine)):
            one.flush()
            lib.configure(one, side, outer=family, inner=family)
            one.namespace.ip(f"-{family} route replace {lib.NETS[family][1 - side]} "
                             f"dev {one.tun} src {lib.INNER[family][side]}")
        settled("hook input")
        before = engine.counters()
        ping = west.run(f"ping -n -c 3 -i 0.1 -W 5 {lib.INNER[family][1]}", check=False)
        lib.check(" 3 received" in ping.stdout, f"IPv{family}: ping through the tunnel", ping.stdout)
        lib.check(lib.transfer(west, east, lib.INNER[family][1], 500_000), f"IPv{family}: TCP")
        lib.check_equal(lib.moved(before, engine.counters()), {}, f"IPv{family}: no counter moved")
        lib.check("raw-send-frames: yes" in lib.run([lib.XFRMFS, "status", engine.mount]).stdout,
                  "the guard's table does not keep frames from being sent")
    west.ip(f"-{family} route replace {lib.NETS[family][1]} via {lib.OUTER[family][1]} "
            f"src {lib.INNER[family][0]}")
lib.check_equal(probe(destination=lib.INNER[6][1], source=lib.INNER[6][0]),
                ({MISMATCH: COUNT}, 0), "IPv6 in clear beside the tunnel")

# --- Who may remove the table, and when it goes.

east.run("nft flush ruleset", check=False)
east.run("nft delete table inet xfrmfs_ipsec0", check=False)
lib.check_equal(tables(), ["xfrmfs_ipsec0"], "a firewall that is loaded anew leaves the table")
lib.check("\nguard: works\n" in lib.run([lib.XFRMFS, "status", engine.mount]).stdout, "status")

with lib.scope():
    second = lib.Engine(east, "--udp-port 0", tun="ipsec1")
    lib.check_equal(sorted(tables()), ["xfrmfs_ipsec0", "xfrmfs_ipsec1"], "two engines, two tables")
lib.check_equal(tables(), ["xfrmfs_ipsec0"], "the second is gone with its engine")

process, mount = engine.pid(), engine.mount
os.kill(process, signal.SIGKILL)
lib.wait_until(lambda: not os.path.exists(f"/proc/{process}"), "the engine is dead")
lib.check_equal(tables(), [], "none after SIGKILL")
engine.umount()
os.rmdir(mount)
nft("add table inet xfrmfs_ipsec0")  # as an older kernel would have left it
engine = lib.Engine(east)
lib.check_equal(tables(), ["xfrmfs_ipsec0"], "one after the next start")
lib.check("input_tmpl_mismatch" in nft("list table inet xfrmfs_ipsec0"), "and it is of the engine")
engine.umount()
lib.check_equal(tables(), [], "none after umount")

engine = lib.Engine(east, tun="ipsec1b")
process = engine.pid()
os.kill(process, signal.SIGTERM)
lib.wait_until(lambda: not os.path.exists(f"/proc/{process}"), "SIGTERM")
lib.check_equal(tables(), [], "none after SIGTERM")

# Somebody else has a table of that name, and keeps it.
owner = east.start("nft -i", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
owner.stdin.write("add table inet xfrmfs_ipsec9 { flags owner; }\n")
owner.stdin.flush()
lib.wait_until(lambda: "xfrmfs_ipsec9" in tables(), "the other's table")
mount = os.path.join(lib.DIRECTORY, "refused")
os.mkdir(mount)
words = [lib.XFRMFS, "mount", mount, "--netns", east.name, "--tun", "ipsec9"]
refused = lib.run(words, check=False)
lib.check(refused.returncode == 1 and "--no-guard" in refused.stderr
          and "nf_tables" in refused.stderr, "no table, no start", refused.stderr)
lib.stop(owner)

engine = lib.Engine(east, "--no-guard", tun="ipsec1c")
lib.check_equal(tables(), [], "--no-guard: none")
engine.xfrm(f"policy add {SELECTOR} dir in {TEMPLATE}")
lib.check("\nguard: none\n" in lib.run([lib.XFRMFS, "status", engine.mount]).stdout, "status")
for _ in range(COUNT):
    west.send_udp(EAST, PORT, source=WEST)
fence()
lib.check_equal(received(applications[east]), COUNT, "--no-guard: clear text arrives")
lib.finish()
