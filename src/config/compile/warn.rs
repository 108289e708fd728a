//! What is legal and probably not meant.

use super::policy::{self, Sources};
use super::route::Compiled;
use crate::config::diagnostic::{Place, Sink};
use crate::config::effective::{Node, Table, Value};
use crate::config::runtime::{Action, Match, Mode, Promotion, Replication, Route, Upstream};
use http::Method;
use std::sync::Arc;

/// Upstreams and policies that no route uses, and a file without routes. A policy nobody uses is still judged.
pub(super) fn unused(root: &Table, policies: Option<&Node>, routes: Option<&Node>, sink: &mut Sink) {
    let routes: Vec<&Table> = match routes.map(|node| &node.value) {
        Some(Value::List(routes)) => routes.iter().filter_map(Node::as_table).collect(),
        _ => Vec::new(),
    };
    // Beside a mistake, what seems unused may only be misspelt elsewhere.
    let quiet = sink.failed();
    if routes.is_empty() && !quiet {
        let place = Place {
            span: 0..0,
            path: "routes".into(),
        };
        sink.warn(&place, "there are none: every request is answered 404");
    }
    let uses = |key: &str, name: &str| routes.iter().any(|route| route.text(key) == Some(name));
    let nothing = Table::empty();
    let required: Vec<&str> = root.table("server").map_or(Vec::new(), |server| {
        server.texts("ready_requires").map(|(name, _)| name).collect()
    });
    for (name, upstream) in root.tables("upstreams") {
        if !quiet && !uses("upstream", name) && !required.contains(&name) {
            sink.warn(&upstream.place, "no route uses it");
        }
    }
    let cache = root.table("cache").unwrap_or(&nothing);
    for (name, policy) in policies.and_then(Node::as_table).unwrap_or(&nothing).tables_here() {
        if !uses("policy", name) {
            if !quiet {
                sink.warn(&policy.place, "no route uses it");
            }
            policy::compile(
                &Sources {
                    inline: None,
                    named: Some((policy, name)),
                    cache,
                },
                &policy.place,
                sink,
            );
        }
    }
}

/// Routes that an earlier one leaves nothing for.
pub(super) fn shadowed(routes: &[Arc<Route>], places: &[Place], sink: &mut Sink) {
    if sink.failed() {
        return; // a pattern that is wrong looks as if it matched everything
    }
    for (i, (route, place)) in routes.iter().zip(places).enumerate() {
        let earlier = routes
            .iter()
            .take(i)
            .find(|earlier| covers(&earlier.matches, &route.matches));
        if let Some(earlier) = earlier {
            sink.warn(
                place,
                format!(
                    "never reached: route \"{}\" before it matches everything it does",
                    earlier.name
                ),
            );
        }
    }
}

fn covers(a: &Match, b: &Match) -> bool {
    let host = a
        .host
        .as_ref()
        .is_none_or(|a| b.host.as_ref().is_some_and(|b| a.covers(b)));
    let path = a
        .path
        .as_ref()
        .is_none_or(|a| b.path.as_ref().is_some_and(|b| a.covers(b)));
    // GET includes HEAD.
    let takes =
        |method: &Method| a.methods.contains(method) || (method == Method::HEAD && a.methods.contains(&Method::GET));
    let methods = a.methods.is_empty() || (!b.methods.is_empty() && b.methods.iter().all(takes));
    let headers = a.headers.iter().all(|header| b.headers.contains(header));
    host && path && methods && headers
}

/// Two upstreams over one node: a resource then has two gates (CONSISTENCY.md, Words), and a write through one is not seen by the other.
pub(super) fn shared_nodes(compiled: &Compiled, root: &Table, sink: &mut Sink) {
    let upstreams = &compiled.upstreams;
    let exclusive = |id: usize| {
        compiled.routes.iter().any(|route| {
            matches!(&route.action, Action::Proxy { upstream, policy, .. } if upstream.id == id && policy.is_exclusive())
        })
    };
    for (i, upstream) in upstreams.iter().enumerate() {
        for other in upstreams.iter().take(i) {
            let shared = upstream
                .nodes
                .iter()
                .find(|node| other.nodes.iter().any(|n| n.host == node.host && n.port == node.port));
            if let (Some(node), Some((_, table))) = (shared, root.tables("upstreams").nth(i)) {
                let message = format!(
                    "shares {} with upstream \"{}\": writes through one do not invalidate what the other stores",
                    node.url, other.name
                );
                if exclusive(upstream.id) || exclusive(other.id) {
                    // The one promise of an exclusive route that this breaks is the one it serves by.
                    sink.error(
                        &table.place_of("nodes"),
                        format!("{message}, and one of them has a route with writers = \"exclusive\""),
                    );
                } else {
                    sink.warn(&table.place_of("nodes"), message);
                }
            }
        }
    }
}

/// R35: who is the primary, and what is under way, dies with the process.
pub(super) fn forgotten(compiled: &Compiled, root: &Table, kept: bool, sink: &mut Sink) {
    let what = |upstream: &Upstream| match (upstream.replication, upstream.failover.promotion) {
        (Replication::Mirrored, _) => Some("the in-sync set and the writes under way are"),
        (Replication::Primary, Promotion::Automatic) => Some("the primary and its epoch are"),
        (Replication::Primary, Promotion::Manual) if upstream.mode == Mode::ActivePassive => {
            Some("the primary and its epoch are")
        }
        (Replication::Primary | Replication::Shared | Replication::MultiPrimary, _) => None,
    };
    let tables = root.tables("upstreams").map(|(_, table)| table);
    for (upstream, table) in compiled.upstreams.iter().zip(tables) {
        if let (Some(what), false) = (what(upstream), kept) {
            sink.warn(
                &table.place_of("replication"),
                format!("without server.state_dir {what} forgotten when the process ends"),
            );
        }
    }
}
