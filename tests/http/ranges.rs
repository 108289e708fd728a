//! Ranges (RFC 9110 s14, RFC 9111 s3.3 and s3.4): cut from what is stored whole, several in one answer, and parts that are stored,
//! served, grown and completed. Not a byte of another representation, ever.

use super::support::client::{Answer, Client, Fields};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, one_route};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const EVENTUAL: &str = "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"1h\"";
const SMALL: &str = "consistency = \"weak\"\nttl = \"1h\"\nmax_object = \"100B\"";
const V1: (&str, &str) = ("ETag", "\"1\"");

/// 300 bytes, no two numbers the same.
fn body() -> String {
    (100..200).map(|n| n.to_string()).collect()
}

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

/// A proxy that has stored all of it.
async fn stored(keys: &str, fields: Fields<'_>) -> (Origin, Proxy, Client) {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, keys).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[], b"").await;
    origin.next().await.respond(200, fields, body()).await;
    assert_eq!(client.answer().await.text(), body());
    (origin, proxy, client)
}

async fn asked(client: &mut Client, origin: &mut Origin, fields: Fields<'_>) -> Exchange {
    client.ask("GET", "/", fields, b"").await;
    origin.next().await
}

/// These bytes, as a 206 under this tag.
async fn part(exchange: Exchange, (start, end): (usize, usize), etag: (&str, &str)) {
    let range = format!("bytes {start}-{}/300", end - 1);
    let fields = [etag, ("Content-Range", range.as_str())];
    exchange.respond(206, &fields, &body()[start..end]).await;
}

async fn ranged(client: &mut Client, range: &str) -> Answer {
    client.get_with("/", &[("Range", range)]).await
}

/// A 206 with exactly these bytes of the body.
fn is_cut(answer: &Answer, (start, end): (usize, usize)) {
    let range = format!("bytes {start}-{}/300", end - 1);
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (206, Some(range.as_str()))
    );
    assert_eq!(answer.text(), &body()[start..end]);
}

#[tokio::test]
async fn rfc9110_s15_3_7_2_several_ranges_come_as_parts_of_one_answer() {
    let fields = [V1, ("Content-Type", "text/plain")];
    let (mut origin, _proxy, mut client) = stored(WEAK, &fields).await;
    let answer = ranged(&mut client, "bytes=200-209, 0-2, -5").await;
    assert_eq!((answer.status, answer.header("etag")), (206, Some("\"1\"")));
    assert!(
        !answer.headers.has("content-range") && answer.is_hit(),
        "{}",
        answer.cache_status()
    );
    let kind = answer.header("content-type").unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let all = body();
    let mut expected = String::new();
    for (start, end) in [(200, 210), (0, 3), (295, 300)] {
        let open = if expected.is_empty() { "--" } else { "\r\n--" };
        expected += &format!(
            "{open}{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {start}-{}/300\r\n\r\n{}",
            end - 1,
            &all[start..end]
        );
    }
    expected += &format!("\r\n--{boundary}--\r\n");
    assert_eq!(answer.text(), expected);
    assert_eq!(
        answer.header("content-length"),
        Some(expected.len().to_string().as_str())
    );
    // The connection is in step: the next answer is whole.
    assert_eq!(client.get("/").await.text(), body());
    origin.expect_idle().await;
}

#[tokio::test]
async fn rfc9110_s14_2_what_costs_more_than_it_is_worth_is_answered_whole() {
    let (mut origin, _proxy, mut client) = stored(WEAK, &[V1]).await;
    let overlapping = "bytes=0-200,10-210,20-220";
    let many = (0..65).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(",");
    for range in [overlapping, &format!("bytes={many}")] {
        let answer = ranged(&mut client, range).await;
        assert_eq!((answer.status, answer.text()), (200, body().as_str()), "{range}");
        assert!(!answer.headers.has("content-range"), "{range}");
    }
    is_cut(&ranged(&mut client, "bytes=0-9,1000-").await, (0, 10));
    is_cut(&ranged(&mut client, "bytes=0-9,50-59").await, (0, 60));
    let none = ranged(&mut client, "bytes=300-,400-500").await;
    assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */300")));
    let other = [("Range", "bytes=0-9,200-209"), ("If-Range", "\"2\"")];
    assert_eq!(client.get_with("/", &other).await.status, 200, "RFC 9110 s13.1.5");
    origin.expect_idle().await;
}

#[tokio::test]
async fn rfc9110_s14_2_head_has_no_ranges_and_s14_3_whole_answers_say_that_ranges_are_served() {
    let (mut origin, _proxy, mut client) = stored(WEAK, &[V1]).await;
    let head = client.request("HEAD", "/", &[("Range", "bytes=0-9")], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("300")));
    assert_eq!(
        (head.header("accept-ranges"), head.header("content-range")),
        (Some("bytes"), None)
    );
    origin.expect_idle().await;
}

#[tokio::test]
async fn several_ranges_of_a_coded_body_are_answered_whole() {
    let (_origin, _proxy, mut client) = stored(WEAK, &[V1, ("Content-Encoding", "br")]).await;
    let answer = ranged(&mut client, "bytes=0-9,200-209").await;
    assert_eq!((answer.status, answer.text()), (200, body().as_str()));
    is_cut(&ranged(&mut client, "bytes=0-9").await, (0, 10));
}

#[tokio::test]
async fn ranges_are_cut_from_a_body_that_is_still_arriving() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let (mut first, mut second, mut third) = (proxy.client().await, proxy.client().await, proxy.client().await);
    let mut exchange = asked(&mut first, &mut origin, &[("Range", "bytes=10-19")]).await;
    second.ask("GET", "/", &[("Range", "bytes=290-")], b"").await;
    third.ask("GET", "/", &[("Range", "bytes=0-9,290-299")], b"").await;
    exchange.head(200, &[V1, ("Content-Length", "300")]).await;
    exchange.send(&body()[..20]).await;
    is_cut(&first.answer().await, (10, 20)); // before the rest has come
    exchange.send(&body()[20..]).await;
    exchange.keep();
    is_cut(&second.answer().await, (290, 300));
    let whole = third.answer().await;
    assert!(
        whole.status == 200 && whole.text() == body() || whole.status == 206,
        "{}",
        whole.status
    );
    origin.expect_idle().await;
}

#[tokio::test]
async fn rfc9111_s3_3_a_part_answers_what_lies_inside_it() {
    for keys in [WEAK, EVENTUAL] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=200-")]).await;
        assert!(!exchange.headers.has("range"), "R5c");
        part(exchange, (200, 300), V1).await;
        is_cut(&client.answer().await, (200, 300));
        for (range, cut) in [
            ("bytes=200-", (200, 300)),
            ("bytes=250-259", (250, 260)),
            ("bytes=-5", (295, 300)),
        ] {
            let answer = ranged(&mut client, range).await;
            is_cut(&answer, cut);
            assert!(answer.is_hit(), "{range}: {}", answer.cache_status());
        }
        let same = [("Range", "bytes=250-259"), ("If-Range", "\"1\"")];
        is_cut(&client.get_with("/", &same).await, (250, 260));
        let known = [("Range", "bytes=250-259"), ("If-None-Match", "\"1\"")];
        assert_eq!(client.get_with("/", &known).await.status, 304);
        origin.expect_idle().await;
        assert_eq!(proxy.purge("{\"url\":\"/\"}").await, 1, "{keys}");
    }
}

#[tokio::test]
async fn rfc9111_s3_4_the_missing_piece_is_asked_for_and_makes_the_part_whole() {
    for (have, missing, range) in [
        ((0, 100), (100, 300), "bytes=100-"),
        ((200, 300), (0, 200), "bytes=0-199"),
    ] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, WEAK).await;
        let (mut client, mut other) = (proxy.client().await, proxy.client().await);
        part(asked(&mut client, &mut origin, &[]).await, have, V1).await;
        assert_eq!(client.answer().await.status, 206, "as it came");
        let exchange = asked(&mut client, &mut origin, &[]).await;
        assert_eq!(
            (exchange.header("range"), exchange.header("if-range")),
            (Some(range), Some("\"1\""))
        );
        other.ask("GET", "/", &[("Range", "bytes=95-204")], b"").await;
        part(exchange, missing, V1).await;
        let whole = client.answer().await;
        assert_eq!(
            (whole.status, whole.text(), whole.fwd()),
            (200, body().as_str(), "partial")
        );
        assert_eq!(
            (whole.header("content-range"), whole.header("content-length")),
            (None, Some("300"))
        );
        is_cut(&other.answer().await, (95, 205));
        let hit = client.get("/").await;
        assert_eq!((hit.status, hit.text(), hit.is_hit()), (200, body().as_str(), true));
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn rfc9111_s3_4_a_part_is_completed_by_nothing_but_the_same_representation() {
    let new = "x".repeat(300);
    // What comes for the missing piece, and whether the whole is asked for after it.
    let cases: &[(&str, u16, Fields<'_>, &str, bool)] = &[
        ("the whole of another", 200, &[("ETag", "\"2\"")], &new, false),
        ("the same, whole", 200, &[V1], &new, false),
        (
            "a piece of another",
            206,
            &[("ETag", "\"2\""), ("Content-Range", "bytes 100-299/300")],
            &new[100..],
            true,
        ),
        (
            "a piece under a weak tag",
            206,
            &[("ETag", "W/\"1\""), ("Content-Range", "bytes 100-299/300")],
            &new[100..],
            true,
        ),
        (
            "a piece without a tag",
            206,
            &[("Content-Range", "bytes 100-299/300")],
            &new[100..],
            true,
        ),
        (
            "another piece",
            206,
            &[V1, ("Content-Range", "bytes 101-299/300")],
            &new[101..],
            true,
        ),
        (
            "a piece of another length",
            206,
            &[V1, ("Content-Range", "bytes 100-299/301")],
            &new[100..],
            true,
        ),
        (
            "a piece coded otherwise",
            206,
            &[V1, ("Content-Range", "bytes 100-299/300"), ("Content-Encoding", "br")],
            &new[100..],
            true,
        ),
        ("416", 416, &[("Content-Range", "bytes */50")], "", true),
        (
            "a piece that may not be stored",
            206,
            &[
                V1,
                ("Content-Range", "bytes 100-299/300"),
                ("Cache-Control", "no-store"),
            ],
            &new[100..],
            true,
        ),
    ];
    for (name, status, fields, text, again) in cases {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, WEAK).await;
        let mut client = proxy.client().await;
        part(asked(&mut client, &mut origin, &[]).await, (0, 100), V1).await;
        client.answer().await;
        let exchange = asked(&mut client, &mut origin, &[]).await;
        assert_eq!(exchange.header("range"), Some("bytes=100-"), "{name}");
        exchange.respond(*status, fields, text).await;
        if *again {
            let exchange = origin.next().await;
            assert!(
                !exchange.headers.has("range") && !exchange.headers.has("if-range"),
                "{name}"
            );
            exchange.respond(200, &[("ETag", "\"2\"")], &new).await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, new.as_str()), "{name}");
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn a_missing_piece_of_another_size_than_it_says_breaks_off_and_is_not_stored() {
    for (have, promised, come) in [
        ((200, 300), "bytes 0-199/300", 150),
        ((0, 100), "bytes 100-299/300", 250),
    ] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, WEAK).await;
        let mut client = proxy.client().await;
        part(asked(&mut client, &mut origin, &[]).await, have, V1).await;
        client.answer().await;
        let mut exchange = asked(&mut client, &mut origin, &[]).await;
        let fields = [V1, ("Content-Range", promised), ("Transfer-Encoding", "chunked")];
        exchange.head(206, &fields).await;
        exchange.chunk("y".repeat(come)).await;
        exchange.last_chunk().await;
        assert!(client.try_answer().await.is_err(), "{promised}");
        let mut client = proxy.client().await;
        let exchange = asked(&mut client, &mut origin, &[]).await;
        exchange.respond(200, &[V1], body()).await;
        assert_eq!(client.answer().await.text(), body());
    }
}

#[tokio::test]
async fn a_range_of_what_is_too_large_to_keep_is_stored_as_a_part_that_grows() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, SMALL).await;
    let mut client = proxy.client().await;
    // The first request finds out how large it is.
    let mut exchange = asked(
        &mut client,
        &mut origin,
        &[("Range", "bytes=0-39"), ("If-None-Match", "\"0\"")],
    )
    .await;
    assert!(!exchange.headers.has("range"), "R5c");
    exchange.head(200, &[V1, ("Content-Length", "300")]).await;
    let cut = origin.next().await;
    assert_eq!(
        (cut.header("range"), cut.header("if-none-match")),
        (Some("bytes=0-39"), None)
    );
    part(cut, (0, 40), V1).await;
    is_cut(&client.answer().await, (0, 40));
    exchange.gone().await;
    is_cut(&ranged(&mut client, "bytes=10-19").await, (10, 20));
    // From here on it is known; what touches the part makes it grow.
    let cut = asked(&mut client, &mut origin, &[("Range", "bytes=40-79")]).await;
    assert_eq!(
        (cut.header("range"), cut.header("if-range")),
        (Some("bytes=40-79"), None)
    );
    part(cut, (40, 80), V1).await;
    is_cut(&client.answer().await, (40, 80));
    let across = ranged(&mut client, "bytes=30-50").await;
    is_cut(&across, (30, 51));
    assert!(across.is_hit());
    // Beyond max_object the newer part takes the place of the older one.
    part(
        asked(&mut client, &mut origin, &[("Range", "bytes=80-139")]).await,
        (80, 140),
        V1,
    )
    .await;
    is_cut(&client.answer().await, (80, 140));
    is_cut(&ranged(&mut client, "bytes=100-109").await, (100, 110));
    // Another representation never joins.
    part(
        asked(&mut client, &mut origin, &[("Range", "bytes=140-149")]).await,
        (140, 150),
        ("ETag", "\"2\""),
    )
    .await;
    client.answer().await;
    part(
        asked(&mut client, &mut origin, &[("Range", "bytes=130-145")]).await,
        (130, 146),
        ("ETag", "\"2\""),
    )
    .await;
    is_cut(&client.answer().await, (130, 146));
    is_cut(&ranged(&mut client, "bytes=130-149").await, (130, 150));
    origin.expect_idle().await;
}

#[tokio::test]
async fn what_an_origin_says_to_a_range_of_something_large_is_no_answer_to_the_whole() {
    for (status, fields) in [
        (416, [("Content-Range", "bytes */300"), ("Cache-Control", "max-age=60")]),
        (404, [("X", "1"), ("Cache-Control", "max-age=60")]),
    ] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, SMALL).await;
        let mut client = proxy.client().await;
        let mut large = asked(&mut client, &mut origin, &[("Range", "bytes=500-")]).await;
        large.head(200, &[V1, ("Content-Length", "300")]).await;
        origin.next().await.respond(status, &fields, "").await;
        assert_eq!(client.answer().await.status, status);
        let exchange = asked(&mut client, &mut origin, &[]).await;
        exchange.respond(200, &[V1], body()).await;
        assert_eq!(client.answer().await.text(), body());
    }
}

#[tokio::test]
async fn a_node_that_ignores_ranges_of_something_large_is_asked_once_for_each() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, SMALL).await;
    let mut client = proxy.client().await;
    let mut large = asked(&mut client, &mut origin, &[("Range", "bytes=0-9")]).await;
    large.head(200, &[V1, ("Content-Length", "300")]).await;
    origin.next().await.respond(200, &[V1], body()).await;
    assert_eq!(client.answer().await.text(), body());
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=0-9")]).await;
    assert_eq!(exchange.header("range"), Some("bytes=0-9"));
    exchange.respond(200, &[V1], body()).await;
    assert_eq!(client.answer().await.text(), body());
    origin.expect_idle().await;
}

#[tokio::test]
async fn a_stale_part_is_validated_and_a_write_takes_it() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"").await;
    let mut client = proxy.client().await;
    let fields = [V1, ("Content-Range", "bytes 0-99/300"), ("Cache-Control", "max-age=0")];
    asked(&mut client, &mut origin, &[])
        .await
        .respond(206, &fields, &body()[..100])
        .await;
    client.answer().await;
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=10-19")]).await;
    assert_eq!(
        (exchange.header("if-none-match"), exchange.header("range")),
        (Some("\"1\""), None)
    );
    exchange.respond(304, &[V1, ("Cache-Control", "max-age=60")], "").await;
    is_cut(&client.answer().await, (10, 20));
    is_cut(&ranged(&mut client, "bytes=20-29").await, (20, 30));
    origin.expect_idle().await;
    client.ask("PUT", "/", &[], b"new").await;
    origin.next().await.respond(204, &[], "").await;
    client.answer().await;
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=20-29")]).await;
    assert!(
        !exchange.headers.has("range") && !exchange.headers.has("if-none-match"),
        "R6"
    );
    exchange.respond(200, &[V1], body()).await;
    is_cut(&client.answer().await, (20, 30));
}

#[tokio::test]
async fn a_part_that_could_not_be_completed_is_not_stored() {
    let whole = ("Content-Range", "bytes 0-99/300");
    let cases: &[(&str, Fields<'_>)] = &[
        ("no tag", &[whole]),
        ("a weak tag", &[("ETag", "W/\"1\""), whole]),
        ("no range", &[V1]),
        ("an unknown length", &[V1, ("Content-Range", "bytes 0-99/*")]),
        ("a length that is too small", &[V1, ("Content-Range", "bytes 0-99/50")]),
        ("another size", &[V1, ("Content-Range", "bytes 0-98/300")]),
        (
            "several parts",
            &[V1, whole, ("Content-Type", "multipart/byteranges; boundary=x")],
        ),
    ];
    for (name, fields) in cases {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, WEAK).await;
        let mut client = proxy.client().await;
        asked(&mut client, &mut origin, &[])
            .await
            .respond(206, fields, &body()[..100])
            .await;
        assert_eq!(client.answer().await.status, 206, "{name}");
        let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=10-19")]).await;
        assert!(!exchange.headers.has("range"), "{name}");
        exchange.respond(200, &[V1], body()).await;
        is_cut(&client.answer().await, (10, 20));
    }
}

#[tokio::test]
async fn a_part_that_is_all_of_it_is_stored_as_the_whole() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    part(asked(&mut client, &mut origin, &[]).await, (0, 300), V1).await;
    client.answer().await;
    let hit = client.get("/").await;
    assert_eq!(
        (hit.status, hit.text(), hit.header("content-range")),
        (200, body().as_str(), None)
    );
    origin.expect_idle().await;
}

#[tokio::test]
async fn r7_a_strong_route_never_stores_a_part() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"strong\"").await;
    let mut client = proxy.client().await;
    part(asked(&mut client, &mut origin, &[]).await, (0, 100), V1).await;
    assert_eq!(client.answer().await.status, 206);
    let exchange = asked(&mut client, &mut origin, &[]).await;
    assert!(!exchange.headers.has("if-none-match") && !exchange.headers.has("if-range"));
    exchange.respond(200, &[V1], body()).await;
    assert_eq!(client.answer().await.text(), body());
}

#[tokio::test]
async fn rfc9530_s2_a_digest_of_the_content_is_not_told_of_other_content() {
    let digest = ("Content-Digest", "sha-256=:AAAA:");
    let (mut origin, _proxy, mut client) = stored(WEAK, &[V1, digest, ("Repr-Digest", "sha-256=:BBBB:")]).await;
    assert_eq!(client.get("/").await.header("content-digest"), Some(digest.1));
    for range in ["bytes=0-2", "bytes=0-2, 200-209"] {
        let answer = ranged(&mut client, range).await;
        assert_eq!((answer.status, answer.header("content-digest")), (206, None), "{range}");
        assert_eq!(answer.header("repr-digest"), Some("sha-256=:BBBB:"), "s3: of the whole");
    }
    // The one a 304 tells is of its own content, which is empty.
    let exchange = asked(&mut client, &mut origin, &[("Cache-Control", "no-cache")]).await;
    exchange
        .respond(304, &[V1, ("Content-Digest", "sha-256=:CCCC:")], "")
        .await;
    assert_eq!(client.answer().await.header("content-digest"), Some(digest.1));
}

#[tokio::test]
async fn rfc9530_s2_a_digest_of_a_part_is_not_told_of_what_it_has_grown_to() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/", &[("Range", "bytes=0-99")], b"").await;
    let digest = ("Content-Digest", "sha-256=:AAAA:");
    let first = [V1, digest, ("Content-Range", "bytes 0-99/300")];
    origin.next().await.respond(206, &first, &body()[..100]).await;
    assert_eq!(client.answer().await.header("content-digest"), Some(digest.1));
    let exchange = asked(&mut client, &mut origin, &[]).await;
    assert_eq!(exchange.header("range"), Some("bytes=100-"));
    let rest = [V1, digest, ("Content-Range", "bytes 100-299/300")];
    exchange.respond(206, &rest, &body()[100..]).await;
    let whole = client.answer().await;
    assert_eq!((whole.text(), whole.header("content-digest")), (body().as_str(), None));
    let hit = client.get("/").await;
    assert_eq!((hit.is_hit(), hit.header("content-digest")), (true, None));
}

#[tokio::test]
async fn r12b_a_part_of_another_representation_revokes_what_else_is_stored_of_the_resource() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, SMALL).await;
    let mut client = proxy.client().await;
    client.ask("GET", "/?other", &[], b"").await;
    origin.next().await.respond(200, &[], "small").await;
    assert_eq!(client.answer().await.text(), "small");
    let mut large = asked(&mut client, &mut origin, &[("Range", "bytes=0-39")]).await;
    large.head(200, &[V1, ("Content-Length", "300")]).await;
    part(origin.next().await, (0, 40), V1).await;
    is_cut(&client.answer().await, (0, 40));
    assert!(client.get("/?other").await.is_hit(), "the first says nothing of change");
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=80-99")]).await;
    part(exchange, (80, 100), ("ETag", "\"2\"")).await;
    is_cut(&client.answer().await, (80, 100));
    client.ask("GET", "/?other", &[], b"").await;
    origin.next().await.respond(200, &[], "new").await;
    assert_eq!(client.answer().await.text(), "new");
    is_cut(&ranged(&mut client, "bytes=80-89").await, (80, 90));
}

#[tokio::test]
async fn r17_what_a_node_says_under_our_names_is_not_stored_with_a_missing_piece() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let foreign = ("Tidegate-Session", "v1.another.session");
    client.ask("GET", "/", &[("Range", "bytes=0-99")], b"").await;
    let first = [V1, foreign, ("Content-Range", "bytes 0-99/300")];
    origin.next().await.respond(206, &first, &body()[..100]).await;
    assert!(!client.answer().await.headers.has("tidegate-session"));
    let rest = [V1, foreign, ("Content-Range", "bytes 100-299/300")];
    asked(&mut client, &mut origin, &[])
        .await
        .respond(206, &rest, &body()[100..])
        .await;
    assert!(!client.answer().await.headers.has("tidegate-session"));
    let hit = client.get("/").await;
    assert!(hit.is_hit() && !hit.headers.has("tidegate-session"));
}

#[tokio::test]
async fn rfc9530_s2_two_parts_that_have_become_one_have_the_digest_of_neither() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, SMALL).await;
    let mut client = proxy.client().await;
    let digest = ("Content-Digest", "sha-256=:AAAA:");
    let mut large = asked(&mut client, &mut origin, &[("Range", "bytes=0-39")]).await;
    large.head(200, &[V1, ("Content-Length", "300")]).await;
    let fields = [V1, digest, ("Content-Range", "bytes 0-39/300")];
    origin.next().await.respond(206, &fields, &body()[..40]).await;
    assert_eq!(client.answer().await.header("content-digest"), Some(digest.1));
    let fields = [V1, digest, ("Content-Range", "bytes 40-79/300")];
    let exchange = asked(&mut client, &mut origin, &[("Range", "bytes=40-79")]).await;
    exchange.respond(206, &fields, &body()[40..80]).await;
    assert_eq!(client.answer().await.header("content-digest"), Some(digest.1));
    let both = ranged(&mut client, "bytes=0-79").await;
    is_cut(&both, (0, 80));
    assert_eq!((both.is_hit(), both.header("content-digest")), (true, None));
}
