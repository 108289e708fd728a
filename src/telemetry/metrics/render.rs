//! The Prometheus text format (0.0.4), written out: some ninety lines that would otherwise be glue around an encoder.

use super::stripe::{AGE_BOUNDS_MS, BOUNDS, Histogram, LATENCY_BOUNDS_US, Summed};
use super::{Gauges, ListenerGauge, Metrics, RouteStripe, UNMATCHED, code_of};
use crate::core::reason::{NodeState, NotStored, RetryReason, WriteOutcome};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) fn render(metrics: &Metrics, gauges: &Gauges) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    requests(metrics, &mut text);
    routes(metrics, gauges, &mut text);
    upstreams(metrics, &mut text);
    views(metrics, &mut text);
    process(gauges, &mut text);
    text.0
}

fn requests(metrics: &Metrics, text: &mut Text) {
    text.family(
        "tidegate_requests_total",
        "counter",
        "Requests by route, result and status.",
    );
    for (id, name) in route_names(metrics).enumerate() {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, count) in stripes_of(metrics, id).flat_map(|stripe| stripe.codes.entries()) {
            *counts.entry(key).or_default() += count;
        }
        let spilled = if id < metrics.routes.len() { id } else { UNMATCHED };
        for ((_, key), count) in metrics.spilled.lock().range((spilled, 0)..=(spilled, u32::MAX)) {
            *counts.entry(*key).or_default() += count;
        }
        for (key, count) in counts {
            if let Some((outcome, code)) = code_of(key) {
                let code = code.to_string();
                let labels = [("route", name), ("result", outcome.word()), ("code", &code)];
                text.sample("tidegate_requests_total", &labels, &count);
            }
        }
    }
    text.family(
        "tidegate_request_seconds",
        "histogram",
        "Time from a request's head to the end of its answer.",
    );
    for (id, name) in route_names(metrics).enumerate() {
        let total = summed(stripes_of(metrics, id).map(|stripe| &stripe.seconds));
        // Requests that match no route show up only once there was one.
        if id < metrics.routes.len() || total.count() > 0 {
            text.histogram(
                "tidegate_request_seconds",
                &[("route", name)],
                &total,
                &LATENCY_BOUNDS_US,
                1e6,
            );
        }
    }
}

fn routes(metrics: &Metrics, gauges: &Gauges, text: &mut Text) {
    let proxied = || metrics.routes.iter().enumerate().filter(|(_, route)| route.proxies);
    text.family(
        "tidegate_served_age_seconds",
        "histogram",
        "Age of answers served from memory.",
    );
    for (id, route) in proxied() {
        let total = summed(stripes_of(metrics, id).map(|stripe| &stripe.ages));
        text.histogram(
            "tidegate_served_age_seconds",
            &[("route", &route.name)],
            &total,
            &AGE_BOUNDS_MS,
            1e3,
        );
    }
    measured(metrics, text);
    text.family(
        "tidegate_fills_refused_total",
        "counter",
        "Fetched answers that were not stored, by reason.",
    );
    for (id, route) in proxied() {
        for (at, why) in NotStored::ALL.iter().enumerate() {
            let count = sum(stripes_of(metrics, id).filter_map(|stripe| stripe.refused.get(at)));
            text.sample(
                "tidegate_fills_refused_total",
                &[("route", &route.name), ("reason", why.word())],
                &count,
            );
        }
    }
    text.family("tidegate_writes_total", "counter", "Writes by outcome.");
    for (id, route) in proxied() {
        for (at, outcome) in WriteOutcome::ALL.iter().enumerate() {
            let count = sum(stripes_of(metrics, id).filter_map(|stripe| stripe.writes.get(at)));
            text.sample(
                "tidegate_writes_total",
                &[("route", &route.name), ("outcome", outcome.word())],
                &count,
            );
        }
    }
    text.family(
        "tidegate_unsettled",
        "gauge",
        "Resources with a write that has not settled.",
    );
    for (id, route) in proxied() {
        let count = gauges.unsettled.get(id).copied().unwrap_or(0);
        text.sample("tidegate_unsettled", &[("route", &route.name)], &count);
    }
}

/// What the meter found, where it is on.
fn measured(metrics: &Metrics, text: &mut Text) {
    let metered = || metrics.routes.iter().enumerate().filter(|(_, route)| route.metered);
    if metered().next().is_none() {
        return;
    }
    let staleness = "tidegate_measured_staleness_seconds";
    text.family(staleness, "histogram", "By how much sampled hits were stale, provably.");
    for (id, route) in metered() {
        let total = summed(stripes_of(metrics, id).map(|stripe| &stripe.staleness));
        text.histogram(staleness, &[("route", &route.name)], &total, &AGE_BOUNDS_MS, 1e3);
    }
    let stale = "tidegate_stale_reads_total";
    text.family(
        stale,
        "counter",
        "Sampled hits that were provably staler than their contract allows.",
    );
    for (id, route) in metered() {
        let count = sum(stripes_of(metrics, id).map(|stripe| &stripe.stale_reads));
        text.sample(stale, &[("route", &route.name)], &count);
    }
}

fn upstreams(metrics: &Metrics, text: &mut Text) {
    text.family(
        "tidegate_upstream_seconds",
        "histogram",
        "Time from sending an attempt to the response head.",
    );
    for (u, upstream) in metrics.upstreams.iter().enumerate() {
        for (n, node) in upstream.nodes.iter().enumerate() {
            let Some(name) = node.name.lock().clone() else { continue };
            let stripes = metrics
                .stripes
                .iter()
                .filter_map(|stripe| stripe.upstreams.get(u)?.nodes.get(n));
            let total = summed(stripes.map(|stripe| &stripe.seconds));
            let labels = [("upstream", upstream.name.as_str()), ("node", name.as_str())];
            text.histogram("tidegate_upstream_seconds", &labels, &total, &LATENCY_BOUNDS_US, 1e6);
        }
    }
    text.family("tidegate_node_state", "gauge", "1 for the state a node is in.");
    for upstream in &metrics.upstreams {
        for node in &upstream.nodes {
            let Some(name) = node.name.lock().clone() else { continue };
            let now = usize::from(node.state.load(Ordering::Relaxed));
            for (at, state) in NodeState::ALL.iter().enumerate() {
                let labels = [
                    ("upstream", upstream.name.as_str()),
                    ("node", &name),
                    ("state", state.word()),
                ];
                text.sample("tidegate_node_state", &labels, &u64::from(at == now));
            }
        }
    }
    text.family(
        "tidegate_retries_total",
        "counter",
        "Repeated attempts, by what the one before met.",
    );
    for (u, upstream) in metrics.upstreams.iter().enumerate() {
        for (at, reason) in RetryReason::ALL.iter().enumerate() {
            let stripes = metrics
                .stripes
                .iter()
                .filter_map(|stripe| stripe.upstreams.get(u)?.retries.get(at));
            let labels = [("upstream", upstream.name.as_str()), ("reason", reason.word())];
            text.sample("tidegate_retries_total", &labels, &sum(stripes));
        }
    }
    let failovers: Vec<_> = metrics
        .upstreams
        .iter()
        .map(|u| (u.name.as_str(), summed([&*u.failover_seconds])))
        .collect();
    text.family("tidegate_failovers_total", "counter", "Times another node took over.");
    for (name, total) in &failovers {
        text.sample("tidegate_failovers_total", &[("upstream", name)], &total.count());
    }
    text.family(
        "tidegate_failover_seconds",
        "histogram",
        "Time from the first sign of failure to the new node in service.",
    );
    for (name, total) in &failovers {
        text.histogram(
            "tidegate_failover_seconds",
            &[("upstream", name)],
            total,
            &LATENCY_BOUNDS_US,
            1e6,
        );
    }
}

/// What may be lost when the primary changes, and what keeps it from changing.
fn views(metrics: &Metrics, text: &mut Text) {
    let lossy = "tidegate_lossy_failover_possible";
    text.family(lossy, "gauge", "1 where a failover can lose acked writes.");
    for upstream in &metrics.upstreams {
        text.sample(lossy, &[("upstream", &upstream.name)], &u64::from(upstream.lossy));
    }
    let not_durable = "tidegate_view_not_durable_total";
    text.family(
        not_durable,
        "counter",
        "Changes of the view that could not be made durable: dropped, except over a shared store.",
    );
    for upstream in &metrics.upstreams {
        let count = upstream.not_durable.load(Ordering::Relaxed);
        text.sample(not_durable, &[("upstream", &upstream.name)], &count);
    }
}

fn process(gauges: &Gauges, text: &mut Text) {
    for (name, kind, help, value) in [
        (
            "tidegate_cache_bytes",
            "gauge",
            "Memory held by the cache.",
            gauges.cache_bytes,
        ),
        (
            "tidegate_cache_entries",
            "gauge",
            "Stored entries.",
            gauges.cache_entries,
        ),
        (
            "tidegate_cache_evictions_total",
            "counter",
            "Entries evicted for room.",
            gauges.cache_evictions,
        ),
        (
            "tidegate_access_log_dropped_total",
            "counter",
            "Records of the access log that were not written.",
            gauges.access_log_dropped,
        ),
        // What runs was loaded; a reload that fails keeps it and says so here.
        (
            "tidegate_config_reload_success",
            "gauge",
            "Whether the last load of the configuration succeeded.",
            u64::from(!gauges.reload_failed),
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &[], &value);
    }
    text.family("tidegate_connections", "gauge", "Open client connections.");
    for listener in &gauges.listeners {
        text.sample("tidegate_connections", &[("listener", &listener.name)], &listener.open);
    }
    text.family(
        "tidegate_connections_refused_total",
        "counter",
        "Connections closed at once above max_connections.",
    );
    for listener in &gauges.listeners {
        text.sample(
            "tidegate_connections_refused_total",
            &[("listener", &listener.name)],
            &listener.refused,
        );
    }
    let handshakes = "tidegate_tls_handshakes_total";
    text.family(
        handshakes,
        "counter",
        "TLS handshakes with clients, by what came of them.",
    );
    for listener in &gauges.listeners {
        for (kind, count) in &listener.handshakes {
            let labels = [
                ("listener", listener.name.as_str()),
                ("result", kind.result),
                ("version", kind.version),
                ("alpn", kind.alpn),
                ("resumed", if kind.resumed { "true" } else { "false" }),
            ];
            text.sample(handshakes, &labels, count);
        }
    }
    let expires = "tidegate_tls_certificate_expires_seconds";
    text.family(
        expires,
        "gauge",
        "When the first of a listener's certificates expires, in seconds since 1970.",
    );
    for listener in &gauges.listeners {
        if let Some(at) = listener.certificate_expires {
            text.sample(expires, &[("listener", &listener.name)], &(at.as_millis() / 1000));
        }
    }
    for (name, help, value) in [
        (
            "tidegate_http2_streams_thrown_away_total",
            "HTTP/2 streams that ended before their answer did, of client connections that are over.",
            (|listener| listener.streams_thrown_away) as fn(&ListenerGauge) -> u64,
        ),
        (
            "tidegate_http2_floods_total",
            "HTTP/2 client connections closed for the streams they threw away.",
            |listener| listener.floods,
        ),
    ] {
        text.family(name, "counter", help);
        for listener in &gauges.listeners {
            text.sample(name, &[("listener", &listener.name)], &value(listener));
        }
    }
    text.family("tidegate_build_info", "gauge", "1, labelled with the version.");
    text.sample("tidegate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], &1);
}

/// The routes' names, then the empty one of requests that matched none.
fn route_names(metrics: &Metrics) -> impl Iterator<Item = &str> {
    metrics.routes.iter().map(|route| route.name.as_str()).chain([""])
}

fn stripes_of(metrics: &Metrics, route: usize) -> impl Iterator<Item = &RouteStripe> {
    metrics
        .stripes
        .iter()
        .filter_map(move |stripe| stripe.routes.get(route))
        .map(std::sync::Arc::as_ref)
}

fn summed<'a>(stripes: impl IntoIterator<Item = &'a Histogram>) -> Summed {
    let mut total = Summed::default();
    for stripe in stripes {
        stripe.add_to(&mut total);
    }
    total
}

fn sum<'a>(counters: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// `per_second` turns the unit of the bounds into the seconds that Prometheus wants.
    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        total: &Summed,
        bounds: &[u64; BOUNDS],
        per_second: f64,
    ) {
        let seconds = |value: u64| value as f64 / per_second;
        let bucket = format!("{name}_bucket");
        let mut cumulative = 0;
        let ends = bounds
            .iter()
            .map(|bound| seconds(*bound).to_string())
            .chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(&total.buckets) {
            cumulative += count;
            let mut with_end = labels.to_vec();
            with_end.push(("le", &end));
            self.sample(&bucket, &with_end, &cumulative);
        }
        self.sample(&format!("{name}_sum"), labels, &seconds(total.sum));
        self.sample(&format!("{name}_count"), labels, &cumulative);
    }
}
