"""Requests that wait for one slow fetch: that the origin is asked once, and what each of them takes of the process's memory."""

import socket
import threading
import time
from types import SimpleNamespace

from idle import QUIET_S, ask_http1, close
from processes import Failed
from stage import Stage

OBJECT = b"GET /eventual/object HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = OBJECT.replace(b"object", b"slow")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nCache-Control: max-age=600\r\n\r\n" + 1024 * b"x"
# A route's `max_waiters` when nothing is configured; one more would fetch on its own.
WAITERS = 1000


class SlowOrigin:
    """Answers at once, but for one path whose answer waits until it is let go."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked = 0
        self.go = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection: socket.socket):
        seen = b""
        while data := connection.recv(65536):
            seen += data
            while b"\r\n\r\n" in seen:
                head, _, seen = seen.partition(b"\r\n\r\n")
                if b" /eventual/slow " in head:
                    self.asked += 1
                    self.go.wait()
                connection.sendall(ANSWER)


def waiters(stage: Stage) -> str:
    origin, stage.origin = stage.origin, SimpleNamespace(port=(slow := SlowOrigin()).port)
    proxy = stage.proxy()
    stage.origin = origin
    connections = [socket.create_connection(("127.0.0.1", proxy.ports["http"]), 60) for _ in range(WAITERS)]
    for connection in connections:
        ask_http1(connection)
    time.sleep(QUIET_S)
    quiet = proxy.pss_bytes()
    for connection in connections:
        connection.sendall(SLOW)
    time.sleep(QUIET_S)
    waiting = proxy.pss_bytes()
    asked = slow.asked
    slow.go.set()
    for connection in connections:
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < 1024:
            data = connection.recv(65536)
            if not data:
                raise Failed("a connection was closed on a request that waits")
            answer += data
    close(connections)
    if asked != 1 or slow.asked != 1:
        raise Failed(f"{WAITERS} requests for one object asked the origin {slow.asked} times")
    each = (waiting - quiet) / WAITERS
    return f"| waiting for one fetch | asked upstream | PSS more than when quiet, for each |\n|--:|--:|--:|\n| {WAITERS:,} | {asked} | {each:,.0f} B |"
