"""A second core: what it costs per request. Load and proxy share both cores, so only the proxy's own CPU is told, never throughput."""

from stage import ANY_CORE, Stage
from timed import in_turn


def cores(stage: Stage) -> str:
    rows = []
    for threads in (1, 2):
        for keys in (1, 1000):
            proxy = stage.proxy(threads, core=ANY_CORE)
            rows.append((stage.fill(proxy, keys), proxy, threads))
    lines = ["| threads | | CPU us per hit | against one thread |", "|--:|---|--:|--:|"]
    stage.load.core = ANY_CORE
    for one, two in ((0, 2), (1, 3)):
        pair = [rows[one], rows[two]]
        measured = in_turn(stage, [row[:2] for row in pair])
        for (contender, _, threads), (cpu_us, ratio) in zip(pair, measured):
            lines.append(f"| {threads} | {contender.label} | {cpu_us:.2f} | {ratio - 1:+.1%} |")
    return "\n".join(lines)
