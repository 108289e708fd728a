//! What is told: one JSON document, the same from a file and from a running proxy. Names and words are part of the interface; spans
//! are whole milliseconds. It never holds a value of the request's fields, of a stored answer's, or of a key's.

use serde::Serialize;

/// The whole explanation.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub asked: AskedTold,
    /// What comes of it.
    pub verdict: Verdict,
    /// The routes before the one that takes it, and why they do not.
    pub passed_over: Vec<PassedOverTold>,
    /// The route that takes it; none when none does.
    pub route: Option<RouteTold>,
    /// What names its entry; none where nothing is looked up.
    pub key: Option<KeyTold>,
    /// What a write to it changes; none on routes without nodes.
    pub resource: Option<ResourceTold>,
    /// What the route promises, and what that rests on.
    pub promise: Option<Promise>,
    /// What is stored under the key; none where nothing is looked up.
    pub stored: Option<StoredTold>,
    /// What would become of the answer that was supposed.
    pub answer: Option<AnswerTold>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// The question, without values of fields.
#[derive(Clone, Debug, Serialize)]
pub struct AskedTold {
    /// The method.
    pub method: String,
    /// The URL as given.
    pub url: String,
    /// The host it is for.
    pub host: String,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// The listener it comes to.
    pub listener: String,
    /// The client's address.
    pub from: String,
    /// Whether `Forwarded` and `X-Forwarded-*` of that client are believed.
    pub trusted: bool,
}

/// What is done with the request, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// `refuse`, `redirect`, `respond`, `purge`, `pass`, `write`, `query`, `serve`, `serve-and-refresh`, `validate` or `fetch`.
    pub does: &'static str,
    /// The same as a sentence.
    pub sentence: String,
    /// Why, as a word; none where a sentence is all there is.
    pub ground: Option<&'static str>,
    /// Why, as a sentence.
    pub because: String,
    /// The rule: a section of an RFC, or a number of the contract.
    pub rule: Option<&'static str>,
    /// The status of an answer that is made here.
    pub status: Option<u16>,
    /// How `Cache-Status` begins.
    pub cache_status: String,
}

/// A route that does not take the request.
#[derive(Clone, Debug, Serialize)]
pub struct PassedOverTold {
    /// Its name.
    pub route: String,
    /// What does not match: `host`, `path`, `method`, `header` or `scheme`.
    pub mismatch: &'static str,
    /// The same as a sentence.
    pub because: String,
}

/// The route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteTold {
    /// Its name.
    pub name: String,
    /// `proxy`, `redirect` or `respond`.
    pub action: &'static str,
    /// The level; none when it asks no node.
    pub consistency: Option<&'static str>,
    /// The upstream.
    pub upstream: Option<String>,
    /// The path as sent to the node.
    pub sent_as: Option<String>,
}

/// What names the entry. Values of fields and cookies are never told.
#[derive(Clone, Debug, Serialize)]
pub struct KeyTold {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host, without the scheme's own port.
    pub host: String,
    /// The path, normalised.
    pub path: String,
    /// What counts of the query, as the key holds it; empty when nothing does.
    pub query: String,
    /// Fields whose values are in it.
    pub fields: Vec<String>,
    /// Cookies whose values are in it.
    pub cookies: Vec<String>,
}

/// What a write changes and a gate guards.
#[derive(Clone, Debug, Serialize)]
pub struct ResourceTold {
    /// The upstream.
    pub upstream: String,
    /// The path as sent to the node.
    pub path: String,
    /// The query, where the upstream's `gate` is `url`.
    pub query: Option<String>,
}

/// What the route promises.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// The level.
    pub level: &'static str,
    /// `validate` or `exclusive`; none but on strong routes.
    pub gear: Option<&'static str>,
    /// The promise, as a sentence.
    pub sentence: String,
    /// What it rests on (CONSISTENCY.md section 1).
    pub assumes: Vec<&'static str>,
}

/// What is stored under the key.
#[derive(Clone, Debug, Serialize)]
pub struct StoredTold {
    /// Whether a running proxy was asked; from a file alone nothing is stored.
    pub live: bool,
    /// Whether a write to the resource is pending or unsettled.
    pub unsettled: bool,
    /// How long it will be unsettled at least; none when it is not, or while a write is pending or its connection open.
    pub unsettled_ms: Option<u64>,
    /// The variants, as they are stored.
    pub variants: Vec<VariantTold>,
}

/// One stored answer.
#[derive(Clone, Debug, Serialize)]
pub struct VariantTold {
    /// Whether it is the one that the request is judged by.
    pub chosen: bool,
    /// Its status.
    pub status: u16,
    /// Its body, in bytes.
    pub body_bytes: u64,
    /// Its age (RFC 9111 s4.2.3).
    pub age_ms: u64,
    /// How long it has been known to be current (R42).
    pub staleness_ms: u64,
    /// How long it is fresh.
    pub freshness: Freshness,
    /// What is left of that; negative since when it is stale. None when nothing ends it.
    pub left_ms: Option<i64>,
    /// `strong`, `weak`, or none.
    pub etag: Option<&'static str>,
    /// Whether it has a usable `Last-Modified`.
    pub last_modified: bool,
    /// The fields it was selected by.
    pub varies_on: Vec<String>,
    /// Whether requests with credentials may have it (R14).
    pub shareable: bool,
    /// Whether the gate proves it (R2): always told, of use on exclusive routes.
    pub proven: bool,
    /// Whether a write, a purge or a newer answer took it out of service.
    pub revoked: bool,
    /// Whether a soft purge ended its freshness.
    pub softly_purged: bool,
}

/// How long an answer is fresh, and who says so.
#[derive(Clone, Debug, Serialize)]
pub struct Freshness {
    /// The lifetime; none when nothing ends it.
    pub lifetime_ms: Option<u64>,
    /// Where it comes from.
    pub from: String,
    /// The rule.
    pub rule: &'static str,
    /// For how long after it a stale answer is served while it is refreshed (RFC 5861 s3).
    pub stale_while_revalidate_ms: u64,
    /// For how long after it a stale answer stands in for a broken origin (RFC 5861 s4).
    pub stale_if_error_ms: Option<u64>,
    /// Never served stale.
    pub must_revalidate: bool,
    /// Confirmed before every use.
    pub no_cache: bool,
}

/// What would become of a supposed answer.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerTold {
    /// Its status.
    pub status: u16,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// Whether it would be stored.
    pub stored: bool,
    /// Why not, as a word; none when it is.
    pub ground: Option<&'static str>,
    /// Why, or why not, as a sentence.
    pub because: String,
    /// The rule.
    pub rule: Option<&'static str>,
    /// How long it would be fresh; none when it is not stored.
    pub freshness: Option<Freshness>,
    /// What the same request would get right after, or a GET after a write; none when it is not stored.
    pub then: Option<Then>,
}

/// What the next read would get.
#[derive(Clone, Debug, Serialize)]
pub struct Then {
    /// As in the verdict.
    pub does: &'static str,
    /// As in the verdict.
    pub ground: &'static str,
    /// As in the verdict.
    pub because: &'static str,
    /// As in the verdict.
    pub rule: &'static str,
}
