//! `[[routes]]`: what each takes, what it does with it, and under which contract.

use super::invalidates;
use super::policy::{self, Sources};
use super::{fields, plain_name, span};
use crate::config::catalogue::POLICY;
use crate::config::diagnostic::{Place, Sink, did_you_mean};
use crate::config::effective::{Node, Table, Value};
use crate::config::runtime::{Action, GateBy, Invalidates, Match, RedirectTo, Replication, Rewrite, Route, Upstream};
use crate::core::policy::{Contract, Policy};
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Routes and what they point at.
pub(super) struct Compiled {
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) routes: Vec<Arc<Route>>,
    /// Where each route stands.
    pub(super) places: Vec<Place>,
    /// Each route's effective table, with its merged policy.
    pub(super) tables: Vec<Node>,
}

/// A route before its upstream is final.
struct Draft {
    name: String,
    matches: Match,
    aim: Option<Aim>,
    invalidates: Vec<(Invalidates, Place)>,
    set_request_headers: Vec<(HeaderName, HeaderValue)>,
    set_response_headers: Vec<(HeaderName, HeaderValue)>,
    table: Table,
    node: Node,
}

enum Aim {
    Proxy {
        upstream: usize,
        policy: Arc<Policy>,
        rewrite: Option<Rewrite>,
    },
    Redirect {
        to: RedirectTo,
        status: StatusCode,
    },
    Respond {
        status: StatusCode,
        body: String,
    },
}

pub(super) fn compile(
    routes: Option<&Node>,
    policies: Option<&Node>,
    mut upstreams: Vec<Upstream>,
    cache: &Table,
    sink: &mut Sink,
) -> Compiled {
    let empty = Table::empty();
    let policies = policies.and_then(Node::as_table).unwrap_or(&empty);
    let given = match routes.map(|node| &node.value) {
        Some(Value::List(routes)) => routes.as_slice(),
        _ => &[],
    };
    let known = Known {
        policies,
        upstreams: &upstreams,
        cache,
    };
    let mut drafts: Vec<Draft> = Vec::new();
    for (id, node) in given.iter().enumerate() {
        let Some(table) = node.as_table() else { continue };
        let draft = known.draft(id, node, table, sink);
        if drafts.iter().any(|other| other.name == draft.name) {
            sink.error(
                &table.place_of("name"),
                format!("there is already a route \"{}\"", draft.name),
            );
        }
        drafts.push(draft);
    }
    settle(&drafts, &mut upstreams);
    let upstreams: Vec<_> = upstreams.into_iter().map(Arc::new).collect();
    let mut compiled = Compiled {
        upstreams,
        routes: Vec::new(),
        places: Vec::new(),
        tables: Vec::new(),
    };
    let mut declared = Vec::new();
    for draft in drafts {
        let places = draft.invalidates.iter().map(|(_, place)| place.clone()).collect();
        if compiled.finish(draft, sink) {
            declared.push(places);
        }
    }
    // A route that is missing for a mistake of its own could be the one.
    if compiled.routes.len() == given.len() {
        invalidates::check(&compiled.routes, &declared, sink);
    }
    compiled
}

/// R19: a resource's `settle_after` is the largest of the strong routes on its upstream, from when a connection that goes on for others
/// has shown that nothing more of the write can come.
fn settle(drafts: &[Draft], upstreams: &mut [Upstream]) {
    for draft in drafts {
        let Some(Aim::Proxy { upstream, policy, .. }) = &draft.aim else {
            continue;
        };
        if let (Contract::Strong(_, proof), Some(upstream)) = (&policy.contract, upstreams.get_mut(*upstream)) {
            let after = Duration::from(proof.settle_after).saturating_add(upstream.lapse());
            upstream.settle_after = upstream.settle_after.max(Some(after));
        }
    }
}

impl Compiled {
    /// Whether it became a route.
    fn finish(&mut self, draft: Draft, sink: &mut Sink) -> bool {
        let Some(action) = draft.aim.and_then(|aim| self.action(aim)) else {
            return false;
        };
        let table = &draft.table;
        let timeout = span(table, "timeout");
        if let Action::Proxy { upstream, .. } = &action
            && upstream.response_timeout > timeout
            && table.is_set("timeout")
        {
            sink.warn(
                &table.place_of("timeout"),
                "shorter than the upstream's response_timeout, which is never reached",
            );
        }
        if let Action::Proxy { upstream, policy, .. } = &action
            && upstream.gate == GateBy::Url
            && policy
                .caching()
                .is_some_and(|c| c.key.query.is_some() || !c.key.query_ignore.is_empty())
        {
            sink.error(
                &table.place_of("key"),
                format!(
                    "leaves out parts of the query, and upstream \"{}\" has gate = \"url\": a write with one query would not reach what is stored under it by another",
                    upstream.name
                ),
            );
        }
        if let Action::Proxy { upstream, policy, .. } = &action
            && upstream.replication == Replication::Mirrored
            && matches!(policy.contract, Contract::Strong(..))
            && !policy.is_exclusive()
        {
            // CONSISTENCY.md section 4.
            sink.error(
                &table.place_of("writers"),
                format!(
                    "upstream \"{}\" has replication = \"mirrored\", which needs writers = \"exclusive\": a write that goes past this process reaches one node only",
                    upstream.name
                ),
            );
        }
        let max_in_flight = table.count("max_in_flight");
        self.routes.push(Arc::new(Route {
            id: self.routes.len(),
            contract: self.routes.len(),
            name: draft.name,
            matches: draft.matches,
            action,
            invalidates: draft.invalidates.into_iter().map(|(template, _)| template).collect(),
            set_request_headers: draft.set_request_headers,
            set_response_headers: draft.set_response_headers,
            timeout,
            max_in_flight: (max_in_flight > 0).then_some(max_in_flight),
        }));
        self.places.push(table.place.clone());
        self.tables.push(Node {
            value: Value::Table(draft.table),
            ..draft.node
        });
        true
    }

    fn action(&self, aim: Aim) -> Option<Action> {
        Some(match aim {
            Aim::Proxy {
                upstream,
                policy,
                rewrite,
            } => Action::Proxy {
                upstream: self.upstreams.get(upstream)?.clone(),
                policy,
                rewrite,
            },
            Aim::Redirect { to, status } => Action::Redirect { to, status },
            Aim::Respond { status, body } => Action::Respond {
                status,
                body: body.into(),
            },
        })
    }
}

/// What routes refer to.
struct Known<'a> {
    policies: &'a Table,
    upstreams: &'a [Upstream],
    cache: &'a Table,
}

impl Known<'_> {
    fn draft(&self, id: usize, node: &Node, table: &Table, sink: &mut Sink) -> Draft {
        let name = table
            .text("name")
            .map_or_else(|| format!("route-{}", id + 1), str::to_owned);
        if let Err(message) = plain_name(&name) {
            sink.error(&table.place_of("name"), message);
        }
        let mut effective = table.clone();
        effective
            .entries
            .retain(|(key, _)| key != "policy" && !POLICY.iter().any(|p| p.name == key));
        effective.fill_first("name", Value::Text(name.clone()));
        let mut draft = Draft {
            matches: fields::matches(table.table("match").unwrap_or(&Table::empty()), sink),
            aim: None,
            invalidates: Vec::new(),
            set_request_headers: fields::set(table, "set_request_headers", sink),
            set_response_headers: fields::set(table, "set_response_headers", sink),
            table: effective,
            node: Node {
                value: Value::Bad,
                ..node.clone()
            },
            name,
        };
        draft.aim = self.aim(table, &mut draft, sink);
        draft
    }

    fn aim(&self, table: &Table, draft: &mut Draft, sink: &mut Sink) -> Option<Aim> {
        let aims = ["upstream", "redirect", "respond"]
            .into_iter()
            .filter(|key| table.get(key).is_some());
        match aims.collect::<Vec<_>>().as_slice() {
            [] => {
                sink.error(&table.place, "a route needs one of upstream, redirect and respond");
                return None;
            }
            [_] => {}
            [first, second, ..] => {
                sink.error(
                    &table.place_of(second),
                    format!("contradicts {first}: a route does one thing"),
                );
            }
        }
        if table.get("upstream").is_some() {
            return self.proxy(table, draft, sink);
        }
        for key in ["policy", "rewrite"]
            .into_iter()
            .chain(POLICY.iter().map(|key| key.name))
        {
            if let Some(node) = table.get(key) {
                sink.error(&node.key_place(), "only on a route with upstream");
            }
        }
        invalidates::refuse(table, sink);
        if table.get("redirect").is_some() {
            redirect(table, sink)
        } else {
            respond(table, sink)
        }
    }

    fn proxy(&self, table: &Table, draft: &mut Draft, sink: &mut Sink) -> Option<Aim> {
        let named = self.policy(table, sink);
        // Judged without its policy, a route would be blamed for what the policy says.
        let judged = table.get("policy").is_none() || named.is_some();
        let policy = judged.then(|| {
            let sources = Sources {
                inline: Some((table, &draft.name)),
                named,
                cache: self.cache,
            };
            let (policy, merged) = policy::compile(&sources, &table.place, sink);
            draft.table.entries.extend(merged.entries);
            Arc::new(policy)
        });
        let pattern = draft.matches.path.as_ref();
        // Beside a wrong pattern nothing can be said about its placeholders.
        let readable = pattern.is_some() || table.table("match").is_none_or(|given| given.get("path").is_none());
        let rewrite = table.text("rewrite").filter(|_| readable).and_then(|text| {
            Rewrite::parse(text, pattern)
                .map_err(|message| sink.error(&table.place_of("rewrite"), message))
                .ok()
        });
        if readable {
            draft.invalidates = invalidates::compile(table, draft.matches.path.as_ref(), sink);
        }
        let wanted = table.text("upstream")?;
        let Some(upstream) = self.upstreams.iter().position(|upstream| upstream.name == wanted) else {
            let hint = did_you_mean(wanted, self.upstreams.iter().map(|upstream| upstream.name.as_str()));
            sink.error(
                &table.place_of("upstream"),
                format!("there is no upstream \"{wanted}\"{hint}"),
            );
            return None;
        };
        Some(Aim::Proxy {
            upstream,
            policy: policy?,
            rewrite,
        })
    }

    fn policy(&self, table: &Table, sink: &mut Sink) -> Option<(&Table, &str)> {
        let wanted = table.text("policy")?;
        let found = self.policies.tables_here().find(|(name, _)| *name == wanted);
        // One that is there and no table is reported already.
        if self.policies.get(wanted).is_none() {
            let hint = did_you_mean(wanted, self.policies.entries.iter().map(|(name, _)| name.as_str()));
            sink.error(
                &table.place_of("policy"),
                format!("there is no policy \"{wanted}\"{hint}"),
            );
        }
        found.map(|(name, table)| (table, name))
    }
}

fn redirect(table: &Table, sink: &mut Sink) -> Option<Aim> {
    let place = table.place_of("redirect");
    let Some(target) = table.table("redirect") else {
        let text = table.text("redirect")?;
        if text != "https" {
            sink.error(
                &place,
                format!("expected \"https\" or {{ to = \"...\", status = 308 }}, found \"{text}\""),
            );
        }
        return Some(Aim::Redirect {
            to: RedirectTo::Https,
            status: StatusCode::PERMANENT_REDIRECT,
        });
    };
    let status = target.count("status");
    if ![301, 302, 303, 307, 308].contains(&status) && target.get("status").is_some_and(|node| node.value != Value::Bad)
    {
        sink.error(
            &target.place_of("status"),
            format!("expected 301, 302, 303, 307 or 308, found {status}"),
        );
    }
    let Some(to) = target.get("to") else {
        sink.error(&target.place_of("to"), "missing: where the redirect leads");
        return None;
    };
    let to = to.as_text()?;
    let location = http::Uri::try_from(to)
        .ok()
        .filter(|uri| uri.scheme().is_some() || to.starts_with('/'));
    let Some(location) = location.and_then(|_| HeaderValue::try_from(to).ok()) else {
        sink.error(
            &target.place_of("to"),
            format!("expected a URL or a path, found \"{to}\""),
        );
        return None;
    };
    Some(Aim::Redirect {
        to: RedirectTo::Location(location),
        status: status_code(status),
    })
}

fn respond(table: &Table, sink: &mut Sink) -> Option<Aim> {
    let answer = table.table("respond")?;
    let status = status_code(answer.count("status"));
    let body = answer.text("body").unwrap_or_default();
    // RFC 9110 s15.3.5, s15.3.6, s15.4.5: these carry no content.
    if !body.is_empty() && [204, 205, 304].contains(&status.as_u16()) {
        sink.error(&answer.place_of("body"), format!("a {} has no body", status.as_u16()));
    }
    Some(Aim::Respond {
        status,
        body: body.to_owned(),
    })
}

fn status_code(status: usize) -> StatusCode {
    u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::OK)
}
