//! What a request comes to, before anything is done about it: refused, answered by its route, passed, written, or read with the
//! core's decision. The request path ([`super::pipeline`]) acts on it and `explain` tells it, so that what is told is what happens.
//! Changes nothing, and on the way to a hit allocates nothing.

use super::error::Fault;
use super::request::{self, Admitted, Handling};
use super::session::{self, Visit};
use super::{ConnectionInfo, Shared, routes};
use crate::config::runtime::{Action, RedirectTo, Route};
use crate::core::ground::Ground;
use crate::core::http::fields::Fields;
use crate::core::http::hop;
use crate::core::key::{KeyBuffer, KeyParts, NormalPath};
use crate::core::lookup::{self, Decision, Read};
use crate::core::policy::{Caching, Policy};
use crate::core::reason::FetchReason;
use crate::core::time::MonoTime;
use crate::store::{Found, ResourceId};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use std::borrow::Cow;
use std::sync::Arc;

/// A refusal, and the route that refuses.
pub(super) type Refused = (Option<usize>, Fault);

/// The first step of every request: what no route may see is refused, or taken off.
pub(super) fn admit(parts: &mut Parts, connection: &ConnectionInfo) -> Result<Admitted, Fault> {
    let fields = Fields::of(&parts.headers);
    let checked = request::check(parts, fields, connection);
    // Before anything is read: the node must see the request that key, Vary and conditions were taken from (RFC 9110 s7.6.1).
    if fields.any(Fields::CONNECTION) {
        hop::strip(&mut parts.headers);
        return match checked {
            Ok(Admitted::Request(_)) => Ok(Admitted::Request(Fields::of(&parts.headers))),
            other => other,
        };
    }
    checked
}

/// What a request comes to, before anything is done about it. The request path acts on it; `explain` tells it.
pub(super) struct Plan<'a> {
    pub(super) authority: &'a str,
    pub(super) route: &'a Arc<Route>,
    pub(super) course: Course<'a>,
}

/// The courses of a request that is not refused.
pub(super) enum Course<'a> {
    /// The route answers by itself: the client is sent elsewhere.
    Redirect(&'a RedirectTo, StatusCode),
    /// The route answers by itself: as the configuration says.
    Respond(StatusCode, &'a Bytes),
    /// To a node and back.
    Pass(Toward<'a>, FetchReason),
    /// As [`Course::Read`], once its content has been read: that is part of its key. In the buffer is the key of its URL.
    Query(Toward<'a>),
    /// The gate first.
    Write(Toward<'a>),
    /// From the store, if the core so decides.
    Read(Toward<'a>, Found, Decision, Ground),
}

/// A request on a proxying route.
pub(super) struct Toward<'a> {
    pub(super) policy: &'a Arc<Policy>,
    pub(super) https: bool,
    /// The path as sent to the node.
    pub(super) sent: Cow<'a, str>,
    pub(super) resource: ResourceId,
    /// Of the key, which is in the buffer; zero where the request has none.
    pub(super) digest: u128,
    /// On routes with sessions, and for writes to what they read.
    pub(super) visit: Option<Box<Visit>>,
}

/// What a request comes to: its route, its names, and what the core decides of what is stored. Nothing is changed by it.
#[inline]
pub(super) fn plan<'a>(
    shared: &'a Shared,
    connection: &ConnectionInfo,
    (parts, fields, path, no_body): (&'a Parts, Fields, &'a NormalPath<'a>, bool),
    now: MonoTime,
    buffer: &mut KeyBuffer,
) -> Result<Plan<'a>, Refused> {
    let authority = request::authority(parts, fields).map_err(|f| (None, f))?;
    let seen = request::Seen::of(connection, &parts.headers);
    let host = request::host_name(authority);
    let route = request::route(shared, parts, &host, path, seen.https).map_err(|f| (None, f))?;
    let planned = |course| {
        Ok(Plan {
            authority,
            route,
            course,
        })
    };
    let (upstream, policy, rewrite) = match &route.action {
        Action::Proxy {
            upstream,
            policy,
            rewrite,
        } => (upstream, policy, rewrite),
        Action::Redirect { to, status } => return planned(Course::Redirect(to, *status)),
        Action::Respond { status, body } => return planned(Course::Respond(*status, body)),
    };
    let sent = routes::sent_path(&route.matches, rewrite.as_ref(), path);
    let resource = if rewrite.is_none() {
        routes::normal_resource(shared.secret, upstream, path, parts.uri.query())
    } else {
        routes::resource(shared.secret, upstream, &sent, parts.uri.query())
    };
    let mut toward = Toward {
        policy,
        https: seen.https,
        sent,
        resource,
        digest: 0,
        visit: None,
    };
    if policy.has_sessions() {
        toward.visit = session::visit(shared, now, parts, resource, &toward.sent);
    }
    let client = (authority, path);
    match request::handling(parts, fields, policy, !no_body) {
        Handling::Write => {
            // Read-your-writes counts by what is written, not by the writer's own route.
            if toward.visit.is_none()
                && shared.sessions.is_some()
                && (!route.invalidates.is_empty() || session::are_read(shared, resource, &toward.sent))
            {
                toward.visit = session::visit(shared, now, parts, resource, &toward.sent);
            }
            planned(Course::Write(toward))
        }
        Handling::Pass(reason) => {
            // R12b: on strong routes what passes is compared with what is stored.
            if let Some(caching) = policy.caching().filter(|_| policy.is_strong()) {
                let key = write_key(buffer, route, &seen, parts, client, caching);
                toward.digest = shared.secret.digest(key).0;
            }
            planned(Course::Pass(toward, reason))
        }
        Handling::Query(caching) => {
            write_key(buffer, route, &seen, parts, client, caching);
            planned(Course::Query(toward))
        }
        Handling::Read(caching) => {
            let key = write_key(buffer, route, &seen, parts, client, caching);
            toward.digest = shared.secret.digest(key).0;
            let found = shared.store.lookup(now, resource, toward.digest, key);
            let demand = toward.visit.as_deref().map(Visit::demand);
            let read = Read::with(&parts.method, (&parts.headers, fields), policy, found.disturbed)
                .of_session(demand)
                .in_reign(shared.upstreams.reign(resource.upstream));
            let (decision, ground) = lookup::decide_why(now, &read, &found.variants, policy);
            planned(Course::Read(toward, found, decision, ground))
        }
    }
}

pub(super) fn write_key<'b>(
    buffer: &'b mut KeyBuffer,
    route: &Route,
    seen: &request::Seen<'_>,
    parts: &Parts,
    (authority, path): (&str, &NormalPath<'_>),
    caching: &Caching,
) -> &'b [u8] {
    let key = KeyParts {
        route: route.contract, // R31
        https: seen.https,
        forwarded_host: seen.named.as_deref().filter(|named| *named != authority),
        host: authority,
        path,
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    buffer.write(key, &caching.key)
}
