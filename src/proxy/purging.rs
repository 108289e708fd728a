//! The `PURGE` method on the traffic port: takes the URL it is sent to out of service, as `POST /purge` with that `url` does on the admin
//! port, and answers the same. Off unless the listener's `purge_from` names the peer. No route sees it: it is never forwarded and never stored.
//!
//! Who may is decided by the TCP peer alone: an address that a proxy in front tells of its client is a claim, also a trusted one's. And a
//! request that another proxy has forwarded is not the peer's own, so it is refused whoever the peer is: otherwise a load balancer inside
//! `purge_from` would let everybody behind it purge.

use super::body::Body;
use super::error::Fault;
use super::headers;
use super::request::{self, Seen};
use super::{Answering, Asked, ConnectionInfo, Core, PurgeTarget};
use crate::core::http::cache_status::CacheStatus;
use crate::core::http::fields::Fields;
use crate::core::reason::Outcome;
use crate::core::time::MonoTime;
use crate::store::Purge;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use std::sync::{Arc, OnceLock};

/// Whether a peer may purge with a request of these fields.
pub(super) fn may_purge(connection: &ConnectionInfo, headers: &HeaderMap) -> bool {
    let is_forwarded = || {
        headers.contains_key(VIA)
            || headers.contains_key(FORWARDED)
            || headers.keys().any(|name| name.as_str().starts_with("x-forwarded-"))
    };
    connection.purges && !is_forwarded()
}

/// Answers a PURGE, at once: where an upstream says `gate = "url"`, one URL is a walk over all that is stored, on this core's thread.
pub(super) fn answer(core: &Arc<Core>, connection: &ConnectionInfo, parts: &Parts, start: MonoTime) -> Answering {
    let (mut response, outcome) = match purge(core, connection, parts) {
        Ok(response) => (response, Outcome::Pass),
        Err(fault) => (fault.response(), Outcome::Refused),
    };
    headers::stamp(response.headers_mut(), connection, CacheStatus::generated("purge"));
    let asked = Asked {
        connection,
        parts,
        start,
        request_id: &OnceLock::new(),
    };
    Answering::Ready(Some(core.account(asked, None, outcome, response)))
}

fn purge(core: &Core, connection: &ConnectionInfo, parts: &Parts) -> Result<Response<Body>, Fault> {
    let authority = request::authority(parts, Fields::of(&parts.headers))?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let scheme = if Seen::of(connection, &parts.headers).https {
        "https"
    } else {
        "http"
    };
    let url = format!("{scheme}://{authority}{target}");
    let purged = core.shared.purge(Purge::Hard, &PurgeTarget::Url(url));
    let purged = purged.map_err(|_| Fault::refuse(StatusCode::BAD_REQUEST, "no URL that can be purged"))?;
    tracing::info!(peer = %connection.address, entries = purged.entries, epoch = purged.epoch, "purged by PURGE");
    let json = format!("{{\"entries\":{},\"epoch\":{}}}", purged.entries, purged.epoch);
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response.map(|_| Body::whole(Bytes::from(json))))
}
