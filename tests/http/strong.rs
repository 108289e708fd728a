//! Level strong in validate gear: every read is proven at a node during this request (R5 to R8, R13 to R16, R18, R23).

use super::support::client::{Answer, Client};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Point, Register};

const STRONG: &str = "consistency = \"strong\"";
const V1: (&str, &str) = ("ETag", "\"1\"");

async fn before(origin: &Origin, keys: &str) -> Proxy {
    let config = one_route(keys) + "\n[upstreams.o.retry]\nattempts = 1\n";
    Proxy::start(&config, &[("origin", &origin.url())]).await
}

/// A strong route with `/` stored under ETag "1" and body "one".
async fn stored(extra: &[(&str, &str)]) -> (Origin, Proxy, Client) {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, STRONG).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    let mut headers = vec![V1];
    headers.extend_from_slice(extra);
    origin.next().await.respond(200, &headers, "one").await;
    let first = client.answer().await;
    assert_eq!((first.text(), first.consistency()), ("one", "strong;proof=validated"));
    (origin, proxy, client)
}

async fn asked(client: &mut Client, origin: &mut Origin, headers: &[(&str, &str)]) -> Exchange {
    client.ask("GET", "/", headers, b"").await;
    origin.next().await
}

async fn validated(client: &mut Client, exchange: Exchange) -> Answer {
    assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
    exchange.respond(304, &[V1], "").await;
    client.answer().await
}

#[tokio::test]
async fn every_read_is_validated_and_the_body_comes_from_memory() {
    let (mut origin, _proxy, mut client) = stored(&[("Cache-Control", "max-age=3600")]).await;
    for _ in 0..3 {
        let exchange = asked(&mut client, &mut origin, &[]).await;
        let answer = validated(&mut client, exchange).await;
        assert_eq!(
            (answer.status, answer.text(), answer.consistency()),
            (200, "one", "strong;proof=validated")
        );
        assert!(
            answer.cache_status().contains("fwd=stale; fwd-status=304"),
            "{}",
            answer.cache_status()
        );
        assert!(answer.headers.has("age"));
    }
}

#[tokio::test]
async fn a_write_behind_the_proxys_back_is_seen_by_the_next_read() {
    let register = Register::new();
    register.write("/x", "one");
    let (a, b) = (register.node("a").await, register.node("b").await);
    let config = one_route(STRONG).replace(
        "nodes = [{ url = \"{origin}\" }]",
        "nodes = [{ url = \"{a}\" }, { url = \"{b}\" }]",
    );
    let proxy = Proxy::start(&config, &[("a", &a.url()), ("b", &b.url())]).await;
    let mut client = proxy.client().await;
    for n in 0..50 {
        let value = format!("{n}");
        if n % 2 == 0 {
            register.write("/x", &value);
        } else {
            let answer = client.put("/x", &value).await;
            assert_eq!((answer.status, answer.consistency()), (204, "strong"));
        }
        assert_eq!(client.get("/x").await.text(), value);
    }
}

#[tokio::test]
async fn r5b_the_validating_request_carries_our_etag_no_cache_and_none_of_the_clients_conditions() {
    let (mut origin, _proxy, mut client) = stored(&[]).await;
    let own = [
        ("If-None-Match", "\"7\", \"1\""),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Cache-Control", "max-age=60"),
    ];
    let exchange = asked(&mut client, &mut origin, &own).await;
    assert_eq!(exchange.header("cache-control"), Some("no-cache"));
    assert!(!exchange.headers.has("if-modified-since"));
    let answer = validated(&mut client, exchange).await;
    assert_eq!(
        (answer.status, answer.header("etag")),
        (304, Some("\"1\"")),
        "the client has it already"
    );
    assert_eq!(answer.consistency(), "strong;proof=validated");
}

#[tokio::test]
async fn r5b_a_304_that_names_another_etag_is_fetched_again_unconditionally() {
    let (mut origin, _proxy, mut client) = stored(&[]).await;
    let exchange = asked(&mut client, &mut origin, &[]).await;
    exchange.respond(304, &[("ETag", "\"2\"")], "").await;
    let again = origin.next().await;
    assert!(!again.headers.has("if-none-match"));
    again.respond(200, &[("ETag", "\"2\"")], "two").await;
    assert_eq!(client.answer().await.text(), "two");
}

#[tokio::test]
async fn r5b_a_304_to_an_unconditional_request_is_502() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, STRONG).await;
    let mut client = proxy.client().await;
    asked(&mut client, &mut origin, &[]).await.respond(304, &[V1], "").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (502, "bad-gateway"));
}

#[tokio::test]
async fn r5b_without_a_strong_etag_the_answer_is_fetched_whole_each_time_and_still_proven() {
    for etag in [None, Some(("ETag", "W/\"1\"")), Some(("ETag", "1"))] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, STRONG).await;
        let mut client = proxy.client().await;
        for _ in 0..2 {
            let exchange = asked(&mut client, &mut origin, &[]).await;
            assert!(!exchange.headers.has("if-none-match") && !exchange.headers.has("if-modified-since"));
            let mut headers = vec![("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
            headers.extend(etag);
            exchange.respond(200, &headers, "whole").await;
            let answer = client.answer().await;
            assert_eq!(
                (answer.text(), answer.consistency()),
                ("whole", "strong;proof=validated")
            );
            assert!(
                !answer.cache_status().contains("stored"),
                "{etag:?}: {}",
                answer.cache_status()
            );
        }
    }
}

#[tokio::test]
async fn r5c_on_strong_routes_dates_are_no_conditions() {
    let (mut origin, _proxy, mut client) = stored(&[("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]).await;
    let since = [("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")];
    let exchange = asked(&mut client, &mut origin, &since).await;
    let answer = validated(&mut client, exchange).await;
    assert_eq!((answer.status, answer.text()), (200, "one"));
    let range = [("Range", "bytes=0-0"), ("If-Range", "Sun, 06 Nov 1994 08:49:37 GMT")];
    let exchange = asked(&mut client, &mut origin, &range).await;
    assert!(!exchange.headers.has("range") && !exchange.headers.has("if-range"));
    let answer = validated(&mut client, exchange).await;
    assert_eq!((answer.status, answer.text()), (200, "one"));
}

#[tokio::test]
async fn r5_a_head_is_forwarded_as_head_with_our_etag_and_updates_nothing() {
    let (mut origin, _proxy, mut client) = stored(&[("X-Kept", "1")]).await;
    client.ask("HEAD", "/", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(
        (exchange.method.as_str(), exchange.header("if-none-match")),
        ("HEAD", Some("\"1\""))
    );
    exchange.respond(304, &[V1, ("X-Kept", "2")], "").await;
    let head = client.answer().await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some("3"), 0)
    );
    let exchange = asked(&mut client, &mut origin, &[]).await;
    let answer = validated(&mut client, exchange).await;
    assert_eq!(answer.header("x-kept"), Some("1"), "a HEAD updates no entry");
}

#[tokio::test]
async fn r7_partial_answers_are_never_stored_and_ranges_are_cut_from_a_complete_entry() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, STRONG).await;
    let mut client = proxy.client().await;
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=0-1")]).await;
    if exchange.headers.has("range") {
        let partial = [V1, ("Content-Range", "bytes 0-1/10")];
        exchange.respond(206, &partial, "01").await;
    } else {
        exchange.respond(200, &[V1], "0123456789").await;
    }
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("content-range")),
        (206, "01", Some("bytes 0-1/10"))
    );
    let exchange = asked(&mut client, &mut origin, &[]).await;
    if exchange.headers.has("if-none-match") {
        exchange.respond(304, &[V1], "").await;
    } else {
        exchange.respond(200, &[V1], "0123456789").await;
    }
    assert_eq!(client.answer().await.text(), "0123456789", "never a part for the whole");
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=-2")]).await;
    let answer = validated(&mut client, exchange).await;
    assert_eq!((answer.status, answer.text()), (206, "89"));
}

#[tokio::test]
async fn r8_validated_reads_join_only_a_flight_that_is_not_yet_sent() {
    let register = Register::new();
    register.write("/x", "one");
    let node = register.node("a").await;
    // One thread, so that an answer to a later request says that an earlier one has been looked at.
    let config = one_route(STRONG) + "\n[server]\nthreads = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &node.url())]).await;
    proxy.get("/x").await;
    let mut hold = register.hold("GET", "/x", Point::Applied);
    let mut early = proxy.client().await;
    early.ask("GET", "/x", &[], b"").await;
    let sent = hold.next().await;
    // The flight is at the node. A write elsewhere is acknowledged, then a read begins: it must not be given that flight.
    register.write("/x", "two");
    let mut late = proxy.client().await;
    late.ask("GET", "/x", &[], b"").await;
    for _ in 0..3 {
        proxy.get("/other").await;
    }
    sent.release();
    assert_eq!(early.answer().await.text(), "one");
    let own = hold.next().await;
    own.release();
    assert_eq!(late.answer().await.text(), "two");
}

#[tokio::test]
async fn r8_reads_that_begin_while_one_is_out_share_the_next() {
    let register = Register::new();
    register.write("/x", "one");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(STRONG), &[("origin", &node.url())]).await;
    proxy.get("/x").await;
    let before = register.count("GET", "/x");
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut first = proxy.client().await;
    first.ask("GET", "/x", &[], b"").await;
    let held = hold.next().await;
    let mut others = Vec::new();
    for _ in 0..10 {
        let mut client = proxy.client().await;
        client.ask("GET", "/x", &[], b"").await;
        others.push(client);
    }
    held.release();
    drop(hold);
    assert_eq!(first.answer().await.text(), "one");
    for mut other in others {
        let answer = other.answer().await;
        assert_eq!((answer.text(), answer.consistency()), ("one", "strong;proof=validated"));
    }
    let asked = register.count("GET", "/x") - before;
    assert!(asked < 11, "eleven reads were {asked} requests");
}

#[tokio::test]
async fn r13_a_method_override_gates_the_resource() {
    let (mut origin, _proxy, mut client) = stored(&[]).await;
    client.ask("GET", "/", &[("X-HTTP-Method-Override", "PUT")], b"").await;
    let exchange = origin.next().await;
    assert!(!exchange.headers.has("if-none-match"), "a write is forwarded as it is");
    exchange.respond(200, &[("ETag", "\"2\"")], "written").await;
    assert_eq!(client.answer().await.text(), "written");
    let exchange = asked(&mut client, &mut origin, &[]).await;
    assert!(!exchange.headers.has("if-none-match"), "what was stored is gone");
    exchange.respond(200, &[("ETag", "\"2\"")], "two").await;
    assert_eq!(client.answer().await.text(), "two");
}

#[tokio::test]
async fn r14_credentials_never_meet_what_was_stored_for_others() {
    let (mut origin, _proxy, mut client) = stored(&[]).await;
    let exchange = asked(&mut client, &mut origin, &[("Authorization", "Basic eA==")]).await;
    assert!(!exchange.headers.has("if-none-match"));
    exchange.respond(200, &[("ETag", "\"mine\"")], "mine").await;
    assert_eq!(client.answer().await.text(), "mine");
    let exchange = asked(&mut client, &mut origin, &[]).await;
    exchange.respond(200, &[V1], "one").await;
    assert_eq!(client.answer().await.text(), "one");
}

#[tokio::test]
async fn r15_max_stale_is_ignored_and_only_if_cached_is_504() {
    let (mut origin, _proxy, mut client) = stored(&[]).await;
    let refused = client.get_with("/", &[("Cache-Control", "only-if-cached")]).await;
    assert_eq!(refused.status, 504);
    origin.expect_idle().await;
    let exchange = asked(&mut client, &mut origin, &[("Cache-Control", "max-stale")]).await;
    let answer = validated(&mut client, exchange).await;
    assert_eq!(answer.text(), "one");
    // Nobody to ask: nothing stored is good enough, whatever the client would accept.
    let exchange = asked(&mut client, &mut origin, &[("Cache-Control", "max-stale")]).await;
    exchange.reset();
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn r16_strong_answers_leave_with_no_cache_and_without_other_lifetimes() {
    let freshness = [
        ("Cache-Control", "public, max-age=3600, s-maxage=60, no-transform"),
        ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("Pragma", "cache"),
        ("Surrogate-Control", "max-age=60"),
        ("CDN-Cache-Control", "max-age=60"),
        ("Tidegate-Cache-Control", "max-age=60"),
    ];
    let (mut origin, _proxy, mut client) = stored(&freshness).await;
    for round in 0..2 {
        let exchange = asked(&mut client, &mut origin, &[]).await;
        let answer = if round == 0 {
            validated(&mut client, exchange).await
        } else {
            let mut headers = vec![("ETag", "\"2\"")];
            headers.extend_from_slice(&freshness);
            exchange.respond(200, &headers, "two").await;
            client.answer().await
        };
        let control = answer.header("cache-control").unwrap_or_default();
        assert!(
            control.contains("no-cache") && control.contains("no-transform") && !control.contains("max"),
            "{control}"
        );
        for name in [
            "expires",
            "pragma",
            "surrogate-control",
            "cdn-cache-control",
            "tidegate-cache-control",
        ] {
            assert!(!answer.headers.has(name), "{name}");
        }
        assert!(answer.headers.has("etag"));
    }
    for kept in ["no-store", "private"] {
        client.ask("GET", &format!("/{kept}"), &[], b"").await;
        origin
            .next()
            .await
            .respond(200, &[V1, ("Cache-Control", kept)], "x")
            .await;
        let answer = client.answer().await;
        let control = answer.header("cache-control").unwrap_or_default();
        assert!(control.contains(kept) && control.contains("no-cache"), "{control}");
    }
}

#[tokio::test]
async fn r16b_a_body_that_ends_with_the_connection_is_never_stored() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, STRONG).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let mut exchange = asked(&mut client, &mut origin, &[]).await;
        assert!(!exchange.headers.has("if-none-match"));
        exchange.head(200, &[V1, ("Connection", "close")]).await;
        exchange.send("maybe not all").await;
        exchange.close();
        assert_eq!(client.answer().await.text(), "maybe not all");
    }
}

#[tokio::test]
async fn r18_a_404_obeys_the_same_rules_and_other_errors_are_never_stored() {
    for (status, kept) in [(404, true), (410, true), (403, false), (500, false), (503, false)] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, STRONG).await;
        let mut client = proxy.client().await;
        let exchange = asked(&mut client, &mut origin, &[]).await;
        exchange
            .respond(status, &[V1, ("Cache-Control", "max-age=60")], "none")
            .await;
        assert_eq!(client.answer().await.status, status);
        let exchange = asked(&mut client, &mut origin, &[]).await;
        if exchange.headers.has("if-none-match") {
            assert!(kept, "{status} was stored");
            exchange.respond(304, &[V1], "").await;
            assert_eq!(client.answer().await.status, status);
        } else {
            exchange.respond(200, &[("ETag", "\"2\"")], "there").await;
            assert_eq!(client.answer().await.text(), "there");
        }
        client.ask("PUT", "/", &[], b"x").await;
        origin.next().await.respond(201, &[("ETag", "\"3\"")], "").await;
        assert_eq!(client.answer().await.status, 201);
        let exchange = asked(&mut client, &mut origin, &[]).await;
        assert!(
            !exchange.headers.has("if-none-match"),
            "a write drops the negative entry too"
        );
        exchange.respond(200, &[("ETag", "\"3\"")], "x").await;
        assert_eq!(client.answer().await.text(), "x");
    }
}

#[tokio::test]
async fn r23_a_read_that_arrives_after_an_acknowledged_write_never_sees_what_was_before() {
    let register = Register::new();
    register.write("/x", "0");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(STRONG), &[("origin", &node.url())]).await;
    let latest = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..4 {
        let latest = latest.clone();
        let mut client = proxy.client().await;
        readers.push(tokio::spawn(async move {
            for _ in 0..100 {
                let acknowledged = latest.load(std::sync::atomic::Ordering::SeqCst);
                let read: usize = client.get("/x").await.text().parse().unwrap();
                assert!(
                    read >= acknowledged,
                    "read {read} after {acknowledged} was acknowledged"
                );
            }
        }));
    }
    let mut writer = proxy.client().await;
    for n in 1..=100 {
        assert_eq!(writer.put("/x", &n.to_string()).await.status, 204);
        latest.store(n, std::sync::atomic::Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_strong_read_whose_node_is_gone_is_an_error_and_never_stale() {
    let register = Register::new();
    register.write("/x", "one");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(STRONG), &[("origin", &node.url())]).await;
    assert_eq!(proxy.get("/x").await.text(), "one");
    node.down().await;
    let answer = proxy.get("/x").await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "unreachable"));
}
