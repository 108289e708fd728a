//! Level weak, and what every caching level takes from RFC 9111: what is stored, for whom, and how it is served.

use super::support::client::{Answer, Client, Fields};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::Register;

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const HONEST: &str = "consistency = \"weak\"";

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

/// A request that must reach the origin, which answers this.
async fn fetched(
    client: &mut Client,
    origin: &mut Origin,
    request: (&str, &str, Fields<'_>),
    answer: (u16, Fields<'_>, &str),
) -> Answer {
    let (method, target, headers) = request;
    client.ask(method, target, headers, b"").await;
    let exchange = origin.next().await;
    assert_eq!((exchange.method.as_str(), exchange.target.as_str()), (method, target));
    exchange.respond(answer.0, answer.1, answer.2).await;
    client.answer().await
}

/// Sends the same GET twice; says whether the second needed the origin no more.
async fn is_reused(keys: &str, request: Fields<'_>, answer: (u16, Fields<'_>)) -> bool {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, keys).await;
    let mut client = proxy.client().await;
    let first = fetched(
        &mut client,
        &mut origin,
        ("GET", "/", request),
        (answer.0, answer.1, "body"),
    )
    .await;
    assert_eq!((first.status, first.text()), (answer.0, "body"));
    client.ask("GET", "/", request, b"").await;
    tokio::select! {
        biased;
        second = client.answer() => {
            assert_eq!((second.status, second.text()), (answer.0, "body"));
            assert!(second.headers.has("age"), "Age on every reuse");
            true
        }
        exchange = origin.next() => {
            assert!(!exchange.headers.has("if-none-match"), "a plain fetch");
            exchange.respond(200, &[], "again").await;
            false
        }
    }
}

#[tokio::test]
async fn a_miss_is_stored_and_the_next_is_a_hit_that_says_so() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let miss = fetched(
        &mut client,
        &mut origin,
        ("GET", "/a?b", &[]),
        (200, &[("ETag", "\"1\"")], "body"),
    )
    .await;
    assert!(
        miss.cache_status().starts_with("tidegate; fwd=uri-miss"),
        "{}",
        miss.cache_status()
    );
    assert!(miss.cache_status().contains("; stored"), "{}", miss.cache_status());
    let hit = client.get("/a?b").await;
    assert_eq!(
        (hit.status, hit.text(), hit.header("etag")),
        (200, "body", Some("\"1\""))
    );
    assert!(
        hit.cache_status().starts_with("tidegate; hit; ttl="),
        "{}",
        hit.cache_status()
    );
    assert!(hit.age().is_some());
    assert!(!hit.headers.has("tidegate-consistency"), "weak promises nothing");
    origin.expect_idle().await;
    assert_eq!((proxy.results("miss").await, proxy.results("hit").await), (1.0, 1.0));
}

#[tokio::test]
async fn the_origins_age_counts() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, HONEST).await;
    let mut client = proxy.client().await;
    let old = [("Cache-Control", "max-age=100"), ("Age", "60")];
    let miss = fetched(&mut client, &mut origin, ("GET", "/", &[]), (200, &old, "x")).await;
    assert!(miss.age().is_some_and(|a| (60..70).contains(&a)), "{:?}", miss.age());
    let hit = client.get("/").await;
    assert!(
        hit.is_hit() && hit.age().is_some_and(|a| (60..80).contains(&a)),
        "{:?}",
        hit.age()
    );
    let stale = [("Cache-Control", "max-age=50"), ("Age", "60")];
    fetched(&mut client, &mut origin, ("GET", "/stale", &[]), (200, &stale, "x")).await;
    fetched(&mut client, &mut origin, ("GET", "/stale", &[]), (200, &stale, "x")).await;
}

#[tokio::test]
async fn what_the_origin_says_decides_what_is_reused() {
    let cases: &[(bool, u16, Fields<'_>)] = &[
        (true, 200, &[("Cache-Control", "max-age=60")]),
        (true, 200, &[("Cache-Control", "max-age=0, s-maxage=60")]),
        (true, 404, &[("Cache-Control", "max-age=60")]),
        (true, 299, &[("Cache-Control", "MAX-AGE=\"60\"")]),
        (false, 200, &[]),
        (false, 200, &[("Cache-Control", "max-age=60, no-store")]),
        (false, 200, &[("Cache-Control", "max-age=60, private")]),
        (
            false,
            200,
            &[("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=0")],
        ),
        (false, 200, &[("Cache-Control", "max-age=60"), ("Vary", "*")]),
        (false, 200, &[("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")]),
        (false, 200, &[("Expires", "0")]),
    ];
    for (reused, status, headers) in cases {
        assert_eq!(
            is_reused(HONEST, &[], (*status, headers)).await,
            *reused,
            "{status} {headers:?}"
        );
    }
}

#[tokio::test]
async fn rfc9213_a_targeted_field_decides_in_place_of_cache_control_and_expires() {
    let cases: &[(bool, Fields<'_>)] = &[
        (true, &[("CDN-Cache-Control", "max-age=60")]),
        (
            true,
            &[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")],
        ),
        (true, &[("CDN-Cache-Control", "max-age=60"), ("Expires", "0")]),
        (
            false,
            &[("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")],
        ),
        (
            false,
            &[("CDN-Cache-Control", "private"), ("Cache-Control", "max-age=60")],
        ),
        (
            false,
            &[("CDN-Cache-Control", "max-age=0"), ("Cache-Control", "max-age=60")],
        ),
        (false, &[("CDN-Cache-Control", "max-age=\"60\"")]),
        (
            false,
            &[("CDN-Cache-Control", "max-age=60, "), ("Cache-Control", "no-store")],
        ),
        (
            true,
            &[("CDN-Cache-Control", "no-store, "), ("Cache-Control", "max-age=60")],
        ),
        (
            true,
            &[
                ("CDN-Cache-Control", "no-store"),
                ("Tidegate-Cache-Control", "max-age=60"),
            ],
        ),
        (
            false,
            &[
                ("CDN-Cache-Control", "max-age=60"),
                ("Tidegate-Cache-Control", "no-store"),
            ],
        ),
        // Named by Connection it would be dropped, and the answer published.
        (
            false,
            &[
                ("CDN-Cache-Control", "private"),
                ("Cache-Control", "max-age=60"),
                ("Connection", "CDN-Cache-Control"),
            ],
        ),
    ];
    for (reused, headers) in cases {
        assert_eq!(is_reused(HONEST, &[], (200, headers)).await, *reused, "{headers:?}");
    }
}

#[tokio::test]
async fn the_routes_ttl_fills_in_and_rules_only_where_it_says_so() {
    let ignore = "consistency = \"weak\"\nttl = \"1h\"\norigin_ttl = \"ignore\"";
    let cases: &[(bool, &str, Fields<'_>)] = &[
        (true, WEAK, &[]),
        (false, WEAK, &[("Cache-Control", "max-age=0")]),
        (true, ignore, &[("Cache-Control", "max-age=0")]),
        (false, ignore, &[("Cache-Control", "no-store")]),
        (false, ignore, &[("Cache-Control", "private")]),
        (
            true,
            "consistency = \"weak\"\nttl = \"1h\"\nstore_set_cookie = true",
            &[("Set-Cookie", "a=b")],
        ),
    ];
    for (reused, keys, headers) in cases {
        assert_eq!(
            is_reused(keys, &[], (200, headers)).await,
            *reused,
            "{keys} {headers:?}"
        );
    }
}

#[tokio::test]
async fn r14_credentials_share_only_what_the_origin_permits() {
    let shared = "consistency = \"weak\"\nttl = \"1h\"\nshared_auth = true";
    let keyed = "consistency = \"weak\"\nttl = \"1h\"\nkey = { cookies = [\"who\"], headers = [\"Authorization\"] }";
    for credentials in [("Authorization", "Basic eA=="), ("Cookie", "who=me")] {
        let cases: &[(bool, &str, Fields<'_>)] = &[
            (false, WEAK, &[]),
            (false, WEAK, &[("Cache-Control", "max-age=60")]),
            (true, WEAK, &[("Cache-Control", "max-age=60, public")]),
            (true, WEAK, &[("Cache-Control", "max-age=60, must-revalidate")]),
            (true, WEAK, &[("Cache-Control", "s-maxage=60")]),
            (true, shared, &[]),
            (true, keyed, &[]),
        ];
        for (reused, keys, headers) in cases {
            let got = is_reused(keys, &[credentials], (200, headers)).await;
            assert_eq!(got, *reused, "{credentials:?} {keys} {headers:?}");
        }
    }
}

#[tokio::test]
async fn r14_cookies_that_do_not_count_are_no_credentials() {
    let ignoring = "consistency = \"weak\"\nttl = \"1h\"\nkey = { cookies_ignore = [\"_ga*\"] }";
    for (reused, credentials) in [
        (true, ("Cookie", "_ga=1; _ga_2=x")),
        (false, ("Cookie", "_ga=1; sid=7")),
        (false, ("Authorization", "Basic eA==")),
    ] {
        let got = is_reused(ignoring, &[credentials], (200, &[])).await;
        assert_eq!(got, reused, "{credentials:?}");
    }
}

#[tokio::test]
async fn r14_an_answer_stored_for_one_is_not_served_to_one_with_credentials() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    fetched(&mut client, &mut origin, ("GET", "/", &[]), (200, &[], "anonymous")).await;
    assert!(client.get("/").await.is_hit());
    let own = fetched(
        &mut client,
        &mut origin,
        ("GET", "/", &[("Cookie", "a=b")]),
        (200, &[], "personal"),
    )
    .await;
    assert_eq!(own.text(), "personal");
    assert_eq!(
        client.get("/").await.text(),
        "anonymous",
        "the personal answer was not stored"
    );
}

#[tokio::test]
async fn the_key_holds_scheme_host_path_and_query_as_the_client_sends_them() {
    let mut origin = Origin::start().await;
    let keys = format!("{WEAK}\nrewrite = \"/same\"\nmatch = {{ path = \"/{{*rest}}\" }}");
    let proxy = before(&origin, &keys).await;
    let mut client = proxy.client().await;
    for (host, target, body) in [
        ("a.example", "/x", "1"),
        ("b.example", "/x", "2"),
        ("a.example", "/y", "3"),
        ("a.example", "/x?q", "4"),
    ] {
        client.ask("GET", target, &[("Host", host)], b"").await;
        origin.next().await.respond(200, &[], body).await;
        assert_eq!(client.answer().await.text(), body);
    }
    // One rewritten URL, two virtual hosts: each has its own.
    for (host, body) in [("a.example", "1"), ("b.example", "2"), ("A.example:80", "1")] {
        let hit = client.get_with("/x", &[("Host", host)]).await;
        assert!(hit.is_hit() && hit.text() == body, "{host}: {}", hit.text());
    }
}

#[tokio::test]
async fn the_query_in_the_key_is_the_routes_choice() {
    for (key, same, other) in [
        (
            "query_ignore = [\"utm_*\", \"fbclid\"]",
            "/?a=1&utm_source=x&fbclid=2",
            "/?a=1&x=2",
        ),
        ("query = [\"a\"]", "/?b=7&a=1&c=2", "/?a=2"),
    ] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("{WEAK}\nkey = {{ {key} }}")).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, ("GET", "/?a=1", &[]), (200, &[], "one")).await;
        assert_eq!(client.get(same).await.text(), "one", "{key}");
        fetched(&mut client, &mut origin, ("GET", other, &[]), (200, &[], "two")).await;
    }
}

#[tokio::test]
async fn vary_keeps_variants_apart_and_says_vary_miss() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let (de, en): (Fields<'_>, Fields<'_>) = (&[("Accept-Language", "de")], &[("Accept-Language", "en")]);
    let vary: Fields<'_> = &[("Vary", "Accept-Language")];
    fetched(&mut client, &mut origin, ("GET", "/", de), (200, vary, "Hallo")).await;
    let miss = fetched(&mut client, &mut origin, ("GET", "/", en), (200, vary, "Hello")).await;
    assert_eq!(miss.fwd(), "vary-miss");
    assert_eq!(client.get_with("/", de).await.text(), "Hallo");
    assert_eq!(client.get_with("/", &[("Accept-Language", "EN")]).await.text(), "Hello");
    origin.expect_idle().await;
}

#[tokio::test]
async fn a_stale_entry_is_validated_and_a_304_freshens_it() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, HONEST).await;
    let mut client = proxy.client().await;
    let first = [("Cache-Control", "no-cache"), ("ETag", "\"1\""), ("X-Old", "1")];
    fetched(&mut client, &mut origin, ("GET", "/", &[]), (200, &first, "body")).await;
    client.ask("GET", "/", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
    exchange
        .respond(
            304,
            &[("Cache-Control", "max-age=60"), ("ETag", "\"1\""), ("X-Old", "2")],
            "",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("x-old")),
        (200, "body", Some("2"))
    );
    assert!(
        answer.cache_status().contains("fwd=stale; fwd-status=304"),
        "{}",
        answer.cache_status()
    );
    let hit = client.get("/").await;
    assert!(hit.is_hit());
    assert_eq!(
        (hit.header("x-old"), hit.header("content-length")),
        (Some("2"), Some("4"))
    );
    assert_eq!(proxy.results("revalidated").await, 1.0);
}

#[tokio::test]
async fn the_clients_conditions_are_answered_from_the_store() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let dated = [("ETag", "\"1\""), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
    fetched(&mut client, &mut origin, ("GET", "/", &[]), (200, &dated, "body")).await;
    for (name, value, status) in [
        ("If-None-Match", "\"0\", W/\"1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"2\"", 200),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT", 200),
    ] {
        let answer = client.get_with("/", &[(name, value)]).await;
        assert_eq!(
            (answer.status, answer.header("etag")),
            (status, Some("\"1\"")),
            "{name}: {value}"
        );
        assert!(answer.is_hit() && answer.headers.has("age"));
    }
    let both = [("If-None-Match", "\"2\""), ("If-Modified-Since", dated[1].1)];
    assert_eq!(client.get_with("/", &both).await.status, 200, "If-None-Match first");
    origin.expect_idle().await;
}

#[tokio::test]
async fn r5c_a_flight_carries_no_conditions_and_no_range_of_the_client() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let conditions = [
        ("If-None-Match", "\"1\""),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Range", "bytes=1-2"),
    ];
    client.ask("GET", "/", &conditions, b"").await;
    let exchange = origin.next().await;
    for (name, _) in conditions {
        assert!(!exchange.headers.has(name), "{name}");
    }
    exchange.respond(200, &[("ETag", "\"1\"")], "body").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (304, 0),
        "the condition is applied to the reader at the end"
    );
    assert_eq!(client.get("/").await.text(), "body");
}

#[tokio::test]
async fn ranges_are_cut_from_a_complete_entry() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    fetched(
        &mut client,
        &mut origin,
        ("GET", "/", &[]),
        (200, &[("ETag", "\"1\"")], "0123456789"),
    )
    .await;
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=8-99", 206, "89", Some("bytes 8-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("lines=1-2", 200, "0123456789", None),
    ] {
        let answer = client.get_with("/", &[("Range", range)]).await;
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (status, content_range),
            "{range}"
        );
        assert!(status == 416 || answer.text() == body, "{range}: {}", answer.text());
    }
    let other = client
        .get_with("/", &[("Range", "bytes=2-4"), ("If-Range", "\"2\"")])
        .await;
    assert_eq!((other.status, other.text()), (200, "0123456789"));
    let same = client
        .get_with("/", &[("Range", "bytes=2-4"), ("If-Range", "\"1\"")])
        .await;
    assert_eq!((same.status, same.text()), (206, "234"));
    origin.expect_idle().await;
}

#[tokio::test]
async fn the_clients_directives_are_obeyed_within_the_contract() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let refused = client.get_with("/", &[("Cache-Control", "only-if-cached")]).await;
    assert_eq!(refused.status, 504);
    origin.expect_idle().await;
    fetched(
        &mut client,
        &mut origin,
        ("GET", "/", &[]),
        (200, &[("Cache-Control", "max-age=100"), ("Age", "5")], "one"),
    )
    .await;
    let cached = client.get_with("/", &[("Cache-Control", "only-if-cached")]).await;
    assert!(cached.is_hit());
    for directive in ["no-cache", "max-age=3", "min-fresh=200"] {
        let answer = fetched(
            &mut client,
            &mut origin,
            ("GET", "/", &[("Cache-Control", directive)]),
            (200, &[("Cache-Control", "max-age=100"), ("Age", "5")], directive),
        )
        .await;
        assert_eq!(answer.fwd(), "request", "{directive}");
        // The mistake: a forced fetch that does not update what others are served.
        assert_eq!(client.get("/").await.text(), directive);
    }
    let pragma = fetched(
        &mut client,
        &mut origin,
        ("GET", "/", &[("Pragma", "no-cache")]),
        (200, &[], "pragma"),
    )
    .await;
    assert_eq!(pragma.text(), "pragma");
    let no_store = [("Cache-Control", "no-store")];
    fetched(&mut client, &mut origin, ("GET", "/n", &no_store), (200, &[], "n")).await;
    fetched(&mut client, &mut origin, ("GET", "/n", &[]), (200, &[], "n")).await;
}

#[tokio::test]
async fn a_definite_write_invalidates_and_a_refused_one_does_not() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    for (method, status, gone) in [
        ("PUT", 200, true),
        ("PUT", 204, true),
        ("DELETE", 303, true),
        ("POST", 201, true),
        ("PATCH", 200, true),
        ("POST", 400, false),
        ("PUT", 412, false),
    ] {
        client.ask("GET", "/x", &[("Cache-Control", "no-cache")], b"").await;
        origin.next().await.respond(200, &[], "before").await;
        assert_eq!(client.answer().await.text(), "before");
        assert!(client.get("/x").await.is_hit());
        fetched(&mut client, &mut origin, (method, "/x", &[]), (status, &[], "")).await;
        client.ask("GET", "/x", &[], b"").await;
        if gone {
            origin.next().await.respond(200, &[], "after").await;
            assert_eq!(client.answer().await.text(), "after", "{method} {status}");
        } else {
            assert!(client.answer().await.is_hit(), "{method} {status}");
        }
    }
}

#[tokio::test]
async fn r12_location_and_content_location_of_the_same_origin_are_invalidated() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    for (name, value, gone) in [
        ("Location", "/other", true),
        ("Content-Location", "/other", true),
        ("Location", "http://shop.example/other", true),
        ("Location", "http://else.example/other", false),
    ] {
        client.ask("GET", "/other", &[("Cache-Control", "no-cache")], b"").await;
        origin.next().await.respond(200, &[], "before").await;
        client.answer().await;
        assert!(client.get("/other").await.is_hit());
        fetched(
            &mut client,
            &mut origin,
            ("POST", "/x", &[]),
            (201, &[(name, value)], ""),
        )
        .await;
        client.ask("GET", "/other", &[], b"").await;
        if gone {
            origin.next().await.respond(200, &[], "after").await;
            assert_eq!(client.answer().await.text(), "after", "{name}: {value}");
        } else {
            assert!(client.answer().await.is_hit(), "{name}: {value}");
        }
    }
}

#[tokio::test]
async fn r6_a_write_drops_every_query_variant_and_negative_entry_of_the_path() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let vary: Fields<'_> = &[("Vary", "Accept-Language")];
    let (de, en): (Fields<'_>, Fields<'_>) = (&[("Accept-Language", "de")], &[("Accept-Language", "en")]);
    let missing: Fields<'_> = &[("Cache-Control", "max-age=60")];
    fetched(&mut client, &mut origin, ("GET", "/x", de), (200, vary, "de")).await;
    fetched(&mut client, &mut origin, ("GET", "/x", en), (200, vary, "en")).await;
    fetched(&mut client, &mut origin, ("GET", "/x?page=2", &[]), (200, &[], "2")).await;
    fetched(&mut client, &mut origin, ("GET", "/x?page=9", &[]), (404, missing, "")).await;
    assert_eq!(client.get("/x?page=9").await.status, 404);
    client.ask("PUT", "/%78?page=2", &[], b"").await;
    origin.next().await.respond(204, &[], "").await;
    assert_eq!(client.answer().await.status, 204);
    fetched(&mut client, &mut origin, ("GET", "/x", de), (200, vary, "new")).await;
    fetched(&mut client, &mut origin, ("GET", "/x", en), (200, vary, "new")).await;
    fetched(&mut client, &mut origin, ("GET", "/x?page=2", &[]), (200, &[], "new")).await;
    fetched(&mut client, &mut origin, ("GET", "/x?page=9", &[]), (200, &[], "new")).await;
}

#[tokio::test]
async fn r12b_a_different_answer_of_the_origin_drops_the_other_variants() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut client = proxy.client().await;
    let vary = |etag| [("Vary", "Accept-Language"), ("ETag", etag)];
    let (de, en): (Fields<'_>, Fields<'_>) = (&[("Accept-Language", "de")], &[("Accept-Language", "en")]);
    fetched(
        &mut client,
        &mut origin,
        ("GET", "/x", de),
        (200, &vary("\"de1\""), "alt"),
    )
    .await;
    fetched(
        &mut client,
        &mut origin,
        ("GET", "/x", en),
        (200, &vary("\"en1\""), "old"),
    )
    .await;
    // Asked afresh, the German variant is another one: the resource has changed.
    let forced: Fields<'_> = &[("Accept-Language", "de"), ("Cache-Control", "no-cache")];
    client.ask("GET", "/x", forced, b"").await;
    origin.next().await.respond(200, &vary("\"de2\""), "neu").await;
    assert_eq!(client.answer().await.text(), "neu");
    let other = fetched(
        &mut client,
        &mut origin,
        ("GET", "/x", en),
        (200, &vary("\"en2\""), "new"),
    )
    .await;
    assert_eq!(other.text(), "new");
}

#[tokio::test]
async fn r13_a_method_override_makes_a_request_unsafe() {
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, WEAK).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, ("GET", "/x", &[]), (200, &[], "before")).await;
        let overridden: Fields<'_> = &[(name, "DELETE")];
        fetched(
            &mut client,
            &mut origin,
            ("GET", "/x", overridden),
            (200, &[], "deleted"),
        )
        .await;
        let after = fetched(&mut client, &mut origin, ("GET", "/x", &[]), (404, &[], "gone")).await;
        assert_eq!(after.status, 404, "{name}");
    }
}

#[tokio::test]
async fn a_body_larger_than_max_object_passes_whole_and_is_not_stored() {
    let body = "x".repeat(5000);
    for chunked in [false, true] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("{WEAK}\nmax_object = \"1KiB\"")).await;
        let mut client = proxy.client().await;
        for _ in 0..2 {
            client.ask("GET", "/", &[], b"").await;
            let mut exchange = origin.next().await;
            if chunked {
                exchange.head(200, &[("Transfer-Encoding", "chunked")]).await;
                exchange.chunk(&body[..2500]).await;
                exchange.chunk(&body[2500..]).await;
                exchange.last_chunk().await;
            } else {
                exchange.respond(200, &[], &body).await;
            }
            let answer = client.answer().await;
            assert_eq!(answer.body.len(), 5000);
        }
        proxy
            .until_metric("tidegate_fills_refused_total", &[("reason", "too-large")], 2.0)
            .await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_spoil_the_fill() {
    let register = Register::new();
    register.write("/x", "a body of some length");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(WEAK), &[("origin", &node.url())]).await;
    let mut hold = register.hold("GET", "/x", super::support::register::Point::MidBody);
    let mut client = proxy.client().await;
    client.ask("GET", "/x", &[], b"").await;
    let held = hold.next().await;
    assert_eq!(client.head().await.0, 200);
    client.abort();
    held.release();
    drop(hold);
    super::support::eventually("the fill to be stored", || async { proxy.get("/x").await.is_hit() }).await;
    assert_eq!(
        register.count("GET", "/x"),
        1,
        "R21: the fill went on without its client"
    );
}

#[tokio::test]
async fn a_good_entry_is_not_replaced_by_a_5xx() {
    let mut origin = Origin::start().await;
    let config = one_route("consistency = \"weak\"\nstale_if_error = \"1h\"") + "\n[upstreams.o.retry]\nattempts = 1\n";
    let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
    let mut client = proxy.client().await;
    let validated = [("Cache-Control", "max-age=0"), ("ETag", "\"1\"")];
    fetched(&mut client, &mut origin, ("GET", "/", &[]), (200, &validated, "good")).await;
    let stale = fetched(
        &mut client,
        &mut origin,
        ("GET", "/", &[]),
        (503, &[("Cache-Control", "max-age=60")], "bad"),
    )
    .await;
    assert_eq!((stale.status, stale.text()), (200, "good"));
    let again = fetched(&mut client, &mut origin, ("GET", "/", &[]), (200, &validated, "better")).await;
    assert_eq!(again.text(), "better");
}
