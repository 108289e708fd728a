//! `[upstreams.*]`: nodes, health, retries.

use super::{header_name, plain_name, span};
use crate::config::diagnostic::Sink;
use crate::config::effective::{Node as Given, Table, Value};
use crate::config::runtime::{
    Balance, Failover, GateBy, HealthCheck, HostHeader, Mirror, Mode, Node, Probe, Replication, Retry, RetryOn,
    Standby, Upstream,
};
use http::HeaderValue;

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
    let nodes = nodes(table, mode, sink);
    let health_check = table.table("health_check").map(|check| health_check(check, sink));
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
    let replication = replication(table, mode, sink);
    Upstream {
        id,
        name: name.to_owned(),
        mode,
        replication,
        failover: Failover::default(),
        mirror: Mirror::default(),
        max_lag: table.duration("max_lag"),
        balance: if table.text("balance") == Some("round-robin") {
            Balance::RoundRobin
        } else {
            Balance::LeastRequest
        },
        nodes,
        host: host_header(table, sink),
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
        retry: retry(table.table("retry").unwrap_or(&Table::empty()), sink),
        settle_after: None,
    }
}

/// What replicas need, and what over one store means nothing.
fn replication(table: &Table, mode: Mode, sink: &mut Sink) -> Replication {
    let check = table.table("health_check");
    let places = [
        table.is_set("max_lag").then(|| table.place_of("max_lag")),
        check
            .filter(|check| check.is_set("position_header"))
            .map(|check| check.place_of("position_header")),
    ];
    if table.text("replication") != Some("primary") {
        for place in places.iter().flatten() {
            sink.error(
                place,
                "needs replication = \"primary\": over one shared store no node is behind another",
            );
        }
        return Replication::Shared;
    }
    if mode == Mode::ActivePassive {
        sink.error(
            &table.place_of("replication"),
            "\"primary\" needs mode = \"active-active\": nothing promotes a replica yet",
        );
    }
    if places.iter().all(Option::is_none) {
        sink.warn(
            &table.place_of("replication"),
            "without max_lag or health_check.position_header nobody knows how far a replica is behind: eventual routes fetch at the primary",
        );
    }
    Replication::Primary
}

fn nodes(table: &Table, mode: Mode, sink: &mut Sink) -> Vec<Node> {
    match table.get("nodes").map(|node| &node.value) {
        None => sink.error(
            &table.place_of("nodes"),
            "missing: an upstream needs nodes, as in nodes = [{ url = \"http://127.0.0.1:9000\" }]",
        ),
        Some(Value::List(nodes)) if nodes.is_empty() => {
            sink.error(&table.place_of("nodes"), "an upstream needs at least one node")
        }
        Some(_) => {}
    }
    let mut nodes: Vec<Node> = Vec::new();
    for (i, given) in table.list("nodes").iter().filter_map(Given::as_table).enumerate() {
        let Some(node) = node(given, i == 0, mode, sink) else {
            continue;
        };
        if nodes.iter().any(|other| other.name == node.name) {
            let (key, hint) = if given.is_set("name") {
                ("name", "")
            } else {
                ("url", "; give the nodes names if that is meant")
            };
            sink.error(
                &given.place_of(key),
                format!("there is already a node \"{}\"{hint}", node.name),
            );
        }
        nodes.push(node);
    }
    nodes
}

fn node(table: &Table, first: bool, mode: Mode, sink: &mut Sink) -> Option<Node> {
    let standby = table.text("standby").is_some();
    if standby && mode == Mode::ActiveActive {
        sink.error(
            &table.place_of("standby"),
            "only with mode = \"active-passive\": here every node takes traffic",
        );
    } else if standby && first {
        sink.error(
            &table.place_of("standby"),
            "the first node takes the traffic: put the nodes in reserve after it",
        );
    }
    if let Some(Err(message)) = table.text("name").map(plain_name) {
        sink.error(&table.place_of("name"), message);
    }
    let Some(given) = table.get("url") else {
        sink.error(
            &table.place_of("url"),
            "missing: a node needs a url like \"http://127.0.0.1:9000\"",
        );
        return None;
    };
    let url = given.as_text()?;
    let (host, port) = match http_url(url) {
        Ok(parts) => parts,
        Err(message) => {
            sink.error(&given.place, message);
            return None;
        }
    };
    let bracketed = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let reserve = mode == Mode::ActivePassive && !first;
    Some(Node {
        name: table
            .text("name")
            .map_or_else(|| format!("{bracketed}:{port}"), str::to_owned),
        url: format!("http://{bracketed}:{port}"),
        host,
        port,
        weight: table.count_u32("weight"),
        max_in_flight: table.count("max_in_flight"),
        standby: reserve.then_some(Standby::Hot),
    })
}

/// Host (without brackets) and port of `http://host:port`.
fn http_url(url: &str) -> Result<(String, u16), String> {
    let wrong = || format!("expected a url like \"http://127.0.0.1:9000\", found \"{url}\"");
    let Some((scheme, authority)) = url.split_once("://") else {
        return Err(if url.starts_with("unix:") {
            "unix sockets: not supported yet".into()
        } else {
            wrong()
        });
    };
    match scheme {
        "http" => {}
        "https" | "h2" | "h2c" | "unix" => return Err(format!("{scheme}: not supported yet")),
        _ => return Err(wrong()),
    }
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err("a node's url has no path: use rewrite in the route".into());
    }
    if authority.contains('@') {
        return Err("a node's url holds no credentials: use set_request_headers in the route".into());
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    let port = match authority.port() {
        Some(port) if port.as_u16() == 0 => return Err("port 0 cannot be connected to".into()),
        Some(port) => port.as_u16(),
        None if authority.as_str().ends_with(':')
            || authority
                .as_str()
                .rsplit_once(':')
                .is_some_and(|(_, p)| !p.ends_with(']')) =>
        {
            return Err(wrong());
        }
        None => 80,
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if host.is_empty() {
        Err(wrong())
    } else {
        Ok((host, port))
    }
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

fn health_check(table: &Table, sink: &mut Sink) -> HealthCheck {
    let tcp = table.flag("tcp");
    let path = table.text("path").unwrap_or("/");
    match (table.get("path").is_some(), tcp) {
        (true, true) => sink.error(
            &table.place_of("tcp"),
            "contradicts path: a health check asks one thing",
        ),
        (false, false) => sink.error(
            &table.place_of("path"),
            "missing: a health check needs path = \"/healthz\" or tcp = true",
        ),
        _ => {}
    }
    if table.is_set("path")
        && path
            .parse::<http::uri::PathAndQuery>()
            .map_or(true, |p| !p.as_str().starts_with('/') || p.as_str() != path)
    {
        sink.error(
            &table.place_of("path"),
            format!("expected a path like \"/healthz\", found \"{path}\""),
        );
    }
    if tcp && table.is_set("expect") {
        sink.warn(&table.place_of("expect"), "has no effect: a TCP connect has no status");
    }
    let position_header = table.text("position_header").and_then(|name| {
        if tcp {
            sink.error(
                &table.place_of("position_header"),
                "a TCP connect has no answer to read it from",
            );
        }
        let read = header_name(name);
        read.map_err(|message| sink.error(&table.place_of("position_header"), message))
            .ok()
    });
    let (interval, timeout) = (span(table, "interval"), span(table, "timeout"));
    if timeout > interval && (table.is_set("timeout") || table.is_set("interval")) {
        sink.warn(
            &table.place_of("timeout"),
            "longer than interval: probes of a dead node take longer than their turn",
        );
    }
    let mut expect = Vec::new();
    for (text, node) in table.texts("expect") {
        match statuses(text) {
            Some(range) => expect.push(range),
            None => sink.error(
                &node.place,
                format!("expected a status or range like \"204\" or \"200-299\", found \"{text}\""),
            ),
        }
    }
    if table.is_set("expect") && table.list("expect").is_empty() {
        sink.error(&table.place_of("expect"), "no status would ever count as healthy");
    }
    HealthCheck {
        probe: if tcp {
            Probe::Tcp
        } else {
            Probe::Http {
                path: path.to_owned(),
                expect,
            }
        },
        interval,
        timeout,
        healthy_threshold: table.count_u32("healthy_threshold"),
        unhealthy_threshold: table.count_u32("unhealthy_threshold"),
        initially_healthy: table.text("initial") == Some("healthy"),
        role_header: None,
        term_header: None,
        position_header,
    }
}

fn statuses(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (status(first)?, status(last)?);
    (range.0 <= range.1).then_some(range)
}

fn retry(table: &Table, sink: &mut Sink) -> Retry {
    let mut on = RetryOn::default();
    for (text, node) in table.texts("on") {
        match text {
            "connect" => on.connect = true,
            "reset" => on.reset = true,
            _ => match text.parse::<u16>().ok().filter(|status| (500..=599).contains(status)) {
                Some(status) if on.statuses.contains(&status) => {}
                Some(status) => on.statuses.push(status),
                None => sink.error(
                    &node.place,
                    format!("expected \"connect\", \"reset\" or a status from \"500\" to \"599\", found \"{text}\""),
                ),
            },
        }
    }
    let attempts = table.count_u32("attempts");
    if attempts == 1 && (table.is_set("on") || table.is_set("budget")) {
        sink.warn(
            &table.place_of("attempts"),
            "one attempt in all: nothing is ever retried",
        );
    } else if attempts > 1 && table.is_set("budget") && table.percent("budget") == 0 {
        sink.warn(
            &table.place_of("budget"),
            "a budget of nothing: nothing is ever retried",
        );
    }
    Retry {
        attempts,
        budget_percent: table.percent("budget"),
        on,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_nodes() {
        let ok = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(http_url("http://10.0.0.1:9000"), ok("10.0.0.1", 9000));
        assert_eq!(http_url("http://Node.Example/"), ok("node.example", 80));
        assert_eq!(http_url("http://[::1]:81"), ok("::1", 81));
        assert_eq!(http_url("http://[::1]"), ok("::1", 80));
        for wrong in [
            "",
            "10.0.0.1:9000",
            "http://",
            "http://:9000",
            "http://a:b",
            "http://a:",
            "http://a:99999",
            "http://a:0",
            "ftp://a",
            "https://a",
            "http://a/b",
            "http://u:p@a",
            "http://a b",
        ] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn statuses_are_single_or_ranges() {
        assert_eq!(statuses("200-299"), Some((200, 299)));
        assert_eq!(statuses("204"), Some((204, 204)));
        for wrong in ["", "2xx", "299-200", "99", "600", "200-", "-"] {
            assert_eq!(statuses(wrong), None, "{wrong}");
        }
    }
}
