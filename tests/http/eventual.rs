//! Level eventual: the bound (R42), stale-while-revalidate, stale-if-error, and the owner's choice when nobody can be asked.

use super::support::client::Client;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Point, Register};
use super::support::{eventually, within};
use std::time::{Duration, Instant};

async fn over(origin: &str, keys: &str) -> Proxy {
    let config = one_route(&format!("consistency = \"eventual\"\n{keys}")) + "\n[upstreams.o.retry]\nattempts = 1\n";
    Proxy::start(&config, &[("origin", origin)]).await
}

/// `bounded;staleness=MS;bound=MS` in its two numbers.
fn bounded(consistency: &str) -> (u64, u64) {
    let numbers = consistency
        .strip_prefix("bounded;staleness=")
        .and_then(|rest| rest.split_once(";bound="));
    let (staleness, bound) = numbers.unwrap_or_else(|| panic!("not a bounded answer: {consistency:?}"));
    (staleness.parse().unwrap(), bound.parse().unwrap())
}

#[tokio::test]
async fn r42_every_answer_says_how_stale_it_may_be_and_what_the_bound_is() {
    let register = Register::new();
    register.write("/x", "one");
    let node = register.node("a").await;
    let proxy = over(&node.url(), "ttl = \"30s\"\nmax_staleness = \"40s\"").await;
    let miss = proxy.get("/x").await;
    assert_eq!(bounded(miss.consistency()).1, 40_000);
    let hit = proxy.get("/x").await;
    assert!(hit.is_hit());
    let (staleness, bound) = bounded(hit.consistency());
    assert!(staleness < 40_000 && bound == 40_000, "{}", hit.consistency());
    let unchanged = proxy.get_with("/x", &[("If-None-Match", "\"v1\"")]).await;
    assert_eq!((unchanged.status, bounded(unchanged.consistency()).1), (304, 40_000));
    let head = proxy.request("HEAD", "/x", &[], "").await;
    assert_eq!(bounded(head.consistency()).1, 40_000);
    assert!(!proxy.put("/x", "two").await.headers.has("tidegate-consistency"));
}

#[tokio::test]
async fn r42_no_answer_is_older_than_the_bound() {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    // The origin claims an hour; the bound does not care.
    register.answer_with("/x", "Cache-Control", "max-age=3600");
    let proxy = over(&node.url(), "max_staleness = \"1s\"").await;
    assert_eq!(proxy.get("/x").await.text(), "old");
    assert!(proxy.get("/x").await.is_hit());
    register.write("/x", "new");
    let written = Instant::now();
    let mut last_old = Duration::ZERO;
    let mut client = proxy.client().await;
    within("the new value", async {
        loop {
            let begins = Instant::now();
            if client.get("/x").await.text() == "new" {
                return;
            }
            last_old = begins - written;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(
        last_old <= Duration::from_secs(1),
        "an old answer {last_old:?} after the write"
    );
}

#[tokio::test]
async fn r42_the_origins_age_and_its_rounding_count_against_the_bound() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin.url(), "max_staleness = \"10s\"").await;
    let mut client = proxy.client().await;
    for (age, hit) in [("5", true), ("9", false)] {
        let target = format!("/{age}");
        for n in 0..2 {
            client.ask("GET", &target, &[], b"").await;
            if n == 1 && hit {
                let answer = client.answer().await;
                assert!(answer.is_hit(), "Age {age}");
                assert!(bounded(answer.consistency()).0 >= 6000, "{}", answer.consistency());
                continue;
            }
            let headers = [("Cache-Control", "max-age=3600"), ("Age", age)];
            origin.next().await.respond(200, &headers, "x").await;
            client.answer().await;
        }
    }
}

#[tokio::test]
async fn a_write_through_the_proxy_is_seen_by_the_next_read() {
    let register = Register::new();
    register.write("/x", "one");
    let node = register.node("a").await;
    let proxy = over(&node.url(), "ttl = \"30s\"").await;
    assert_eq!(proxy.get("/x").await.text(), "one");
    assert!(proxy.get("/x").await.is_hit());
    assert_eq!(proxy.put("/x", "two").await.status, 204);
    assert_eq!(proxy.get("/x").await.text(), "two");
}

#[tokio::test]
async fn stale_while_revalidate_serves_at_once_and_refreshes_once_behind() {
    let register = Register::new();
    register.write("/x", "one");
    register.answer_with("/x", "Cache-Control", "max-age=0, stale-while-revalidate=30");
    let node = register.node("a").await;
    let proxy = over(&node.url(), "").await;
    assert_eq!(proxy.get("/x").await.text(), "one");
    register.write("/x", "two");
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    for _ in 0..3 {
        let stale = proxy.get("/x").await;
        assert_eq!((stale.status, stale.text()), (200, "one"));
        bounded(stale.consistency());
    }
    let held = hold.next().await;
    hold.expect_none();
    held.release();
    drop(hold);
    eventually("the refreshed entry", || async {
        proxy.get("/x").await.text() == "two"
    })
    .await;
    assert!(proxy.results("stale").await >= 3.0);
}

#[tokio::test]
async fn r42_stale_while_revalidate_never_reaches_past_the_bound() {
    let register = Register::new();
    register.write("/x", "one");
    register.answer_with("/x", "Cache-Control", "max-age=0, stale-while-revalidate=3600");
    let node = register.node("a").await;
    let proxy = over(&node.url(), "max_staleness = \"200ms\"").await;
    proxy.get("/x").await;
    register.write("/x", "two");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(proxy.get("/x").await.text(), "two");
}

/// Fills `/x`, kills the node, and answers the proxy and the node.
async fn cut_off(keys: &str, cache_control: &str) -> (Proxy, super::support::register::Node, Register) {
    let register = Register::new();
    register.write("/x", "one");
    register.answer_with("/x", "Cache-Control", cache_control);
    let node = register.node("a").await;
    let proxy = over(&node.url(), keys).await;
    assert_eq!(proxy.get("/x").await.text(), "one");
    node.down().await;
    (proxy, node, register)
}

#[tokio::test]
async fn r42_inside_the_bound_a_stale_entry_stands_in_for_a_node_that_cannot_be_reached() {
    for on_unreachable in ["error", "stale"] {
        let keys = format!("on_unreachable = \"{on_unreachable}\"\nmax_staleness = \"1h\"");
        let (proxy, _node, _) = cut_off(&keys, "max-age=0").await;
        let answer = proxy.get("/x").await;
        assert_eq!((answer.status, answer.text()), (200, "one"), "{on_unreachable}");
        bounded(answer.consistency());
    }
}

#[tokio::test]
async fn r42_must_revalidate_and_its_kin_are_never_served_stale() {
    for forbids in [
        "max-age=0, must-revalidate",
        "max-age=0, proxy-revalidate",
        "s-maxage=0",
        "no-cache",
    ] {
        for on_unreachable in ["error", "stale"] {
            let keys = format!("on_unreachable = \"{on_unreachable}\"\nmax_staleness = \"1h\"");
            let (proxy, _node, _) = cut_off(&keys, forbids).await;
            let answer = proxy.get("/x").await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (504, "stale-refused"),
                "{forbids} {on_unreachable}"
            );
        }
    }
}

#[tokio::test]
async fn r42_beyond_the_bound_error_refuses_and_stale_serves_flagged_breached() {
    let bound = "max_staleness = \"100ms\"";
    let (cp, _node, _) = cut_off(&format!("on_unreachable = \"error\"\n{bound}"), "max-age=0").await;
    let (ap, node, register) = cut_off(&format!("on_unreachable = \"stale\"\n{bound}"), "max-age=0").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let refused = cp.get("/x").await;
    assert_eq!((refused.status, refused.problem().as_str()), (504, "stale-refused"));
    let served = ap.get("/x").await;
    assert_eq!((served.status, served.text()), (200, "one"));
    assert!(served.consistency().contains("breached"), "{}", served.consistency());
    assert!(served.headers.has("age"));
    node.up().await;
    register.write("/x", "two");
    eventually("the node to be asked again", || async {
        ap.get("/x").await.text() == "two"
    })
    .await;
}

#[tokio::test]
async fn nothing_stored_and_nobody_to_ask_is_503() {
    let (proxy, _node, _) = cut_off("on_unreachable = \"stale\"", "max-age=0").await;
    let answer = proxy.get("/never-seen").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unreachable"));
}

#[tokio::test]
async fn r42_an_origins_error_is_replaced_only_within_stale_if_error() {
    for (own, keys, replaced) in [
        ("max-age=0", "", false),
        ("max-age=0", "on_unreachable = \"stale\"\nstale_if_error = \"1h\"", true),
        ("max-age=0, stale-if-error=3600", "", true),
        ("max-age=0, stale-if-error=0", "stale_if_error = \"1h\"", false),
        ("max-age=0, stale-if-error=3600, must-revalidate", "", false),
    ] {
        for status in [500, 502, 503, 504] {
            let mut origin = Origin::start().await;
            let proxy = over(&origin.url(), keys).await;
            let mut client: Client = proxy.client().await;
            client.ask("GET", "/", &[], b"").await;
            origin
                .next()
                .await
                .respond(200, &[("Cache-Control", own), ("ETag", "\"1\"")], "good")
                .await;
            client.answer().await;
            client.ask("GET", "/", &[], b"").await;
            origin.next().await.respond(status, &[], "bad").await;
            let answer = client.answer().await;
            let wanted = if replaced { (200, "good") } else { (status, "bad") };
            assert_eq!((answer.status, answer.text()), wanted, "{own} {keys} {status}");
        }
    }
}

#[tokio::test]
async fn r42_a_flight_older_than_the_bound_is_not_joined() {
    let register = Register::new();
    register.write("/x", "old");
    let node = register.node("a").await;
    let proxy = over(&node.url(), "ttl = \"50ms\"\nmax_staleness = \"50ms\"").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let sent = hold.next().await;
    register.write("/x", "new");
    tokio::time::sleep(Duration::from_millis(60)).await; // the flight ages past the bound
    let mut late = proxy.client().await;
    late.ask("GET", "/x", &[], b"").await;
    let own = hold.next().await;
    sent.release();
    own.release();
    assert_eq!(early.answer().await.text(), "old");
    assert_eq!(late.answer().await.text(), "new");
}

#[tokio::test]
async fn r42_an_answer_older_than_the_bound_is_asked_for_once_more_and_then_refused_or_flagged() {
    let too_old = [("Age", "1000"), ("Cache-Control", "max-age=3600")];
    for (on_unreachable, second, status, word) in [
        ("error", &too_old[..], 504, ""),
        ("stale", &too_old[..], 200, "breached"),
        ("error", &[], 200, "bounded"),
        ("stale", &[], 200, "bounded"),
    ] {
        let mut origin = Origin::start().await;
        let keys = format!("max_staleness = \"10s\"\non_unreachable = \"{on_unreachable}\"");
        let proxy = over(&origin.url(), &keys).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let first = origin.next().await;
        assert!(!first.headers.has("cache-control"));
        first.respond(200, &too_old, "below").await;
        let insisted = origin.next().await;
        assert_eq!(insisted.header("cache-control"), Some("no-cache"));
        insisted.respond(200, second, "origin").await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{on_unreachable} {second:?}");
        if status == 504 {
            assert_eq!((answer.problem().as_str(), answer.consistency()), ("stale-refused", ""));
        } else {
            assert_eq!(answer.text(), "origin");
            assert!(answer.consistency().starts_with(word), "{}", answer.consistency());
        }
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn r42_a_304_older_than_the_bound_confirms_nothing() {
    for (on_unreachable, status, word) in [("error", 504, ""), ("stale", 200, "breached")] {
        let mut origin = Origin::start().await;
        let keys = format!("max_staleness = \"500ms\"\non_unreachable = \"{on_unreachable}\"");
        let proxy = over(&origin.url(), &keys).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let headers = [("ETag", "\"1\""), ("Cache-Control", "max-age=0")];
        origin.next().await.respond(200, &headers, "one").await;
        assert_eq!(client.answer().await.text(), "one");
        tokio::time::sleep(Duration::from_millis(510)).await; // what is stored ages past the bound
        client.ask("GET", "/", &[], b"").await;
        for insists in [None, Some("no-cache")] {
            let exchange = origin.next().await;
            assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
            assert_eq!(exchange.header("cache-control"), insists);
            exchange.respond(304, &[headers[0], ("Age", "1000")], "").await;
        }
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{on_unreachable}: {}", answer.consistency());
        assert!(answer.consistency().starts_with(word), "{}", answer.consistency());
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn r42_an_answer_that_takes_longer_than_the_bound_is_not_breached() {
    for (keys, private) in [("ttl = \"10ms\"", ""), ("", "private")] {
        let mut origin = Origin::start().await;
        let proxy = over(&origin.url(), &format!("max_staleness = \"50ms\"\n{keys}")).await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &[], b"").await;
        let slow = origin.next().await;
        tokio::time::sleep(Duration::from_millis(100)).await; // the answer takes longer than the bound
        slow.respond(200, &[("Cache-Control", private)], "slow").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "slow"));
        assert_eq!(bounded(answer.consistency()).1, 50);
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn a_head_inside_stale_while_revalidate_refreshes_with_get() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin.url(), "").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let stale = [("Cache-Control", "max-age=0, stale-while-revalidate=60")];
    origin.next().await.respond(200, &stale, "one").await;
    assert_eq!(client.answer().await.text(), "one");
    let head = client.request("HEAD", "/", &[], b"").await;
    assert!(head.is_hit() && head.body.is_empty(), "{}", head.cache_status());
    let refresh = origin.next().await;
    assert_eq!(refresh.method, "GET");
    refresh.respond(200, &[("Cache-Control", "max-age=60")], "two").await;
    eventually("the refreshed entry", || async { proxy.get("/").await.text() == "two" }).await;
    let fresh = proxy.get("/").await;
    assert!(fresh.is_hit());
    assert_eq!(
        proxy.request("HEAD", "/", &[], "").await.header("content-length"),
        Some("3")
    );
}

#[tokio::test]
async fn r42_what_passes_without_being_stored_keeps_the_bound_as_well() {
    let if_match = [("If-Match", "\"1\"")];
    for (method, fields, body) in [
        ("HEAD", &[][..], ""),
        ("GET", &if_match[..], ""),
        ("QUERY", &[], "select"),
        ("GET", &[], "a body that streams"),
    ] {
        for (on_unreachable, status) in [("error", 504), ("stale", 200)] {
            let mut origin = Origin::start().await;
            let keys = format!("max_staleness = \"10s\"\non_unreachable = \"{on_unreachable}\"");
            let proxy = over(&origin.url(), &keys).await;
            let mut client = proxy.client().await;
            client.ask(method, "/", fields, body.as_bytes()).await;
            let too_old = [("Age", "1000")];
            origin.next().await.respond(200, &too_old, "x").await;
            if body.is_empty() || method == "QUERY" {
                let insisted = origin.next().await;
                assert_eq!(insisted.header("cache-control"), Some("no-cache"), "{method}");
                insisted.respond(200, &too_old, "x").await;
            }
            let answer = client.answer().await;
            assert_eq!(answer.status, status, "{method} {on_unreachable}");
            let word = if status == 200 { "breached" } else { "" };
            assert!(answer.consistency().starts_with(word), "{}", answer.consistency());
            origin.expect_idle().await;
        }
    }
}

#[tokio::test]
async fn r42_a_stale_entry_stands_in_for_a_head_too() {
    for (cache_control, status) in [("max-age=0", 200), ("max-age=0, must-revalidate", 504)] {
        let (proxy, _node, _) = cut_off("max_staleness = \"1h\"", cache_control).await;
        let answer = proxy.request("HEAD", "/x", &[], "").await;
        assert_eq!(answer.status, status, "{cache_control}");
        assert_eq!(answer.headers.has("tidegate-consistency"), status == 200);
        assert_eq!(proxy.request("HEAD", "/never-seen", &[], "").await.status, 503);
    }
}
