#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Sanitizers: asan tsan
"""Does the unmodified `ip xfrm` say with us what it says with a kernel?

    ip_xfrm_transcript.py BUILD_DIR

Replays the transcripts in tests/golden/ip-xfrm, each against an engine of its own (the program
control_endpoint: no devices, no packets, no privileges), reached through the preload library. Text
and exit status of every command must be as written. In a transcript, "$ " begins a command, "= " is
its exit status, what is between them is its output, "#" a comment; times of day are TIME.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "ip-xfrm"
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
PATIENCE = 60  # seconds for one command: it takes milliseconds, or hangs
SKIPPED = 77


def commands(path):
    """(command, output, exit status) of a transcript."""
    command, output = None, []
    for line in path.read_text().splitlines():
        if command is None:
            if line.startswith("$ "):
                command = line[2:]
        elif re.fullmatch(r"= \d+", line):
            yield command, "\n".join(output), int(line[2:])
            command, output = None, []
        else:
            output.append(line)


class Endpoint:
    def __init__(self, build, directory):
        self.socket = os.path.join(directory, "nl.sock")
        self.process = subprocess.Popen(
            [build / "control_endpoint", self.socket], stdout=subprocess.PIPE, text=True
        )
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("control_endpoint did not start")
        self.environment = dict(
            os.environ, LD_PRELOAD=str(build / "libxfrmfs-preload.so"), XFRMFS_SOCKET=self.socket
        )

    def run(self, command):
        result = subprocess.run(
            command.split(" "), env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=PATIENCE,
        )
        return TIME.sub("TIME", result.stdout).rstrip("\n"), result.returncode

    def stop(self):
        self.process.terminate()
        if self.process.wait(PATIENCE) != 0:
            raise RuntimeError(f"control_endpoint ended with {self.process.returncode}")


def replay(build, path):
    """The number of commands that differ."""
    differing = count = 0
    with tempfile.TemporaryDirectory(prefix="ip_xfrm_transcript.") as directory:
        endpoint = Endpoint(build, directory)
        for command, output, status in commands(path):
            count += 1
            seen = endpoint.run(command)
            if seen != (output, status):
                differing += 1
                print(f"$ {command}\nexpected, exit status {status}:\n{output}")
                print(f"seen, exit status {seen[1]}:\n{seen[0]}\n")
        endpoint.stop()
    print(f"{path.name}: {count} commands, {differing} differ")
    return differing if count else 1


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    ip = shutil.which("ip")
    version = subprocess.run([ip, "-V"], capture_output=True, text=True).stdout if ip else ""
    if "iproute2-6.1." not in version:  # others word some messages differently
        print(f"skipped: the transcripts are those of iproute2 6.1, here is {version or 'none'}")
        return SKIPPED
    return 1 if sum(replay(build, path) for path in sorted(GOLDEN.glob("*.txt"))) else 0


if __name__ == "__main__":
    sys.exit(main())
