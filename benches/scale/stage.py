"""What the parts stand on: an origin, proxies in front of it, and what they tell of themselves."""

import json
from typing import List, Optional, Tuple

from measuring import Load, ask
from processes import LOAD_CORE, PEER_CORE, Started, start_and_read_ports
from servers import Bench
from workloads import HIT, TIDEGATE, Contender, Workload

CONFIG = """
[server]
threads = {threads}

[listeners.main]
address = "127.0.0.1:0"
idle_timeout = "1h"
debug_from = []
max_connections = 15000

[listeners.tls]
address = "127.0.0.1:0"
tls = {{ certificate = "cert.pem", key = "key.pem" }}
idle_timeout = "1h"
debug_from = []
max_connections = 15000

[admin]
address = "127.0.0.1:0"

[cache]
max_memory = "{max_memory}"

[upstreams.origin]
nodes = [{{ url = "http://127.0.0.1:{origin}" }}]

[[routes]]
name = "eventual"
match = {{ path = "/eventual/{{*rest}}" }}
upstream = "origin"
consistency = "eventual"
ttl = "10h"
max_staleness = "10h"
"""

PATTERNS = {"http": r"ready .*main=\S+?:(\d+)\b", "https": r"ready .*tls=\S+?:(\d+)\b", "admin": r"admin=\S+?:(\d+)\b"}
SIZE = 1024
ANY_CORE = f"{PEER_CORE},{LOAD_CORE}"


class Stage:
    """One origin and as many proxies as a part needs; ended with it."""

    def __init__(self, bench: Bench, options):
        self.bench = bench
        self.options = options
        self.load = Load(32)
        self.running: List[Started] = []

    def __enter__(self) -> "Stage":
        self.origin = self.bare(core=LOAD_CORE)
        return self

    def __exit__(self, *_):
        for started in self.running:
            started.stop()

    def bare(self, threads: int = 1, core=PEER_CORE) -> Started:
        command = [self.bench.bare, "serve", "--size", SIZE, "--headers", 8, "--threads", threads]
        log = self.bench.directory / f"bare-{len(self.running)}.log"
        started = start_and_read_ports(core, command, {"http": r"ready \S+:(\d+)"}, log)
        self.running.append(started)
        return started

    def proxy(self, threads: int = 1, max_memory: str = "4GiB", core=PEER_CORE) -> Started:
        self.bench.certificate()
        name = f"tidegate-{len(self.running)}"
        config = self.bench.directory / f"{name}.toml"
        config.write_text(CONFIG.format(threads=threads, max_memory=max_memory, origin=self.origin.port))
        command = [self.bench.tidegate, "run", "--config", config]
        started = start_and_read_ports(core, command, PATTERNS, self.bench.directory / f"{name}.log")
        self.running.append(started)
        return started

    def fill(self, started: Started, keys: int) -> Contender:
        """Asks for every key once at least."""
        contender = hits(keys)
        self.load.fill(WORKLOAD, contender, started)
        if keys == 1:
            get(started, contender.first)
        return contender


def hits(keys: int) -> Contender:
    return Contender(f"{keys:,} objects" if keys > 1 else "one object", TIDEGATE, "/eventual/o", HIT, keys=keys)


WORKLOAD = Workload("scale", "hits of 1 KiB", SIZE, [], random=True)


def get(started: Started, path: str) -> Tuple[int, Optional[str]]:
    answer, _ = ask(f"http://127.0.0.1:{started.port}{path}")
    return answer.status, answer.getheader("Cache-Status")


def held(started: Started) -> Tuple[int, int]:
    """Entries, and the bytes they account for."""
    cache = json.loads(ask(f"http://127.0.0.1:{started.ports['admin']}/status")[1])["cache"]
    return cache["entries"], cache["bytes"]
