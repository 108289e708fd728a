"""Processes of a comparison: built, started on a core, asked for their CPU and their memory, ended by pid."""

import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import time
from typing import Dict, List, Tuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER_CORE, LOAD_CORE = 0, 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
READY_WITHIN_S = 20


class Failed(Exception):
    """The run means nothing; the message says why."""


class Started:
    """A contender's or origin's running process: the ports it serves by what is spoken there, and what it costs."""

    def __init__(self, process: subprocess.Popen, ports: Dict[str, int]):
        self.process = process
        self.ports = ports

    @property
    def port(self) -> int:
        return self.ports["http"]

    def pids(self) -> List[int]:
        """The process and its children: servers with workers work in those."""
        found, unseen = [], [self.process.pid]
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                unseen += [int(child) for child in children.read_text().split()]
        return found

    def cpu_s(self) -> float:
        ticks = 0
        for pid in self.pids():
            # Behind the name, which may hold anything: state is field 3, utime and stime are 14 and 15 (proc(5)).
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def pss_bytes(self) -> int:
        """Memory in proportion: what several processes share counts once."""
        kib = 0
        for pid in self.pids():
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1])
        return kib * 1024

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def pinned(core: int, command: List[str]) -> List[str]:
    return ["taskset", "-c", str(core)] + [str(word) for word in command]


def start_and_read_ports(core: int, command: List[str], patterns: Dict[str, str], log: pathlib.Path) -> Started:
    """Starts a program that prints a line with its ports when it is ready."""
    with open(log, "wb") as errors:
        process = subprocess.Popen(pinned(core, command), stdout=subprocess.PIPE, stderr=errors, text=True)
    line = process.stdout.readline()
    found = {spoken: re.search(pattern, line) for spoken, pattern in patterns.items()}
    if not all(found.values()):
        process.kill()
        process.wait()
        raise Failed(f"{command[0]} did not start: {line!r}\n{log.read_text()}")
    return Started(process, {spoken: int(match[1]) for spoken, match in found.items()})


def start_and_wait(core: int, command: List[str], ports: Dict[str, int], log: pathlib.Path) -> Started:
    """Starts a program that tells nobody when it is ready."""
    with open(log, "wb") as errors:
        process = subprocess.Popen(pinned(core, command), stdout=errors, stderr=errors)
    started = Started(process, ports)
    deadline = time.monotonic() + READY_WITHIN_S
    waiting = list(ports.values())
    while time.monotonic() < deadline and process.poll() is None:
        waiting = [port for port in waiting if not accepts(port)]
        if not waiting:
            return started
        time.sleep(0.05)
    started.stop()
    raise Failed(f"{command[0]} did not start:\n{log.read_text()}")


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def output_of(*command: str) -> str:
    result = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return result.stdout.strip()


def busy_s(core: int) -> float:
    """What everybody has used of a core, and what the hypervisor kept."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        # cpuN user nice system idle iowait irq softirq steal ... (proc(5))
        name, *ticks = line.split()
        if name == f"cpu{core}":
            return sum(int(ticks[i]) for i in (0, 1, 2, 7)) / TICKS_PER_SECOND
    raise Failed(f"there is no core {core}")


def children_s() -> float:
    """What children that have ended used: the load generator among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build() -> Tuple[pathlib.Path, pathlib.Path]:
    """Apart from each other: a bench is built with the features of the development dependencies, which must not get into the product."""
    return executable("--bin", "tidegate"), executable("--bench", "bare")


def executable(*target: str) -> pathlib.Path:
    command = ["cargo", "build", "--release", "--message-format=json-render-diagnostics", *target]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode != 0:
        raise Failed("the build failed")
    for line in made.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == target[1]:
            return pathlib.Path(message["executable"])
    raise Failed(f"cargo told no path for {target[1]}")
