# SPDX-License-Identifier: Apache-2.0
"""What script/bench measures of one tunnel: delay, TCP, UDP without loss, CPU time, memory."""

import json
import os
import subprocess
import time

import lib
import options

UDP_PAYLOAD = options.INNER_MTU - 28
UDP_TRAIN = 32  # datagrams in one buffer, about what a QUIC server sends at once
LOSS = 0.001
_UDP_LOAD = os.path.join(lib.BUILD, "udp_load")
_FROM, _TO = lib.INNER[4]
_GB = 1e9


def reach(west):
    """Waits until the tunnel carries packets."""
    lib.wait_until(
        lambda: west.run(f"ping -n -q -c 1 -W 1 -I {_FROM} {_TO}", check=False).returncode == 0,
        "a ping through the tunnel is answered", 15,
    )


def measure(west, east, pids, seconds, earlier):
    """All figures of a tunnel, by name. `earlier`: those of the last round, or nothing."""
    figures = _delay(west, 1000 if seconds >= 5 else 500)
    one = _tcp(west, east, pids, 1, seconds)
    figures["tcp1"] = one["rate"]
    if pids:
        figures["cpu_tunnel"] = one["cpu_tunnel"]
    figures["cpu_machine"] = one["cpu_machine"]
    figures["tcp4"] = _tcp(west, east, pids, 4, seconds)["rate"]
    if pids:
        figures["memory"] = max(_peak_memory(pid) for pid in pids)
    for name, train in (("udp", 1), ("udp_train", UDP_TRAIN)):
        guess, step = (earlier[name], 1.2) if earlier.get(name) else (figures["tcp1"] / 2, 2)
        figures[name] = _udp_without_loss(west, east, train, guess, step)
    return figures


def _delay(west, count):
    """Round trips of the idle tunnel, in microseconds."""
    out = west.run(f"ping -n -c {count} -i 0.002 -W 1 -I {_FROM} {_TO}", check=False).stdout
    times = sorted(float(line.split("time=")[1].split()[0]) * 1000
                   for line in out.splitlines() if "time=" in line)
    if len(times) < count * 0.99:
        raise RuntimeError(f"only {len(times)} of {count} pings were answered")
    return {"rtt_p50": times[len(times) // 2], "rtt_p99": times[len(times) * 99 // 100]}


def _tcp(west, east, pids, streams, seconds):
    """Gbit/s of payload that arrived, and seconds of CPU time per 10^9 bytes of it."""
    with lib.scope():
        server = east.start(f"iperf3 -s -1 -B {_TO}", stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
        lib.wait_until(lambda: east.run("ss -Hltn sport = 5201").stdout, "iperf3 listens", 10)
        tunnel, machine = _cpu_of(pids), _cpu_of_machine()
        client = west.run(f"iperf3 -c {_TO} -B {_FROM} -P {streams} -t {seconds:g} -J",
                          check=False, seconds=seconds + 20)
        tunnel, machine = _cpu_of(pids) - tunnel, _cpu_of_machine() - machine
        server.wait(10)
    result = json.loads(client.stdout or "{}")
    if client.returncode or "error" in result:
        raise RuntimeError(f"iperf3: {result.get('error') or client.stderr}")
    received = result["end"]["sum_received"]
    if not received["bytes"]:
        raise RuntimeError("no TCP payload arrived")
    return {"rate": received["bits_per_second"] / 1e9,
            "cpu_tunnel": tunnel / (received["bytes"] / _GB),
            "cpu_machine": machine / (received["bytes"] / _GB)}


def _udp_without_loss(west, east, train, guess, step):
    """The highest rate, in Gbit/s of payload, of which at most LOSS is lost.

    From `guess` in growing steps until the answer lies between two rates, then by halves to about
    4 %. A rate fails when two trials of it do: a hiccup of the machine is no answer.
    """
    low = high = None
    best = 0.0
    rate = max(guess, 0.05)
    while low is None or high is None or high / low > 1.045:
        carried = _udp_trial(west, east, train, rate) or _udp_trial(west, east, train, rate)
        best = max(best, carried)
        if not carried:
            high = rate
        elif carried < rate * 0.95:
            break  # the load itself can send no more
        else:
            low = rate
        if low and high:
            rate = (low * high) ** 0.5
        else:
            rate = low * step if low else high / step
            step *= step
        if rate < 0.005:
            break
    return best


def _udp_trial(west, east, train, rate):
    """Gbit/s that arrived when so many were sent, 0 if more than LOSS was lost."""
    words = [_UDP_LOAD, f"/var/run/netns/{west.name}", f"/var/run/netns/{east.name}", _FROM, _TO,
             str(UDP_PAYLOAD), str(train), f"{rate * 1000:.3f}", "1"]
    result = json.loads(lib.run(words, seconds=20).stdout)
    if not result["sent"] or result["received"] < result["sent"] * (1 - LOSS):
        return 0.0
    return result["received"] * UDP_PAYLOAD * 8 / result["seconds"] / 1e9


# --- What the kernel counts.


def _cpu_of(pids):
    """Seconds of user and system time, of all threads, those that ended too."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _cpu_of_machine():
    """Seconds in which a processor was not idle, interrupts included."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def busy_share(seconds):
    """Which part of all processors' time is in use, from 0 to 1."""
    before = _cpu_of_machine()
    time.sleep(seconds)
    return (_cpu_of_machine() - before) / seconds / os.cpu_count()


def _peak_memory(pid):
    """The most bytes a process ever had in memory."""
    with open(f"/proc/{pid}/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
