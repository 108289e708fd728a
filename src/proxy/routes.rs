//! Which route takes a request, and what a URL of a client's is called towards the nodes. First match wins; nothing here decides
//! what is done with the request.

mod table;

pub(super) use table::Table;

use super::Shared;
use crate::config::runtime::{Action, Config, GateBy, Match, RedirectTo, Rewrite, Route};
use crate::core::key::{self, KeySecret};
use crate::store::ResourceId;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::borrow::Cow;
use std::sync::Arc;

/// What of a request the routes look at.
pub(super) struct Question<'a> {
    /// Lower case, without its port.
    pub(super) host: &'a str,
    /// Normalised (RFC 3986 s6.2.2).
    pub(super) path: &'a str,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// The client used https, as far as that is known and believed.
    pub(super) https: bool,
}

/// The first route that takes the request.
pub(super) fn find<'a>(shared: &'a Shared, question: &Question<'_>) -> Option<&'a Arc<Route>> {
    shared.table.find(&shared.config, question)
}

/// Whether its `match` does.
#[cfg(test)]
fn takes(matches: &Match, question: &Question<'_>) -> bool {
    mismatch(matches, question).is_none()
}

/// Why a route does not take a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum PassedOver<'a> {
    /// Its `match.host` is another.
    Host,
    /// Its `match.path` does not match.
    Path,
    /// The method is not among its `match.methods`.
    Method,
    /// No line of this field equals what `match.headers` wants.
    Header(&'a HeaderName),
    /// It sends clients to https, and this one is there.
    IsHttps,
}

/// Why a route does not take a request; none when it does.
pub(super) fn passed_over<'a>(route: &'a Route, question: &Question<'_>) -> Option<PassedOver<'a>> {
    mismatch(&route.matches, question).or_else(|| is_there(route, question).then_some(PassedOver::IsHttps))
}

/// Whether it sends clients to https and this one is there: it would be sent to where it is, again and again.
fn is_there(route: &Route, question: &Question<'_>) -> bool {
    let to_https = |action: &Action| {
        matches!(
            action,
            Action::Redirect {
                to: RedirectTo::Https,
                ..
            }
        )
    };
    question.https && to_https(&route.action)
}

fn mismatch<'a>(matches: &'a Match, question: &Question<'_>) -> Option<PassedOver<'a>> {
    let (host, path) = (matches.host.as_ref(), matches.path.as_ref());
    if host.is_some_and(|pattern| !pattern.matches(question.host)) {
        return Some(PassedOver::Host);
    }
    if path.is_some_and(|pattern| !pattern.fits(question.path)) {
        return Some(PassedOver::Path);
    }
    if !(matches.methods.is_empty() || matches.methods.iter().any(|m| method_fits(m, question.method))) {
        return Some(PassedOver::Method);
    }
    let missing = |(name, value): &&(HeaderName, HeaderValue)| {
        let mut lines = question.headers.get_all(name).iter();
        !lines.any(|line| line == value)
    };
    let missed = matches.headers.iter().find(missing);
    missed.map(|(name, _)| PassedOver::Header(name))
}

fn takes_url(matches: &Match, host: Option<&str>, path: &str) -> bool {
    matches
        .host
        .as_ref()
        .is_none_or(|pattern| host.is_none_or(|host| pattern.matches(host)))
        && matches.path.as_ref().is_none_or(|pattern| pattern.fits(path))
}

/// GET includes HEAD.
fn method_fits(pattern: &Method, method: &Method) -> bool {
    pattern == method || (*pattern == Method::GET && *method == Method::HEAD)
}

/// The path as sent to the node.
pub(super) fn sent_path<'a>(matches: &Match, rewrite: Option<&Rewrite>, path: &'a str) -> Cow<'a, str> {
    match (rewrite, &matches.path) {
        (Some(rewrite), Some(pattern)) => pattern
            .matches(path)
            .map_or(Cow::Borrowed(path), |captures| Cow::Owned(rewrite.apply(&captures))),
        (Some(rewrite), None) => Cow::Owned(rewrite.apply(&Default::default())),
        (None, _) => Cow::Borrowed(path),
    }
}

/// The resource behind a path as sent to the node. One function for every route, so that a write through one is seen by all.
pub(super) fn resource(
    secret: KeySecret,
    upstream: &crate::config::runtime::Upstream,
    path: &str,
    query: Option<&str>,
) -> ResourceId {
    normal_resource(secret, upstream, &key::normalise_path(path), query)
}

/// The same of a path that is in its normal form, as a client's is that no rule rewrites.
pub(super) fn normal_resource(
    secret: KeySecret,
    upstream: &crate::config::runtime::Upstream,
    path: &str,
    query: Option<&str>,
) -> ResourceId {
    let query = match upstream.gate {
        GateBy::Path => None,
        GateBy::Url => query,
    };
    ResourceId {
        digest: key::normal_resource_digest(secret, upstream.id, path, query).0,
        upstream: upstream.id,
    }
}

/// The record of all queries of a path, where each is a resource of its own (`gate = "url"`): a tag that every answer carries (R12a), as
/// nobody can list them before they are asked for. No tag of an answer has its name.
pub(super) fn every_query(
    secret: KeySecret,
    upstream: &crate::config::runtime::Upstream,
    path: &str,
) -> Option<ResourceId> {
    let name = || format!("\0{}", key::normalise_path(path));
    (upstream.gate == GateBy::Url).then(|| ResourceId {
        digest: key::tag_digest(secret, upstream.id, &name()).0,
        upstream: upstream.id,
    })
}

/// What the label of a record of all queries begins with.
pub(super) const EVERY_QUERY: &str = "all queries of ";

/// The resources a URL of a client's may stand for, whatever its method and fields: one for each route that would take it until one
/// takes everything, each with its label: the path as sent to the node, and the query where it is part of the resource. With `host` none,
/// every host. Used where a URL is only named: by an answer (R12) or by a purge.
pub(super) fn resources_of_url(
    config: &Config,
    secret: KeySecret,
    host: Option<&str>,
    path: &str,
    query: Option<&str>,
) -> Vec<(ResourceId, String)> {
    let path = key::normalise_path(path);
    let mut found = Vec::new();
    for route in config
        .routes
        .iter()
        .filter(|route| takes_url(&route.matches, host, &path))
    {
        if let Action::Proxy { upstream, rewrite, .. } = &route.action {
            let sent = sent_path(&route.matches, rewrite.as_ref(), &path);
            if query.is_none() {
                found.extend(
                    every_query(secret, upstream, &sent).map(|record| (record, format!("{EVERY_QUERY}{sent}"))),
                );
            }
            let label = match query.filter(|_| upstream.gate == GateBy::Url) {
                Some(query) => format!("{sent}?{query}"),
                None => sent.to_string(),
            };
            found.push((resource(secret, upstream, &sent, query), label));
        }
        if host.is_some() && route.matches.methods.is_empty() && route.matches.headers.is_empty() {
            break;
        }
    }
    found.sort();
    found.dedup();
    found
}
