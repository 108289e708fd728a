//! What a write declares to change (`invalidates`), resolved for one request: gated before it is forwarded, whatever the contract of its
//! own route, since it is the affected resource that counts (R12).
//!
//! A path is a client's, and names no host: every route that could take it on some host is asked what it calls it towards its nodes. One
//! resource too many costs a miss; one too few, a stale answer. What an answer names beyond that is dropped before the ack
//! ([`super::write`]).

use super::Shared;
use super::request::Job;
use super::{routes, tagging};
use crate::config::runtime::{Invalidates, Route};
use crate::core::key::NormalPath;
use crate::core::rules::Rule;
use crate::store::ResourceId;

/// The records that a write's route declares.
pub(super) fn of(shared: &Shared, job: &Job) -> Vec<(ResourceId, String)> {
    records(shared, &job.route, job.parts.uri.path())
}

/// The same for a write to the client's `path` on a route. `explain` asks it too.
pub(super) fn records(shared: &Shared, route: &Route, path: &str) -> Vec<(ResourceId, String)> {
    let mut found = Vec::new();
    if route.invalidates.is_empty() || !Rule::R12.holds() {
        return found;
    }
    let path = NormalPath::of(path);
    let captures = route.matches.path.as_ref().and_then(|p| p.matches(&path));
    let captures = captures.unwrap_or_default();
    for template in &route.invalidates {
        match template {
            Invalidates::Tag(name) => found.extend(tag(shared, &name.apply(&captures))),
            Invalidates::Path { path, query } => {
                let query = query.as_ref().map(|query| query.apply(&captures));
                found.extend(url(shared, None, &path.apply(&captures), query.as_deref()));
            }
        }
    }
    found
}

/// The records behind a client's URL; without a query, those of all its queries.
pub(super) fn url(shared: &Shared, host: Option<&str>, path: &str, query: Option<&str>) -> Vec<(ResourceId, String)> {
    routes::resources_of_url(&shared.config, shared.secret, host, path, query)
}

/// The records of a tag.
pub(super) fn tag(shared: &Shared, name: &str) -> Vec<(ResourceId, String)> {
    let label = format!("tag:{name}");
    let records = tagging::everywhere(shared, name).into_iter();
    records.map(|record| (record, label.clone())).collect()
}
