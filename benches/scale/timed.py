"""Rows that are timed: in turn, round by round, so that whatever else the machine does falls on all of them alike."""

import statistics
import sys
from typing import List, Tuple

from processes import Started
from stage import WORKLOAD, Stage
from workloads import Contender


def in_turn(stage: Stage, rows: List[Tuple[Contender, Started]]) -> List[Tuple[float, float]]:
    """CPU us per request of each row, and the median of its ratios to the first, round by round."""
    samples: List[List[float]] = [[] for _ in rows]
    for contender, proxy in rows:
        stage.load.run(WORKLOAD, contender, proxy, 1)
    for turn in range(stage.options.rounds):
        at = turn % len(rows)
        for row in list(range(at, len(rows))) + list(range(at)):
            contender, proxy = rows[row]
            before = proxy.cpu_s()
            requests, _ = stage.load.run(WORKLOAD, contender, proxy, stage.options.seconds)
            samples[row].append((proxy.cpu_s() - before) / requests * 1e6)
        print(f"round {turn + 1}: " + ", ".join(f"{s[-1]:.2f} us" for s in samples), file=sys.stderr)
    return [
        (statistics.median(sample), statistics.median(a / b for a, b in zip(sample, samples[0]))) for sample in samples
    ]
