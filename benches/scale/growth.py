"""Objects: what one takes, what a hit among many costs, and what happens when there is no more room."""

import http.client
import statistics
import threading
import time
from typing import List

from processes import Failed, Started
from stage import WORKLOAD, Stage, get, held, hits
from timed import in_turn

# What the process takes beside its objects as it fills: tables of the budget, buffers of connections, the allocator's own.
SLACK_BYTES = 8 * 1024 * 1024
PROBE_EVERY_S = 0.002
MIB = 1024 * 1024


def memory(stage: Stage) -> str:
    keys, proxy = stage.options.objects, stage.proxy()
    get(proxy, "/eventual/warm")
    before = proxy.pss_bytes()
    stage.fill(proxy, keys)
    entries, accounted = held(proxy)
    if entries < keys:
        raise Failed(f"{entries} of {keys} objects are stored")
    grown = proxy.pss_bytes() - before
    if grown > accounted + SLACK_BYTES:
        raise Failed(f"{grown:,} bytes more are in use, and {accounted:,} accounted for: max_memory is no limit")
    lines = ["| objects | PSS per object | accounted for per object |", "|--:|--:|--:|"]
    return "\n".join(lines + [f"| {entries:,} | {grown / entries:,.0f} B | {accounted / entries:,.0f} B |"])


def objects(stage: Stage) -> str:
    rows = []
    for keys in (1, stage.options.objects, stage.options.most):
        proxy = stage.proxy(max_memory="8GiB")
        contender = stage.fill(proxy, keys)
        if held(proxy)[0] < keys:
            raise Failed(f"{held(proxy)[0]:,} of {keys:,} objects are stored")
        rows.append((contender, proxy))
    lines = ["| | CPU us per hit | against one object | PSS |", "|---|--:|--:|--:|"]
    for (contender, proxy), (cpu_us, ratio) in zip(rows, in_turn(stage, rows)):
        lines.append(f"| {contender.label} | {cpu_us:.2f} | {ratio:.2f} | {proxy.pss_bytes() / MIB:,.0f} MiB |")
    return "\n".join(lines)


class Probe(threading.Thread):
    """Asks for one object over one connection again and again, and notes how long each answer takes."""

    def __init__(self, started: Started):
        super().__init__(daemon=True)
        self.port, self.took_s, self.ends, self.failure = started.port, [], threading.Event(), None

    def run(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            while not self.ends.wait(PROBE_EVERY_S):
                began = time.monotonic()
                connection.request("GET", "/eventual/probe")
                connection.getresponse().read()
                self.took_s.append(time.monotonic() - began)
        except OSError as error:
            self.failure = error

    def stop(self) -> List[float]:
        self.ends.set()
        self.join()
        if self.failure or not self.took_s:
            raise Failed(f"the probe got no answer: {self.failure}")
        return sorted(self.took_s)


def soak(stage: Stage) -> str:
    """Room for a tenth of what comes."""
    keys = stage.options.objects * 10
    room = keys // 10 * 2048
    proxy = stage.proxy(max_memory=f"{room}B")
    get(proxy, "/eventual/probe")
    empty, contender, asked = proxy.pss_bytes(), hits(keys), 0
    seen = []
    probe = Probe(proxy)
    probe.start()
    while asked < keys:
        asked += stage.load.wrk(WORKLOAD, contender, proxy, 2, False, asked)[0]
        seen.append(proxy.pss_bytes() - empty)
    took = probe.stop()
    entries, accounted = held(proxy)
    if entries >= keys * 0.9:
        raise Failed(f"nothing was evicted: {entries:,} entries")
    late = seen[len(seen) // 2 :]
    return "\n".join(
        [
            "| max_memory | accounted for | PSS over empty, at most | second half, median and most | entries | a hit meanwhile: median, p99, longest |",
            "|--:|--:|--:|--:|--:|--:|",
            f"| {room / MIB:,.0f} MiB | {accounted / MIB:,.0f} MiB | {max(seen) / MIB:,.0f} MiB "
            f"| {statistics.median(late) / MIB:,.0f}, {max(late) / MIB:,.0f} MiB | {entries:,} "
            f"| {statistics.median(took) * 1e3:.2f}, {took[len(took) * 99 // 100] * 1e3:.2f}, {took[-1] * 1e3:.1f} ms |",
        ]
    )
