//! The request as a node gets it: the client's fields without what belongs to its connection, with the trail of proxies
//! (RFC 9110 s7.6.3, RFC 7239), and the route's own fields.

use super::ConnectionInfo;
use super::request::Job;
use crate::core::http::hop;
use crate::world::Entropy;
use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The epoch of a write (R54), between us and the nodes.
pub(super) const TIDEGATE_EPOCH: &str = "tidegate-epoch";

/// How many fields are added at most, beside the route's own.
const OURS: usize = 7;

/// The head of the request to a node. Conditions are the client's; a flight puts its own in their place (R5c).
pub(super) fn parts(job: &Job, entropy: &dyn Entropy) -> Parts {
    let mut out = Request::new(()).into_parts().0;
    out.method = job.parts.method.clone();
    out.uri = job.target.clone();
    out.version = Version::HTTP_11;
    out.headers = job.parts.headers.clone();
    let headers = &mut out.headers;
    headers.reserve(OURS);
    hop::strip(headers);
    headers.remove(TIDEGATE_EPOCH); // R54: ours alone to say
    let host = HeaderValue::from_str(&job.authority).ok();
    if let Some(host) = &host {
        headers.insert(HOST, host.clone());
    }
    hop::append_via(headers, job.parts.version);
    trail(headers, &job.connection, &job.authority, host);
    if !headers.contains_key(&X_REQUEST_ID) {
        let id = job.request_id.get_or_init(|| {
            let id = hex(u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64()));
            HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("-")) // hexadecimal digits are a value
        });
        headers.insert(X_REQUEST_ID.clone(), id.clone());
    }
    set(headers, &job.route.set_request_headers);
    out
}

/// 32 digits.
fn hex(number: u128) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        *place = match u8::try_from(rest & 15).unwrap_or_default() {
            digit @ 0..=9 => b'0' + digit,
            digit => b'a' - 10 + digit,
        };
        rest >>= 4;
    }
    digits
}

/// Who asked, over what, for which host. What the peer says of others is believed only from `trusted_proxies`.
fn trail(headers: &mut HeaderMap, connection: &ConnectionInfo, authority: &str, host: Option<HeaderValue>) {
    static HTTP: HeaderValue = HeaderValue::from_static("http");
    static HTTPS: HeaderValue = HeaderValue::from_static("https");
    let (proto, proto_value) = if connection.peer.tls {
        ("https", &HTTPS)
    } else {
        ("http", &HTTP)
    };
    if !connection.trusted {
        // Not only those we set: frameworks believe -Prefix, -Port and others as well.
        let claims = |name: &&HeaderName| *name == FORWARDED || name.as_str().starts_with("x-forwarded-");
        let claimed: Vec<HeaderName> = headers.keys().filter(claims).cloned().collect();
        for name in claimed {
            headers.remove(name);
        }
    }
    append(headers, &X_FORWARDED_FOR, &connection.address);
    if !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO.clone(), proto_value.clone());
    }
    if let (false, Some(host)) = (headers.contains_key(&X_FORWARDED_HOST), host) {
        headers.insert(X_FORWARDED_HOST.clone(), host);
    }
    let node = &connection.forwarded_node;
    let member = [node.as_str(), ";host=\"", authority, "\";proto=", proto].concat();
    append(headers, &FORWARDED, &member);
}

/// Adds a member to a list field, as one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, member: &str) {
    let mut line = String::new();
    for value in headers.get_all(name) {
        line.push_str(&String::from_utf8_lossy(value.as_bytes()));
        line.push_str(", ");
    }
    let value = if line.is_empty() {
        HeaderValue::from_str(member)
    } else {
        line.push_str(member);
        HeaderValue::from_str(&line)
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
