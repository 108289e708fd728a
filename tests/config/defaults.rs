//! What nobody said: INTERFACE.md section 1, value by value.

use crate::support::{good, load, messages};
use std::time::Duration;
use tidegate::config::print;
use tidegate::config::runtime::{
    Action, Balance, Bind, Failover, GateBy, HostHeader, LogFormat, Mode, Promotion, Sources, Standby,
};
use tidegate::core::policy::{Contract, OnUnreachable, OriginTtl, Writers};

const SMALLEST: &str =
    "[upstreams.orders]\nnodes = [{ url = \"http://127.0.0.1:9000\" }]\n[[routes]]\nupstream = \"orders\"\n";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn an_empty_file_is_a_proxy_that_knows_no_route() {
    let loaded = load("");
    let config = loaded.config.as_ref().unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(
        (config.listeners[0].name.as_str(), &config.listeners[0].bind),
        ("main", &Bind::AllInterfaces(8080))
    );
    assert_eq!(config.admin.address, "127.0.0.1:9901".parse().unwrap());
    assert!(config.routes.is_empty() && config.upstreams.is_empty());
    assert!(
        messages(&loaded).contains("every request is answered 404"),
        "{}",
        messages(&loaded)
    );
}

#[test]
fn the_smallest_file_has_the_defaults_of_the_interface() {
    let loaded = load(SMALLEST);
    assert_eq!(messages(&loaded), "");
    let config = loaded.config.unwrap();
    let server = &config.server;
    assert!(server.threads >= 1);
    assert_eq!((server.drain_delay, server.drain_timeout), (seconds(0), seconds(25)));
    let listener = &config.listeners[0];
    assert_eq!(
        (listener.header_timeout, listener.idle_timeout, listener.body_timeout),
        (seconds(10), seconds(75), seconds(30))
    );
    assert_eq!((listener.max_header_bytes, listener.max_headers), (32 << 10, 100));
    assert_eq!((listener.max_body, listener.max_connections), (64 << 20, 10_000));
    assert_eq!(listener.trusted_proxies, Sources::default());
    assert!(listener.debug_from.contains(Some("127.0.0.1".parse().unwrap())));
    assert!(config.admin.token.is_none() && !config.admin.metrics_token);
    assert_eq!((config.cache.max_memory, config.cache.max_object), (256 << 20, 8 << 20));
    assert_eq!(
        (config.telemetry.log.as_str(), config.telemetry.log_format),
        ("info", LogFormat::Text)
    );
    assert_eq!(config.telemetry.access_log, None);

    let upstream = &config.upstreams[0];
    assert_eq!(
        (upstream.mode, upstream.balance.clone(), upstream.gate),
        (Mode::ActiveActive, Balance::LeastRequest, GateBy::Path)
    );
    assert_eq!(upstream.host, HostHeader::Preserve);
    assert_eq!(
        (upstream.connect_timeout, upstream.response_timeout),
        (seconds(1), seconds(15))
    );
    assert_eq!((upstream.max_connections, upstream.max_pending), (256, 1024));
    assert!(upstream.health_check.is_none());
    assert_eq!((upstream.retry.attempts, upstream.retry.budget_percent), (2, 20));
    assert!(upstream.retry.on.connect && upstream.retry.on.reset);
    assert_eq!(upstream.retry.on.statuses, [502, 503, 504]);
    assert_eq!(upstream.settle_after, None);
    let node = &upstream.nodes[0];
    assert_eq!(
        (node.name.as_str(), node.host.as_str(), node.port),
        ("127.0.0.1:9000", "127.0.0.1", 9000)
    );
    assert_eq!((node.weight, node.max_in_flight), (1, 0));

    let route = &config.routes[0];
    assert_eq!(
        (route.name.as_str(), route.timeout, route.max_in_flight),
        ("route-1", seconds(30), Some(1000))
    );
    let Action::Proxy { policy, rewrite, .. } = &route.action else {
        panic!("{:?}", route.action)
    };
    assert!(rewrite.is_none());
    assert_eq!(policy.level(), "off");
}

#[test]
fn a_health_check_has_the_defaults_of_the_interface() {
    let config = good(&format!(
        "{SMALLEST}[upstreams.orders.health_check]\npath = \"/healthz\"\n"
    ));
    let check = config.upstreams[0].health_check.as_ref().unwrap();
    assert_eq!(
        (check.interval, check.timeout),
        (seconds(1), Duration::from_millis(500))
    );
    assert_eq!(
        (
            check.healthy_threshold,
            check.unhealthy_threshold,
            check.initially_healthy
        ),
        (2, 3, false)
    );
}

#[test]
fn failover_has_the_defaults_of_the_interface() {
    let config = good(SMALLEST);
    assert_eq!(config.upstreams[0].failover, Failover::default());
    let cold = "[upstreams.orders]\nmode = \"active-passive\"\nnodes = [{ url = \"http://a\" }, { url = \"http://b\" }, \
        { url = \"http://c\", standby = \"warm\" }, { url = \"http://d\", standby = \"cold\", start = [\"up\", \"{node}\"] }]\n\
        health_check = { path = \"/\" }\n[[routes]]\nupstream = \"orders\"\n";
    let config = good(cold);
    let standby: Vec<_> = config.upstreams[0].nodes.iter().map(|n| n.standby.clone()).collect();
    let started = Standby::Cold {
        start: vec!["up".into(), "{node}".into()],
        start_timeout: seconds(30),
    };
    assert_eq!(standby, [None, Some(Standby::Hot), Some(Standby::Warm), Some(started)]);
}

#[test]
fn r30_who_promotes_follows_from_what_the_nodes_say() {
    use Promotion::{Automatic, Follow, Manual};
    let roles = "role_header = \"R\"";
    let positions = "position_header = \"P\"";
    let both = "role_header = \"R\", position_header = \"P\"";
    for (replication, said, written, expected) in [
        ("primary", "tcp = false", "", Manual),
        ("primary", roles, "", Follow),
        ("primary", positions, "", Automatic),
        ("primary", both, "", Follow),
        ("primary", both, "promotion = \"automatic\"", Automatic),
        ("primary", both, "promotion = \"manual\"", Manual),
        (
            "primary",
            "tcp = false",
            "promotion = \"automatic\"\nunclean = true",
            Automatic,
        ),
        ("shared", "tcp = false", "", Manual),
        ("multi-primary", "tcp = false", "", Manual),
    ] {
        let loaded = load(&format!(
            "[upstreams.orders]\nreplication = \"{replication}\"\nnodes = [{{ url = \"http://a\" }}, {{ url = \"http://b\" }}]\n\
             health_check = {{ path = \"/\", {said} }}\n[upstreams.orders.failover]\n{written}\n[[routes]]\nupstream = \"orders\"\n"
        ));
        assert!(loaded.errors.is_empty(), "{}", messages(&loaded));
        let printed = print::effective(&loaded);
        let config = loaded.config.unwrap();
        let case = format!("{replication}, {said}, {written}");
        assert_eq!(config.upstreams[0].failover.promotion, expected, "{case}");
        let word = format!("promotion = \"{}\"", format!("{expected:?}").to_lowercase());
        assert_eq!(printed.contains(&word), replication == "primary", "{case}\n{printed}");
    }
}

#[test]
fn passive_health_is_off_and_has_the_defaults_of_the_interface() {
    assert_eq!(good(SMALLEST).upstreams[0].outlier, None);
    let config = good(&format!("{SMALLEST}[upstreams.orders.outlier]\n"));
    let outlier = config.upstreams[0].outlier.unwrap();
    assert_eq!((outlier.consecutive_errors, outlier.ejection_time), (5, seconds(10)));
    assert_eq!(outlier.max_ejected_percent, 50);
}

#[test]
fn each_level_has_its_defaults() {
    let contract = |level: &str, more: &str| {
        let config = good(&format!("{SMALLEST}consistency = \"{level}\"\n{more}"));
        let Action::Proxy { policy, upstream, .. } = config.routes[0].action.clone() else {
            panic!()
        };
        (policy.contract.clone(), upstream)
    };
    let Contract::Weak(caching) = contract("weak", "").0 else {
        panic!()
    };
    assert_eq!(
        (
            caching.ttl,
            caching.origin_ttl,
            caching.stale_while_revalidate,
            caching.stale_if_error
        ),
        (None, OriginTtl::Honor, None, None)
    );
    assert!(caching.collapse && !caching.store_set_cookie && !caching.shared_auth);
    assert_eq!((caching.max_waiters, caching.max_object), (1000, 8 << 20));
    let Contract::Eventual(_, bounded) = contract("eventual", "").0 else {
        panic!()
    };
    assert_eq!(
        (bounded.max_staleness.as_secs(), bounded.on_unreachable),
        (60, OnUnreachable::Error)
    );
    let Contract::Eventual(caching, bounded) = contract("eventual", "on_unreachable = \"stale\"\n").0 else {
        panic!()
    };
    assert_eq!(
        (caching.stale_if_error.map(|s| s.as_secs()), bounded.on_unreachable),
        (Some(3600), OnUnreachable::Stale)
    );
    let (Contract::Strong(caching, proof), upstream) = contract("strong", "") else {
        panic!()
    };
    assert_eq!(
        (caching.ttl, proof.writers, proof.settle_after.as_secs()),
        (None, Writers::External, 60)
    );
    assert_eq!(upstream.settle_after, Some(seconds(60)));
}

#[test]
fn print_config_reads_back_to_the_same_configuration() {
    let loaded = load(SMALLEST);
    let printed = print::effective(&loaded);
    let again = load(&printed);
    assert!(again.errors.is_empty(), "{}\n{printed}", messages(&again));
    assert_eq!(again.config.unwrap().hash, loaded.config.unwrap().hash, "{printed}");
}

#[test]
fn the_access_log_has_a_format_or_is_off() {
    for (value, expected) in [
        ("text", Some(LogFormat::Text)),
        ("json", Some(LogFormat::Json)),
        ("off", None),
    ] {
        let text = format!("[telemetry]\naccess_log = \"{value}\"\n[[routes]]\nrespond = {{}}\n");
        assert_eq!(good(&text).telemetry.access_log, expected);
    }
}
