//! The consistency meter: hits that are asked about at the primary behind the client's back, and what is concluded. Nobody is blamed
//! without evidence, and nothing is disturbed by the asking.

use super::support::client::Client;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Node, Point, Register};
use std::time::Duration;

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const EVENTUAL: &str = "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"1h\"";
const EXCLUSIVE: &str = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"100ms\"";
const ALL: &str = "sample = \"100%\"\nmax_per_second = 1000";
const STALE: &str = "tidegate_stale_reads_total";
const COUNT: &str = "tidegate_measured_staleness_seconds_count";
const SUM: &str = "tidegate_measured_staleness_seconds_sum";

async fn before(url: String, keys: &str, meter: &str) -> Proxy {
    let config = format!("[telemetry.meter]\n{meter}\n\n{}", one_route(keys));
    let config = config + "\n[upstreams.o.retry]\nattempts = 1\n";
    Proxy::start(&config, &[("origin", &url)]).await
}

/// Stores `/x`.
async fn fetched(client: &mut Client, origin: &mut Origin, fields: &[(&str, &str)]) {
    client.ask("GET", "/x", &[], b"").await;
    origin.next().await.respond(200, fields, "old").await;
    assert_eq!(client.answer().await.text(), "old");
}

async fn hit(client: &mut Client) {
    let hit = client.get("/x").await;
    assert!(hit.is_hit() && hit.text() == "old", "{}", hit.cache_status());
}

/// What the meter has found on the one route.
async fn found(proxy: &Proxy) -> serde_json::Value {
    proxy.status().await["routes"][0]["meter"].clone()
}

async fn until(proxy: &Proxy, what: &str, number: u64) {
    eventually(format!("{what} to be {number}"), || async {
        found(proxy).await[what] == number
    })
    .await;
}

#[tokio::test]
async fn a_hit_that_the_primary_confirms_was_not_stale() {
    for keys in [WEAK, EVENTUAL] {
        let mut origin = Origin::start().await;
        let proxy = before(origin.url(), keys, ALL).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
        client
            .ask(
                "GET",
                "/x",
                &[("If-None-Match", "\"other\""), ("Range", "bytes=0-1")],
                b"",
            )
            .await;
        assert_eq!(client.answer().await.status, 206);
        let exchange = origin.next().await;
        assert_eq!(exchange.method, "GET");
        assert_eq!(
            exchange.header("if-none-match"),
            Some("\"1\""),
            "ours, not the client's"
        );
        assert_eq!(exchange.header("cache-control"), Some("no-cache"));
        assert!(!exchange.headers.has("range"));
        exchange.respond(304, &[("ETag", "\"1\"")], "").await;
        until(&proxy, "judged", 1).await;
        assert_eq!(proxy.metric(COUNT, &[("route", "r")]).await, 1.0);
        assert_eq!(proxy.metric(SUM, &[("route", "r")]).await, 0.0);
        assert_eq!(proxy.metric(STALE, &[("route", "r")]).await, 0.0);
        // No request of the route: one miss and one hit are all there is.
        assert_eq!(proxy.metric("tidegate_requests_total", &[("route", "r")]).await, 2.0);
    }
}

#[tokio::test]
async fn a_value_that_changed_nobody_knows_when_blames_nobody_and_the_next_hit_is_provably_stale() {
    for (keys, blamed) in [(WEAK, 1.0), (EVENTUAL, 0.0)] {
        let mut origin = Origin::start().await;
        let proxy = before(origin.url(), keys, ALL).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
        hit(&mut client).await;
        origin.next().await.respond(200, &[("ETag", "\"2\"")], "new").await;
        until(&proxy, "judged", 1).await;
        assert_eq!(proxy.metric(SUM, &[]).await, 0.0);
        assert_eq!(proxy.metric(STALE, &[]).await, 0.0);
        // It is known by now that there is a newer one, and for how long.
        tokio::time::sleep(Duration::from_millis(20)).await;
        hit(&mut client).await;
        origin.next().await.respond(200, &[("ETag", "\"2\"")], "new").await;
        until(&proxy, "judged", 2).await;
        assert!(proxy.metric(SUM, &[]).await >= 0.02);
        // Within the bound of its contract it is nobody's fault.
        assert_eq!(proxy.metric(STALE, &[]).await, blamed, "{keys}");
        // The meter looks on: what is stored is as it was.
        hit(&mut client).await;
        origin.next().await.respond(304, &[("ETag", "\"1\"")], "").await;
        until(&proxy, "judged", 3).await;
    }
}

#[tokio::test]
async fn without_a_strong_etag_the_bodies_are_compared() {
    for (body, judged_stale) in [("old", false), ("new", true), ("ol", true), ("older", true), ("", true)] {
        let mut origin = Origin::start().await;
        let proxy = before(origin.url(), WEAK, ALL).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, &[("ETag", "W/\"1\"")]).await;
        for round in 1..=2 {
            tokio::time::sleep(Duration::from_millis(2)).await; // so that a second look is later by what can be measured
            hit(&mut client).await;
            let exchange = origin.next().await;
            assert!(!exchange.headers.has("if-none-match"), "a weak tag proves nothing");
            exchange.respond(200, &[("ETag", "W/\"1\"")], body).await;
            until(&proxy, "judged", round).await;
        }
        let stale = proxy.metric(STALE, &[]).await;
        assert_eq!(stale > 0.0, judged_stale, "{body:?}");
    }
}

#[tokio::test]
async fn a_write_in_between_and_no_usable_answer_make_a_re_read_void() {
    for case in ["a write", "a purge", "500", "429", "a break", "a cache below"] {
        let mut origin = Origin::start().await;
        let proxy = before(origin.url(), WEAK, ALL).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
        hit(&mut client).await;
        let asked = origin.next().await;
        let newer = [("ETag", "\"2\"")];
        match case {
            "a write" => {
                let mut writer = proxy.client().await;
                writer.ask("PUT", "/x", &[], b"new").await;
                origin.next().await.respond(204, &[], "").await;
                assert_eq!(writer.answer().await.status, 204);
                asked.respond(200, &newer, "new").await;
            }
            "a purge" => {
                proxy.purge("{\"url\":\"/x\"}").await;
                asked.respond(200, &newer, "new").await;
            }
            "500" => asked.respond(500, &newer, "new").await,
            "429" => asked.respond(429, &newer, "new").await,
            "a break" => asked.reset(),
            _ => asked.respond(200, &[("ETag", "\"2\""), ("Age", "7")], "new").await,
        }
        until(&proxy, "void", 1).await;
        assert_eq!(found(&proxy).await["judged"], 0, "{case}");
        assert_eq!(proxy.metric(COUNT, &[]).await, 0.0, "{case}");
    }
}

/// An exclusive route in gear, with `/x` = "old" stored and proven, and every hit asked about.
async fn in_gear() -> (Register, Node, Proxy) {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let proxy = before(node.url(), EXCLUSIVE, ALL).await;
    until_proven(&proxy).await;
    (register, node, proxy)
}

async fn until_proven(proxy: &Proxy) {
    eventually("a hit by the gate", || async {
        proxy.get("/x").await.consistency() == "strong;proof=exclusive"
    })
    .await;
}

#[tokio::test]
async fn a_proven_hit_that_the_primary_contradicts_is_a_violation_and_is_not_served_again() {
    let (register, _node, proxy) = in_gear().await;
    until(&proxy, "judged", 1).await;
    assert_eq!(proxy.metric(STALE, &[]).await, 0.0);
    // Somebody else writes, which the route was promised would not happen.
    register.write("/x", "new");
    assert_eq!(proxy.get("/x").await.text(), "old");
    proxy.until_metric(STALE, &[("route", "r")], 1.0).await;
    let next = proxy.get("/x").await;
    assert_eq!((next.text(), next.is_hit()), ("new", false));
}

#[tokio::test]
async fn a_write_through_the_proxy_is_no_violation_whenever_it_comes() {
    let (register, _node, proxy) = in_gear().await;
    until(&proxy, "judged", 1).await;
    for round in 0..20 {
        until_proven(&proxy).await;
        let mut asked = register.hold("GET", "/x", Point::Arrived);
        assert!(proxy.get("/x").await.is_hit());
        // The re-read waits at the node while the value changes.
        let held = asked.next().await;
        assert_eq!(proxy.put("/x", &round.to_string()).await.status, 204);
        drop(asked);
        drop(held);
        assert_eq!(proxy.put("/x", "old").await.status, 204);
        assert_eq!(proxy.get("/x").await.text(), "old");
    }
    assert_eq!(proxy.metric(STALE, &[]).await, 0.0);
}

#[tokio::test]
async fn credentials_are_used_for_nothing_that_was_not_asked_and_heads_are_not_asked_about() {
    let mut origin = Origin::start().await;
    let proxy = before(origin.url(), &format!("{WEAK}\nshared_auth = true"), ALL).await;
    let mut client = proxy.client().await;
    fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
    for fields in [[("Authorization", "Bearer x")], [("Cookie", "a=b")]] {
        assert!(client.get_with("/x", &fields).await.is_hit());
    }
    assert!(client.request("HEAD", "/x", &[], b"").await.is_hit());
    origin.expect_idle().await;
}

#[tokio::test]
async fn off_asks_nothing_and_shows_nothing() {
    for meter in ["", "sample = \"0%\"", "max_per_second = 5"] {
        let mut origin = Origin::start().await;
        let proxy = before(origin.url(), WEAK, meter).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
        for _ in 0..50 {
            hit(&mut client).await;
        }
        origin.expect_idle().await;
        assert!(found(&proxy).await.is_null());
        assert!(!proxy.admin_get("/metrics").await.text().contains("stale_reads"));
    }
}

#[tokio::test]
async fn no_more_are_under_way_than_may_come_in_a_second_and_a_share_is_a_share() {
    let mut origin = Origin::start().await;
    let proxy = before(origin.url(), WEAK, "sample = \"100%\"\nmax_per_second = 1").await;
    let mut client = proxy.client().await;
    fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
    for _ in 0..200 {
        hit(&mut client).await;
    }
    // One is asked, and while it waits no other.
    let asked = origin.next().await;
    origin.expect_idle().await;
    asked.respond(304, &[("ETag", "\"1\"")], "").await;
    until(&proxy, "judged", 1).await;

    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let proxy = before(node.url(), WEAK, "sample = \"10%\"\nmax_per_second = 100000").await;
    let mut client = proxy.client().await;
    for _ in 0..1000 {
        assert_eq!(client.get("/x").await.text(), "old");
    }
    // 100 are expected; a fair draw is outside of this once in millions of runs.
    let asked = register.count("GET", "/x") - 1;
    assert!((50..=160).contains(&asked), "{asked} of 1000");
}

#[tokio::test]
async fn when_the_upstream_is_down_nothing_is_asked() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[telemetry.meter]\n{ALL}\n\n{}\n[upstreams.o.health_check]\npath = \"/healthz\"\ninterval = \"20ms\"\nhealthy_threshold = 1\n\
         unhealthy_threshold = 1\n",
        one_route(WEAK)
    );
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    fetched(&mut client, &mut origin, &[("ETag", "\"1\"")]).await;
    origin.set_healthy(false);
    let node = origin.address.to_string();
    proxy.until_state("o", &node, "unhealthy").await;
    for _ in 0..20 {
        hit(&mut client).await;
    }
    origin.expect_idle().await;
    let found = found(&proxy).await;
    assert_eq!((&found["judged"], &found["void"]), (&0.into(), &0.into()));
}
