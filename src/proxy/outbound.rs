//! The request as a node gets it: the client's fields without what belongs to its connection, with the trail of proxies
//! (RFC 9110 s7.6.3, RFC 7239), and the route's own fields.

use super::ConnectionInfo;
use super::request::Job;
use crate::core::http::hop;
use crate::world::Entropy;
use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How many fields are added at most, beside the route's own.
const OURS: usize = 7;

/// Whether a field is between us and the nodes: the epoch of a write (R54), which no client says, and none is told.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    name.as_str() == "tidegate-epoch"
}

/// What nodes are told of a connection's client, worked out once.
#[derive(Debug)]
pub(super) struct Client {
    /// Its address, or that it is unknown.
    address: HeaderValue,
    /// For the host it asked for first: hardly any connection asks for a second one.
    at: OnceLock<At>,
}

/// What is said of a request for one host.
#[derive(Clone, Debug)]
struct At {
    authority: Arc<str>,
    host: Option<HeaderValue>,
    /// The member of `Forwarded`.
    forwarded: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static(super::UNKNOWN)),
            at: OnceLock::new(),
        }
    }

    /// A host, to keep: as a rule it is the connection's.
    pub(super) fn host(&self, authority: &str) -> Arc<str> {
        let known = self.at.get().map(|at| &at.authority);
        known
            .filter(|known| &***known == authority)
            .map_or_else(|| authority.into(), Arc::clone)
    }
}

impl At {
    fn new(connection: &ConnectionInfo, authority: &str) -> Self {
        let (node, proto) = (connection.forwarded_node.as_str(), proto(connection));
        let member = [node, ";host=\"", authority, "\";proto=", proto].concat();
        Self {
            authority: authority.into(),
            host: HeaderValue::from_str(authority).ok(),
            forwarded: HeaderValue::from_str(&member).ok(),
        }
    }

    fn of<'a>(connection: &'a ConnectionInfo, authority: &str) -> Cow<'a, Self> {
        let first = connection.client.at.get_or_init(|| Self::new(connection, authority));
        if &*first.authority == authority {
            Cow::Borrowed(first)
        } else {
            Cow::Owned(Self::new(connection, authority))
        }
    }
}

/// The head of the request to a node. Conditions are the client's; a flight puts its own in their place (R5c).
pub(super) fn parts(job: &Job, entropy: &dyn Entropy) -> Parts {
    made(job, Some(entropy))
}

/// The same once more: what was made up for it then is what it was.
pub(super) fn parts_again(job: &Job) -> Parts {
    made(job, None)
}

fn made(job: &Job, entropy: Option<&dyn Entropy>) -> Parts {
    let mut out = Request::new(()).into_parts().0;
    out.method = job.parts.method.clone();
    out.uri = job.target.clone();
    out.version = Version::HTTP_11;
    // Made with room for all of it at once: hyper reads the answer's fields into it as well.
    out.headers = HeaderMap::with_capacity(job.parts.headers.len() + OURS);
    let headers = &mut out.headers;
    let connection = &*job.connection;
    let mut has_id = false;
    hop::copy_request(&job.parts.headers, headers, |name| {
        let text = name.as_str();
        has_id |= text == X_REQUEST_ID.as_str();
        // Not only those we set: frameworks believe -Prefix, -Port and others as well.
        let claims = || text == FORWARDED.as_str() || text.starts_with("x-forwarded-");
        is_ours(name) || (!connection.trusted && claims())
    });
    let at = At::of(connection, &job.authority);
    if let Some(host) = &at.host
        && !(job.parts.version == Version::HTTP_11 && headers.get(HOST) == Some(host))
    {
        headers.insert(HOST, host.clone()); // one line of it, whatever the client's version brought
    }
    hop::append_via(headers, job.parts.version);
    trail(headers, connection, &at);
    // It may be gone with the fields of the client's connection.
    if !has_id || !headers.contains_key(&X_REQUEST_ID) {
        let made = |entropy: &dyn Entropy| job.request_id.get_or_init(|| new_id(entropy));
        if let Some(id) = entropy.map_or_else(|| job.request_id.get(), |entropy| Some(made(entropy))) {
            headers.insert(X_REQUEST_ID.clone(), id.clone());
        }
    }
    set(headers, &job.route.set_request_headers);
    out
}

fn new_id(entropy: &dyn Entropy) -> HeaderValue {
    let id = hex(u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64()));
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("-")) // hexadecimal digits are a value
}

/// The id of a request that goes to a node for certain: to make it when it is first needed costs more. None where the client has one.
pub(super) fn request_id(parts: &Parts, entropy: &dyn Entropy) -> OnceLock<HeaderValue> {
    if parts.headers.contains_key(&X_REQUEST_ID) {
        return OnceLock::new();
    }
    new_id(entropy).into()
}

/// 32 digits.
fn hex(number: u128) -> [u8; 32] {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    digits
}

fn proto(connection: &ConnectionInfo) -> &'static str {
    if connection.peer.tls { "https" } else { "http" }
}

/// Who asked, over what, for which host. What the peer says of others is believed only from `trusted_proxies`: of anybody else nothing
/// of it is left by now.
fn trail(headers: &mut HeaderMap, connection: &ConnectionInfo, at: &At) {
    static HTTP: HeaderValue = HeaderValue::from_static("http");
    static HTTPS: HeaderValue = HeaderValue::from_static("https");
    let believed = connection.trusted;
    if believed {
        append(headers, &X_FORWARDED_FOR, &connection.client.address);
    } else {
        headers.insert(X_FORWARDED_FOR.clone(), connection.client.address.clone());
    }
    if !believed || !headers.contains_key(&X_FORWARDED_PROTO) {
        let proto = if connection.peer.tls { &HTTPS } else { &HTTP };
        headers.insert(X_FORWARDED_PROTO.clone(), proto.clone());
    }
    if let Some(host) = &at.host
        && !(believed && headers.contains_key(&X_FORWARDED_HOST))
    {
        headers.insert(X_FORWARDED_HOST.clone(), host.clone());
    }
    match &at.forwarded {
        Some(member) if believed => append(headers, &FORWARDED, member),
        Some(member) => drop(headers.insert(FORWARDED, member.clone())),
        None => {}
    }
}

/// Adds a member to a list field, as one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, member: &HeaderValue) {
    let mut line = Vec::new();
    for value in headers.get_all(name) {
        // As text: what no field can hold for certain stands as what it is not.
        line.extend_from_slice(String::from_utf8_lossy(value.as_bytes()).as_bytes());
        line.extend_from_slice(b", ");
    }
    let value = if line.is_empty() {
        Ok(member.clone())
    } else {
        line.extend_from_slice(member.as_bytes());
        HeaderValue::try_from(line)
    };
    if let Ok(value) = value {
        headers.insert(name.clone(), value);
    }
}

/// Sets fields; an empty value removes one.
pub(super) fn set(headers: &mut HeaderMap, fields: &[(HeaderName, HeaderValue)]) {
    for (name, value) in fields {
        if value.is_empty() {
            headers.remove(name);
        } else {
            headers.insert(name.clone(), value.clone());
        }
    }
}
