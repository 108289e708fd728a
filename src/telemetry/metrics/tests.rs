#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use super::{Gauges, Handshake, ListenerGauge, Metrics};
use crate::config::runtime::{
    Action, Admin, Cache, Config, LogFormat, Match, Node, Route, Server, Telemetry, Upstream,
};
use crate::core::policy::{Contract, Policy};
use crate::core::reason::{NodeState, NotStored, Outcome, RetryReason, WriteOutcome};
use crate::core::time::{Age, WallTime};
use http::StatusCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Two nodes, one proxied route and one that answers by itself; `threads` stripes and one.
fn config(threads: usize) -> Config {
    let node = |name: &str| Node {
        name: name.to_owned(),
        url: format!("http://{name}:80"),
        host: name.to_owned(),
        port: 80,
        weight: 1,
        max_in_flight: 0,
        standby: None,
    };
    let second = Duration::from_secs(1);
    let upstream = Arc::new(Upstream::plain(0, "or\"ders", vec![node("a"), node("b")]));
    let route = |id: usize, name: &str, action: Action| {
        Arc::new(Route {
            invalidates: Vec::new(),
            id,
            contract: id,
            name: name.to_owned(),
            matches: Match::default(),
            action,
            set_request_headers: Vec::new(),
            set_response_headers: Vec::new(),
            timeout: second,
            max_in_flight: None,
        })
    };
    let policy = Arc::new(Policy {
        contract: Contract::Off,
        idempotency_header: None,
    });
    Config {
        server: Server {
            pair: false,
            threads,
            drain_delay: second,
            state_dir: None,
            drain_timeout: second,
            ready_requires: Vec::new(),
        },
        listeners: Vec::new(),
        admin: Admin {
            address: ([127, 0, 0, 1], 0).into(),
            token: None,
            metrics_token: false,
        },
        cache: Cache {
            max_memory: 1,
            max_object: 1,
        },
        session: Default::default(),
        telemetry: Telemetry {
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            access_log: None,
            meter: None,
        },
        upstreams: vec![Arc::clone(&upstream)],
        routes: vec![
            route(
                0,
                "orders",
                Action::Proxy {
                    upstream,
                    policy,
                    rewrite: None,
                },
            ),
            route(
                1,
                "ping",
                Action::Respond {
                    status: StatusCode::OK,
                    body: bytes::Bytes::new(),
                },
            ),
        ],
        numbers: Default::default(),
        hash: String::new(),
        effective: std::sync::Arc::default(),
    }
}

/// The value of the one line that starts with `sample`.
fn value(text: &str, sample: &str) -> String {
    let found: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
        .collect();
    assert_eq!(found.len(), 1, "{sample} in\n{text}");
    found[0].to_owned()
}

#[test]
fn counts_of_many_threads_on_few_stripes_are_exact() {
    let metrics = Metrics::new(&config(2));
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let metrics = Arc::clone(&metrics);
            thread::spawn(move || {
                for n in 0..10_000_u64 {
                    let outcome = if n % 4 == 0 { Outcome::Miss } else { Outcome::Hit };
                    metrics.request(Some(0), outcome, StatusCode::OK, Duration::from_micros(thread + 1));
                    metrics.served_age(0, Age::from_millis(1));
                    metrics.write(0, WriteOutcome::Applied);
                    metrics.upstream_answered(0, 1, Duration::from_micros(1));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let text = metrics.render(&Gauges::default());
    let requests = |result: &str| {
        value(
            &text,
            &format!("tidegate_requests_total{{route=\"orders\",result=\"{result}\",code=\"200\"}}"),
        )
    };
    assert_eq!(requests("hit"), "60000");
    assert_eq!(requests("miss"), "20000");
    assert_eq!(
        value(&text, "tidegate_request_seconds_count{route=\"orders\"}"),
        "80000"
    );
    assert_eq!(value(&text, "tidegate_request_seconds_sum{route=\"orders\"}"), "0.36");
    assert_eq!(value(&text, "tidegate_served_age_seconds_sum{route=\"orders\"}"), "80");
    assert_eq!(
        value(&text, "tidegate_writes_total{route=\"orders\",outcome=\"applied\"}"),
        "80000"
    );
    assert_eq!(
        value(
            &text,
            "tidegate_upstream_seconds_count{upstream=\"or\\\"ders\",node=\"b\"}"
        ),
        "80000"
    );
    assert_eq!(
        value(
            &text,
            "tidegate_upstream_seconds_count{upstream=\"or\\\"ders\",node=\"a\"}"
        ),
        "0"
    );
}

#[test]
fn more_codes_than_a_table_holds_are_still_exact() {
    let metrics = Metrics::new(&config(1));
    for round in 0..3 {
        for code in 200..600_u16 {
            for outcome in Outcome::ALL {
                let status = StatusCode::from_u16(code).unwrap();
                metrics.request(Some(0), outcome, status, Duration::from_micros(round));
            }
        }
    }
    let text = metrics.render(&Gauges::default());
    let counted: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("tidegate_requests_total{"))
        .collect();
    assert_eq!(counted.len(), 400 * Outcome::ALL.len());
    assert!(counted.iter().all(|line| line.ends_with(" 3")), "{counted:?}");
}

#[test]
fn a_value_on_a_bound_belongs_to_its_bucket_and_buckets_are_cumulative() {
    let metrics = Metrics::new(&config(1));
    for us in [50, 51, 100, 20_000_000] {
        metrics.request(Some(0), Outcome::Hit, StatusCode::OK, Duration::from_micros(us));
    }
    let text = metrics.render(&Gauges::default());
    let bucket = |le: &str| {
        value(
            &text,
            &format!("tidegate_request_seconds_bucket{{route=\"orders\",le=\"{le}\"}}"),
        )
    };
    assert_eq!(bucket("0.00005"), "1");
    assert_eq!(bucket("0.0001"), "3");
    assert_eq!(bucket("10"), "3");
    assert_eq!(bucket("+Inf"), "4");
}

#[test]
fn everything_else_shows_up_under_its_name() {
    let metrics = Metrics::new(&config(1));
    metrics.request(None, Outcome::Refused, StatusCode::NOT_FOUND, Duration::ZERO);
    metrics.fill_refused(0, NotStored::TokenDead);
    metrics.retried(0, RetryReason::Reset);
    metrics.node_state(0, 1, NodeState::Active);
    metrics.failover(0, Duration::from_millis(1500));
    let text = metrics.render(&Gauges {
        reload_failed: false,
        cache_bytes: 7,
        cache_entries: 3,
        cache_evictions: 2,
        access_log_dropped: 9,
        unsettled: vec![4],
        listeners: vec![ListenerGauge {
            name: "main".to_owned(),
            open: 5,
            refused: 6,
            handshakes: vec![(
                Handshake {
                    result: "ok",
                    version: "1.3",
                    alpn: "h2",
                    resumed: true,
                },
                8,
            )],
            certificate_expires: Some(WallTime::from_millis(1_800_000_000_999)),
            streams_thrown_away: 3,
            floods: 1,
        }],
    });
    for (sample, expected) in [
        (
            "tidegate_requests_total{route=\"\",result=\"refused\",code=\"404\"}",
            "1",
        ),
        (
            "tidegate_fills_refused_total{route=\"orders\",reason=\"token-dead\"}",
            "1",
        ),
        ("tidegate_fills_refused_total{route=\"orders\",reason=\"older\"}", "0"),
        ("tidegate_access_log_dropped_total", "9"),
        ("tidegate_retries_total{upstream=\"or\\\"ders\",reason=\"reset\"}", "1"),
        (
            "tidegate_node_state{upstream=\"or\\\"ders\",node=\"b\",state=\"active\"}",
            "1",
        ),
        (
            "tidegate_node_state{upstream=\"or\\\"ders\",node=\"a\",state=\"unprobed\"}",
            "1",
        ),
        (
            "tidegate_node_state{upstream=\"or\\\"ders\",node=\"a\",state=\"active\"}",
            "0",
        ),
        ("tidegate_failovers_total{upstream=\"or\\\"ders\"}", "1"),
        ("tidegate_failover_seconds_sum{upstream=\"or\\\"ders\"}", "1.5"),
        ("tidegate_lossy_failover_possible{upstream=\"or\\\"ders\"}", "0"),
        ("tidegate_view_not_durable_total{upstream=\"or\\\"ders\"}", "0"),
        ("tidegate_unsettled{route=\"orders\"}", "4"),
        ("tidegate_cache_bytes", "7"),
        ("tidegate_cache_entries", "3"),
        ("tidegate_cache_evictions_total", "2"),
        ("tidegate_connections{listener=\"main\"}", "5"),
        ("tidegate_connections_refused_total{listener=\"main\"}", "6"),
        (
            "tidegate_tls_handshakes_total{listener=\"main\",result=\"ok\",version=\"1.3\",alpn=\"h2\",resumed=\"true\"}",
            "8",
        ),
        ("tidegate_http2_streams_thrown_away_total{listener=\"main\"}", "3"),
        ("tidegate_http2_floods_total{listener=\"main\"}", "1"),
        (
            "tidegate_tls_certificate_expires_seconds{listener=\"main\"}",
            "1800000000",
        ),
        ("tidegate_config_reload_success", "1"),
    ] {
        assert_eq!(value(&text, sample), expected, "{sample}");
    }
    assert!(
        !text.contains("tidegate_writes_total{route=\"ping\""),
        "a route that answers by itself writes nothing"
    );
}

#[test]
fn every_sample_belongs_to_a_family_that_was_announced() {
    let text = Metrics::new(&config(1)).render(&Gauges::default());
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} under {family}");
        }
    }
}
