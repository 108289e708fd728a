//! Answers to a write that are the new representation of its target, and may answer a later GET: POST (RFC 9110 s9.3.3) and PATCH
//! (RFC 5789 s2) with an explicit lifetime and a `Content-Location` that names the target (RFC 9110 s8.7). Never an answer to another
//! write: it is never served to a POST, and PUT answers are not cacheable (RFC 9110 s9.3.4).
//!
//! Not on strong routes: what a write may leave there is R9's to say.

use crate::core::admit::{self, Admission, Answer};
use crate::core::http::dates;
use crate::core::http::directives::ResponseDirectives;
use crate::core::http::freshness::{self, OriginLifetime};
use crate::core::http::invalidate::{self, ClientUrl, RequestUrl};
use crate::core::http::stored::Meta;
use crate::core::key::normalise_path;
use crate::core::lookup::Read;
use crate::core::policy::{Contract, Policy};
use crate::core::reason::NotStored;
use crate::core::time::Ttl;
use http::header::{CONTENT_LOCATION, DATE};
use http::{HeaderMap, Method, StatusCode};

/// Whether an answer to such a request could be stored at all: asked before it is sent, since its token is registered then.
#[must_use]
pub fn may_be_stored(method: &Method, headers: &HeaderMap, policy: &Policy) -> bool {
    let caches = match policy.contract {
        Contract::Off | Contract::Strong(..) => false,
        Contract::Weak(_) | Contract::Eventual(..) => true,
    };
    caches && matches!(*method, Method::POST | Method::PATCH) && !invalidate::is_overridden(headers)
}

/// Whether the answer of the node is stored for later GETs, and with which facts. `read` is the request as if it were a GET, `target`
/// its URL as the node was asked for it.
///
/// # Errors
/// Why not.
pub fn admit(
    read: &Read<'_>,
    answer: &Answer<'_>,
    target: RequestUrl<'_>,
    policy: &Policy,
) -> Result<Box<Meta>, NotStored> {
    // A 201 would tell a GET that it has created something; 204, 205 and 206 hold no representation that could be served whole.
    let holds_it = matches!(
        answer.status,
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION
    );
    if !holds_it || !names_target(answer.headers, target) {
        return Err(NotStored::Method);
    }
    let date = dates::field(answer.headers, &DATE).valid();
    let lifetime = freshness::origin_lifetime(
        answer.status,
        answer.headers,
        &ResponseDirectives::parse(answer.headers),
        date.unwrap_or(answer.received_wall),
    );
    match lifetime {
        OriginLifetime::Explicit(lifetime) if lifetime > Ttl::ZERO => {}
        OriginLifetime::Explicit(_) | OriginLifetime::Heuristic(_) | OriginLifetime::None => {
            return Err(NotStored::NoFreshness);
        }
    }
    match admit::admit(read, answer, policy) {
        Admission::Store(meta) => Ok(meta),
        Admission::PassOn(why) => Err(why),
    }
}

/// RFC 9110 s8.7: one `Content-Location`, and it is the target URI.
fn names_target(answer: &HeaderMap, target: RequestUrl<'_>) -> bool {
    let mut lines = answer.get_all(CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let named = line.to_str().ok().and_then(|text| invalidate::resolve(target, text));
    named.is_some_and(|named| {
        named
            == ClientUrl {
                path: normalise_path(target.path).into_owned(),
                query: target.query.map(str::to_owned),
            }
    })
}

#[cfg(test)]
mod tests;
