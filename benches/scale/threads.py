"""A second core: what it costs per request, for us and for bare hyper. Load and server share both cores, so only the server's own CPU is
told, never throughput; what three busy threads on two cores cost anybody is what bare hyper's row shows.

With few connections a server of two threads runs dry and sleeps several times in ten requests, which costs more than the request; so there are
enough for both to stay busy."""

from stage import ANY_CORE, Stage, hits
from timed import in_turn


CONNECTIONS = 256


def cores(stage: Stage) -> str:
    stage.load.core, stage.load.connections = ANY_CORE, CONNECTIONS
    pairs = [("bare hyper", [(hits(1), stage.bare(threads, core=ANY_CORE)) for threads in (1, 2)])]
    for keys in (1, 1000):
        proxies = [stage.proxy(threads, core=ANY_CORE) for threads in (1, 2)]
        pairs.append((f"tidegate, {hits(keys).label}", [(stage.fill(proxy, keys), proxy) for proxy in proxies]))
    lines = ["| | one thread, CPU us per hit | two threads | against one |", "|---|--:|--:|--:|"]
    for label, pair in pairs:
        (one_us, _), (two_us, ratio) = in_turn(stage, pair)
        lines.append(f"| {label} | {one_us:.2f} | {two_us:.2f} | {ratio - 1:+.1%} |")
    return "\n".join(lines)
