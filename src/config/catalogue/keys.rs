//! The tables themselves, in the order of INTERFACE.md section 1. The text of `default` is TOML and goes through the same reader as a file.

use super::build::*;
use super::route_keys::{POLICY, ROUTE};
use super::upstream_keys::UPSTREAM;
use super::{Key, Keys, Kind};

/// What users ask for and we do not plan to have; refused with that word wherever it stands.
pub(in crate::config) const NOT_IN_SCOPE: &[(&str, &str)] = &[
    ("rate_limit", "rate limits"),
    ("rate_limits", "rate limits"),
    ("ratelimit", "rate limits"),
    ("limit_rate", "rate limits"),
    ("requests_per_second", "rate limits"),
    ("compression", "body compression"),
    ("compress", "body compression"),
    ("gzip", "body compression"),
    ("brotli", "body compression"),
    ("zstd", "body compression"),
    ("disk", "a disk tier"),
    ("disk_tier", "a disk tier"),
    ("disk_path", "a disk tier"),
    ("disk_cache", "a disk tier"),
    ("max_disk", "a disk tier"),
    ("script", "scripting"),
    ("scripts", "scripting"),
    ("scripting", "scripting"),
    ("lua", "scripting"),
    ("wasm", "scripting"),
];

/// The whole file.
pub const ROOT: Keys = &[&[
    key("server", Kind::Table(&[SERVER]), "{}", "The process."),
    key("session", Kind::Table(&[SESSION]), "{}", "Session tokens."),
    bare(
        "listeners",
        Kind::Named(&[LISTENER]),
        "Where clients connect; `main` on :8080 when there is none.",
    ),
    key("admin", Kind::Table(&[ADMIN]), "{}", "The admin port."),
    key("cache", Kind::Table(&[CACHE]), "{}", "What is stored."),
    key("telemetry", Kind::Table(&[TELEMETRY]), "{}", "Logs and metrics."),
    bare(
        "upstreams",
        Kind::Named(&[UPSTREAM]),
        "Groups of nodes that serve the same thing.",
    ),
    bare("policies", Kind::Named(&[POLICY]), "Consistency contracts by name."),
    later(
        "second_levels",
        Kind::Named(&[SECOND_LEVEL]),
        "Caches behind the cache (memcached).",
    ),
    bare(
        "routes",
        Kind::List(&Kind::Table(&[ROUTE, POLICY])),
        "Which request goes where; the first match wins.",
    ),
    later("fleet", Kind::Table(&[FLEET]), "Several proxies under one contract."),
]];

const SERVER: &[Key] = &[
    bare(
        "threads",
        Kind::Count(1, 1024),
        "Threads that serve traffic; default: one per core.",
    ),
    key(
        "drain_delay",
        Kind::Duration,
        "'0s'",
        "How long after SIGTERM /ready says 503 while connections are still accepted.",
    ),
    key(
        "drain_timeout",
        Kind::Duration,
        "'25s'",
        "How long requests in flight may take after that (Kubernetes kills after 30 s).",
    ),
    bare(
        "state_dir",
        Kind::OptionalText,
        "A folder for what must outlive the process: who is the primary and which nodes are in sync, writes under way, the clean-stop marker. Without it exclusive routes validate for settle_after after every start.",
    ),
    key(
        "ready_requires",
        TEXTS,
        "[]",
        "Upstreams whose health /ready also needs.",
    ),
    key(
        "pair",
        Kind::Flag,
        "false",
        "Two processes share state_dir under a lock: one serves, the other waits for it to end.",
    ),
];

const SESSION: &[Key] = &[bare(
    "key",
    Kind::TextOr(&Kind::List(&Kind::Secret)),
    "Signs session tokens, at least 32 bytes; of a list the first signs and all verify; default: random per process.",
)];

const LISTENER: &[Key] = &[
    bare(
        "address",
        Kind::Text,
        "HOST:PORT; `:8080` is every interface, both families; port 0 takes any free one; `unix:PATH` is a unix socket.",
    ),
    key(
        "protocols",
        Kind::List(&choice(&["http/1.1", "h2", "h2c"], &[])),
        "['http/1.1', 'h2', 'h2c']",
        "What is spoken: `h2` over TLS (by ALPN), `h2c` without it (by prior knowledge).",
    ),
    off("http3", Kind::Flag, "false", "HTTP/3 on the same port."),
    bare(
        "tls",
        Kind::Table(&[SERVER_TLS]),
        "Certificates; without it the listener speaks no TLS.",
    ),
    key("http2", Kind::Table(&[LISTENER_HTTP2]), "{}", "HTTP/2 limits."),
    off(
        "proxy_protocol",
        Kind::Flag,
        "false",
        "PROXY protocol v1 and v2 from trusted_proxies.",
    ),
    key(
        "trusted_proxies",
        TEXTS,
        "[]",
        "Networks whose Forwarded and X-Forwarded-* are believed; `unix:` for peers over a unix socket.",
    ),
    key(
        "purge_from",
        TEXTS,
        "[]",
        "Networks whose peers may use the PURGE method, and not through another proxy; `unix:` for peers over a unix socket; empty: nobody.",
    ),
    key(
        "debug_from",
        TEXTS,
        "['127.0.0.0/8']",
        "Networks that see Cache-Status `key` and `detail`; `unix:` for peers over a unix socket.",
    ),
    key(
        "header_timeout",
        Kind::Timeout,
        "'10s'",
        "How long a request head may take.",
    ),
    key(
        "idle_timeout",
        Kind::Timeout,
        "'75s'",
        "How long a connection may be idle between requests.",
    ),
    key(
        "body_timeout",
        Kind::Timeout,
        "'30s'",
        "How long a body may make no progress.",
    ),
    key("max_header_bytes", Kind::Size, "'32KiB'", "The largest request head."),
    key(
        "max_headers",
        Kind::Count(1, 10_000),
        "100",
        "The most request header fields.",
    ),
    key("max_body", Kind::Size, "'64MiB'", "The largest request body."),
    key(
        "max_connections",
        COUNT,
        "10000",
        "The most connections at once, over all threads.",
    ),
];

const SERVER_TLS: &[Key] = &[
    bare(
        "certificate",
        Kind::Pem,
        "A PEM file: the certificate and those between it and its authority. For clients that ask for no name, or for one that `certificates` does not cover.",
    ),
    bare("key", Kind::Pem, "Its private key, a PEM file without a passphrase."),
    bare(
        "certificates",
        Kind::List(&Kind::Table(&[CERTIFICATE])),
        "More of them, chosen by the name a client asks for (SNI).",
    ),
    bare(
        "client_ca",
        Kind::Pem,
        "A PEM file of authorities: clients must show a certificate of one of them. Sessions are not resumed then.",
    ),
    later("acme", Kind::Table(&[&[]]), "Certificates by ACME."),
];

const CERTIFICATE: &[Key] = &[
    bare(
        "certificate",
        Kind::Pem,
        "A PEM file: the certificate and those between it and its authority.",
    ),
    bare("key", Kind::Pem, "Its private key, a PEM file without a passphrase."),
];

const LISTENER_HTTP2: &[Key] = &[
    key(
        "window",
        Kind::Size,
        "'256KiB'",
        "How much of one request's body may be under way; of all of a connection's four times that.",
    ),
    key(
        "max_streams",
        Kind::Count(1, 100_000),
        "128",
        "The most requests at once on a connection.",
    ),
];

const ADMIN: &[Key] = &[
    key("address", Kind::Text, "'127.0.0.1:9901'", "Where it listens."),
    bare(
        "token",
        Kind::Secret,
        "The bearer token; required when the address is not loopback.",
    ),
    key(
        "metrics_token",
        Kind::Flag,
        "false",
        "Whether /metrics needs the token too.",
    ),
];

const CACHE: &[Key] = &[
    key(
        "max_memory",
        Kind::Size,
        "'256MiB'",
        "Entries, keys, index and fills in flight together.",
    ),
    key(
        "max_object",
        Kind::Size,
        "'8MiB'",
        "The largest stored body, where a policy does not say.",
    ),
];

const TELEMETRY: &[Key] = &[
    key("log", Kind::Text, "'info'", "The log filter; TIDEGATE_LOG overrides."),
    key(
        "log_format",
        choice(&["text", "json"], &[]),
        "'text'",
        "How log lines look.",
    ),
    key(
        "access_log",
        choice(&["text", "json", "off"], &[]),
        "'off'",
        "One line per answered request on stdout, after the ready line; the log itself stays on stderr.",
    ),
    off("otlp", Kind::Text, "''", "Where traces go."),
    key("meter", Kind::Table(&[METER]), "{}", "Measures staleness."),
];

const METER: &[Key] = &[
    key(
        "sample",
        Kind::Percent,
        "'0%'",
        "Share of hits, on weak, eventual and exclusive strong routes, that are asked about at the primary in the background.",
    ),
    key("max_per_second", COUNT, "10", "The most such reads in a second."),
];

const SECOND_LEVEL: &[Key] = &[
    later("nodes", TEXTS, "memcached nodes."),
    later("timeout", Kind::Timeout, "How long a call may take."),
    later("ttl", Kind::Duration, "The hard lifetime."),
];

const FLEET: &[Key] = &[];
