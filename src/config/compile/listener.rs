//! `[listeners.*]`, and who already listens where.

use super::{socket, sources};
use crate::config::diagnostic::{Place, Sink};
use crate::config::effective::Table;
use crate::config::runtime::{Bind, Http2, Listener, Protocols};
use crate::config::tls;
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
    let tls = tls::server(table, sink);
    let protocols = protocols(table, tls.is_some(), sink);
    if table.size("max_header_bytes").is_some_and(|bytes| bytes < 1024) {
        sink.error(&table.place_of("max_header_bytes"), "must be at least \"1KiB\"");
    }
    Listener {
        name: name.to_owned(),
        bind: bind.unwrap_or(Bind::AllInterfaces(0)),
        protocols,
        tls,
        http2: http2(table, sink),
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

/// `h2` counts where there is TLS, `h2c` where there is none; the default names both.
fn protocols(table: &Table, tls: bool, sink: &mut Sink) -> Protocols {
    let named: Vec<&str> = table.texts("protocols").map(|(name, _)| name).collect();
    let has = |name| named.contains(&name);
    let found = Protocols {
        http1: has("http/1.1"),
        http2: has(if tls { "h2" } else { "h2c" }),
    };
    if !named.is_empty() && !found.http1 && !found.http2 {
        let why = if tls {
            "h2c is HTTP/2 without TLS, and this listener has tls: say \"h2\""
        } else {
            "h2 is HTTP/2 over TLS, and this listener has no tls: say \"h2c\", or add tls"
        };
        sink.error(&table.place_of("protocols"), why);
    } else if table.is_set("protocols") && has(if tls { "h2c" } else { "h2" }) {
        let why = if tls {
            "\"h2c\" has no effect: it is HTTP/2 without TLS, and this listener has tls"
        } else {
            "\"h2\" has no effect: it is HTTP/2 over TLS, and this listener has none"
        };
        sink.warn(&table.place_of("protocols"), why);
    }
    found
}

/// RFC 9113 s6.9.1: no window is larger than 2^31 - 1; below 64 KiB - 1, what every peer may use before it has read our settings, none is
/// of use.
fn http2(table: &Table, sink: &mut Sink) -> Http2 {
    let empty = Table::empty();
    let table = table.table("http2").unwrap_or(&empty);
    let window = table.size("window").unwrap_or(65_535);
    // The connection's is four times as much.
    let most = u64::from(u32::MAX >> 1) / 4;
    if !(65_535..=most).contains(&window) {
        sink.error(&table.place_of("window"), "must be between \"64KiB\" and \"511MiB\"");
    }
    Http2 {
        window: u32::try_from(window).unwrap_or(u32::MAX),
        max_streams: table.count_u32("max_streams"),
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
