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

/// The head of the request to a node. Conditions are the client's; a flight puts its own in their place (R5c).
pub(super) fn parts(job: &Job, entropy: &dyn Entropy) -> Parts {
    let mut out = Request::new(()).into_parts().0;
    out.method = job.parts.method.clone();
    out.uri = job.target.clone();
    out.version = Version::HTTP_11;
    out.headers = job.parts.headers.clone();
    let headers = &mut out.headers;
    hop::strip(headers);
    if let Ok(host) = HeaderValue::from_str(&job.authority) {
        headers.insert(HOST, host);
    }
    hop::append_via(headers, job.parts.version);
    trail(headers, &job.connection, &job.authority);
    if !headers.contains_key(&X_REQUEST_ID) {
        let id = job.request_id.get_or_init(|| {
            let id = format!("{:016x}{:016x}", entropy.next_u64(), entropy.next_u64());
            HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-")) // hexadecimal digits are a value
        });
        headers.insert(X_REQUEST_ID.clone(), id.clone());
    }
    set(headers, &job.route.set_request_headers);
    out
}

/// Who asked, over what, for which host. What the peer says of others is believed only from `trusted_proxies`.
fn trail(headers: &mut HeaderMap, connection: &ConnectionInfo, authority: &str) {
    let proto = if connection.peer.tls { "https" } else { "http" };
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
        headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(proto));
    }
    if let (false, Ok(host)) = (
        headers.contains_key(&X_FORWARDED_HOST),
        HeaderValue::from_str(authority),
    ) {
        headers.insert(X_FORWARDED_HOST.clone(), host);
    }
    let node = if connection.address.contains(':') {
        format!("\"[{}]\"", connection.address)
    } else {
        connection.address.clone()
    };
    append(
        headers,
        &FORWARDED,
        &format!("for={node};host=\"{authority}\";proto={proto}"),
    );
}

/// Adds a member to a list field, as one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, member: &str) {
    let mut line = String::new();
    for value in headers.get_all(name) {
        line.push_str(&String::from_utf8_lossy(value.as_bytes()));
        line.push_str(", ");
    }
    line.push_str(member);
    if let Ok(value) = HeaderValue::from_str(&line) {
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
