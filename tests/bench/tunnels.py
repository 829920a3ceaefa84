#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures tunnels side by side; script/bench builds what this needs and calls it.

    tunnels.py BUILD_DIR [OPTION...]

    west: eth0 192.1.2.45/24 ======= veth, MTU 1500 ======= eth0 192.1.2.23/24 :east
          192.0.1.254 on lo         the tunnel, MTU 1400         192.0.2.254 on lo

One tunnel exists at a time, in two namespaces made for it, and it is started anew for every round.
Rounds are interleaved (A B C, A B C, ...), so that what changes on the machine hits all alike. A
tunnel that does not start is reported with the end of its log, and the others go on.
"""

import datetime
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))

import figures  # noqa: E402
import lib  # noqa: E402
import options  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402

# What a tunnel that does not work makes the code below raise.
UNFIT = (RuntimeError, OSError, ValueError, LookupError, subprocess.SubprocessError)

_numbers = itertools.count(1)


def main():
    asked = options.parse(sys.argv[2:])
    os.environ["LC_ALL"] = "C"  # numbers of ping and others have points
    refuse_company()
    stored = os.path.abspath(asked.json or os.path.join(lib.BUILD, "result.json"))
    open(stored, "a").close()  # what cannot be stored shall not be measured for half an hour
    deadline = time.monotonic() + asked.minutes * 60
    result = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command(sys.argv[2:]),
        "machine": machine(),
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "variants": {
            variant.name: {"version": "", "rounds": [], "failures": []} for variant in asked.only
        },
        "engine": None,
    }
    try:
        measure(asked, result["variants"], deadline)
        if any(variant.kind == "ours" for variant in asked.only):
            result["engine"] = engine_alone(0.05 if asked.quick else 0.2)
    finally:
        with open(stored, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
    print(f"\n{report.tables(result)}\n\nevery figure: {os.path.relpath(stored)}")
    measured = any(one["rounds"] for one in result["variants"].values())
    return 0 if measured else 1


def refuse_company():
    """Two runs at once would measure each other; so would what a killed one left behind."""
    others = re.findall(r"^xfrmfs-\d+-bench-[\w-]+", lib.run("ip netns list").stdout, re.M)
    if others:
        sys.exit(f"another run has namespaces here: {', '.join(others)}; "
                 "if it was killed, remove them with `ip netns del`")


def command(words):
    """The command line, less the directories of this machine."""
    return shlex.join(["script/bench", *(re.sub(r"(^|=)/(.*/)?", r"\1", word) for word in words)])


def machine():
    busy = figures.busy_share(2)
    if busy > 0.05:
        print(f"note: {busy:.0%} of the processors' time is taken by others; expect noise")
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    with open("/etc/os-release") as file:
        system = re.search(r'^PRETTY_NAME="?([^"\n]*)', file.read(), re.M)
    return {
        "cpu": model[1] if model else os.uname().machine,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "system": system[1] if system else "Linux",
        "busy": busy,
    }


def measure(asked, results, deadline):
    starters = peers.starters(asked.suite)
    for number in range(asked.rounds):
        for variant in asked.only:
            one = results[variant.name]
            if one["failures"] and not one["rounds"]:
                continue  # it did not start in the first round
            if time.monotonic() > deadline:
                print(f"{asked.minutes:g} minutes are over")
                return
            say(f"round {number + 1} of {asked.rounds}: {variant.title}: ")
            try:
                got = measure_one(starters[variant.name], one, asked.seconds)
            except UNFIT as error:
                one["failures"].append({"round": number + 1, "why": explain(error)})
                print("FAILED\n  " + one["failures"][-1]["why"].replace("\n", "\n  "), flush=True)
            else:
                one["rounds"].append(got)
                print(", ".join(f"{name} {value:.4g}" for name, value in got.items()), flush=True)


def measure_one(start, one, seconds):
    for path in peers.log_files():
        os.unlink(path)
    with lib.scope():
        west, east = underlay()
        tunnel = start(west, east)
        one["version"] = tunnel.version
        earlier = one["rounds"][-1] if one["rounds"] else {}
        try:
            figures.reach(west)
            return figures.measure(west, east, tunnel.pids, seconds, earlier)
        except UNFIT as error:
            if all(os.path.exists(f"/proc/{pid}/exe") for pid in tunnel.pids):
                raise
            raise RuntimeError(f"a process of the tunnel ended; then: {in_words(error)}") from error


def underlay():
    """The two namespaces and the wire; their names are new every time."""
    number = next(_numbers)
    west, east = (lib.Namespace(f"bench-{side}-{number}") for side in ("west", "east"))
    lib.join(west, east, *([address + "/24"] for address in lib.OUTER[4]))
    for side, namespace in enumerate((west, east)):
        namespace.ip(f"addr add {lib.INNER[4][side]}/32 dev lo")
    return west, east


def explain(error):
    """The error and the end of the logs, without this machine's paths."""
    lines = [re.sub(r"\b0x[0-9a-f]{32,}", "KEY", in_words(error)).rstrip()]
    for path in peers.log_files():
        with open(path, errors="replace") as file:
            tail = file.read().rstrip().splitlines()[-6:]
        lines += [f"{os.path.basename(path)}: {line}" for line in tail]
    return "\n".join(lines).replace(lib.DIRECTORY + "/", "").replace(lib.BUILD + "/", "")


def in_words(error):
    """The text of an error; those of subprocess quote a command as a list."""
    if isinstance(error, subprocess.SubprocessError):
        return str(error).replace(str(error.cmd), shlex.join(error.cmd))
    return f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)


def engine_alone(seconds):
    """What engine_bench measures in so many seconds each; None if it was not built."""
    program = os.path.join(lib.BUILD, "engine_bench")
    if not os.access(program, os.X_OK):
        return None
    say("the engine alone: ")
    words = [program, "--benchmark_format=json", f"--benchmark_min_time={seconds}"]
    try:
        rows = json.loads(lib.run(words, seconds=900).stdout)["benchmarks"]
    except UNFIT as error:
        print(f"FAILED\n{explain(error)}")
        return None
    print(f"{len(rows)} figures")
    return rows


def say(text):
    print(text, end="", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
