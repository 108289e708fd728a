//! `[upstreams.NAME] discover`, and the file of nodes it may name.

use super::nodes::nodes;
use crate::config::diagnostic::Sink;
use crate::config::effective::{Node as Given, Table, Value};
use crate::config::runtime::{Discover, Mode};
use crate::core::discovery::{Kind, Member};
use std::path::Path;

/// Who says which nodes there are; none: the configuration does, or what it says makes no sense.
pub(super) fn discover(table: &Table, sink: &mut Sink) -> Option<Discover> {
    let given = table.table("discover")?;
    let place = table.place_of("discover");
    if table.get("nodes").is_some() {
        sink.error(&place, "contradicts nodes: they are listed here or found, not both");
    }
    if let Some(replication) = table.text("replication")
        && replication != "shared"
    {
        // CONSISTENCY.md section 4. Weaker routes need to know the primary as well: writes go there.
        sink.error(
            &place,
            format!(
                "needs replication = \"shared\", found \"{replication}\": of nodes that come and go nobody can say which one holds every acked write"
            ),
        );
    }
    match (given.text("dns"), given.text("file")) {
        (Some(_), Some(_)) => {
            sink.error(
                &given.place_of("file"),
                "contradicts dns: the nodes are found in one place",
            );
            None
        }
        (None, None) => {
            sink.error(&place, "needs dns = \"name:port\" or file = \"nodes.toml\"");
            None
        }
        (None, Some(file)) => {
            if given.is_set("kind") {
                sink.warn(&given.place_of("kind"), "has no effect: a file has no records");
            }
            // Relative to the configuration's own folder.
            let folder = Path::new(&*sink.source.name).parent().unwrap_or(Path::new(""));
            Some(Discover::File(folder.join(file)))
        }
        (Some(dns), None) => {
            let kind = match given.text("kind") {
                Some("AAAA") => Kind::Aaaa,
                Some("SRV") => Kind::Srv,
                _ => Kind::A,
            };
            match name_and_port(dns, kind) {
                Ok((name, port)) => Some(Discover::Dns { name, port, kind }),
                Err(message) => {
                    sink.error(&given.place_of("dns"), message);
                    None
                }
            }
        }
    }
}

fn name_and_port(dns: &str, kind: Kind) -> Result<(String, u16), String> {
    let wrong = |what: &str| format!("expected {what}, found \"{dns}\"");
    let (name, port) = match (dns.split_once(':'), kind) {
        (Some((name, port)), _) => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (
                name,
                port.ok_or_else(|| wrong("a name and a port like \"orders.example:9000\""))?,
            )
        }
        // SRV records bring their ports.
        (None, Kind::Srv) => (dns, 0),
        (None, Kind::A | Kind::Aaaa) => return Err(wrong("a name and a port like \"orders.example:9000\"")),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 254 || !name.chars().all(fits) {
        return Err(wrong("the name of a host"));
    }
    Ok((name.to_ascii_lowercase(), port))
}

/// The nodes of a file of nodes.
pub(in crate::config) fn listed(table: &Table, sink: &mut Sink) -> Vec<Member> {
    // Unlike a configuration, a file of nodes may say that there is none: but say it, it must.
    if matches!(table.get("nodes").map(|node| &node.value), Some(Value::List(given)) if given.is_empty()) {
        return Vec::new();
    }
    for given in table.list("nodes").iter().filter_map(Given::as_table) {
        if given.text("url").is_some_and(|url| url.starts_with("https://")) {
            sink.error(
                &given.place_of("url"),
                "say http:// here: whether found nodes are spoken to over TLS, the upstream's own tls decides",
            );
        }
    }
    let members = nodes(table, Mode::ActiveActive, sink).into_iter().map(|node| Member {
        name: node.name,
        host: node.host,
        port: node.port,
        tier: 0,
        weight: node.weight,
        max_in_flight: node.max_in_flight,
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports() {
        let ok = |name: &str, port| Ok((name.to_owned(), port));
        assert_eq!(
            name_and_port("Orders.svc.local:9000", Kind::A),
            ok("orders.svc.local", 9000)
        );
        assert_eq!(
            name_and_port("orders.svc.local.:9000", Kind::Aaaa),
            ok("orders.svc.local.", 9000)
        );
        assert_eq!(
            name_and_port("_http._tcp.orders", Kind::Srv),
            ok("_http._tcp.orders", 0)
        );
        for wrong in [
            "",
            "orders",
            "orders:",
            "orders:0",
            "orders:http",
            ":80",
            "a b:80",
            "http://a:80",
            "[::1]:80",
        ] {
            assert!(name_and_port(wrong, Kind::A).is_err(), "{wrong}");
        }
    }
}
