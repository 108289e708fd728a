//! The last touch on every answer: what became of the request (Cache-Status), how old the answer is (Age), what the contract says
//! of it (Tidegate-Consistency), which way it came (Via). The one exit: no answer leaves without passing here.

use super::ConnectionInfo;
use super::body::Body;
use super::error::Fault;
use super::outbound;
use crate::config::runtime::Route;
use crate::core::http::cache_status::{CacheStatus, Handling};
use crate::core::http::line::{self, Line};
use crate::core::http::{hop, prefer, strong};
use crate::core::policy::{Contract, Policy};
use crate::core::reason::Outcome;
use crate::core::rules::Rule;
use crate::core::time::{Age, Span};
use crate::store::Gained;
use http::header::{AGE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static TIDEGATE_CONSISTENCY: HeaderName = HeaderName::from_static("tidegate-consistency");

// A value from a static text is checked byte by byte; a copy of one is not.
static STRONG: HeaderValue = HeaderValue::from_static("strong");
static STRONG_VALIDATED: HeaderValue = HeaderValue::from_static("strong;proof=validated");
static STRONG_EXCLUSIVE: HeaderValue = HeaderValue::from_static("strong;proof=exclusive");

/// What the contract says of an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Nothing: off and weak routes, generated errors, writes that are not strong.
    Silent,
    /// Eventual: how long ago it is known to have been current; beyond the bound, only by the owner's choice, it is called `breached`.
    Bounded(Span),
    /// The same where the contract was passed for the owner's sake, whatever the span: a session had gone further (R49).
    Breached(Span),
    /// Strong, or a read raised to it: the primary answered during this request.
    Validated,
    /// Strong: served from memory, proven by the gate.
    Exclusive,
    /// Strong: a write.
    Write,
}

impl Consistency {
    fn value(self, policy: &Policy) -> Option<HeaderValue> {
        let bounded = |staleness: Span, breached: bool| {
            let Contract::Eventual(_, bounded) = &policy.contract else {
                return None;
            };
            let word = if breached || staleness > bounded.max_staleness {
                "breached"
            } else {
                "bounded"
            };
            let mut line = Line::new();
            line.text(word).text(";staleness=").number(staleness.as_millis());
            line.text(";bound=").number(bounded.max_staleness.as_millis());
            line.value().map(changing)
        };
        match self {
            Self::Silent => None,
            Self::Bounded(staleness) => bounded(staleness, false),
            Self::Breached(staleness) => bounded(staleness, true),
            Self::Validated => Some(STRONG_VALIDATED.clone()),
            Self::Exclusive => Some(STRONG_EXCLUSIVE.clone()),
            Self::Write => Some(STRONG.clone()),
        }
    }
}

/// What is told about an answer.
#[derive(Copy, Clone, Debug)]
pub(super) struct Told<'a> {
    pub(super) status: CacheStatus<'a>,
    /// None: the route does not cache, or the answer was made here.
    pub(super) age: Option<Age>,
    pub(super) consistency: Consistency,
    /// The protocol the answer came by.
    pub(super) version: Version,
}

/// Finishes an answer that came from a node, now or earlier, on a proxying route.
pub(super) fn finish(
    response: &mut Response<Body>,
    connection: &ConnectionInfo,
    route: &Route,
    policy: &Policy,
    told: &Told<'_>,
) {
    let headers = response.headers_mut();
    if policy.is_strong() && Rule::R16.holds() {
        strong::strong_response_headers(headers); // R16
    }
    if let Some(age) = told.age {
        headers.insert(AGE, line::number(age.as_secs()));
    }
    if let Some(value) = told.consistency.value(policy) {
        headers.insert(TIDEGATE_CONSISTENCY.clone(), value);
    }
    if told.consistency == Consistency::Validated && !policy.is_strong() {
        headers.insert(prefer::PREFERENCE_APPLIED.clone(), prefer::STRONG_APPLIED.clone());
    }
    hop::append_via(headers, told.version);
    stamp(headers, connection, told.status);
    outbound::set(headers, &route.set_response_headers);
}

/// What all answers from one entry have in common, in its ready map ([`crate::store::Entry::ready_headers`]): all that [`finish`] does
/// and does not change from hit to hit. Nothing here depends on what a reload may change while the entry stays in use (R31).
pub(super) fn prepare(headers: &mut HeaderMap, policy: &Policy, is_silent: bool) {
    if let Some(via) = headers.get_mut(VIA) {
        *via = hop::via(Version::HTTP_11);
    }
    if is_silent {
        headers.remove(&TIDEGATE_CONSISTENCY);
    }
    if policy.is_strong() && Rule::R16.holds() {
        strong::strong_response_headers(headers); // R16
    }
}

/// What [`finish`] tells of a hit with prepared fields.
pub(super) struct Hit<'a> {
    pub(super) connection: &'a ConnectionInfo,
    pub(super) policy: &'a Policy,
    pub(super) told: Told<'a>,
}

impl Gained for Hit<'_> {
    fn numbers(&self) -> [Option<u128>; 4] {
        let Told {
            status,
            age,
            consistency,
            ..
        } = self.told;
        let is_plain = !self.connection.debug && status.handling == Handling::Hit;
        [
            age.map(|age| u128::from(age.as_secs())),
            Some(0), // Via
            status
                .ttl
                .filter(|_| is_plain)
                .map(|ttl| u128::from(ttl.cast_unsigned())),
            match consistency {
                Consistency::Silent | Consistency::Exclusive => Some(0),
                Consistency::Bounded(staleness) => match &self.policy.contract {
                    Contract::Eventual(_, bounded) => {
                        Some(u128::from(staleness.as_millis()) << 64 | u128::from(bounded.max_staleness.as_millis()))
                    }
                    Contract::Off | Contract::Weak(_) | Contract::Strong(..) => None,
                },
                Consistency::Breached(_) | Consistency::Validated | Consistency::Write => None,
            },
        ]
    }

    fn value(&self, at: usize) -> Option<HeaderValue> {
        match at {
            0 => self.told.age.map(|age| line::number(age.as_secs())),
            2 => Some(cache_status(self.connection, self.told.status)),
            // Where there is none, its place is another field's.
            3 => self.told.consistency.value(self.policy),
            _ => None, // Via
        }
    }
}

/// Says what became of the request, on any answer.
pub(super) fn stamp(headers: &mut HeaderMap, connection: &ConnectionInfo, status: CacheStatus<'_>) {
    // RFC 9211 s2: each cache appends its member; the origin's own caches come first.
    headers.append(CACHE_STATUS.clone(), cache_status(connection, status));
}

/// As much of it as this client may see.
fn seen_by<'a>(connection: &ConnectionInfo, status: CacheStatus<'a>) -> CacheStatus<'a> {
    if connection.debug {
        return status;
    }
    CacheStatus {
        key: None,
        detail: None,
        ..status
    }
}

/// `Cache-Status` as this client may see it.
fn cache_status(connection: &ConnectionInfo, status: CacheStatus<'_>) -> HeaderValue {
    let value = seen_by(connection, status).value();
    if status.ttl.is_some() { changing(value) } else { value }
}

/// A value that hardly ever comes twice: HTTP/2 is to send it without a place in its tables (RFC 7541 s6.2.3). With one, each would drive out
/// what does come again, and be looked for among all that came before.
fn changing(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// An answer made here in place of an origin's.
pub(super) fn refuse(connection: &ConnectionInfo, fault: Fault) -> (Response<Body>, Outcome) {
    let mut response = fault.response();
    let status = CacheStatus::generated("refused");
    stamp(response.headers_mut(), connection, status);
    (response, Outcome::Refused)
}

/// A node's fields as a client may see them: nothing of its connection.
pub(super) fn from_node(headers: &mut HeaderMap) {
    hop::strip_also(headers, is_ours);
}

/// The same of an answer that is passed on as it comes, with its trailers.
pub(super) fn from_node_streamed(headers: &mut HeaderMap) {
    hop::strip_streamed(headers, is_ours);
}

/// What only we may say of an answer.
fn is_ours(name: &HeaderName) -> bool {
    matches!(name.as_str(), "tidegate-consistency") || outbound::is_ours(name)
}
