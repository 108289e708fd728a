//! What a reload changes (R31), and what only a restart can. Compares the effective configurations, so that no key can be forgotten:
//! a key that is not listed here as taken over by a running process is refused by its name, and then nothing is changed at all.
//!
//! It also numbers the new configuration after the running one. Upstreams and routes are known by number to the gate, the metrics and the
//! requests in flight, so a number belongs to a name for the life of the process and is never given to another.

mod places;

use super::diagnostic::{Place, Sink};
use super::effective::{Node, Table};
use super::print::{Secrets, json};
use super::runtime::{Action, Config, Numbers, Replication, Route, Upstream};
use crate::core::policy::{Caching, Contract, Policy};
use crate::core::rules::Rule;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What of each section a running process takes over; none: all of it.
const LIVE: &[(&str, Option<&[&str]>)] = &[
    ("server", Some(&["drain_delay", "drain_timeout", "ready_requires"])),
    ("session", None),
    ("cache", Some(&["max_object"])),
    ("telemetry", Some(&["log", "meter"])),
    ("upstreams", None),
    ("routes", None),
];

/// How many upstreams and routes a process may learn of beside those it started with: each keeps its number for ever.
pub const MAX_LEARNED: usize = 1024;

/// Says of every key that a running process cannot take over that it needs a restart.
pub(super) fn refuse(running: &Config, new: &Config, sink: &mut Sink) {
    let (was, is) = (&running.effective.root, &new.effective.root);
    for name in keys(was, is) {
        let live = LIVE.iter().find(|(section, _)| *section == name);
        if name == "listeners" {
            same_listeners(was, is, sink);
            continue;
        }
        let kept = match live {
            Some((_, None)) => continue,
            Some((_, Some(kept))) => *kept,
            None => &[],
        };
        section(name, (was.get(name), is.get(name)), kept, &is.place, sink);
    }
    same_upstreams(running, new, (was, is), sink);
    let numbers = Numbers::after(&running.numbers, new);
    for (what, count, first) in [
        ("upstreams", numbers.upstreams.len(), running.numbers.first_upstreams),
        ("routes", numbers.routes.len(), running.numbers.first_routes),
    ] {
        if count > first.saturating_add(MAX_LEARNED) {
            let message =
                format!("needs a restart: more than {MAX_LEARNED} new names of {what} since this process started");
            sink.error(&is.place_of(what), message);
        }
    }
}

/// Sockets stay as they were bound; of a listener that speaks TLS the certificates are exchanged.
fn same_listeners(was: &Table, is: &Table, sink: &mut Sink) {
    let listeners = |root: &Table| root.table("listeners").cloned().unwrap_or_else(Table::empty);
    let (was, is) = (listeners(was), listeners(is));
    for name in keys(&was, &is) {
        let both = was.table(name).zip(is.table(name));
        let kept: &[&str] = match both {
            Some((was, is)) if was.table("tls").is_some() && is.table("tls").is_some() => &["tls"],
            _ => &[],
        };
        section(name, (was.get(name), is.get(name)), kept, &is.place, sink);
    }
}

/// What of an upstream a running process cannot take over, and why. Where nobody would be harmed it is taken over.
fn same_upstreams(running: &Config, new: &Config, (was, is): (&Table, &Table), sink: &mut Sink) {
    let empty = Table::empty();
    let upstreams = |root: &Table| root.table("upstreams").cloned().unwrap_or_else(|| empty.clone());
    let (was, is) = (upstreams(was), upstreams(is));
    for upstream in &new.upstreams {
        let Some(table) = is.table(&upstream.name) else {
            continue;
        };
        let Some(before) = running.upstreams.iter().find(|u| u.name == upstream.name) else {
            continue;
        };
        if before.retired {
            if before.replication != Replication::Shared {
                let message =
                    "needs a restart: this process has let it go, and who holds which writes is not known any more";
                sink.error(&table.place, message);
            }
            continue;
        }
        let Some(old) = was.table(&upstream.name) else {
            continue;
        };
        let differs = |key: &&str| !is_same(old.get(key), table.get(key));
        for key in keys(old, table).into_iter().filter(differs) {
            if let Some(why) = fixed(key, before, upstream) {
                let place = table.get(key).map(|node| node.place.clone());
                let place = place.unwrap_or_else(|| table.place.child(key, table.place.span.clone()));
                sink.error(&place, format!("needs a restart: {why}"));
            }
        }
        if upstream.nodes.len() + before.nodes.len() > before.order.len() + places::MAX_NEWCOMERS
            && places::differ(before, upstream)
        {
            let message = format!(
                "needs a restart: more than {} nodes have come to this upstream since it was configured",
                places::MAX_NEWCOMERS
            );
            sink.error(&table.place_of("nodes"), message);
        }
    }
}

/// What to do instead of changing what an upstream is.
const OTHERWISE: &str = "or give the upstream another name, and its routes too: that can be reloaded";

/// Why a key of a live upstream stays as it is; none: it need not.
fn fixed(key: &str, was: &Upstream, is: &Upstream) -> Option<String> {
    let names = |upstream: &Upstream| {
        let check = upstream.health_check.as_ref();
        check.map(|check| {
            let (role, term) = (check.role_header.clone(), check.term_header.clone());
            (role, term, check.position_header.clone())
        })
    };
    match key {
        "replication" => Some(format!("what its nodes hold cannot change while they are used; {OTHERWISE}")),
        // Nodes that come and go belong to one set of keys.
        _ if was.discover.is_some() || is.discover.is_some() => {
            Some(format!("a running process keeps an upstream whose nodes are discovered; {OTHERWISE}"))
        }
        "nodes" if is.replication == Replication::MultiPrimary && places::differ(was, is) => Some(
            "resources would have another home, which may lack what was acknowledged: restart when the nodes have exchanged everything"
                .to_owned(),
        ),
        "health_check" if is.replication != Replication::Shared && names(was) != names(is) => Some(format!(
            "what is in flight tells roles, terms and positions by the old names; {OTHERWISE}"
        )),
        "gate" if is.replication == Replication::Mirrored => Some(format!(
            "writes that are being copied are known by it; {OTHERWISE}"
        )),
        _ => None,
    }
}

fn section(name: &str, (was, is): (Option<&Node>, Option<&Node>), kept: &[&str], root: &Place, sink: &mut Sink) {
    let empty = Table::empty();
    let table = |node: Option<&Node>| node.and_then(Node::as_table).cloned();
    let (was, is) = (table(was), table(is));
    let place = is
        .as_ref()
        .map_or_else(|| root.child(name, root.span.clone()), |is| is.place.clone());
    let (was, is) = (was.unwrap_or_else(|| empty.clone()), is.unwrap_or(empty));
    let keys: BTreeSet<&String> = was.entries.iter().chain(&is.entries).map(|(key, _)| key).collect();
    for key in keys {
        if !kept.contains(&key.as_str()) && !is_same(was.get(key), is.get(key)) {
            leaf(key, (was.get(key), is.get(key)), &place, sink);
        }
    }
}

/// Names the innermost key that differs.
fn leaf(key: &str, (was, is): (Option<&Node>, Option<&Node>), place: &Place, sink: &mut Sink) {
    if let (Some(was), Some(is)) = (was, is)
        && was.as_table().is_some()
        && is.as_table().is_some()
    {
        return section(key, (Some(was), Some(is)), &[], place, sink);
    }
    let at = is.map_or_else(|| place.child(key, place.span.clone()), |node| node.place.clone());
    sink.error(&at, "needs a restart: a running process cannot take it over");
}

fn is_same(was: Option<&Node>, is: Option<&Node>) -> bool {
    let shown = |node: Option<&Node>| node.map(|node| json(&node.value, Secrets::Shown));
    shown(was) == shown(is)
}

/// What differs, as key paths in the order of the file: `routes`, `upstreams.orders`, `telemetry.log`.
#[must_use]
pub fn changed(running: &Config, new: &Config) -> Vec<String> {
    let (was, is) = (&running.effective.root, &new.effective.root);
    let mut told = Vec::new();
    for name in keys(was, is) {
        match (was.table(name), is.table(name)) {
            (Some(was), Some(is)) => {
                let below = keys(was, is)
                    .into_iter()
                    .filter(|key| !is_same(was.get(key), is.get(key)));
                told.extend(below.map(|key| format!("{name}.{key}")));
            }
            _ if is_same(was.get(name), is.get(name)) => {}
            _ => told.push(name.to_owned()),
        }
    }
    told
}

/// Both tables' keys, each once.
fn keys<'a>(was: &'a Table, is: &'a Table) -> Vec<&'a str> {
    let mut keys: Vec<&str> = is.entries.iter().map(|(key, _)| key.as_str()).collect();
    let gone = was.entries.iter().map(|(key, _)| key.as_str());
    for key in gone {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Whether an upstream of the new configuration is as it was, so that its nodes, their health and their connections go on.
#[must_use]
pub fn is_kept(running: &Config, new: &Config, upstream: usize) -> bool {
    let name = |config: &Config| {
        config
            .upstreams
            .get(upstream)
            .filter(|u| !u.retired)
            .map(|u| u.name.clone())
    };
    let table = |config: &Config, name: &str| {
        let upstreams = config.effective.root.table("upstreams");
        upstreams
            .and_then(|all| all.get(name))
            .map(|node| json(&node.value, Secrets::Shown))
    };
    match (name(running), name(new)) {
        (Some(was), Some(is)) => was == is && table(running, &was).is_some() && table(running, &was) == table(new, &is),
        (None, _) | (_, None) => false,
    }
}

impl Numbers {
    /// Those of a configuration that was just compiled: places.
    pub(super) fn first(upstreams: &[Arc<Upstream>], routes: &[Arc<Route>]) -> Self {
        Self {
            upstreams: upstreams.iter().map(|u| u.name.clone()).collect(),
            routes: routes.iter().map(|r| r.name.clone()).collect(),
            contracts: routes.len(),
            first_upstreams: upstreams.len(),
            first_routes: routes.len(),
            generation: 0,
        }
    }

    /// The running ones, and after them whatever is new.
    fn after(running: &Self, new: &Config) -> Self {
        let mut numbers = running.clone();
        numbers.generation += 1;
        let add = |names: &mut Vec<String>, name: &String| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        };
        for upstream in &new.upstreams {
            add(&mut numbers.upstreams, &upstream.name);
        }
        for route in &new.routes {
            add(&mut numbers.routes, &route.name);
        }
        numbers
    }
}

/// Numbers a new configuration after the running one. An upstream that is gone keeps its place, without a node.
#[must_use]
pub(super) fn number(running: &Config, mut new: Config) -> Config {
    let mut numbers = Numbers::after(&running.numbers, &new);
    let old_places: Vec<String> = new.upstreams.iter().map(|u| u.name.clone()).collect();
    let upstreams: Vec<Arc<Upstream>> = numbers
        .upstreams
        .iter()
        .enumerate()
        .filter_map(|(id, name)| {
            let found = new.upstreams.iter().find(|u| u.name == *name);
            let upstream = match found {
                Some(upstream) => {
                    let mut upstream = Upstream::clone(upstream);
                    upstream.id = id;
                    if let Some(was) = running.upstreams.get(id) {
                        places::place(was, &mut upstream);
                    }
                    upstream
                }
                None => retired(running.upstreams.get(id)?),
            };
            Some(Arc::new(upstream))
        })
        .collect();
    let by_name = |name: &str| numbers.upstreams.iter().position(|known| known == name);
    new.server.ready_requires = new
        .server
        .ready_requires
        .iter()
        .filter_map(|place| by_name(old_places.get(*place)?))
        .collect();
    let mut contracts = numbers.contracts;
    let routes = new.routes.iter().map(|route| {
        let id = numbers.routes.iter().position(|name| *name == route.name);
        let mut route = Route {
            id: id.unwrap_or(route.id),
            ..Route::clone(route)
        };
        if let Action::Proxy { upstream, .. } = &mut route.action
            && let Some(mine) = by_name(&upstream.name).and_then(|id| upstreams.get(id))
        {
            *upstream = Arc::clone(mine);
        }
        let before = running.routes.iter().find(|other| other.id == route.id);
        route.contract = match before {
            Some(before) if means_the_same(before, &route) || !Rule::R31.holds() => before.contract,
            _ => {
                contracts += 1;
                contracts - 1
            }
        };
        Arc::new(route)
    });
    new.routes = routes.collect();
    new.upstreams = upstreams;
    numbers.contracts = contracts;
    new.numbers = numbers;
    new
}

/// The place of an upstream that no file names any more.
fn retired(upstream: &Upstream) -> Upstream {
    Upstream {
        order: Vec::new(),
        health_check: None,
        discover: None,
        retired: true,
        ..upstream.clone()
    }
}

/// R31: whether what was stored under the one route may be used under the other: level, upstream, rewrite, key and writers are the same,
/// and so is what a node was asked and what of its answers may be kept and shared.
fn means_the_same(was: &Route, is: &Route) -> bool {
    let (
        Action::Proxy {
            upstream: old_upstream,
            policy: old_policy,
            rewrite: old_rewrite,
        },
        Action::Proxy {
            upstream,
            policy,
            rewrite,
        },
    ) = (&was.action, &is.action)
    else {
        return false;
    };
    let aim = old_upstream.id == upstream.id
        && old_upstream.gate == upstream.gate
        && old_upstream.host == upstream.host
        && old_upstream.replication == upstream.replication
        && old_rewrite == rewrite
        // What a rewrite fills in is captured by the pattern.
        && (rewrite.is_none() || was.matches.path == is.matches.path)
        && was.set_request_headers == is.set_request_headers;
    aim && !settles_later(old_policy, policy)
        && old_policy.level() == policy.level()
        && writers(old_policy) == writers(policy)
        && keeps(old_policy, policy)
}

fn writers(policy: &Policy) -> Option<crate::core::policy::Writers> {
    match &policy.contract {
        Contract::Strong(_, proof) => Some(proof.writers),
        Contract::Off | Contract::Weak(_) | Contract::Eventual(..) => None,
    }
}

/// R19: what was proven when abandoned writes were given less time is not proven now.
fn settles_later(was: &Policy, is: &Policy) -> bool {
    match (&was.contract, &is.contract) {
        (Contract::Strong(_, was), Contract::Strong(_, is)) => is.settle_after > was.settle_after,
        (_, _) => false,
    }
}

/// Upstreams with an exclusive route that means something else than before: what it may prove waits for the writes from before.
#[must_use]
pub fn newly_exclusive(running: &Config, new: &Config) -> Vec<usize> {
    let known = |route: &Route| running.routes.iter().any(|other| other.contract == route.contract);
    let fresh = new.routes.iter().filter(|route| !known(route));
    let mut upstreams: Vec<usize> = fresh
        .filter_map(|route| match &route.action {
            Action::Proxy { upstream, policy, .. } if policy.is_exclusive() => Some(upstream.id),
            Action::Proxy { .. } | Action::Redirect { .. } | Action::Respond { .. } => None,
        })
        .collect();
    upstreams.sort_unstable();
    upstreams.dedup();
    upstreams
}

fn keeps(was: &Policy, is: &Policy) -> bool {
    let of = |c: &Caching| (c.key.clone(), c.shared_auth, c.store_set_cookie, c.tags_from.clone());
    was.caching().map(of) == is.caching().map(of)
}

#[cfg(test)]
mod tests;
