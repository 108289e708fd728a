//! A client's request, checked and named once: what hyper lets through and HTTP does not (RFC 9112 s3.2, s6.1, s11), its route, its
//! resource and its key. Whoever comes later reads, and parses nothing again.

use super::begun::Ticket;
use super::error::Fault;
use super::interim::Turn;
use super::purging;
use super::routes::{self, Question};
use super::session::Visit;
use super::{Asked, ConnectionInfo, InFlight, Shared};
use crate::config::runtime::{Config, Route};
use crate::core::consistency::bound;
use crate::core::http::fields::Fields;
use crate::core::http::{freshness, invalidate};
use crate::core::key::NormalPath;
use crate::core::lookup::Rigor;
use crate::core::policy::{Caching, Contract, Policy};
use crate::core::reason::FetchReason;
use crate::core::time::{MonoTime, Span};
use crate::store::ResourceId;
use crate::upstream::{Answered, OnInterim};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// The effective host of a request: from an absolute-form target, which wins (RFC 9112 s3.2.2), or from its one `Host`.
pub(super) fn authority(parts: &Parts, fields: Fields) -> Result<&str, Fault> {
    const BAD: &str = "the request needs exactly one valid Host";
    let (uri, headers) = (&parts.uri, &parts.headers);
    if let (Version::HTTP_2, Some(target)) = (parts.version, uri.authority()) {
        // `:authority` stands for Host; when both are there they are one (RFC 9113 s8.3.1).
        let same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes());
        let is_one = !fields.any(Fields::HOST) || headers.get_all(HOST).iter().all(same);
        return if is_one && is_authority(target.as_str()) {
            Ok(target.as_str())
        } else {
            Err(Fault::refuse(StatusCode::BAD_REQUEST, BAD))
        };
    }
    let host = sole_host(headers).and_then(|host| host.to_str().ok().filter(|h| is_authority(h)));
    let host = host.ok_or(Fault::refuse_and_close(StatusCode::BAD_REQUEST, BAD))?;
    match (uri.scheme(), uri.authority()) {
        (Some(_), Some(target)) if is_authority(target.as_str()) => Ok(target.as_str()),
        (None, None) => Ok(host),
        // An authority-form target belongs to CONNECT alone (RFC 9112 s3.2.3).
        _ => Err(Fault::refuse_and_close(StatusCode::BAD_REQUEST, BAD)),
    }
}

/// The one `Host`; none where there is none, or several.
#[inline]
fn sole_host(headers: &HeaderMap) -> Option<&HeaderValue> {
    // Where no name comes twice and it is the first, as almost every client has it, it need not be looked for.
    if headers.len() == headers.keys_len()
        && let Some((name, host)) = headers.iter().next()
        && *name == HOST
    {
        return Some(host);
    }
    let mut lines = headers.get_all(HOST).iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// `uri-host [":" port]` (RFC 9110 s7.2): no user, no list, no white space.
fn is_authority(host: &str) -> bool {
    if is_plain_authority(host.as_bytes()) {
        return true;
    }
    let (name, port) = split_port(host);
    let name_fits = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| HOST_BYTES.get(usize::from(b)).is_some_and(|stands| *stands))
        }
    };
    name_fits && port.is_none_or(|p| p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()))
}

/// What hardly any is not, in one walk: a name and perhaps a port.
#[inline]
fn is_plain_authority(host: &[u8]) -> bool {
    let is_name = |byte: &u8| HOST_BYTES.get(usize::from(*byte)).is_some_and(|stands| *stands);
    match host.iter().position(|byte| !is_name(byte)) {
        None => !host.is_empty(),
        Some(at) => match host.split_at(at) {
            ([_, ..], [b':', port @ ..]) => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
            _ => false,
        },
    }
}

/// RFC 3986 s3.2.2 reg-name, escapes unread.
static HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[allow(clippy::indexing_slicing, reason = "worked out by the compiler")]
        {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'-' | b'.'
                        | b'_'
                        | b'~'
                        | b'!'
                        | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b';'
                        | b'='
                        | b'%'
                );
        }
        byte += 1;
    }
    table
};

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.bytes().rposition(|b| b == b':') {
        Some(at) if !host.ends_with(']') => (host.get(..at).unwrap_or(host), host.get(at + 1..)),
        _ => (host, None),
    }
}

/// The host alone, lower case.
pub(super) fn host_name(authority: &str) -> Cow<'_, str> {
    // In one walk, what almost all are: lower case, and perhaps a port.
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    match authority.bytes().position(|byte| !is_plain(byte)) {
        None => return Cow::Borrowed(authority),
        Some(at) => {
            if let Some((name, [b':', port @ ..])) = authority.split_at_checked(at).map(|(n, p)| (n, p.as_bytes()))
                && port.iter().all(u8::is_ascii_digit)
            {
                return Cow::Borrowed(name);
            }
        }
    }
    let name = split_port(authority).0;
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// What a request is that is not refused whatever the route.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// For a route, with what is known of its fields.
    Request(Fields),
    /// For us: [`super::purging`]. No route sees it.
    Purge,
}

/// What is refused whatever the route.
pub(super) fn check(parts: &Parts, fields: Fields, connection: &ConnectionInfo) -> Result<Admitted, Fault> {
    let headers = &parts.headers;
    if fields.any(Fields::TRANSFER_ENCODING)
        && let Some(coding) = headers.get(TRANSFER_ENCODING)
    {
        let several = headers.get_all(TRANSFER_ENCODING).iter().count() > 1;
        if several || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::refuse_and_close(
                StatusCode::NOT_IMPLEMENTED,
                "the only transfer coding understood is chunked",
            ));
        }
    }
    let declared = fields
        .any(Fields::CONTENT_LENGTH)
        .then(|| headers.get(CONTENT_LENGTH))
        .flatten()
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.trim().parse::<u64>().ok());
    if declared.is_some_and(|length| length > connection.peer.listener.max_body) {
        return Err(Fault::refuse_and_close(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than max_body",
        ));
    }
    if headers.len() > connection.peer.listener.max_headers {
        // hyper sees to it on HTTP/1 alone.
        return Err(Fault::refuse(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "more header fields than max_headers",
        ));
    }
    let path = parts.uri.path();
    if !path.starts_with('/') {
        if path == "*" && parts.method != Method::OPTIONS {
            return Err(Fault::refuse(StatusCode::BAD_REQUEST, "only OPTIONS may ask for *"));
        }
        if path != "*" && parts.method != Method::CONNECT {
            return Err(Fault::refuse(StatusCode::BAD_REQUEST, "the path begins with /"));
        }
    }
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(Admitted::Request(fields));
    }
    match parts.method.as_str() {
        "TRACE" => Err(Fault::refuse(StatusCode::METHOD_NOT_ALLOWED, "TRACE is not allowed")),
        "PURGE" if purging::may_purge(connection, headers) => Ok(Admitted::Purge),
        "PURGE" => Err(Fault::refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "PURGE is not allowed here (purge_from), nor through another proxy: purge on the admin port",
        )),
        "CONNECT" => Err(Fault::refuse_and_close(
            StatusCode::NOT_IMPLEMENTED,
            "tunnels are not supported",
        )),
        _ => Ok(Admitted::Request(fields)),
    }
}

/// What the first proxy in front of us saw, where its word is believed.
pub(super) struct Seen<'a> {
    /// The client used https.
    pub(super) https: bool,
    /// The host it asked for.
    pub(super) host: Option<&'a str>,
    /// All hosts that are named, and the schemes where they disagree, for the key: proxies append to what a client sent, and a node may
    /// believe the last as well as the first.
    pub(super) named: Option<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(connection: &ConnectionInfo, headers: &'a HeaderMap) -> Self {
        if !connection.trusted {
            return Self {
                https: connection.peer.tls,
                host: None,
                named: None,
            };
        }
        let mut schemes: Names<'_> = members(headers, "x-forwarded-proto")
            .chain(parameters(headers, "proto"))
            .collect();
        let mut hosts: Names<'_> = members(headers, "x-forwarded-host")
            .chain(parameters(headers, "host"))
            .collect();
        let https = schemes
            .first()
            .map_or(connection.peer.tls, |s| s.eq_ignore_ascii_case("https"));
        let host = hosts.first().copied();
        schemes.dedup();
        hosts.dedup();
        if schemes.len() > 1 {
            hosts.extend(schemes);
        }
        let named = match &*hosts {
            [] => None,
            [one] => Some(Cow::Borrowed(*one)),
            several => Some(Cow::Owned(several.join(","))),
        };
        Self { https, host, named }
    }
}

type Names<'a> = SmallVec<[&'a str; 4]>;

/// The members of a list field, over all its lines.
fn members<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

/// The values of one parameter of `Forwarded` (RFC 7239 s4), over all its members.
fn parameters<'a>(headers: &'a HeaderMap, wanted: &'static str) -> impl Iterator<Item = &'a str> {
    let pairs = members(headers, "forwarded").flat_map(|member| member.split(';'));
    pairs.filter_map(move |pair| {
        let (name, value) = pair.split_once('=')?;
        let fits = name.trim().eq_ignore_ascii_case(wanted);
        fits.then(|| value.trim().trim_matches('"'))
    })
}

/// The path, normalised.
pub(super) fn path(uri: &Uri) -> NormalPath<'_> {
    NormalPath::of(uri.path())
}

/// The route that takes the request.
pub(super) fn route<'a>(
    shared: &'a Shared,
    parts: &Parts,
    host: &str,
    path: &str,
    https: bool,
) -> Result<&'a Arc<Route>, Fault> {
    let question = Question {
        host,
        path,
        method: &parts.method,
        headers: &parts.headers,
        https,
    };
    routes::find(shared, &question).ok_or(Fault {
        proxy_error: Some("destination_not_found"),
        ..Fault::refuse(StatusCode::NOT_FOUND, "no route takes this request")
    })
}

/// How a request is handled, before anything is looked up.
#[derive(Copy, Clone, Debug)]
pub(super) enum Handling<'a> {
    /// From the store if the contract allows.
    Read(&'a Caching),
    /// The same, once its content has been read: that is part of its key.
    Query(&'a Caching),
    /// To a node and back, nothing stored, nothing changed.
    Pass(FetchReason),
    /// It may change something: the gate first.
    Write,
}

/// Which of the three a request is.
pub(super) fn handling<'a>(parts: &Parts, fields: Fields, policy: &'a Policy, has_body: bool) -> Handling<'a> {
    let is_overridden = fields.any(Fields::OVERRIDE) && invalidate::is_overridden(&parts.headers);
    if !invalidate::is_safe(&parts.method) || is_overridden {
        return Handling::Write; // R13: also by X-HTTP-Method-Override
    }
    let Some(caching) = policy.caching() else {
        return Handling::Pass(FetchReason::Bypass);
    };
    let is_get = matches!(parts.method, Method::GET | Method::HEAD);
    if !(is_get && !has_body || invalidate::is_query(&parts.method)) {
        return Handling::Pass(FetchReason::Method);
    }
    // `If-Match` and `If-Unmodified-Since` are the origin's to evaluate (RFC 9111 s4.3.2).
    if fields.any(Fields::ORIGIN_CONDITION) {
        return Handling::Pass(FetchReason::Request);
    }
    if is_get {
        Handling::Read(caching)
    } else {
        Handling::Query(caching)
    }
}

/// A request on a proxying route, owned, for everything that cannot be answered at once.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) connection: Arc<ConnectionInfo>,
    pub(super) route: Arc<Route>,
    pub(super) policy: Arc<Policy>,
    /// The client's head.
    pub(super) parts: Parts,
    /// Whether the client used https, as far as that can be known and is believed.
    pub(super) https: bool,
    /// The request target as sent to the node.
    pub(super) target: Uri,
    /// The effective host with its port, as the client sent it.
    pub(super) authority: Arc<str>,
    /// The path as sent to the node, where the target does not say it.
    pub(super) path: Option<Box<str>>,
    pub(super) resource: ResourceId,
    pub(super) digest: u128,
    pub(super) key: Arc<[u8]>,
    /// What a QUERY asks for; empty for every other read.
    pub(super) content: Bytes,
    /// When the request's head was in.
    pub(super) start: MonoTime,
    /// When its answer's head must be in.
    pub(super) deadline: MonoTime,
    /// The `X-Request-Id` made for it, once, when a node was first to be asked and the client had sent none.
    pub(super) request_id: OnceLock<HeaderValue>,
    /// The right to send its client interim heads; none on HTTP/1.0 (RFC 9110 s15.2).
    pub(super) interim: Option<Turn>,
    /// What its session asks and has said so far, on routes with sessions and for writes to what they read.
    pub(super) visit: Option<Box<Visit>>,
    /// It is unsafe, and counted as begun under its configuration until it is over (R31).
    pub(super) ticket: Option<Arc<Ticket>>,
    /// Its place among the route's `max_in_flight`: detached work keeps it when its client has left.
    pub(super) _in_flight: Option<Arc<InFlight>>,
}

impl Job {
    /// What its answer's account needs of it.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            connection: &self.connection,
            parts: &self.parts,
            start: self.start,
            request_id: &self.request_id,
        }
    }

    /// The path as sent to the node.
    pub(super) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_else(|| self.target.path())
    }

    /// What becomes of a node's interim heads.
    pub(super) fn on_interim(&self) -> Option<OnInterim> {
        let turn = self.interim.clone()?;
        Some(Arc::new(move |status, version, fields| {
            turn.pass_on(status, version, fields);
        }))
    }

    /// The method by whose rules it is answered from the store.
    pub(super) fn read_as(&self) -> &Method {
        invalidate::read_as(&self.parts.method)
    }

    /// How it is fetched when what is stored does not do.
    pub(super) fn rigor(&self) -> Rigor {
        if self.policy.caching().is_none() || self.policy.is_strong() {
            return Rigor::Usual; // the fields need not be looked through for what such a route does not know
        }
        super::miss::as_read(self, false).rigor(&self.policy)
    }

    /// Whether it was raised to a validated read (`Prefer: consistency=strong`).
    pub(super) fn is_raised(&self) -> bool {
        !self.policy.is_strong() && self.policy.caching().is_some() && super::miss::as_read(self, false).raised
    }

    /// The time left until the deadline.
    pub(super) fn left(&self, now: MonoTime) -> std::time::Duration {
        self.deadline.duration_since(now)
    }

    /// R43: whether only the primary's answers count: strong reads, and eventual ones where nobody knows how far a replica is behind.
    pub(super) fn is_for_primary(&self, config: &Config) -> bool {
        match &self.policy.contract {
            Contract::Strong(..) => true,
            Contract::Off | Contract::Weak(_) => false,
            Contract::Eventual(..) => {
                let upstream = config.upstreams.get(self.resource.upstream);
                upstream.is_some_and(|upstream| !upstream.tells_lag())
            }
        }
    }

    /// R42: whether an answer was already older than the route's bound when it was asked for. How long it took does not count: it was
    /// current at some instant since its request began.
    pub(super) fn is_beyond_bound(&self, answered: &Answered) -> bool {
        let Contract::Eventual(_, bounded) = &self.policy.contract else {
            return false;
        };
        let age = freshness::age_field(&answered.parts.headers);
        let valid_as_of = bound::valid_as_of(answered.sent, age, answered.lag).unwrap_or_default();
        answered.sent.since(valid_as_of) > bounded.max_staleness
    }
}

/// When the answer's head must be in.
pub(super) fn deadline(now: MonoTime, route: &Route) -> MonoTime {
    now.after(Span::from(route.timeout))
}

#[cfg(test)]
mod tests;
