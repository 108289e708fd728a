"""Tables in Markdown."""

import os
import pathlib
import platform
import re
import statistics
from typing import Dict, List, Tuple

from measuring import DISTURBED, Row
from processes import LOAD_CORE, PEER_CORE
from workloads import Workload


QUANTILES = ("p50", "p90", "p99", "p99.9", "max")


def table(workload: Workload, rows: List[Row]) -> str:
    return times_table(workload, rows) if workload.at_half_load else costs_table(workload, rows)


def times_table(workload: Workload, rows: List[Row]) -> str:
    lines = [f"### {workload.name}: {workload.title}", "", "| | requests/s asked | " + " | ".join(f"{q} us" for q in QUANTILES) + " |"]
    lines.append("|---|" + "--:|" * (1 + len(QUANTILES)))
    for row in rows:
        times = " | ".join(f"{row.time_us(quantile):,.0f}" for quantile in QUANTILES)
        lines.append(f"| {row.label} | {row.per_second / 2:,.0f} | {times} |")
    return "\n".join(lines)


def summary(done: List[Tuple[Workload, List[Row]]]) -> str:
    """CPU us per request of each contender's first row in each workload, the time of an answer and the bytes of an object where measured."""
    names, columns = [], {}
    for workload, rows in done:
        cells = columns[f"{workload.name} CPU us"] = {}
        for contender, row in zip([c for c in workload.contenders if not c.peer.missing()], rows):
            name = contender.peer.name.partition(",")[0]
            if name not in names:
                names.append(name)
            cells.setdefault(name, f"{row.cpu_us:.1f}")
            if row.bytes_per_object is not None:
                columns.setdefault("bytes per object", {}).setdefault(name, f"{row.bytes_per_object:,.0f}")
            if row.times:
                columns.setdefault("p99 us at half load", {}).setdefault(name, f"{row.time_us('p99'):,.0f}")
        if workload.at_half_load:
            del columns[f"{workload.name} CPU us"]
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(cells.get(name, "-") for cells in columns.values()) + " |" for name in names]
    return "\n".join(lines)


def costs_table(workload: Workload, rows: List[Row]) -> str:
    memory = any(row.bytes_per_object is not None for row in rows)
    lines = [
        f"### {workload.name}: {workload.title}",
        "",
        "| | requests/s | ratio | CPU us | ratio | CPU us, min to max | answer's head | system calls per request |"
        + (" bytes per object |" if memory else ""),
        "|---|--:|--:|--:|--:|--:|--:|---|" + ("--:|" if memory else ""),
    ]
    first = rows[0]
    for row in rows:
        all_us = sorted(s.cpu_us for s in row.samples)
        line = (
            f"| {row.label} | {row.per_second:,.0f} | {row.times_as_many(first):.2f} "
            f"| {row.cpu_us:.2f} | {row.times_as_cheap(first):.2f} | {all_us[0]:.2f} to {all_us[-1]:.2f} "
            f"| {row.head_bytes} B | {calls_told(row.calls)} |"
        )
        lines.append(line + (f" {row.bytes_per_object:,.0f} |" if memory else ""))
    by_label = {row.label: row for row in rows}
    for one, other in workload.also:
        if one in by_label and other in by_label:
            more = 1 / by_label[one].times_as_cheap(by_label[other]) - 1
            lines += ["", f"{one} costs {more:+.1%} CPU against {other}."]
    worst = [max(row.samples[at].others for row in rows) for at in range(len(first.samples))]
    disturbed = sum(share > DISTURBED for share in worst)
    if disturbed:
        lines += ["", f"**Disturbed**: in {disturbed} of {len(worst)} rounds others took more than {DISTURBED:.0%} of a core,"]
        lines += [f"{statistics.median(worst):.0%} in the median round. Measure again on a quiet machine."]
    return "\n".join(lines)


def calls_told(calls: Dict[str, float]) -> str:
    if not calls:
        return "not counted"
    often = sorted(((n, c) for c, n in calls.items() if n >= 0.005), reverse=True)
    return f"{sum(calls.values()):.2f}: " + ", ".join(f"{name} {number:.2f}" for number, name in often)


def machine() -> str:
    model = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return (
        f"{model[1] if model else platform.processor()}, {os.cpu_count()} cores, Linux {platform.release()}; "
        f"load average {load}; contender on core {PEER_CORE}, load and origin on core {LOAD_CORE}"
    )
