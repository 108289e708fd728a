//! Tags on the request path: what an answer carries, and what one to a write takes out of service (RFC 9875).
//!
//! A tag's record is kept for each upstream whose routes read tags. A purge by tag means all of them. A group that an answer names means
//! the answers of its own origin (s2.1: scheme, host and port, as the client asked for them) at whatever upstream, as routes may share a
//! host out: nobody drops what another host has stored.

use super::Shared;
use super::request::{Job, host_name};
use super::routes;
use crate::config::runtime::{Action, Route};
use crate::core::http::tags;
use crate::core::key::{self, KeySecret};
use crate::store::ResourceId;
use http::{HeaderMap, StatusCode};

/// The tags of an answer that is to be stored, as its entry lists them.
pub(super) fn of(shared: &Shared, job: &Job, headers: &HeaderMap) -> Box<[u128]> {
    let Some(caching) = job.policy.caching() else {
        return Box::default();
    };
    // One with too many was not admitted.
    let names = tags::of(headers, &caching.tags_from).unwrap_or_default();
    let mut digests: Vec<u128> = names
        .iter()
        .map(|name| record(shared.secret, job.resource.upstream, name).digest)
        .collect();
    if let Some(upstream) = shared.config.upstreams.get(job.resource.upstream) {
        digests.extend(routes::every_query(shared.secret, upstream, job.path()).map(|record| record.digest));
    }
    digests.sort_unstable(); // R12a: in key order
    digests.into()
}

/// The records of a tag at every upstream that may have some.
pub(super) fn everywhere(shared: &Shared, name: &str) -> Vec<ResourceId> {
    records(shared, name, |_| true)
}

/// R12: drops the groups that an answer names, before it is passed on.
pub(super) fn invalidate(shared: &Shared, job: &Job, status: StatusCode, answer: &HeaderMap) {
    let groups = tags::invalidated(&job.parts.method, &job.parts.headers, status, answer);
    if groups.is_empty() {
        return;
    }
    let host = key::without_default_port(&job.authority, job.https).to_ascii_lowercase();
    let same_origin = |entry: &crate::store::Entry| {
        key::named(entry.key()).is_none_or(|named| named.https == job.https && named.host == host.as_bytes())
    };
    let name = host_name(&job.authority);
    let takes_host = |route: &Route| route.matches.host.as_ref().is_none_or(|pattern| pattern.matches(&name));
    for group in groups {
        for tag in records(shared, &group, takes_host) {
            shared.store.drop_tag(tag, same_origin);
        }
    }
}

fn records(shared: &Shared, name: &str, of: impl Fn(&Route) -> bool) -> Vec<ResourceId> {
    let reads_tags = |route: &Route| match &route.action {
        Action::Proxy { upstream, policy, .. } => {
            let reads = policy.caching().is_some_and(|caching| !caching.tags_from.is_empty());
            reads.then_some(upstream.id)
        }
        Action::Redirect { .. } | Action::Respond { .. } => None,
    };
    let routes = shared.config.routes.iter().filter(|route| of(route));
    let mut upstreams: Vec<usize> = routes.filter_map(|route| reads_tags(route)).collect();
    upstreams.sort_unstable();
    upstreams.dedup();
    upstreams
        .into_iter()
        .map(|upstream| record(shared.secret, upstream, name))
        .collect()
}

fn record(secret: KeySecret, upstream: usize, name: &str) -> ResourceId {
    ResourceId {
        digest: key::tag_digest(secret, upstream, name).0,
        upstream,
    }
}
