# SPDX-License-Identifier: Apache-2.0
"""Turns the stored result of script/bench into docs/performance.md.

    report.py RESULT.json DIRECTORY       writes performance.md and performance.svg there
"""

import json
import os
import statistics
import sys
from dataclasses import dataclass

import options
import plot


@dataclass(frozen=True)
class Figure:
    key: str  # in the stored result
    heading: str  # of the column
    panel: str  # of the plot; empty: none
    scale: float = 1  # from the stored unit to the shown one
    more_is_better: bool = True


FIGURES = (
    Figure("tcp1", "TCP, 1 stream, Gbit/s", "TCP, 1 stream: Gbit/s"),
    Figure("tcp4", "TCP, 4 streams, Gbit/s", "TCP, 4 streams: Gbit/s"),
    Figure("udp", "UDP, single, Gbit/s", "UDP without loss, single datagrams: Gbit/s"),
    Figure("udp_train", "UDP, trains, Gbit/s", "UDP without loss, trains: Gbit/s"),
    Figure("rtt_p50", "RTT p50, µs", "Round trip when idle, median: µs", more_is_better=False),
    Figure("rtt_p99", "RTT p99, µs", "", more_is_better=False),
    Figure("cpu_tunnel", "tunnel CPU, s/GB", "CPU time of both ends: s per GB",
           more_is_better=False),
    Figure("cpu_machine", "machine CPU, s/GB", "", more_is_better=False),
    Figure("memory", "memory, MB", "", scale=1e-6, more_is_better=False),
)

PAGE = """\
# Performance

Tunnels between two network namespaces of one machine, measured in turn in one run. Made by `script/bench`; the lines
below say on what and how. To make them on your machine:

```
script/bench --json result.json
script/bench --render result.json
```

How to read this:

* **Compare within the page, not with other pages.** Both ends of the tunnel and the programs that load it share the same
  processors, so a tunnel over a real network, with a machine at each end, carries more than these figures say. The
  ratios are what lasts.
* **Every tunnel carries the same load**: inner MTU {mtu}, underlay MTU 1500, and the same kernel below. Programs run with
  their own defaults; what had to be chosen is in the last table.
* **The row without a tunnel** says what the load itself can do here. A tunnel that comes near it is faster than could be
  measured.
* {rounds}

![bars of the medians](performance.svg)

## Tunnels

{figures}

Against {reference} (ratios of medians; above 1 is faster for rates, below 1 is better for times, CPU and memory):

{ratios}

{unavailable}{engine}## What was measured

| | |
|---|---|
| machine | {cpu}, {cores} |
| system | {system}, Linux {kernel} |
| in use by others before the run | {busy:.0%} of the processors' time |
| date | {date} |
| command | `{command}` |

{versions}

* **TCP**: `iperf3`, {seconds:g} s, payload that arrived.
* **UDP**: datagrams that make inner packets of {mtu} bytes; the highest rate of which at most 0.1 % is lost in one second,
  found by bisection to about 4 %, as payload. *Single*: every datagram is a packet from the start (`sendmmsg`). *Trains*: 32
  datagrams are handed over in one buffer (`UDP_SEGMENT`), as QUIC servers do; a tunnel that takes such buffers whole
  saves work. The generator is `tests/bench/udp_load.cc`.
* **RTT**: `ping` every 2 ms through the tunnel while nothing else runs.
* **Tunnel CPU**: user and system time of the tunnel's processes on both ends per 10⁹ bytes of TCP payload, 1 stream. Work
  the kernel does for a tunnel in interrupts is not in there; **machine CPU** is everything: tunnel, kernel and the load.
* **Memory**: peak resident memory of the larger of the two ends, after the TCP runs.
"""

ROUNDS = """\
**A figure is the median of {} rounds**, with the least and the most in brackets. Rounds are interleaved, and each
  starts every tunnel anew: what disturbs the machine for a while hits all rows alike."""
ONE_ROUND = "**There was one round only**: differences of a few tenths mean nothing."

ENGINE = """\
## The engine alone

One thread, no device and no system call (`engine_bench`); Gbit/s where the benchmark knows its bytes. Trains have beside
them the speed of the bare cipher on the same bytes, measured turn by turn; medians.

{rows}

"""


def render(path, directory):
    with open(path) as file:
        result = json.load(file)
    machine = result["machine"]
    cores = machine["cores"]
    write(directory, "performance.md", PAGE.format(
        **{key: machine[key] for key in ("cpu", "kernel", "system", "busy")},
        cores=f"{cores} core" + "s" * (cores != 1),
        command=result["command"],
        mtu=options.INNER_MTU,
        rounds=ROUNDS.format(result["rounds"]) if result["rounds"] > 1 else ONE_ROUND,
        reference=title(options.REFERENCE),
        figures=figures_table(result),
        ratios=ratios_table(result),
        unavailable=failures(result),
        engine=ENGINE.format(rows=engine_table(result["engine"])) if result["engine"] else "",
        versions=versions(result),
        date=result["date"][:10],
        seconds=result["seconds"],
    ))
    write(directory, "performance.svg", plot.svg(panels(result)))


def write(directory, name, text):
    with open(os.path.join(directory, name), "w") as file:
        file.write(text)


def tables(result):
    """What the terminal shows after a run."""
    parts = [figures_table(result), ratios_table(result)]
    if result["engine"]:
        parts.append(engine_table(result["engine"]))
    return "\n\n".join(parts)


# --- Tables.


def figures_table(result):
    rows = [["", *(figure.heading for figure in FIGURES)]]
    for variant, one in measured(result):
        cells = []
        for figure in FIGURES:
            all_rounds = values(one, figure)
            cells.append(span(all_rounds) if all_rounds else "–")
        rows.append([variant.title, *cells])
    return markdown(rows)


def ratios_table(result):
    reference = result["variants"].get(options.REFERENCE)
    if not reference or not reference["rounds"]:
        return f"{title(options.REFERENCE)} was not measured in this run."
    rows = [["", *(figure.heading.rsplit(",", 1)[0] for figure in FIGURES)]]
    for variant, one in measured(result):
        cells = []
        for figure in FIGURES:
            ours, theirs = values(one, figure), values(reference, figure)
            known = ours and theirs and statistics.median(theirs)
            cells.append(
                short(statistics.median(ours) / statistics.median(theirs)) + " ×" if known else "–"
            )
        rows.append([variant.title, *cells])
    return markdown(rows)


def engine_table(benchmarks):
    rows = [["benchmark", "time per packet", "Mpps", "Gbit/s", "of the bare cipher"]]
    for one in benchmarks:
        if one.get("error_occurred"):
            rows.append([one["name"], one.get("error_message", "failed"), "–", "–", "–"])
            continue
        per_second = one.get("items_per_second")
        unit = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[one.get("time_unit", "ns")]
        nanoseconds = 1e9 / per_second if per_second else one["cpu_time"] * unit
        rows.append([
            f"`{one['name']}`",
            f"{short(nanoseconds)} ns",
            short(per_second / 1e6) if per_second else "–",
            short(one["bytes_per_second"] * 8e-9) if "bytes_per_second" in one else "–",
            f"{one['of_bare']:.0%}" if "of_bare" in one else "–",
        ])
    return markdown(rows)


def versions(result):
    rows = [["tunnel", "version", "how"]]
    for variant, one in measured(result):
        rows.append([variant.title, one["version"], variant.what])
    return markdown(rows, "---")


def failures(result):
    """What did not run, with the reasons; a reason of many lines stays one code block."""
    parts = []
    for variant in options.VARIANTS:
        one = result["variants"].get(variant.name)
        for failure in one["failures"] if one else ():
            when = f"failed in round {failure['round']}" if one["rounds"] else "is not available"
            why = failure["why"].replace("```", "'''")
            parts.append(f"{variant.title} {when}:\n\n```\n{why}\n```\n\n")
    return "".join(parts)


def markdown(rows, column="---:"):
    """A table; the first row is its head, `column` how all columns but the first are aligned."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---|" + f"{column}|" * (len(rows[0]) - 1), *body])


# --- Figures.


def measured(result):
    for variant in options.VARIANTS:
        one = result["variants"].get(variant.name)
        if one and one["rounds"]:
            yield variant, one


def title(name):
    return next(variant.title for variant in options.VARIANTS if variant.name == name)


def values(one, figure):
    return sorted(r[figure.key] * figure.scale for r in one["rounds"] if figure.key in r)


def span(numbers):
    middle = short(statistics.median(numbers))
    if len(numbers) == 1:
        return middle
    return f"{middle} ({short(numbers[0])} – {short(numbers[-1])})"


def short(number):
    """Three digits that mean something."""
    if number >= 100:
        return f"{number:.0f}"
    if number >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if number >= 0.1 else f"{number:.3f}"


def panels(result):
    """The plot's panels: (heading, more is better, bars)."""
    for figure in (f for f in FIGURES if f.panel):
        bars = []
        for variant, one in measured(result):
            numbers = values(one, figure)
            if numbers:
                middle = statistics.median(numbers)
                bars.append(plot.Bar(variant.title, middle, numbers[0], numbers[-1], short(middle),
                                     variant.kind))
        yield plot.Panel(figure.panel, figure.more_is_better, bars)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    render(*sys.argv[1:])
