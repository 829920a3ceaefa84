#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is the table of ../counter_cases.py true of a real kernel?

    host namespace "west" (raw frames)              guest "east": Debian kernel in qemu
      192.1.2.45 -------- tap0 / eth0 -------- 192.1.2.23    192.0.2.254 on lo

Our own engine is held to that table by ../counters.py; here the judge is held to it. So a case
that fails here is wrong in the table, and then perhaps in the engine.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import lib
from counter_cases import CASES, WEST_IN, raw_esp
from guest import SETUP, Guest, quoted


def settled():
    """The guest's counters when an ESP packet of an SPI of its own has been counted."""
    before = guest.counters()["XfrmInNoStates"]
    wire.send(raw_esp(bytes.fromhex("fe0ce0ff") + bytes(60)))
    lib.wait_until(lambda: guest.counters()["XfrmInNoStates"] > before, "the fence is counted")
    return guest.counters()


west = lib.Namespace("west")
west.ip("tuntap add tap0 mode tap")
west.ip(f"addr add {lib.OUTER[4][0]}/24 dev tap0")
west.ip("link set tap0 up")

with Guest(west.name, "tap0") as guest:
    print(f"     guest: {guest.must('uname -r').strip()}, booted in {guest.boot_seconds:.1f} s")
    guest.must(SETUP)
    west.run(f"ping -n -c 1 -w 10 {lib.OUTER[4][1]}")  # neighbours
    wire = lib.Wire(west, "tap0", hardware_address=guest.mac)
    for case in CASES:
        if not case.of_kernel:
            continue
        commands = ["state flush", "policy flush"] + case.tables
        guest.must("set -e\n" + "\n".join(map(quoted, commands)))
        before = settled()
        for packet in case.arriving:
            wire.send(packet)
        for _ in range(case.leaving):
            guest.run(f"ping -c 1 -W 1 {WEST_IN}")
        seen = lib.moved(before, settled())
        seen["XfrmInNoStates"] -= 1
        seen = {counter: by for counter, by in seen.items() if by}
        lib.check_equal(seen, case.moves, f"{case.name}: {case.moves or 'no counter'}")
lib.finish()
