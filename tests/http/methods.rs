//! Methods: what of a POST serves later GETs, QUERY as a read with content, and what is done with every other token (INTERFACE.md,
//! "Methods"; RFC 9110 s9, RFC 10008).

use super::support::client::{Answer, Client, Fields};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, one_route};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const EVENTUAL: &str = "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"2h\"";
const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const HERE: (&str, &str) = ("Content-Location", "/x");
const V1: (&str, &str) = ("ETag", "\"1\"");

async fn before(origin: &Origin, keys: &str) -> Proxy {
    let config = one_route(keys) + "\n[upstreams.o.retry]\nattempts = 1\n";
    Proxy::start(&config, &[("origin", &origin.url())]).await
}

/// An origin, a proxy with one route, a client.
async fn stage(keys: &str) -> (Origin, Proxy, Client) {
    let origin = Origin::start().await;
    let proxy = before(&origin, keys).await;
    let client = proxy.client().await;
    (origin, proxy, client)
}

/// A request that must reach the origin.
async fn asked(client: &mut Client, origin: &mut Origin, method: &str, fields: Fields<'_>, body: &str) -> Exchange {
    client.ask(method, "/x", fields, body.as_bytes()).await;
    let mut exchange = origin.next().await;
    assert_eq!((exchange.method.as_str(), exchange.target.as_str()), (method, "/x"));
    assert_eq!(exchange.body().await, body.as_bytes());
    exchange
}

async fn fetched(
    client: &mut Client,
    origin: &mut Origin,
    (method, fields, content): (&str, Fields<'_>, &str),
    (status, answer, body): (u16, Fields<'_>, &str),
) -> Answer {
    let exchange = asked(client, origin, method, fields, content).await;
    exchange.respond(status, answer, body).await;
    client.answer().await
}

/// A request that must be answered from memory.
async fn is_hit(client: &mut Client, method: &str, fields: Fields<'_>, content: &str, body: &str) {
    let answer = client.request(method, "/x", fields, content.as_bytes()).await;
    assert!(answer.is_hit(), "{method} {content}: {}", answer.cache_status());
    assert_eq!((answer.status, answer.text()), (200, body), "{method} {content}");
}

/// GET `/x` is no hit, and brings `body`.
async fn is_fetched(client: &mut Client, origin: &mut Origin, body: &str) {
    let answer = fetched(client, origin, ("GET", &[], ""), (200, &[FRESH], body)).await;
    assert_eq!(answer.text(), body);
}

#[tokio::test]
async fn rfc9110_s9_3_3_a_post_answer_that_is_the_target_serves_later_gets() {
    for keys in [WEAK, EVENTUAL] {
        let (mut origin, _proxy, mut client) = stage(keys).await;
        is_fetched(&mut client, &mut origin, "old").await;
        for method in ["POST", "PATCH"] {
            let answer = fetched(
                &mut client,
                &mut origin,
                (method, &[], "change"),
                (200, &[FRESH, HERE, V1], method),
            )
            .await;
            assert_eq!(
                (answer.status, answer.text(), answer.fwd()),
                (200, method, "method"),
                "{keys}"
            );
            is_hit(&mut client, "GET", &[], "", method).await;
            is_hit(&mut client, "HEAD", &[], "", "").await;
            // Never a POST: each one is sent.
            let again = fetched(
                &mut client,
                &mut origin,
                (method, &[], "change"),
                (200, &[FRESH, HERE, V1], "again"),
            )
            .await;
            assert_eq!(again.text(), "again");
            is_hit(&mut client, "GET", &[], "", "again").await;
        }
        let answer = client.get_with("/x", &[("If-None-Match", "\"1\"")]).await;
        assert_eq!((answer.status, answer.header("etag")), (304, Some("\"1\"")), "{keys}");
    }
}

#[tokio::test]
async fn rfc9110_s9_3_3_what_a_post_answer_lacks_keeps_it_from_being_stored() {
    let cases: [(&str, u16, Fields<'_>); 5] = [
        ("s8.7 no Content-Location", 200, &[FRESH]),
        ("s8.7 another one", 200, &[FRESH, ("Content-Location", "/y")]),
        ("rfc9111 s4.2.1 no explicit lifetime", 200, &[HERE, V1]),
        (
            "rfc9111 s5.2.2.5 no-store",
            200,
            &[HERE, ("Cache-Control", "no-store, max-age=60")],
        ),
        ("s15.3.2 a 201", 201, &[FRESH, HERE]),
    ];
    for (name, status, fields) in cases {
        let (mut origin, _proxy, mut client) = stage(WEAK).await;
        is_fetched(&mut client, &mut origin, "old").await;
        let answer = fetched(&mut client, &mut origin, ("POST", &[], ""), (status, fields, "posted")).await;
        assert_eq!((answer.status, answer.text()), (status, "posted"), "{name}");
        is_fetched(&mut client, &mut origin, name).await;
    }
}

#[tokio::test]
async fn r13_a_post_that_asks_to_be_taken_for_another_method_leaves_nothing() {
    let (mut origin, _proxy, mut client) = stage(WEAK).await;
    let overridden: Fields<'_> = &[("X-HTTP-Method-Override", "DELETE")];
    fetched(
        &mut client,
        &mut origin,
        ("POST", overridden, ""),
        (200, &[FRESH, HERE], "posted"),
    )
    .await;
    is_fetched(&mut client, &mut origin, "fetched").await;
}

#[tokio::test]
async fn a_post_answer_is_stored_where_a_get_looks_for_it_or_not_at_all() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[upstreams.o]\nnodes = [{{ url = \"{}\" }}]\n\
         [[routes]]\nname = \"posts\"\nmatch = {{ path = \"/x\", methods = [\"POST\"] }}\nupstream = \"o\"\n{WEAK}\n\
         [[routes]]\nname = \"rest\"\nupstream = \"o\"\n{WEAK}\n",
        origin.url()
    );
    let proxy = Proxy::start(&config, &[]).await;
    let mut client = proxy.client().await;
    fetched(
        &mut client,
        &mut origin,
        ("POST", &[], ""),
        (200, &[FRESH, HERE], "posted"),
    )
    .await;
    is_fetched(&mut client, &mut origin, "fetched").await;
}

#[tokio::test]
async fn nothing_of_a_post_is_stored_on_a_strong_route() {
    let (mut origin, _proxy, mut client) = stage("consistency = \"strong\"").await;
    fetched(
        &mut client,
        &mut origin,
        ("POST", &[], ""),
        (200, &[FRESH, HERE, V1], "posted"),
    )
    .await;
    let exchange = asked(&mut client, &mut origin, "GET", &[], "").await;
    assert!(!exchange.headers.has("if-none-match"));
    exchange.respond(200, &[V1], "fetched").await;
    assert_eq!(client.answer().await.text(), "fetched");
}

/// A POST whose answer has begun and is not whole yet.
async fn half_posted(client: &mut Client, origin: &mut Origin) -> Exchange {
    let mut exchange = asked(client, origin, "POST", &[], "").await;
    exchange.head(200, &[FRESH, HERE, ("Content-Length", "6")]).await;
    exchange.send("pos").await;
    client.head().await;
    exchange
}

#[tokio::test]
async fn r1_a_write_that_begins_before_a_post_answer_is_whole_keeps_it_from_being_stored() {
    let (mut origin, proxy, mut client) = stage(WEAK).await;
    let mut half = half_posted(&mut client, &mut origin).await;
    let mut other = proxy.client().await;
    let put = asked(&mut other, &mut origin, "PUT", &[], "new").await;
    put.respond(204, &[], "").await;
    assert_eq!(other.answer().await.status, 204);
    half.send("ted").await;
    half.keep();
    assert_eq!(client.body_up_to(6).await, b"posted");
    is_fetched(&mut other, &mut origin, "new").await;
}

#[tokio::test]
async fn r1_a_write_that_ends_while_a_post_is_pending_keeps_its_answer_from_being_stored() {
    let (mut origin, proxy, mut client) = stage(WEAK).await;
    let mut other = proxy.client().await;
    let put = asked(&mut other, &mut origin, "PUT", &[], "new").await;
    // The node makes its answer now, before it applies the PUT.
    let post = asked(&mut client, &mut origin, "POST", &[], "").await;
    put.respond(204, &[], "").await;
    assert_eq!(other.answer().await.status, 204);
    post.respond(200, &[FRESH, HERE], "posted").await;
    assert_eq!(client.answer().await.text(), "posted");
    is_fetched(&mut other, &mut origin, "new").await;
}

#[tokio::test]
async fn r1_of_two_posts_that_overlap_neither_answer_is_stored() {
    let (mut origin, proxy, mut one) = stage(WEAK).await;
    let mut two = proxy.client().await;
    let first = asked(&mut one, &mut origin, "POST", &[], "1").await;
    let second = asked(&mut two, &mut origin, "POST", &[], "2").await;
    second.respond(200, &[FRESH, HERE], "second").await;
    assert_eq!(two.answer().await.text(), "second");
    first.respond(200, &[FRESH, HERE], "first").await;
    assert_eq!(one.answer().await.text(), "first");
    is_fetched(&mut one, &mut origin, "fetched").await;
}

#[tokio::test]
async fn r1_what_began_during_a_post_dies_with_its_end_and_its_own_answer_stays() {
    let (mut origin, proxy, mut client) = stage(WEAK).await;
    let post = asked(&mut client, &mut origin, "POST", &[], "").await;
    let mut reader = proxy.client().await;
    let read = asked(&mut reader, &mut origin, "GET", &[], "").await; // before the node applies the POST
    post.respond(200, &[FRESH, HERE], "posted").await;
    assert_eq!(client.answer().await.text(), "posted");
    is_hit(&mut client, "GET", &[], "", "posted").await;
    read.respond(200, &[FRESH], "old").await;
    assert_eq!(reader.answer().await.text(), "old");
    is_hit(&mut client, "GET", &[], "", "posted").await;
}

#[tokio::test]
async fn a_post_answer_that_breaks_off_is_not_stored() {
    let (mut origin, proxy, mut client) = stage(WEAK).await;
    let post = half_posted(&mut client, &mut origin).await;
    // Only then: a reset overtakes what the proxy has not read yet.
    assert!(client.try_body_part().await.is_ok());
    post.reset();
    while let Ok(part) = client.try_body_part().await {
        assert!(part.is_some(), "half of an answer came as a whole one");
    }
    drop(client);
    let mut client = proxy.client().await;
    is_fetched(&mut client, &mut origin, "fetched").await;
}

#[tokio::test]
async fn rfc10008_s2_7_a_query_is_answered_by_its_own_answer_only() {
    for keys in [WEAK, EVENTUAL] {
        let (mut origin, _proxy, mut client) = stage(keys).await;
        let sql: Fields<'_> = &[("Content-Type", "application/sql")];
        let json: Fields<'_> = &[("Content-Type", "application/json")];
        let coded: Fields<'_> = &[("Content-Type", "application/sql"), ("Content-Encoding", "gzip")];
        let kinds = [
            ("GET", &[][..], ""),
            ("QUERY", sql, "one"),
            ("QUERY", sql, "two"),
            ("QUERY", sql, ""),
            ("QUERY", json, "one"),
            ("QUERY", coded, "one"),
            ("QUERY", &[], "one"),
        ];
        for (n, (method, fields, content)) in kinds.into_iter().enumerate() {
            let answer = fetched(
                &mut client,
                &mut origin,
                (method, fields, content),
                (200, &[V1], &n.to_string()),
            )
            .await;
            assert_eq!(answer.text(), n.to_string(), "{keys} {content}");
            assert!(
                answer.cache_status().contains("fwd=uri-miss; stored"),
                "{}",
                answer.cache_status()
            );
        }
        for (n, (method, fields, content)) in kinds.into_iter().enumerate() {
            is_hit(&mut client, method, fields, content, &n.to_string()).await;
        }
        // In any framing, and by its conditions (RFC 10008 s2.6).
        let chunked = "QUERY /x HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/sql\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n2\r\nne\r\n0\r\n\r\n";
        client.expects_answer_to("QUERY");
        client.send(chunked).await;
        let answer = client.answer().await;
        assert_eq!((answer.is_hit(), answer.text()), (true, "1"), "{keys}");
        let known = [sql[0], ("If-None-Match", "\"1\"")];
        assert_eq!(
            client.request("QUERY", "/x", &known, b"one").await.status,
            304,
            "{keys}"
        );
    }
}

#[tokio::test]
async fn rfc10008_a_query_is_stale_revalidated_and_refreshed_as_a_get_is() {
    let (mut origin, _proxy, mut client) = stage(WEAK).await;
    let stale = [V1, ("Cache-Control", "max-age=0")];
    fetched(&mut client, &mut origin, ("QUERY", &[], "q"), (200, &stale, "one")).await;
    let exchange = asked(&mut client, &mut origin, "QUERY", &[], "q").await;
    assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
    let window = [V1, ("Cache-Control", "max-age=0, stale-while-revalidate=60")];
    exchange.respond(304, &window, "").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "one"));
    // Served stale, and refreshed with its content behind the client's back (RFC 5861 s3).
    client.ask("QUERY", "/x", &[], b"q").await;
    let answer = client.answer().await;
    assert_eq!((answer.is_hit(), answer.text()), (true, "one"));
    let mut refresh = origin.next().await;
    assert_eq!(refresh.body().await, b"q");
    assert_eq!(refresh.method, "QUERY");
    refresh.respond(304, &[V1, FRESH], "").await;
}

#[tokio::test]
async fn rfc9110_s13_1_2_a_node_that_refuses_our_condition_on_a_query_is_asked_without() {
    for keys in [WEAK, "consistency = \"strong\""] {
        let (mut origin, _proxy, mut client) = stage(keys).await;
        let stale = [V1, ("Cache-Control", "max-age=0")];
        fetched(&mut client, &mut origin, ("QUERY", &[], "q"), (200, &stale, "one")).await;
        let conditional = asked(&mut client, &mut origin, "QUERY", &[], "q").await;
        assert!(conditional.headers.has("if-none-match"), "{keys}");
        conditional.respond(412, &[], "no").await;
        let mut plain = origin.next().await;
        assert!(!plain.headers.has("if-none-match"), "{keys}");
        assert_eq!(plain.body().await, b"q");
        plain.respond(200, &stale, "two").await;
        assert_eq!(client.answer().await.text(), "two", "{keys}");
    }
}

#[tokio::test]
async fn rfc10008_queries_with_one_content_share_a_fetch() {
    let (mut origin, proxy, mut first) = stage(WEAK).await;
    let exchange = asked(&mut first, &mut origin, "QUERY", &[], "q").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = proxy.client().await;
        other.ask("QUERY", "/x", &[], b"q").await;
        others.push(other);
    }
    let mut another = proxy.client().await;
    let apart = asked(&mut another, &mut origin, "QUERY", &[], "another").await;
    apart.respond(200, &[FRESH], "another").await;
    assert_eq!(another.answer().await.text(), "another");
    exchange.respond(200, &[FRESH], "shared").await;
    assert_eq!(first.answer().await.text(), "shared");
    for other in &mut others {
        assert_eq!(other.answer().await.text(), "shared");
    }
    origin.expect_idle().await;
}

#[tokio::test]
async fn rfc10008_content_beyond_the_bound_passes_whole_and_is_not_stored() {
    let (mut origin, _proxy, mut client) = stage(WEAK).await;
    let long = "x".repeat(64 * 1024 + 1);
    for said in [true, false] {
        for _ in 0..2 {
            if said {
                client.ask("QUERY", "/x", &[], long.as_bytes()).await;
            } else {
                let head = "QUERY /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
                client.expects_answer_to("QUERY");
                client.send(format!("{head}10001\r\n{long}\r\n0\r\n\r\n")).await;
            }
            let mut exchange = origin.next().await;
            assert_eq!(exchange.body().await.len(), long.len());
            exchange.respond(200, &[FRESH], "long").await;
            let answer = client.answer().await;
            assert_eq!((answer.text(), answer.fwd()), ("long", "method"));
        }
    }
    let most = "x".repeat(64 * 1024);
    fetched(&mut client, &mut origin, ("QUERY", &[], &most), (200, &[FRESH], "most")).await;
    is_hit(&mut client, "QUERY", &[], &most, "most").await;
}

#[tokio::test]
async fn rfc10008_a_query_invalidates_nothing_and_is_invalidated_with_its_resource() {
    let (mut origin, proxy, mut client) = stage(WEAK).await;
    for write in [true, false] {
        is_fetched(&mut client, &mut origin, "got").await;
        let answer: Fields<'_> = &[FRESH, ("Location", "/x"), ("Content-Location", "/x")];
        fetched(&mut client, &mut origin, ("QUERY", &[], "q"), (200, answer, "found")).await;
        is_hit(&mut client, "GET", &[], "", "got").await;
        is_hit(&mut client, "QUERY", &[], "q", "found").await;
        if write {
            fetched(&mut client, &mut origin, ("PUT", &[], "new"), (204, &[], "")).await;
        } else {
            assert_eq!(
                proxy.purge(r#"{"url": "/x"}"#).await,
                2,
                "the answer to GET and the one to QUERY"
            );
        }
        fetched(&mut client, &mut origin, ("QUERY", &[], "q"), (200, &[FRESH], "again")).await;
        assert_eq!(proxy.purge(r#"{"url": "http://shop.example/x"}"#).await, 1);
    }
}

#[tokio::test]
async fn r5b_a_strong_query_is_validated_and_r6_gated_with_its_resource() {
    let (mut origin, proxy, mut client) = stage("consistency = \"strong\"").await;
    fetched(&mut client, &mut origin, ("QUERY", &[], "q"), (200, &[V1], "one")).await;
    let exchange = asked(&mut client, &mut origin, "QUERY", &[], "q").await;
    assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
    assert_eq!(exchange.header("cache-control"), Some("no-cache"));
    exchange.respond(304, &[V1], "").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.consistency()), ("one", "strong;proof=validated"));
    // R1: a query in flight does not outlive a write.
    let exchange = asked(&mut client, &mut origin, "QUERY", &[], "other").await;
    let mut writer = proxy.client().await;
    fetched(&mut writer, &mut origin, ("PUT", &[], "new"), (204, &[], "")).await;
    exchange.respond(200, &[V1], "old").await;
    assert_eq!(client.answer().await.text(), "old");
    for content in ["q", "other"] {
        let exchange = asked(&mut client, &mut origin, "QUERY", &[], content).await;
        assert!(!exchange.headers.has("if-none-match"), "{content}");
        exchange.respond(200, &[("ETag", "\"2\"")], "new").await;
        assert_eq!(client.answer().await.text(), "new");
    }
}

#[tokio::test]
async fn a_strong_query_is_served_from_memory_in_exclusive_gear() {
    let keys = "consistency = \"strong\"\nwriters = \"exclusive\"\nsettle_after = \"1ms\"";
    let (mut origin, _proxy, mut client) = stage(keys).await;
    loop {
        client.ask("QUERY", "/x", &[], b"q").await;
        tokio::select! {
            mut exchange = origin.next_or_never() => {
                exchange.body().await;
                let known = exchange.headers.has("if-none-match");
                exchange.respond(if known { 304 } else { 200 }, &[V1], if known { "" } else { "one" }).await;
                assert_eq!(client.answer().await.text(), "one");
            }
            answer = client.answer() => {
                assert_eq!((answer.text(), answer.consistency()), ("one", "strong;proof=exclusive"));
                break;
            }
        }
    }
}

#[tokio::test]
async fn rfc9110_s9_3_2_head_is_answered_from_a_get_and_forwarded_as_head_without_one() {
    let (mut origin, _proxy, mut client) = stage(WEAK).await;
    let answer = fetched(
        &mut client,
        &mut origin,
        ("HEAD", &[], ""),
        (200, &[FRESH, ("Content-Length", "3")], ""),
    )
    .await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("3")));
    is_fetched(&mut client, &mut origin, "got").await;
    let answer = client.request("HEAD", "/x", &[], b"").await;
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert_eq!((answer.header("content-length"), answer.text()), (Some("3"), ""));
}

#[tokio::test]
async fn every_other_method_is_refused_passed_or_unsafe() {
    // What is done, and whether what is stored survives it.
    let cases = [
        ("rfc9110 s9.3.7", "OPTIONS", 200, true),
        ("rfc9110 s9.3.8", "TRACE", 405, true),
        ("rfc9110 s9.3.6", "CONNECT", 501, true),
        ("INTERFACE.md", "PURGE", 405, true),
        ("rfc9110 s9.3.3", "POST", 200, false),
        ("rfc9110 s9.3.4", "PUT", 200, false),
        ("rfc9110 s9.3.5", "DELETE", 200, false),
        ("rfc5789", "PATCH", 200, false),
        ("rfc4918", "PROPFIND", 200, false),
        ("rfc9111 s4.4 unknown", "FROB", 200, false),
        ("rfc9110 s9.1 case counts", "get", 200, false),
        ("rfc10008", "QUERY", 200, true),
    ];
    for (name, method, status, survives) in cases {
        let (mut origin, proxy, mut client) = stage(WEAK).await;
        is_fetched(&mut client, &mut origin, "stored").await;
        if status == 200 {
            for _ in 0..2 {
                let answer = fetched(
                    &mut client,
                    &mut origin,
                    (method, &[], ""),
                    (200, &[("Cache-Control", "no-store")], ""),
                )
                .await;
                assert_eq!(answer.status, 200, "{name} {method}");
            }
        } else {
            let target = if method == "CONNECT" { "shop.example:80" } else { "/x" };
            let mut other = proxy.client().await;
            let answer = other.request(method, target, &[], b"").await;
            assert_eq!(answer.status, status, "{name} {method}");
            origin.expect_idle().await;
        }
        if survives {
            is_hit(&mut client, "GET", &[], "", "stored").await;
        } else {
            is_fetched(&mut client, &mut origin, "after").await;
        }
    }
}
