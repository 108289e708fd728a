//! `[upstreams.NAME.health_check]`.

use super::super::{header_name, span};
use crate::config::diagnostic::Sink;
use crate::config::effective::Table;
use crate::config::runtime::{HealthCheck, Probe};

pub(super) fn health_check(table: &Table, sink: &mut Sink) -> HealthCheck {
    let tcp = table.flag("tcp");
    let path = table.text("path").unwrap_or("/");
    let grpc = table.text("grpc");
    match (table.get("path").is_some(), tcp, grpc.is_some()) {
        (true, true, _) => sink.error(
            &table.place_of("tcp"),
            "contradicts path: a health check asks one thing",
        ),
        (true, false, true) => sink.error(
            &table.place_of("grpc"),
            "contradicts path: a health check asks one thing",
        ),
        (false, true, true) => sink.error(
            &table.place_of("grpc"),
            "contradicts tcp: a health check asks one thing",
        ),
        (false, false, false) => sink.error(
            &table.place_of("path"),
            "missing: a health check needs path = \"/healthz\", tcp = true or grpc = \"service\"",
        ),
        (true, false, false) | (false, true, false) | (false, false, true) => {}
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
    if grpc.is_some() && table.is_set("expect") {
        sink.warn(
            &table.place_of("expect"),
            "has no effect: a gRPC health check passes when the service is SERVING",
        );
    }
    let mut field = |key: &str| {
        let name = table.text(key)?;
        if tcp {
            sink.error(&table.place_of(key), "a TCP connect has no answer to read it from");
        }
        let read = header_name(name);
        read.map_err(|message| sink.error(&table.place_of(key), message)).ok()
    };
    let (role_header, term_header) = (field("role_header"), field("term_header"));
    let position_header = field("position_header");
    if term_header.is_some() && !table.is_set("role_header") {
        sink.warn(
            &table.place_of("term_header"),
            "has no effect without role_header: it is the term of a role",
        );
    }
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
        probe: match grpc {
            _ if tcp => Probe::Tcp,
            Some(service) => Probe::Grpc {
                service: service.to_owned(),
            },
            None => Probe::Http {
                path: path.to_owned(),
                expect,
            },
        },
        interval,
        timeout,
        healthy_threshold: table.count_u32("healthy_threshold"),
        unhealthy_threshold: table.count_u32("unhealthy_threshold"),
        initially_healthy: table.text("initial") == Some("healthy"),
        role_header,
        term_header,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_or_ranges() {
        assert_eq!(statuses("200-299"), Some((200, 299)));
        assert_eq!(statuses("204"), Some((204, 204)));
        for wrong in ["", "2xx", "299-200", "99", "600", "200-", "-"] {
            assert_eq!(statuses(wrong), None, "{wrong}");
        }
    }
}
