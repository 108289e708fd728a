//! `[upstreams.*]`: what concerns the upstream as a whole; its parts have files of their own.

mod balance;
mod discover;
mod failover;
mod health;
mod hedge;
mod mirror;
mod nodes;
mod outlier;
mod replication;
mod retry;

pub(in crate::config) use discover::listed;

use super::{plain_name, span};
use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{Discover, GateBy, HostHeader, Http2, Mode, Node, Upstream};
use crate::config::tls::{self, ClientTls};
use crate::core::discovery::Kind;
use http::HeaderValue;
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// Defaults that hang on how the nodes share their data.
pub(super) fn fill(upstream: &mut Table) {
    failover::fill(upstream);
    mirror::fill(upstream);
}

/// Compiles one upstream. `settle_after` comes with the routes.
pub(super) fn compile(id: usize, name: &str, table: &Table, sink: &mut Sink) -> Upstream {
    if let Err(message) = plain_name(name) {
        sink.error(&table.place, message);
    }
    let mode = if table.text("mode") == Some("active-passive") {
        Mode::ActivePassive
    } else {
        Mode::ActiveActive
    };
    let discover = discover::discover(table, sink);
    // Who discovers them needs no nodes, and has been told so where both are given.
    let nodes = if table.get("discover").is_some() {
        Vec::new()
    } else {
        nodes::nodes(table, mode, sink)
    };
    let health_check = table
        .table("health_check")
        .map(|check| health::health_check(check, sink));
    if mode == Mode::ActivePassive {
        if health_check.is_none() && table.get("health_check").is_none() {
            sink.warn(
                &table.place_of("mode"),
                "without health_check nobody notices that the active node fails",
            );
        }
        if nodes.len() == 1 {
            sink.warn(
                &table.place_of("nodes"),
                "active-passive with one node: nothing can take over",
            );
        }
        if table.is_set("balance") {
            sink.warn(
                &table.place_of("balance"),
                "has no effect: one node at a time takes the traffic",
            );
        }
    }
    let tls = secured(table, &nodes, discover.as_ref(), sink);
    let replication = replication::replication(table, mode, sink);
    let failover = failover::failover(table, replication, mode, sink);
    let known = discover.is_none().then_some(nodes.len());
    let outlier = table.table("outlier").map(|given| {
        outlier::outlier(
            given,
            (mode, replication),
            known,
            table.get("health_check").is_some(),
            sink,
        )
    });
    let mirror = mirror::mirror(table, replication, &failover, nodes.len(), sink);
    Upstream {
        id,
        name: name.to_owned(),
        retired: false,
        mode,
        replication,
        failover,
        mirror,
        max_lag: table.duration("max_lag"),
        balance: balance::compile(table, sink),
        order: (0..nodes.len()).collect(),
        nodes,
        discover,
        host: host_header(table, sink),
        tls,
        http2: http2(table, sink),
        connect_timeout: span(table, "connect_timeout"),
        response_timeout: span(table, "response_timeout"),
        max_connections: table.count("max_connections"),
        max_pending: table.count("max_pending"),
        gate: if table.text("gate") == Some("url") {
            GateBy::Url
        } else {
            GateBy::Path
        },
        health_check,
        outlier,
        retry: retry::retry(table.table("retry").unwrap_or(&Table::empty()), sink),
        hedge: table.table("hedge").and_then(|given| hedge::hedge(given, table, sink)),
        settle_after: None,
    }
}

/// Whether the nodes are spoken to over TLS: their urls say so, and where they are discovered, the table does. Found by the addresses of a
/// name, they must prove that name: no certificate is for an address that changes.
fn secured(table: &Table, nodes: &[Node], discover: Option<&Discover>, sink: &mut Sink) -> Option<Arc<ClientTls>> {
    let discovered = discover.is_some();
    let is_https = |node: &Node| node.url.starts_with("https://");
    let given = table.table("tls").is_some();
    let some = nodes.iter().any(is_https);
    if some && !nodes.iter().all(is_https) {
        sink.error(
            &table.place_of("nodes"),
            "some urls are https:// and others are not: the nodes of an upstream are spoken to alike",
        );
    }
    if given && !some && !discovered && !nodes.is_empty() {
        sink.error(
            &table.place_of("tls"),
            "no node has an https:// url: without one nothing is encrypted",
        );
    }
    let tls = given.then(|| tls::client(table, sink));
    let mut tls = (some || given && discovered).then(|| tls.unwrap_or_else(|| tls::client(&Table::empty(), sink)))?;
    if let Some(Discover::Dns { name, kind, .. }) = discover
        && tls.server_name.is_none()
        && *kind != Kind::Srv
    {
        tls.server_name = ServerName::try_from(name.trim_end_matches('.').to_owned()).ok();
    }
    Some(Arc::new(tls))
}

/// RFC 9113 s6.9.1: no window is larger than 2^31 - 1; below 64 KiB - 1, what every peer may use before it has read our settings, none is
/// of use.
fn http2(table: &Table, sink: &mut Sink) -> Option<Http2> {
    let empty = Table::empty();
    let limits = table.table("http2").unwrap_or(&empty);
    let window = limits.size("window").unwrap_or(65_535);
    if !(65_535..=u64::from(u32::MAX >> 1)).contains(&window) {
        sink.error(&limits.place_of("window"), "must be between \"64KiB\" and \"2047MiB\"");
    }
    let is_spoken = table.text("http") == Some("2");
    if !is_spoken && table.is_set("http2") {
        sink.warn(
            &table.place_of("http2"),
            "has no effect: HTTP/1.1 is spoken to the nodes (http = \"2\" is the other)",
        );
    }
    is_spoken.then(|| Http2 {
        window: u32::try_from(window).unwrap_or(u32::MAX >> 1),
        max_streams: limits.count_u32("max_streams"),
    })
}

fn host_header(table: &Table, sink: &mut Sink) -> HostHeader {
    match table.text("host") {
        None | Some("preserve") => HostHeader::Preserve,
        Some("node") => HostHeader::Node,
        Some(name) => {
            let authority = name
                .parse::<http::uri::Authority>()
                .ok()
                .filter(|a| !a.as_str().contains('@'));
            match authority.and_then(|a| HeaderValue::try_from(a.as_str()).ok()) {
                Some(value) => HostHeader::Fixed(value),
                None => {
                    sink.error(
                        &table.place_of("host"),
                        format!("expected \"preserve\", \"node\" or a host name, found \"{name}\""),
                    );
                    HostHeader::Preserve
                }
            }
        }
    }
}
