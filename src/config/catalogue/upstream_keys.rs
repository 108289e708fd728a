//! `[upstreams.*]`, in the order of INTERFACE.md section 1.

use super::build::*;
use super::{Key, Kind};

const CLIENT_TLS: &[Key] = &[
    bare(
        "ca",
        Kind::Pem,
        "A PEM file: whose certificates are believed; default: the machine's.",
    ),
    bare(
        "server_name",
        Kind::Text,
        "The name that the nodes' certificates must have; default: the host of each url.",
    ),
    bare(
        "certificate",
        Kind::Pem,
        "A PEM file: what we show to nodes that ask for it.",
    ),
    bare("key", Kind::Pem, "Its private key, a PEM file without a passphrase."),
];

pub(super) const UPSTREAM: &[Key] = &[
    key(
        "mode",
        choice(&["active-active", "active-passive"], &[]),
        "'active-active'",
        "How traffic is spread over the nodes.",
    ),
    key(
        "replication",
        choice(&["shared", "primary", "mirrored", "multi-primary"], &[]),
        "'shared'",
        "How the nodes share their data: one store; one node is written to and the others follow; Tidegate copies every PUT and DELETE to all of them; or every node takes writes and passes them on.",
    ),
    key(
        "balance",
        choice(&["least-request", "round-robin", "random", "peak-ewma", "hash"], &[]),
        "'least-request'",
        "How active nodes share the load.",
    ),
    key(
        "hash_on",
        Kind::Text,
        "'path'",
        "What `balance = \"hash\"` hashes: `path`, `client-ip`, `header:X` or `cookie:X`.",
    ),
    bare(
        "nodes",
        Kind::List(&Kind::Table(&[LISTED, NODE])),
        "The nodes; active-passive: the first takes the traffic.",
    ),
    bare(
        "discover",
        Kind::Table(&[DISCOVER]),
        "Instead of nodes: who says which nodes there are.",
    ),
    key(
        "host",
        Kind::Text,
        "'preserve'",
        "The Host sent upstream: the client's, the node's (`node`), or this one.",
    ),
    bare(
        "tls",
        Kind::Table(&[CLIENT_TLS]),
        "TLS to nodes whose urls are https://, and to discovered ones.",
    ),
    key(
        "http",
        choice(&["1.1", "2"], &[]),
        "'1.1'",
        "What is spoken to the nodes: `2` over TLS by ALPN, without TLS by prior knowledge.",
    ),
    key(
        "http2",
        Kind::Table(&[UPSTREAM_HTTP2]),
        "{}",
        "HTTP/2 limits, with `http = \"2\"`.",
    ),
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
    bare(
        "max_lag",
        Kind::Duration,
        "How far a replica may be behind, by your word.",
    ),
    key(
        "gate",
        choice(&["path", "url"], &[]),
        "'path'",
        "What one resource is: the path, or the path with its query.",
    ),
    bare(
        "hedge",
        Kind::Table(&[HEDGE]),
        "Sends slow reads a second time, to another node where one may answer; the first good answer counts. Default: off.",
    ),
    bare(
        "min_in_sync",
        COUNT,
        "Mirrored: nodes that must hold a write before it is acknowledged; default: 1.",
    ),
    bare(
        "initial_in_sync",
        choice(&["all", "primary"], &[]),
        "Mirrored: who holds everything at the very first start: `all` (the default), or `primary` alone; the others wait for `resynced`.",
    ),
    bare(
        "mirror_max_body",
        Kind::Size,
        "Mirrored: the longest body of a write, which is held in memory until every node has it; default: 8MiB. Beyond: 413.",
    ),
    bare(
        "mirror_timeout",
        Kind::Timeout,
        "Mirrored: how long a copy may take, below failover.hold; default: 1s. A node that is slower leaves the in-sync set.",
    ),
    bare(
        "replicate_result",
        Kind::Flag,
        "Mirrored: the primary alone runs POST and PATCH, and what it has made of their target, or of the resource that a 201 names in Location, is copied with PUT; default: false, they get 501.",
    ),
    bare("health_check", Kind::Table(&[HEALTH_CHECK]), "Heartbeats."),
    bare(
        "outlier",
        Kind::Table(&[OUTLIER]),
        "Ejects a node that fails its requests for a while. Default: off.",
    ),
    key("retry", Kind::Table(&[RETRY]), "{}", "Second attempts."),
    key(
        "failover",
        Kind::Table(&[FAILOVER]),
        "{}",
        "Who takes over from a node that fails, and what requests do meanwhile.",
    ),
];

const UPSTREAM_HTTP2: &[Key] = &[
    key(
        "window",
        Kind::Size,
        "'1MiB'",
        "How much of one answer's body may be under way; a connection's is as much for each of its streams, so that a slow reader holds up nobody else.",
    ),
    key(
        "max_streams",
        Kind::Count(1, 100_000),
        "256",
        "The most requests at once on a connection; fewer where the node says so.",
    ),
];

const NODE: &[Key] = &[
    bare(
        "standby",
        choice(&["hot", "warm", "cold"], &[]),
        "Active-passive: how it waits in reserve: probed and connected (the default), probed, or not running until it is needed.",
    ),
    bare(
        "start",
        TEXTS,
        "The command that starts a cold node: argv, no shell; {node} is its name.",
    ),
    bare(
        "start_timeout",
        Kind::Timeout,
        "How long the start may take, until its probes pass; default: 30s.",
    ),
];

const HEALTH_CHECK: &[Key] = &[
    bare("path", Kind::Text, "What is asked with GET."),
    key("tcp", Kind::Flag, "false", "A TCP connect instead."),
    bare(
        "grpc",
        Kind::Text,
        "gRPC's own health check of this service instead, without TLS; empty: of the whole server.",
    ),
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
    bare(
        "role_header",
        Kind::OptionalText,
        "Says on probes what the node is: `primary` or `replica`.",
    ),
    bare(
        "term_header",
        Kind::OptionalText,
        "Says on probes the term of that role: a number that grows with every election.",
    ),
    bare(
        "position_header",
        Kind::OptionalText,
        "Says how far the node has replicated, on probes and on every answer: a number.",
    ),
    key(
        "initial",
        choice(&["unhealthy", "healthy"], &[]),
        "'unhealthy'",
        "What a node is before its first probe.",
    ),
];

const OUTLIER: &[Key] = &[
    key(
        "consecutive_errors",
        Kind::Count(1, 1_000_000),
        "5",
        "Requests failed in a row, on all threads, that eject a node.",
    ),
    key(
        "ejection_time",
        Kind::Timeout,
        "'10s'",
        "How long a node is ejected the first time; longer with repeats, up to 5 minutes.",
    ),
    key(
        "max_ejected",
        Kind::Percent,
        "'50%'",
        "The most nodes out of service for whatever reason at which one more is ejected.",
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

const DISCOVER: &[Key] = &[
    bare(
        "dns",
        Kind::Text,
        "A name and a port (`orders.svc.cluster.local:9000`), asked again by its TTL; SRV records bring their own ports.",
    ),
    key(
        "kind",
        choice(&["A", "AAAA", "SRV"], &[]),
        "'A'",
        "Which records are asked for.",
    ),
    bare(
        "file",
        Kind::Text,
        "A TOML file with `nodes = [{ url = \"http://host:port\" }]`, watched; a node may have a name, weight and max_in_flight.",
    ),
];

/// The file of `discover = { file = .. }`.
pub(in crate::config) const NODES_FILE: super::Keys = &[&[bare(
    "nodes",
    Kind::List(&Kind::Table(&[LISTED])),
    "The nodes there are.",
)]];

/// What every node has, wherever it stands.
const LISTED: &[Key] = &[
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
        "Requests in flight at the node, over all threads and at least one for each; 0: no limit.",
    ),
];

const HEDGE: &[Key] = &[
    bare(
        "after",
        Kind::Timeout,
        "How long a read may be without an answer before a second copy goes.",
    ),
    key("max", Kind::Percent, "'5%'", "Second copies per hundred reads."),
];

const FAILOVER: &[Key] = &[
    bare(
        "promotion",
        choice(&["follow", "automatic", "manual"], &[]),
        "Who makes a node the primary: the nodes themselves (the default with role_header), Tidegate (with position_header), or you.",
    ),
    key(
        "failback",
        choice(&["manual", "automatic"], &[]),
        "'manual'",
        "Whether a node that came back takes over again by itself.",
    ),
    key(
        "stable_for",
        Kind::Duration,
        "'60s'",
        "How long it must have been healthy for that.",
    ),
    key(
        "slow_start",
        Kind::Duration,
        "'30s'",
        "Over how long the share of a node that came into service grows.",
    ),
    key(
        "hold",
        Kind::Duration,
        "'5s'",
        "How long writes and strong reads wait for another primary before 503; above interval x unhealthy_threshold.",
    ),
    key("max_held", COUNT_OR_NONE, "1024", "The most requests that wait so."),
    key(
        "unclean",
        Kind::Flag,
        "false",
        "Promotes although acknowledged writes may be lost.",
    ),
    key(
        "fence",
        TEXTS,
        "[]",
        "The command that keeps a deposed primary from acting; if it fails nobody is promoted. Argv, no shell; {node} and {epoch} are filled in.",
    ),
    key(
        "on_promote",
        TEXTS,
        "[]",
        "The command that makes a node the primary. Argv, no shell; {node} and {epoch} are filled in.",
    ),
    key("hook_timeout", Kind::Timeout, "'10s'", "How long either may take."),
];
