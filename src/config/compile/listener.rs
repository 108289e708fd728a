//! `[listeners.*]`, and who already listens where.

use super::{socket, sources};
use crate::config::diagnostic::{Place, Sink};
use crate::config::effective::Table;
use crate::config::runtime::{Bind, Listener};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses given so far, with who has them.
#[derive(Default)]
pub(super) struct Taken(Vec<(Bind, String)>);

impl Taken {
    pub(super) fn take(&mut self, bind: Bind, place: &Place, sink: &mut Sink) {
        if let Some((_, holder)) = self.0.iter().find(|(other, _)| collide(&bind, other)) {
            sink.error(place, format!("the address is already taken by {holder}"));
        }
        self.0.push((bind, place.path.clone()));
    }
}

fn collide(a: &Bind, b: &Bind) -> bool {
    match (a, b) {
        (Bind::Socket(a), Bind::Socket(b)) => a == b,
        (Bind::Socket(_), _) | (_, Bind::Socket(_)) => false,
        (Bind::AllInterfaces(port), other) | (other, Bind::AllInterfaces(port)) => {
            *port != 0 && single(other).is_some_and(|address| address.port() == *port)
        }
        (Bind::Address(a), Bind::Address(b)) => {
            let same_ip = a.ip() == b.ip()
                || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
            a.port() == b.port() && a.port() != 0 && same_ip
        }
    }
}

pub(super) fn compile(name: &str, table: &Table, taken: &mut Taken, sink: &mut Sink) -> Listener {
    let bind = address(table, sink);
    let place = table.place_of("address");
    if let Some(bind) = &bind {
        taken.take(bind.clone(), &place, sink);
    }
    if table.is_set("protocols") && table.list("protocols").is_empty() {
        sink.error(
            &table.place_of("protocols"),
            "a listener speaks at least one protocol: \"http/1.1\"",
        );
    }
    if table.size("max_header_bytes").is_some_and(|bytes| bytes < 1024) {
        sink.error(&table.place_of("max_header_bytes"), "must be at least \"1KiB\"");
    }
    Listener {
        name: name.to_owned(),
        bind: bind.unwrap_or(Bind::AllInterfaces(0)),
        trusted_proxies: sources(table, "trusted_proxies", sink),
        purge_from: sources(table, "purge_from", sink),
        debug_from: sources(table, "debug_from", sink),
        header_timeout: table.duration("header_timeout").unwrap_or_default(),
        idle_timeout: table.duration("idle_timeout").unwrap_or_default(),
        body_timeout: table.duration("body_timeout").unwrap_or_default(),
        max_header_bytes: table
            .size("max_header_bytes")
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(usize::MAX),
        max_headers: table.count("max_headers"),
        max_body: table.size("max_body").unwrap_or_default(),
        max_connections: table.count("max_connections"),
    }
}

fn address(table: &Table, sink: &mut Sink) -> Option<Bind> {
    let place = table.place_of("address");
    let Some(node) = table.get("address") else {
        sink.error(
            &place,
            "missing: a listener needs an address like \"0.0.0.0:8080\", \":8080\" or \"unix:/run/tidegate.sock\"",
        );
        return None;
    };
    let text = node.as_text()?;
    let bind = match socket::path(text, sink) {
        Some(path) => path.map(Bind::Socket),
        None => bind(text),
    };
    bind.map_err(|message| sink.error(&place, message)).ok()
}

/// Reads `HOST:PORT` or `:PORT`.
pub(super) fn bind(text: &str) -> Result<Bind, String> {
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(Bind::AllInterfaces(port));
    }
    if let Ok(address) = text.parse() {
        return Ok(Bind::Address(address));
    }
    let port = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse::<u16>().ok());
    let hint = port.map_or_else(String::new, |port| format!(" (did you mean \"127.0.0.1:{port}\"?)"));
    Err(format!(
        "expected an address like \"127.0.0.1:8080\" or \":8080\", found \"{text}\"{hint}"
    ))
}

/// The one address a `Bind` stands for where only one socket is opened; a unix socket has none.
pub(super) fn single(bind: &Bind) -> Option<SocketAddr> {
    match bind {
        Bind::Address(address) => Some(*address),
        Bind::AllInterfaces(port) => Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port)),
        Bind::Socket(_) => None,
    }
}

/// Where a listener's stand-in listens when its address is wrong; never used.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
