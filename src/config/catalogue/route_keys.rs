//! `[policies.*]` and `[[routes]]`, in the order of INTERFACE.md section 1.

use super::build::*;
use super::{Key, Kind};

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
        choice(&["none", "read-your-writes"], &[]),
        "Eventual: whether a client that hands its token back reads its own writes, and never goes back.",
    ),
    inherited(
        "tags_from",
        TEXTS,
        "['Cache-Groups', 'Surrogate-Key']",
        "Fields of an answer that carry its tags: Cache-Groups is a list of strings (RFC 9875), others have words.",
    ),
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
        choice(&["external", "exclusive"], &[]),
        "Strong: who may write.",
    ),
    bare(
        "write_through",
        choice(&["invalidate", "refresh", "store"], &[]),
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
    key(
        "cookies_ignore",
        TEXTS,
        "[]",
        "Cookies that do not change an answer: their requests share. A trailing `*` matches any ending.",
    ),
];

pub(super) const ROUTE: &[Key] = &[
    bare("name", Kind::Text, "Its name in metrics and /status; default: route-N."),
    key(
        "match",
        Kind::Table(&[MATCH]),
        "{}",
        "Which requests it takes; what is left out matches anything.",
    ),
    bare("upstream", Kind::Text, "Where requests go."),
    bare("policy", Kind::Text, "Under which contract; keys beside it win."),
    key(
        "invalidates",
        TEXTS,
        "[]",
        "What else a write changes: paths as clients send them, with the placeholders of match.path (no query: all of them), and `tag:NAME`.",
    ),
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
