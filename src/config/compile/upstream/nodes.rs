//! `nodes = [...]`.

use super::super::{plain_name, socket};
use crate::config::diagnostic::Sink;
use crate::config::effective::{Node as Given, Table, Value};
use crate::config::runtime::{Mode, Node, Standby};
use crate::core::discovery::{self, UNIX};
use std::time::Duration;

/// How long the start of a cold node may take where nobody said.
const START_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn nodes(table: &Table, mode: Mode, sink: &mut Sink) -> Vec<Node> {
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
    let marked = table.text("standby").is_some();
    let standby = standby(table, sink);
    if marked && mode == Mode::ActiveActive {
        sink.error(
            &table.place_of("standby"),
            "only with mode = \"active-passive\": here every node takes traffic",
        );
    } else if marked && first {
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
    let place = match socket::path(url, sink) {
        Some(path) => path.map(|path| (false, format!("{UNIX}{}", path.display()), 0)),
        None => http_url(url),
    };
    let (secure, host, port) = match place {
        Ok(parts) => parts,
        Err(message) => {
            sink.error(&given.place, message);
            return None;
        }
    };
    let name = match (table.text("name"), discovery::socket(&host)) {
        (Some(name), _) => name.to_owned(),
        (None, None) => discovery::named(&host, port),
        (None, Some(path)) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{UNIX}{file}");
            if plain_name(&name).is_err() {
                sink.error(&table.place_of("name"), "missing: the socket's own is none that fits");
            }
            name
        }
    };
    let reserve = mode == Mode::ActivePassive && !first;
    Some(Node {
        name,
        url: match (secure, discovery::url(&host, port)) {
            (true, url) => url.replacen("http://", "https://", 1),
            (false, url) => url,
        },
        host,
        port,
        weight: table.count_u32("weight"),
        max_in_flight: table.count("max_in_flight"),
        standby: reserve.then_some(standby),
    })
}

/// How a node waits, should it have to.
fn standby(table: &Table, sink: &mut Sink) -> Standby {
    let cold = table.text("standby") == Some("cold");
    for key in ["start", "start_timeout"] {
        if !cold && table.is_set(key) {
            sink.error(
                &table.place_of(key),
                "only with standby = \"cold\": other nodes are running",
            );
        }
    }
    let start = super::failover::command(table, "start", sink);
    match table.text("standby") {
        Some("warm") => Standby::Warm,
        Some("cold") => {
            // A list that is no list is reported already.
            let given = table
                .get("start")
                .is_some_and(|node| !matches!(&node.value, Value::List(l) if l.is_empty()));
            if !given {
                sink.error(
                    &table.place_of("start"),
                    "missing: what starts a cold node, as in start = [\"systemctl\", \"start\", \"orders\"]",
                );
            }
            Standby::Cold {
                start,
                start_timeout: table.duration("start_timeout").unwrap_or(START_TIMEOUT),
            }
        }
        _ => Standby::Hot,
    }
}

/// Of `http://host:port` or `https://host:port`: whether it is the latter, the host (without brackets) and the port.
fn http_url(url: &str) -> Result<(bool, String, u16), String> {
    let wrong = || format!("expected a url like \"http://127.0.0.1:9000\", found \"{url}\"");
    let Some((scheme, authority)) = url.split_once("://") else {
        return Err(wrong());
    };
    let secure = match scheme {
        "http" => false,
        "https" => true,
        "h2" | "h2c" => return Err(format!("{scheme}: not supported yet")),
        _ => return Err(wrong()),
    };
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
        None if secure => 443,
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
        Ok((secure, host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_nodes() {
        let ok = |host: &str, port| Ok((false, host.to_owned(), port));
        assert_eq!(http_url("http://10.0.0.1:9000"), ok("10.0.0.1", 9000));
        assert_eq!(http_url("https://a"), Ok((true, "a".to_owned(), 443)));
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
            "h2://a",
            "http://a/b",
            "http://u:p@a",
            "http://a b",
        ] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
    }
}
