//! The tables themselves, in the order of INTERFACE.md section 1. The text of `default` is TOML and goes through the same reader as a file.

use super::Support::{Later, LaterUnlessDefault, Now};
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

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        inherited: false,
        support: Now,
        doc,
    }
}

/// A policy's key with a default.
const fn inherited(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        inherited: true,
        support: Now,
        doc,
    }
}

/// A key without a default.
const fn bare(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        inherited: false,
        support: Now,
        doc,
    }
}

const fn later(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        inherited: false,
        support: Later,
        doc,
    }
}

/// A key of a later capability whose default means "off".
const fn off(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        inherited: false,
        support: LaterUnlessDefault,
        doc,
    }
}

const fn choice(now: &'static [&'static str], later: &'static [&'static str]) -> Kind {
    Kind::Choice { now, later }
}

/// A count that fits everywhere it goes.
const COUNT: Kind = Kind::Count(1, 1_000_000_000);
const COUNT_OR_NONE: Kind = Kind::Count(0, 1_000_000_000);
const TEXTS: Kind = Kind::List(&Kind::Text);

/// The whole file.
pub const ROOT: Keys = &[&[
    key("server", Kind::Table(&[SERVER]), "{}", "The process."),
    later(
        "session",
        Kind::Table(&[&[later("key", Kind::TextOr(&TEXTS), "Signs session tokens.")]]),
        "Session tokens.",
    ),
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
    later(
        "state_dir",
        Kind::Text,
        "Where views, intents and the clean-stop marker are kept.",
    ),
    key(
        "ready_requires",
        TEXTS,
        "[]",
        "Upstreams whose health /ready also needs.",
    ),
    off("pair", Kind::Flag, "false", "Two proxies share state_dir under a lock."),
];

const LISTENER: &[Key] = &[
    bare(
        "address",
        Kind::Text,
        "HOST:PORT; `:8080` is every interface, both families; port 0 takes any free one.",
    ),
    key(
        "protocols",
        Kind::List(&choice(&["http/1.1"], &["h2", "h2c"])),
        "['http/1.1']",
        "What is spoken.",
    ),
    off("http3", Kind::Flag, "false", "HTTP/3 on the same port."),
    later("tls", Kind::Table(&[&[]]), "Certificates."),
    later("http2", Kind::Table(&[&[]]), "HTTP/2 limits."),
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
        "Networks whose Forwarded and X-Forwarded-* are believed.",
    ),
    off("purge_from", TEXTS, "[]", "Networks that may use the PURGE method."),
    key(
        "debug_from",
        TEXTS,
        "['127.0.0.0/8']",
        "Networks that see Cache-Status `key` and `detail`.",
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
        choice(&["off"], &["text", "json"]),
        "'off'",
        "One line per request.",
    ),
    off("otlp", Kind::Text, "''", "Where traces go."),
    key("meter", Kind::Table(&[METER]), "{}", "Measures staleness."),
];

const METER: &[Key] = &[
    off("sample", Kind::Percent, "'0%'", "Share of hits re-read at the primary."),
    off("max_per_second", COUNT, "10", "The most such reads."),
];

const UPSTREAM: &[Key] = &[
    key(
        "mode",
        choice(&["active-active", "active-passive"], &[]),
        "'active-active'",
        "How traffic is spread over the nodes.",
    ),
    key(
        "replication",
        choice(&["shared"], &["primary", "mirrored", "multi-primary"]),
        "'shared'",
        "How the nodes share their data.",
    ),
    key(
        "balance",
        choice(&["least-request", "round-robin"], &["random", "peak-ewma", "hash"]),
        "'least-request'",
        "How active nodes share the load.",
    ),
    off("hash_on", Kind::Text, "'path'", "What `balance = \"hash\"` hashes."),
    bare(
        "nodes",
        Kind::List(&Kind::Table(&[NODE])),
        "The nodes; active-passive: the first takes the traffic.",
    ),
    later("discover", Kind::Table(&[&[]]), "Finds the nodes."),
    key(
        "host",
        Kind::Text,
        "'preserve'",
        "The Host sent upstream: the client's, the node's (`node`), or this one.",
    ),
    later("tls", Kind::Table(&[&[]]), "TLS to the nodes."),
    key(
        "http",
        choice(&["1.1"], &["2"]),
        "'1.1'",
        "What is spoken to the nodes.",
    ),
    later("http2", Kind::Table(&[&[]]), "HTTP/2 limits."),
    key("connect_timeout", Kind::Timeout, "'1s'", "How long a connect may take."),
    key(
        "response_timeout",
        Kind::Timeout,
        "'15s'",
        "How long the response head may take.",
    ),
    key(
        "max_connections",
        COUNT,
        "256",
        "Connections per node, over all threads.",
    ),
    key(
        "max_pending",
        COUNT_OR_NONE,
        "1024",
        "Requests that wait for a connection; beyond: 503.",
    ),
    off("max_lag", Kind::Text, "''", "Declared lag of replicas."),
    key(
        "gate",
        choice(&["path", "url"], &[]),
        "'path'",
        "What one resource is: the path, or the path with its query.",
    ),
    later("hedge", Kind::Table(&[&[]]), "Sends slow reads twice."),
    off("min_in_sync", COUNT, "1", "Nodes a write must reach."),
    off(
        "initial_in_sync",
        choice(&["all"], &["primary"]),
        "'all'",
        "Who is in sync at the first start.",
    ),
    off("mirror_max_body", Kind::Size, "'8MiB'", "The largest mirrored body."),
    off("mirror_timeout", Kind::Timeout, "'1s'", "How long a copy may take."),
    off(
        "replicate_result",
        Kind::Flag,
        "false",
        "Copies the result of POST and PATCH.",
    ),
    bare("health_check", Kind::Table(&[HEALTH_CHECK]), "Heartbeats."),
    later("outlier", Kind::Table(&[&[]]), "Passive health."),
    key("retry", Kind::Table(&[RETRY]), "{}", "Second attempts."),
    later("failover", Kind::Table(&[&[]]), "Promotion."),
];

const NODE: &[Key] = &[
    bare("url", Kind::Text, "`http://host:port`."),
    bare(
        "name",
        Kind::Text,
        "Its name in /status and metrics; default: host:port.",
    ),
    key(
        "weight",
        Kind::Count(1, 1000),
        "1",
        "Share of the load relative to the others.",
    ),
    key(
        "max_in_flight",
        COUNT_OR_NONE,
        "0",
        "Requests in flight at the node; 0: no limit.",
    ),
    bare(
        "standby",
        choice(&["hot"], &["warm", "cold"]),
        "Active-passive: how it waits in reserve.",
    ),
    later("start", TEXTS, "Starts a cold node."),
    later("start_timeout", Kind::Timeout, "How long a start may take."),
];

const HEALTH_CHECK: &[Key] = &[
    bare("path", Kind::Text, "What is asked with GET."),
    key("tcp", Kind::Flag, "false", "A TCP connect instead."),
    later("grpc", Kind::Text, "A gRPC health check instead."),
    key("interval", Kind::Timeout, "'1s'", "From one probe to the next."),
    key("timeout", Kind::Timeout, "'500ms'", "How long an answer may take."),
    key(
        "healthy_threshold",
        Kind::Count(1, 1000),
        "2",
        "Consecutive successes that make a node healthy.",
    ),
    key(
        "unhealthy_threshold",
        Kind::Count(1, 1000),
        "3",
        "Consecutive failures that make it unhealthy.",
    ),
    key("expect", TEXTS, "['200-299']", "Statuses that count as healthy."),
    off("role_header", Kind::Text, "''", "Says `primary` or `replica`."),
    off("term_header", Kind::Text, "''", "Says the term of that role."),
    off(
        "position_header",
        Kind::Text,
        "''",
        "Says how far the node has replicated.",
    ),
    key(
        "initial",
        choice(&["unhealthy", "healthy"], &[]),
        "'unhealthy'",
        "What a node is before its first probe.",
    ),
];

const RETRY: &[Key] = &[
    key(
        "attempts",
        Kind::Count(1, 10),
        "2",
        "Attempts in all: reads, and writes that provably never left.",
    ),
    key("budget", Kind::Percent, "'20%'", "Retries per hundred requests."),
    key(
        "on",
        TEXTS,
        "['connect', 'reset', '502', '503', '504']",
        "What is retried.",
    ),
];

/// A policy's keys, which a route may also carry. Defaults that depend on the level are filled by `compile::policy`.
pub(in crate::config) const POLICY: &[Key] = &[
    inherited(
        "consistency",
        choice(&["off", "weak", "eventual", "strong"], &[]),
        "'off'",
        "What the route promises.",
    ),
    bare("ttl", Kind::Duration, "Lifetime when the origin gives none."),
    inherited(
        "origin_ttl",
        choice(&["honor", "ignore"], &[]),
        "'honor'",
        "Whether the origin's lifetime counts.",
    ),
    bare("max_staleness", Kind::Duration, "Eventual: the bound (60s)."),
    bare(
        "stale_while_revalidate",
        Kind::Duration,
        "Window for one background refresh, when the origin names none.",
    ),
    bare(
        "stale_if_error",
        Kind::Duration,
        "Window in which a stale answer stands in for a broken origin, when the origin names none.",
    ),
    bare(
        "on_unreachable",
        choice(&["error", "stale"], &[]),
        "Eventual, beyond the bound: refuse (error), or serve and flag (stale).",
    ),
    bare(
        "session",
        choice(&["none"], &["read-your-writes"]),
        "Eventual: session guarantees.",
    ),
    later("tags_from", TEXTS, "Fields that carry tags."),
    inherited(
        "key",
        Kind::Table(&[KEY]),
        "{}",
        "What of a request names an entry, beside scheme, host, path and query.",
    ),
    inherited(
        "collapse",
        Kind::Flag,
        "true",
        "Whether concurrent requests for one key share one fetch.",
    ),
    inherited("max_waiters", COUNT_OR_NONE, "1000", "How many may wait for one fetch."),
    inherited(
        "store_set_cookie",
        Kind::Flag,
        "false",
        "Whether answers with Set-Cookie may be stored.",
    ),
    inherited(
        "shared_auth",
        Kind::Flag,
        "false",
        "Whether answers to requests with credentials may be shared.",
    ),
    bare(
        "max_object",
        Kind::Size,
        "The largest stored body; default: [cache] max_object.",
    ),
    bare("second_level", Kind::OptionalText, "Weak: a cache behind the cache."),
    bare(
        "idempotency_header",
        Kind::OptionalText,
        "A request field that makes a repeated write harmless at the origin.",
    ),
    bare(
        "writers",
        choice(&["external"], &["exclusive"]),
        "Strong: who may write.",
    ),
    bare(
        "write_through",
        choice(&["invalidate"], &["refresh", "store"]),
        "Strong, exclusive: what a write does to what is stored.",
    ),
    bare(
        "refresh_timeout",
        Kind::Timeout,
        "Strong, exclusive: how long a refresh may take (1s).",
    ),
    bare(
        "settle_after",
        Kind::Duration,
        "Strong: how long an abandoned write may still be applied by the origin (60s).",
    ),
];

const KEY: &[Key] = &[
    key(
        "query_ignore",
        TEXTS,
        "[]",
        "Query parameters left out; a trailing `*` matches any ending.",
    ),
    bare("query", TEXTS, "When set, only these query parameters."),
    key("headers", TEXTS, "[]", "Request fields to add."),
    key("cookies", TEXTS, "[]", "Cookies to add, by name."),
];

const SECOND_LEVEL: &[Key] = &[
    later("nodes", TEXTS, "memcached nodes."),
    later("timeout", Kind::Timeout, "How long a call may take."),
    later("ttl", Kind::Duration, "The hard lifetime."),
];

const ROUTE: &[Key] = &[
    bare("name", Kind::Text, "Its name in metrics and /status; default: route-N."),
    key(
        "match",
        Kind::Table(&[MATCH]),
        "{}",
        "Which requests it takes; what is left out matches anything.",
    ),
    bare("upstream", Kind::Text, "Where requests go."),
    bare("policy", Kind::Text, "Under which contract; keys beside it win."),
    off("invalidates", TEXTS, "[]", "What else a write changes."),
    bare(
        "rewrite",
        Kind::Text,
        "The path sent upstream, with the placeholders of match.path.",
    ),
    bare(
        "redirect",
        Kind::TextOr(&Kind::Table(&[REDIRECT])),
        "Instead of upstream: `https`, or { to, status }.",
    ),
    bare(
        "respond",
        Kind::Table(&[RESPOND]),
        "Instead of upstream: a fixed answer.",
    ),
    off("upgrade", TEXTS, "[]", "Protocols a connection may change to."),
    later("tunnel_idle_timeout", Kind::Timeout, "How long a tunnel may be idle."),
    key(
        "set_request_headers",
        Kind::Fields,
        "{}",
        "Request fields to set; an empty value removes.",
    ),
    key(
        "set_response_headers",
        Kind::Fields,
        "{}",
        "Response fields to set; an empty value removes.",
    ),
    key(
        "timeout",
        Kind::Timeout,
        "'30s'",
        "From the request head to the response head.",
    ),
    key(
        "max_in_flight",
        COUNT_OR_NONE,
        "1000",
        "Requests in flight; beyond: 503 at once; 0: no limit.",
    ),
];

const MATCH: &[Key] = &[
    bare("host", Kind::Text, "A host, or `*.example.com`."),
    bare(
        "path",
        Kind::Text,
        "A path; `{name}` is one segment, `{*rest}` the rest.",
    ),
    key("methods", TEXTS, "[]", "Methods; GET includes HEAD."),
    key(
        "headers",
        Kind::Fields,
        "{}",
        "Fields one of whose lines must equal the value.",
    ),
];

const REDIRECT: &[Key] = &[
    bare("to", Kind::Text, "The new location."),
    key("status", Kind::Count(300, 399), "308", "301, 302, 303, 307 or 308."),
];

const RESPOND: &[Key] = &[
    key("status", Kind::Count(200, 599), "200", "The status."),
    key("body", Kind::Text, "''", "The body."),
];

const FLEET: &[Key] = &[];
