//! A route's contract: the named policy, the keys beside it (they win), the level's own defaults, and the level table of
//! INTERFACE.md section 1. What a level does not have cannot be written down.

use super::{header_name, span};
use crate::config::catalogue::{self, POLICY};
use crate::config::diagnostic::{Place, Sink};
use crate::config::effective::{Node, Origin, Table, Value};
use crate::config::shape::constant;
use crate::core::policy::{
    Bounded, Caching, Contract, KeyRules, OnUnreachable, OriginTtl, Policy, Proof, Sessions, WriteThrough, Writers,
};
use crate::core::time::{Span, Ttl};
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// What a level makes of a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The key contradicts the level.
    Contradicts,
    /// Allowed, unset by default.
    Unset,
    /// Allowed, with this default.
    Default(&'static str),
}

use Rule::{Contradicts, Default as By, Unset};

/// The level table: off, weak, eventual, strong. Keys that are not here are allowed everywhere.
const LEVELS: [&str; 4] = ["off", "weak", "eventual", "strong"];
const TABLE: &[(&str, [Rule; 4])] = &[
    ("ttl", [Contradicts, Unset, Unset, Unset]),
    ("max_staleness", [Contradicts, Contradicts, By("'60s'"), Contradicts]),
    ("stale_while_revalidate", [Contradicts, Unset, Unset, Contradicts]),
    ("stale_if_error", [Contradicts, Unset, Unset, Contradicts]),
    ("on_unreachable", [Contradicts, Contradicts, By("'error'"), Contradicts]),
    ("session", [Contradicts, Contradicts, By("'none'"), Contradicts]),
    ("writers", [Contradicts, Contradicts, Contradicts, By("'external'")]),
    (
        "write_through",
        [Contradicts, Contradicts, Contradicts, By("'invalidate'")],
    ),
    ("refresh_timeout", [Contradicts, Contradicts, Contradicts, By("'1s'")]),
    ("settle_after", [Contradicts, Contradicts, Contradicts, By("'60s'")]),
    ("second_level", [Contradicts, Unset, Contradicts, Contradicts]),
];

/// Keys that say how to store, and so nothing on a route that stores nothing.
const STORING: &[&str] = &[
    "origin_ttl",
    "key",
    "collapse",
    "max_waiters",
    "store_set_cookie",
    "shared_auth",
    "max_object",
    "tags_from",
];

fn rule(key: &str, level: &str) -> Rule {
    let column = LEVELS.iter().position(|l| *l == level).unwrap_or(0);
    let row = TABLE.iter().find(|(name, _)| *name == key);
    row.and_then(|(_, rules)| rules.get(column)).copied().unwrap_or(Unset)
}

fn levels_with(key: &str) -> Vec<&'static str> {
    LEVELS
        .into_iter()
        .filter(|level| rule(key, level) != Contradicts)
        .collect()
}

/// Whose keys are merged.
pub(super) struct Sources<'a> {
    /// The route, or nothing for a policy that no route uses.
    pub(super) inline: Option<(&'a Table, &'a str)>,
    /// The named policy.
    pub(super) named: Option<(&'a Table, &'a str)>,
    /// `[cache]`, for the largest object.
    pub(super) cache: &'a Table,
}

/// The contract, and its effective keys.
pub(super) fn compile(sources: &Sources<'_>, place: &Place, sink: &mut Sink) -> (Policy, Table) {
    let merged = merge(sources, place, sink);
    let policy = Policy {
        contract: contract(&merged, sink),
        idempotency_header: idempotency_header(&merged, sink),
    };
    (policy, merged)
}

fn merge(sources: &Sources<'_>, place: &Place, sink: &mut Sink) -> Table {
    let level_node = find(sources, "consistency");
    let level = level_node.as_ref().and_then(|node| node.as_text().map(str::to_owned));
    // A level that is itself a mistake is reported already; nothing can be said about the rest.
    let judged = level.is_some() || level_node.is_none();
    let level = level.unwrap_or_else(|| "off".to_owned());
    let mut merged = Table {
        entries: Vec::new(),
        place: place.clone(),
    };
    for key in POLICY {
        let rule = rule(key.name, &level);
        let given = find(sources, key.name);
        match (given, rule) {
            (Some(node), Contradicts) if judged => {
                contradiction(&node, key.name, &level, level_node.as_ref(), sources, sink)
            }
            (Some(node), _) => {
                if judged && level == "off" && STORING.contains(&key.name) {
                    sink.warn(&node.key_place(), "has no effect: consistency = \"off\" stores nothing");
                }
                merged.push(key.name, node);
            }
            (None, Contradicts) => {}
            (None, _) => {
                let default = if let By(text) = rule { Some(text) } else { key.default };
                let at = place.child(key.name, place.span.clone());
                if let Some(node) = default.and_then(|text| constant(&key.kind, text, at)) {
                    merged.push(key.name, node);
                }
            }
        }
    }
    if merged.get("max_object").is_none()
        && let Some(node) = sources.cache.get("max_object")
    {
        merged.push("max_object", node.clone());
    }
    // Unset, an AP route's window is an hour (INTERFACE.md section 1): it may serve nothing beyond the bound without one.
    if merged.text("on_unreachable") == Some("stale") && merged.get("stale_if_error").is_none() {
        let at = place.child("stale_if_error", place.span.clone());
        merged.push(
            "stale_if_error",
            Node::by_default(Value::Duration(Duration::from_secs(3600)), at),
        );
    }
    if level == "off" {
        merged.entries.retain(|(name, _)| !STORING.contains(&name.as_str()));
    }
    merged
}

/// The key beside the route, else the policy's.
fn find(sources: &Sources<'_>, key: &str) -> Option<Node> {
    let inline = sources.inline.and_then(|(table, _)| table.get(key)).cloned();
    inline.or_else(|| {
        let (table, name) = sources.named?;
        let mut node = table.get(key)?.clone();
        if let Origin::Line(line) = node.origin {
            node.origin = Origin::Policy {
                name: Arc::from(name),
                line,
            };
        }
        Some(node)
    })
}

fn contradiction(
    node: &Node,
    key: &str,
    level: &str,
    level_node: Option<&Node>,
    sources: &Sources<'_>,
    sink: &mut Sink,
) {
    let only: Vec<&str> = levels_with(key);
    let default = if level_node.is_none() { ", the default" } else { "" };
    // A policy's key against a level said elsewhere: say whose.
    let from_policy = |node: &Node| matches!(node.origin, Origin::Policy { .. });
    let elsewhere = from_policy(node) && level_node.is_some_and(|level| !from_policy(level));
    let whose = match sources.inline {
        Some((_, route)) if elsewhere => format!(" of route \"{route}\""),
        _ => String::new(),
    };
    let message = format!(
        "contradicts consistency = \"{level}\"{default}{whose} (only {} has it)",
        catalogue::one_of(&only)
    );
    sink.error(&node.key_place(), message);
}

fn contract(table: &Table, sink: &mut Sink) -> Contract {
    let level = table.text("consistency").unwrap_or("off");
    if level == "off" {
        return Contract::Off;
    }
    later(table, "second_level", None, sink);
    let origin_ttl = if table.text("origin_ttl") == Some("ignore") {
        OriginTtl::Ignore
    } else {
        OriginTtl::Honor
    };
    let ttl = ttl(table, "ttl");
    if origin_ttl == OriginTtl::Ignore && level != "strong" && table.get("ttl").is_none() {
        sink.error(
            &table.place_of("origin_ttl"),
            "needs ttl: without the origin's lifetime nothing else gives one",
        );
    }
    let caching = |stale_if_error| Caching {
        ttl,
        origin_ttl,
        stale_while_revalidate: self::ttl(table, "stale_while_revalidate"),
        stale_if_error,
        key: KeyRules::default(),
        collapse: table.flag("collapse"),
        max_waiters: table.count("max_waiters"),
        store_set_cookie: table.flag("store_set_cookie"),
        shared_auth: table.flag("shared_auth"),
        max_object: table.size("max_object").unwrap_or_default(),
        tags_from: Vec::new(),
    };
    let mut caching = caching(self::ttl(table, "stale_if_error"));
    caching.key = key_rules(table, sink);
    caching.tags_from = names_of_fields(table, "tags_from", sink);
    match level {
        "weak" => Contract::Weak(caching),
        "strong" => Contract::Strong(
            caching,
            Proof {
                writers: match table.text("writers") {
                    Some("exclusive") => Writers::Exclusive,
                    _ => Writers::External,
                },
                through: write_through(table, sink),
                settle_after: span(table, "settle_after").into(),
            },
        ),
        _ => {
            let bounded = bounded(table, &caching, sink);
            Contract::Eventual(caching, bounded)
        }
    }
}

/// R9: only where this process is the one that writes.
fn write_through(table: &Table, sink: &mut Sink) -> WriteThrough {
    let word = table.text("write_through").unwrap_or("invalidate");
    if word != "invalidate" && table.text("writers") == Some("external") {
        sink.error(
            &table.place_of("write_through"),
            format!("\"{word}\" needs writers = \"exclusive\""),
        );
    }
    let within = span(table, "refresh_timeout").into();
    match word {
        "refresh" => WriteThrough::Refresh(within),
        "store" => WriteThrough::Store(within),
        _ => WriteThrough::Invalidate,
    }
}

fn bounded(table: &Table, caching: &Caching, sink: &mut Sink) -> Bounded {
    let max_staleness: Ttl = span(table, "max_staleness").into();
    let set = table.get("max_staleness").is_some_and(|node| node.value != Value::Bad);
    if set && max_staleness == Span::ZERO {
        sink.warn(
            &table.place_of("max_staleness"),
            "a bound of nothing: every read asks the origin (did you mean \"strong\"?)",
        );
    }
    // R42: the bound wins over the lifetime and its window.
    let longest = caching
        .ttl
        .unwrap_or_default()
        .plus(caching.stale_while_revalidate.unwrap_or_default());
    if set && longest > max_staleness {
        let key = if caching.ttl.is_some_and(|ttl| ttl > max_staleness) {
            "ttl"
        } else {
            "stale_while_revalidate"
        };
        sink.warn(&table.place_of(key), "reaches beyond max_staleness, which cuts it");
    }
    let error = table.get("on_unreachable").and_then(Node::as_text) == Some("error");
    if set && error && caching.stale_if_error.is_some_and(|window| window > max_staleness) {
        let message = "reaches beyond max_staleness, which cuts it unless on_unreachable = \"stale\"";
        sink.warn(&table.place_of("stale_if_error"), message);
    }
    let on_unreachable = if table.text("on_unreachable") == Some("stale") {
        OnUnreachable::Stale
    } else {
        OnUnreachable::Error
    };
    let session = if table.text("session") == Some("read-your-writes") {
        Sessions::ReadYourWrites
    } else {
        Sessions::None
    };
    Bounded {
        max_staleness,
        on_unreachable,
        session,
    }
}

fn ttl(table: &Table, key: &str) -> Option<Ttl> {
    table.duration(key).map(Ttl::from)
}

/// A key whose capability is to come.
fn later(table: &Table, key: &str, off: Option<&Value>, sink: &mut Sink) {
    if let Some(node) = table.get(key)
        && node.value != Value::Bad
        && Some(&node.value) != off
    {
        sink.error(&node.key_place(), "not supported yet");
    }
}

fn key_rules(table: &Table, sink: &mut Sink) -> KeyRules {
    let empty = Table::empty();
    let key = table.table("key").unwrap_or(&empty);
    let headers = names_of_fields(key, "headers", sink);
    let mut names = |list: &str, star: bool| {
        let mut names = Vec::new();
        for (text, node) in key.texts(list) {
            let stem = if star {
                text.strip_suffix('*').unwrap_or(text)
            } else {
                text
            };
            if (stem.is_empty() && !star) || text.is_empty() || stem.contains(['*', '&', '=', ';', ' ']) {
                sink.error(
                    &node.place,
                    format!(
                        "expected a name{}, found \"{text}\"",
                        if star { ", or a beginning and \"*\"" } else { "" }
                    ),
                );
            } else {
                names.push(text.to_owned());
            }
        }
        names
    };
    let query_ignore = names("query_ignore", true);
    let query = names("query", false);
    let cookies = names("cookies", false);
    let cookies_ignore = names("cookies_ignore", true);
    let query = key.get("query").is_some().then_some(query);
    if query.is_some() && !query_ignore.is_empty() {
        sink.warn(
            &key.place_of("query_ignore"),
            "only what `query` lists is in the key; this leaves out of that",
        );
    }
    KeyRules {
        query_ignore,
        query,
        headers,
        cookies,
        cookies_ignore,
    }
}

/// A list of field names, each once.
fn names_of_fields(table: &Table, list: &str, sink: &mut Sink) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = Vec::new();
    for (text, node) in table.texts(list) {
        match header_name(text) {
            Ok(name) if names.contains(&name) => {}
            Ok(name) => names.push(name),
            Err(message) => sink.error(&node.place, message),
        }
    }
    names
}

fn idempotency_header(table: &Table, sink: &mut Sink) -> Option<HeaderName> {
    let text = table.text("idempotency_header")?;
    header_name(text)
        .map_err(|message| sink.error(&table.place_of("idempotency_header"), message))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_level_table_is_a_policy_key() {
        for (name, _) in TABLE {
            assert!(POLICY.iter().any(|key| key.name == *name), "{name}");
        }
        for name in STORING {
            assert!(POLICY.iter().any(|key| key.name == *name), "{name}");
        }
    }
}
