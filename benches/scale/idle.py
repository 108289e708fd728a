"""Connections that keep quiet after one request: what each takes of the process's memory, by what is spoken on it."""

import socket
import ssl
import time
from typing import Dict, List

from processes import Failed, Started
from stage import Stage, get

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
SETTINGS_ACK = b"\0\0\0\x04\x01\0\0\0\0"
SPOKEN = {"HTTP/1.1": ("http", None), "HTTP/1.1 over TLS": ("https", "http/1.1"), "h2c": ("http", "h2"), "h2 over TLS": ("https", "h2")}
# For what the process gives back when a connection has been quiet for a second: some seconds later (server/connection/ebb.rs).
QUIET_S = 6


def idle(stage: Stage) -> str:
    lines = ["| spoken | connections | PSS per connection |", "|---|--:|--:|"]
    for spoken, (port, protocol) in SPOKEN.items():
        proxy = stage.proxy()
        get(proxy, "/eventual/object")
        close(some(proxy, port, protocol, 50))  # what the first connections make for all
        before = proxy.pss_bytes()
        wanted = stage.options.connections
        connections = some(proxy, port, protocol, wanted)
        time.sleep(QUIET_S)
        each = (proxy.pss_bytes() - before) / wanted
        close(connections)
        lines.append(f"| {spoken} | {wanted:,} | {each:,.0f} B |")
        proxy.stop()
        stage.running.remove(proxy)
    return "\n".join(lines)


def some(proxy: Started, port: str, protocol, wanted: int) -> List[socket.socket]:
    context = ssl._create_unverified_context()  # pylint: disable=protected-access
    if protocol:
        context.set_alpn_protocols([protocol])
    connections = []
    for _ in range(wanted):
        connection = socket.create_connection(("127.0.0.1", proxy.ports[port]), 10)
        if port == "https":
            connection = context.wrap_socket(connection)
        (ask_http2 if protocol == "h2" else ask_http1)(connection)
        connections.append(connection)
    return connections


def ask_http1(connection: socket.socket):
    connection.sendall(b"GET /eventual/object HTTP/1.1\r\nHost: localhost\r\n\r\n")
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += some_of(connection)
    head, _, body = seen.partition(b"\r\n\r\n")
    length = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not head.startswith(b"HTTP/1.1 200") or not length:
        raise Failed(f"not a 200 with a length: {head!r}")
    while len(body) < length[0]:
        body += some_of(connection)


def ask_http2(connection: socket.socket):
    def literal(name: bytes, value: bytes) -> bytes:  # RFC 7541 s6.2.2, never indexed by name, no Huffman code
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    fields: Dict[bytes, bytes] = {b":method": b"GET", b":scheme": b"http", b":path": b"/eventual/object", b":authority": b"localhost"}
    if isinstance(connection, ssl.SSLSocket):
        fields[b":scheme"] = b"https"
    block = b"".join(literal(name, value) for name, value in fields.items())
    headers = len(block).to_bytes(3, "big") + b"\x01\x05" + (1).to_bytes(4, "big") + block
    connection.sendall(PREFACE + SETTINGS + headers)
    seen = b""
    while True:
        while len(seen) < 9 or len(seen) < 9 + int.from_bytes(seen[:3], "big"):
            seen += some_of(connection)
        size, kind, flags = int.from_bytes(seen[:3], "big"), seen[3], seen[4]
        stream = int.from_bytes(seen[5:9], "big")
        seen = seen[9 + size :]
        if kind == 4 and not flags & 1:
            connection.sendall(SETTINGS_ACK)
        elif kind in (3, 7):
            raise Failed(f"HTTP/2: frame of type {kind} in place of an answer")
        elif stream == 1 and flags & 1:
            return


def some_of(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise Failed("the connection was closed")
    return data


def close(connections: List[socket.socket]):
    for connection in connections:
        connection.close()
