"""Load, and what it costs whom."""

import dataclasses
import http.client
import pathlib
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Dict, List, Optional, Tuple

from processes import LOAD_CORE, PEER_CORE, Failed, Started, busy_s, children_s, output_of, pinned, start_and_read_ports
from servers import Bench
from workloads import Contender, Workload

# The share of a core that others may take of a round.
DISTURBED = 0.05
STRACE_S = 2
# One connection of HTTP/2 carries so many streams; there are a quarter as many connections as of HTTP/1.1.
STREAMS = 32
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

SCRIPT = """
local requests, last = {}, START
function init()
   for key = 1, KEYS do requests[key] = wrk.format("GET", "PATH" .. key) end
end
function request()
   last = NEXT
   return requests[last]
end
"""


@dataclasses.dataclass
class Load:
    connections: int
    core: object = LOAD_CORE

    def run(self, workload: Workload, contender: Contender, started: Started, seconds: float) -> Tuple[int, float]:
        """Requests answered, and in how many seconds."""
        if workload.spoken == "h2c":
            return self.h2load(contender, started, seconds)
        return self.wrk(workload, contender, started, seconds, workload.random)

    def fill(self, workload: Workload, contender: Contender, started: Started):
        """Asks for every key once at least, where there are several."""
        if contender.keys > 1:
            done = 0
            while done < contender.keys:
                # What was under way when a run ended is asked for again, whether it was answered or not.
                done += max(0, self.wrk(workload, contender, started, 2, False, done)[0] - self.connections)

    def wrk(self, workload, contender, started, seconds, at_random: bool, start: int = 0) -> Tuple[int, float]:
        scheme = "http" if workload.spoken == "http" else "https"
        url = f"{scheme}://127.0.0.1:{started.ports['https' if scheme == 'https' else 'http']}{contender.first}"
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", url]
        if workload.spoken == "handshake":
            command += ["-H", "Connection: close"]
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            if contender.keys > 1:
                following = "math.random(KEYS)" if at_random else "last % KEYS + 1"
                text = SCRIPT.replace("NEXT", following).replace("START", str(start))
                script.write(text.replace("KEYS", str(contender.keys)).replace("PATH", contender.path))
                script.flush()
                command += ["-s", script.name]
            text = output_of(*pinned(self.core, command))
        found = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        # A connection that its server closes after the answer, as it was asked to, counts as a read error.
        allowed = workload.spoken == "handshake" and errors and errors[1] == errors[3] == errors[4] == "0"
        if not found or "Non-2xx" in text or (errors and not allowed):
            raise Failed(f"the load generator is unhappy with {contender.label}:\n{text}")
        return int(found[1]), float(found[2]) * UNITS[found[3]]

    def h2load(self, contender: Contender, started: Started, seconds: float) -> Tuple[int, float]:
        connections = max(1, self.connections // 4)
        command = ["h2load", "-t1", f"-c{connections}", f"-m{STREAMS}", f"-D{seconds}"]
        text = output_of(*pinned(self.core, command + [f"http://127.0.0.1:{started.ports['h2c']}{contender.first}"]))
        done = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", text)
        took = re.search(r"finished in ([\d.]+)(us|ms|s|m)", text)
        # What is under way when time is up counts as failed there.
        if not done or not took or int(done[3]) > connections * STREAMS or "5xx" in text and " 0 5xx" not in text:
            raise Failed(f"the load generator is unhappy with {contender.label}:\n{text}")
        return int(done[2]), float(took[1]) * UNITS[took[2]]


@dataclasses.dataclass
class Sample:
    per_second: float
    cpu_us: float
    # The share of a core that others took meanwhile, of the core that suffered more.
    others: float


@dataclasses.dataclass
class Row:
    label: str
    samples: List[Sample] = dataclasses.field(default_factory=list)
    calls: Dict[str, float] = dataclasses.field(default_factory=dict)
    head_bytes: int = 0
    bytes_per_object: Optional[float] = None
    # Of each round: microseconds by quantile, as `bare load` names them.
    times: List[Dict[str, float]] = dataclasses.field(default_factory=list)

    def time_us(self, quantile: str) -> float:
        return statistics.median(times[quantile] for times in self.times)

    @property
    def per_second(self) -> float:
        return statistics.median(s.per_second for s in self.samples)

    @property
    def cpu_us(self) -> float:
        return statistics.median(s.cpu_us for s in self.samples)

    def times_as_many(self, other: "Row") -> float:
        """Requests per second, against another row."""
        return statistics.median(a.per_second / b.per_second for a, b in zip(self.samples, other.samples))

    def times_as_cheap(self, other: "Row") -> float:
        """CPU per request, against another row: above 1 is less of it."""
        return statistics.median(b.cpu_us / a.cpu_us for a, b in zip(self.samples, other.samples))


@dataclasses.dataclass
class Plan:
    load: Load
    rounds: int
    # How many rounds may be repeated because others disturbed them.
    patience: int
    seconds: int
    trace: bool


Entrants = List[Tuple[Contender, Started]]


def run(workload: Workload, bench: Bench, plan: Plan) -> List[Row]:
    running: Dict[str, Started] = {}
    bench.directory.mkdir()
    command = [bench.bare, "serve", "--size", workload.size]
    ports = {"http": r"ready \S+:(\d+)"}
    origin = start_and_read_ports(LOAD_CORE, command, ports, bench.directory / "origin.log")
    try:
        bench.size, bench.origin = workload.size, origin.port
        contenders = [c for c in workload.contenders if not c.peer.missing()]
        for contender in contenders:
            if contender.peer.name not in running:
                running[contender.peer.name] = contender.peer.start(bench)
        entrants = [(c, running[c.peer.name]) for c in contenders]
        rows = [Row(c.label) for c in contenders]
        for (contender, started), row in zip(entrants, rows):
            empty = started.pss_bytes()
            plan.load.fill(workload, contender, started)
            check(workload, contender, started)
            if workload.memory:
                row.bytes_per_object = (started.pss_bytes() - empty) / contender.keys
            row.head_bytes = head_bytes(started.port, contender.first)
            plan.load.run(workload, contender, started, 1)
        for measured in rounds(workload, entrants, origin, plan):
            for row, sample in zip(rows, measured):
                row.samples.append(sample)
        if workload.at_half_load:
            for turn in range(plan.rounds):
                for at in in_turn(turn, len(rows)):
                    rows[at].times.append(times_at_half_load(bench, *entrants[at], rows[at], plan))
        for (contender, started), row in zip(entrants, rows):
            check(workload, contender, started)
            if plan.trace and not workload.at_half_load:
                row.calls = system_calls(workload, contender, started, plan.load, bench.directory / "strace.txt")
        return rows
    finally:
        for started in list(running.values()) + [origin]:
            started.stop()


def rounds(workload: Workload, entrants: Entrants, origin: Started, plan: Plan) -> List[List[Sample]]:
    """The least disturbed rounds: a sample of each entrant, in their order."""
    done: List[List[Sample]] = []

    def disturbance(measured: List[Sample]) -> float:
        return max(sample.others for sample in measured)

    while sum(disturbance(r) <= DISTURBED for r in done) < plan.rounds and len(done) < plan.rounds + plan.patience:
        samples = {at: measure(workload, *entrants[at], origin, plan) for at in in_turn(len(done), len(entrants))}
        done.append([samples[at] for at in range(len(entrants))])
        told = ", ".join(f"{c.label} {s.cpu_us:.2f} us" for (c, _), s in zip(entrants, done[-1]))
        others = f"others took up to {disturbance(done[-1]):.0%}"
        print(f"{workload.name} round {len(done)}: {told}; {others}", file=sys.stderr)
    # By disturbance, never by result.
    return sorted(done, key=disturbance)[: plan.rounds]


def in_turn(turn: int, number: int) -> List[int]:
    """Each goes first as often as the others."""
    return [(turn + at) % number for at in range(number)]


def times_at_half_load(bench: Bench, contender: Contender, started: Started, row: Row, plan: Plan) -> Dict[str, float]:
    """Asked at half the rate it was just seen to manage, each request's time taken from when it was due."""
    command = [bench.bare, "load", "--to", f"127.0.0.1:{started.port}", "--path", contender.first]
    command += ["--rate", row.per_second / 2, "--seconds", plan.seconds, "--connections", plan.load.connections]
    told = output_of(*pinned(LOAD_CORE, command))
    found = re.findall(r"(p[\d.]+|max) ([\d.]+)", told)
    if not told.startswith("requests ") or len(found) != 5:
        raise Failed(f"the load generator is unhappy with {contender.label}:\n{told}")
    times = {name: float(value) for name, value in found}
    print(f"W7 at half load: {contender.label} p99 {times['p99']:.0f} us, max {times['max']:.0f} us", file=sys.stderr)
    return times


def measure(workload: Workload, contender: Contender, started: Started, origin: Started, plan: Plan) -> Sample:
    def used() -> List[float]:
        load_s = children_s() + origin.cpu_s()
        return [time.monotonic(), started.cpu_s(), busy_s(PEER_CORE), load_s, busy_s(LOAD_CORE)]

    asked, before = count(origin), used()
    requests, took = plan.load.run(workload, contender, started, plan.seconds)
    whole, cpu, busy, load_cpu, load_busy = (after - earlier for earlier, after in zip(before, used()))
    others = max(busy - cpu, load_busy - load_cpu, 0.0) / whole
    asked = count(origin) - asked
    supposed = asked if contender.origin_share is None else contender.origin_share * requests
    # At both ends of the interval a request per connection may be under way.
    if abs(asked - supposed) > max(requests * 0.001, 2 * plan.load.connections):
        raise Failed(f"{contender.label}: {asked} of {requests} requests reached the origin")
    return Sample(requests / took, cpu / requests * 1e6, others)


def ask(url: str) -> Tuple[http.client.HTTPResponse, bytes]:
    # No proxy of the environment's between us and loopback; the certificate was made a moment ago.
    trusting = ssl._create_unverified_context()  # pylint: disable=protected-access
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    with opener.open(url, timeout=5) as answer:
        return answer, answer.read()


def check(workload: Workload, contender: Contender, started: Started):
    """The contender does what it is about to be measured at. What is asked over HTTP/2 is asked over HTTP/1.1 here: it is one cache."""
    secure = workload.spoken in ("https", "handshake")
    port = started.ports["https" if secure else "http"]
    for _ in range(3):  # a cold cache, and one that stores on second sight
        answer, body = ask(f"{'https' if secure else 'http'}://127.0.0.1:{port}{contender.first}")
        if answer.status != 200 or len(body) != workload.size:
            raise Failed(f"{contender.label} answers {answer.status} with {len(body)} bytes")
    if not contender.expect(answer):
        raise Failed(f"{contender.label} does not answer as supposed:\n{answer.headers}")


def count(origin: Started) -> int:
    return int(ask(f"http://127.0.0.1:{origin.port}/count")[1])


def system_calls(workload, contender, started: Started, load: Load, log: pathlib.Path) -> Dict[str, float]:
    """System calls per request, by name. Empty when they cannot be counted."""
    if not shutil.which("strace"):
        return {}
    pids = [word for pid in started.pids() for word in ("-p", str(pid))]
    # On the load generator's core, or it would take the contender's.
    tracer = subprocess.Popen(
        pinned(LOAD_CORE, ["strace", "-f", "-c", "-o", log] + pids), stderr=subprocess.PIPE, text=True
    )
    # "attached" comes once per process, or why not.
    line = tracer.stderr.readline()
    if "attached" not in line:
        tracer.kill()
        tracer.wait()
        print(f"system calls not counted: {line.strip()}", file=sys.stderr)
        return {}
    requests, _ = load.run(workload, contender, started, STRACE_S)
    tracer.send_signal(signal.SIGINT)
    tracer.stderr.read()
    tracer.wait()
    calls = {}
    for line in log.read_text().splitlines():
        # % time, seconds, usecs/call, calls, [errors,] syscall
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found[2] != "total":
            calls[found[2]] = int(found[1]) / requests
    return calls


def head_bytes(port: int, path: str) -> int:
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        seen = b""
        while b"\r\n\r\n" not in seen:
            more = s.recv(65536)
            if not more:
                raise Failed(f"{path}: the connection ended within a head")
            seen += more
        return seen.index(b"\r\n\r\n") + 4
