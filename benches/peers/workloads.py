"""What is compared with what: a table for each workload of PERFORMANCE's list, a row for each contender."""

import dataclasses
import http.client
from typing import Callable, List, Optional, Tuple

from servers import BareProxy, BareServer, HAProxy, Nginx, Peer, Tidegate, Varnish

Expectation = Callable[[http.client.HTTPResponse], bool]


def anything(_answer) -> bool:
    return True


def field(name: str, word: str) -> Expectation:
    return lambda answer: word in (answer.getheader(name) or "")


def two_numbers(answer) -> bool:
    """Varnish names the request that filled the object beside this one."""
    return len((answer.getheader("X-Varnish") or "").split()) == 2


@dataclasses.dataclass
class Contender:
    """A row of a table: a peer, and which of its paths is asked."""

    label: str
    peer: Peer
    # With several keys, a number from 1 to `keys` is added.
    path: str
    # What the answers must look like once the cache is warm.
    expect: Expectation = anything
    # Requests that reach the origin, per request of the load generator: 0 or 1; None where that is as it comes.
    origin_share: Optional[int] = 0
    keys: int = 1

    @property
    def first(self) -> str:
        """The path of its one key, or of the first."""
        return self.path + ("1" if self.keys > 1 else "")


@dataclasses.dataclass
class Workload:
    """A table. Ratios are to the first contender, and those listed besides."""

    name: str
    title: str
    size: int
    contenders: List[Contender]
    also: List[Tuple[str, str]] = dataclasses.field(default_factory=list)
    # What is spoken: http, https, h2c; "handshake": https with a new connection for each request.
    spoken: str = "http"
    # Several keys are asked for in this order, or at random.
    random: bool = False
    # Memory per object is measured too.
    memory: bool = False
    # Not how much it can do, but how long an answer takes when it does half of that.
    at_half_load: bool = False


BARE, BARE_PROXY, TIDEGATE, NGINX, HAPROXY, VARNISH = BareServer(), BareProxy(), Tidegate(), Nginx(), HAProxy(), Varnish()
HIT = field("Cache-Status", "tidegate; hit")
VALIDATED = field("Cache-Status", "fwd-status=304")
OBJECTS = 100_000


def hits(name: str, title: str, size: int, others: List[Peer], keys: int = 1, exclusive=False, **more) -> Workload:
    path = "object" if keys == 1 else "o"
    expected = {NGINX: field("X-Cache", "HIT"), HAPROXY: field("X-Cache", "HIT"), VARNISH: two_numbers}
    return Workload(
        name,
        title,
        size,
        [
            Contender("bare hyper", BARE, "/", keys=keys),
            Contender("tidegate, eventual", TIDEGATE, f"/eventual/{path}", HIT, keys=keys),
        ]
        + ([Contender("tidegate, exclusive", TIDEGATE, f"/exclusive/{path}", HIT, keys=keys)] if exclusive else [])
        + [Contender(peer.name, peer, f"/{path}", expected[peer], keys=keys) for peer in others],
        **more,
    )


WORKLOADS = [
    hits(
        "W1",
        "hit, 1 KiB, one key, keep-alive",
        1024,
        [HAPROXY, NGINX, VARNISH],
        exclusive=True,
        also=[("tidegate, exclusive", "tidegate, eventual")],
    ),
    hits("W2", "hit, 64 KiB, one key, keep-alive", 65536, [HAPROXY, NGINX, VARNISH]),
    Workload(
        "W3",
        "pass and validated read, 1 KiB, keep-alive",
        1024,
        [
            Contender("bare hyper, passing", BARE_PROXY, "/object", origin_share=1),
            Contender("tidegate, off", TIDEGATE, "/off/object", field("Cache-Status", "fwd=bypass"), origin_share=1),
            # More keys than connections: no two requests for one key are under way at a time, so none is shared.
            Contender("tidegate, strong", TIDEGATE, "/strong/", VALIDATED, origin_share=1, keys=1000),
            # All connections ask for one key: those that wait together are validated together.
            Contender("tidegate, strong, one key", TIDEGATE, "/strong/object", VALIDATED, origin_share=None),
            Contender("HAProxy", HAPROXY, "/off/object", origin_share=1),
            Contender("nginx", NGINX, "/off/object", origin_share=1),
            Contender("Varnish", VARNISH, "/off/object", origin_share=1),
        ],
        also=[("tidegate, strong", "tidegate, off")],
    ),
    hits("W4", "hit, 1 KiB, one key, TLS 1.3, keep-alive", 1024, [HAPROXY, NGINX], spoken="https"),
    hits("W5", "hit, 1 KiB, one key, h2c, 32 streams", 1024, [HAPROXY, NGINX, VARNISH], spoken="h2c"),
    hits(
        "W6",
        f"hit, 1 KiB, {OBJECTS:,} keys at random, keep-alive",
        1024,
        [HAPROXY, NGINX, VARNISH],
        keys=OBJECTS,
        random=True,
        memory=True,
    ),
    hits("W7", "time of an answer at half load: hit, 1 KiB, keep-alive", 1024, [HAPROXY, NGINX, VARNISH], at_half_load=True),
    hits("W8", "TLS 1.3 handshake and one hit, 1 KiB", 1024, [HAPROXY, NGINX], spoken="handshake"),
]
