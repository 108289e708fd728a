//! Asking the origin again about what is stored: what its answers change, for whom, and what a client can change by asking.

use super::support::client::{Answer, Client, Fields};
use super::support::origin::{Exchange, Origin};
use super::support::proxy::{Proxy, one_route};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";
const INSISTS: (&str, &str) = ("Cache-Control", "no-cache");
const V1: (&str, &str) = ("ETag", "\"1\"");
const V2: (&str, &str) = ("ETag", "\"2\"");

async fn before(origin: &Origin, keys: &str) -> Proxy {
    let config = one_route(keys) + "\n[upstreams.o.retry]\nattempts = 1\n";
    Proxy::start(&config, &[("origin", &origin.url())]).await
}

async fn asked(client: &mut Client, origin: &mut Origin, target: &str, fields: Fields<'_>) -> Exchange {
    client.ask("GET", target, fields, b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.target, target);
    exchange
}

async fn fetched(
    client: &mut Client,
    origin: &mut Origin,
    target: &str,
    fields: Fields<'_>,
    (status, answer, body): (u16, Fields<'_>, &str),
) -> Answer {
    let exchange = asked(client, origin, target, fields).await;
    exchange.respond(status, answer, body).await;
    client.answer().await
}

/// `/x?a` and `/x?b` stored, with these fields each.
async fn two_queries(keys: &str, fields: Fields<'_>) -> (Origin, Proxy, Client) {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, keys).await;
    let mut client = proxy.client().await;
    for target in ["/x?a", "/x?b"] {
        fetched(&mut client, &mut origin, target, &[], (200, fields, "old")).await;
        is_hit(&mut client, target, "old").await;
    }
    (origin, proxy, client)
}

async fn is_hit(client: &mut Client, target: &str, body: &str) -> Answer {
    let answer = client.get(target).await;
    assert!(answer.is_hit(), "{target}: {}", answer.cache_status());
    assert_eq!(answer.text(), body, "{target}");
    answer
}

#[tokio::test]
async fn a_clients_no_store_that_is_answered_by_a_304_evicts_nothing() {
    let (mut origin, _proxy, mut client) = two_queries(WEAK, &[V1]).await;
    let asks = [("Cache-Control", "no-cache, no-store")];
    let answer = fetched(&mut client, &mut origin, "/x?a", &asks, (304, &[V1], "")).await;
    assert_eq!((answer.status, answer.text()), (200, "old"));
    is_hit(&mut client, "/x?b", "old").await;
    is_hit(&mut client, "/x?a", "old").await;
}

#[tokio::test]
async fn a_cookie_on_a_304_reaches_its_requester_only_and_the_entry_stays() {
    for keys in [WEAK, "consistency = \"eventual\"\nttl = \"1h\"\nmax_staleness = \"2h\""] {
        let (mut origin, _proxy, mut client) = two_queries(keys, &[V1]).await;
        let cookies = [V1, ("Set-Cookie", "mine=1"), ("Set-Cookie", "also=2"), ("X-New", "1")];
        let answer = fetched(&mut client, &mut origin, "/x?a", &[INSISTS], (304, &cookies, "")).await;
        assert_eq!((answer.status, answer.text()), (200, "old"), "{keys}");
        assert_eq!(answer.headers.all("set-cookie"), ["mine=1", "also=2"], "{keys}");
        let hit = is_hit(&mut client, "/x?a", "old").await;
        assert!(!hit.headers.has("set-cookie"), "{keys}");
        assert_eq!(hit.header("x-new"), Some("1"), "the rest of the 304 is stored");
    }
}

#[tokio::test]
async fn rfc9111_s3_2_a_cookie_on_a_304_replaces_the_stored_one_where_cookies_are_stored() {
    for level in ["\"weak\"", "\"eventual\"\nmax_staleness = \"2h\""] {
        let keys = format!("consistency = {level}\nttl = \"1h\"\nstore_set_cookie = true");
        let (mut origin, _proxy, mut client) = two_queries(&keys, &[V1, ("Set-Cookie", "a=b")]).await;
        let new = [V1, ("Set-Cookie", "a=c")];
        let answer = fetched(&mut client, &mut origin, "/x?a", &[INSISTS], (304, &new, "")).await;
        assert_eq!((answer.status, answer.text()), (200, "old"), "{level}");
        assert_eq!(answer.headers.all("set-cookie"), ["a=c"], "{level}");
        let hit = is_hit(&mut client, "/x?a", "old").await;
        assert_eq!(hit.headers.all("set-cookie"), ["a=c"], "{level}");
        let other = is_hit(&mut client, "/x?b", "old").await;
        assert_eq!(other.headers.all("set-cookie"), ["a=b"], "{level}");
    }
}

#[tokio::test]
async fn a_304_that_forbids_storing_ends_the_entry_and_still_answers_its_requester() {
    for forbids in ["private", "no-store"] {
        let (mut origin, _proxy, mut client) = two_queries(WEAK, &[V1]).await;
        let now = [V1, ("Cache-Control", forbids)];
        let answer = fetched(&mut client, &mut origin, "/x?a", &[INSISTS], (304, &now, "")).await;
        assert_eq!((answer.status, answer.text()), (200, "old"), "{forbids}");
        let again = asked(&mut client, &mut origin, "/x?a", &[]).await;
        assert!(
            !again.headers.has("if-none-match"),
            "{forbids}: nothing is left to validate"
        );
        again.respond(200, &now, "mine").await;
        assert_eq!(client.answer().await.text(), "mine", "{forbids}");
    }
}

#[tokio::test]
async fn r12b_a_304_that_names_another_etag_and_then_a_new_answer_revoke_the_other_queries() {
    let (mut origin, _proxy, mut client) = two_queries(WEAK, &[V1]).await;
    let exchange = asked(&mut client, &mut origin, "/x?a", &[INSISTS]).await;
    assert_eq!(exchange.header("if-none-match"), Some("\"1\""));
    exchange.respond(304, &[V2], "").await;
    let again = origin.next().await;
    assert!(!again.headers.has("if-none-match"));
    again.respond(200, &[V2], "new").await;
    assert_eq!(client.answer().await.text(), "new");
    let answer = fetched(&mut client, &mut origin, "/x?b", &[], (200, &[V2], "new")).await;
    assert_eq!(answer.text(), "new");
    is_hit(&mut client, "/x?a", "new").await;
}

#[tokio::test]
async fn r12b_a_404_where_an_answer_without_validator_was_stored_revokes_the_other_queries() {
    for status in [404, 410] {
        let (mut origin, _proxy, mut client) = two_queries(WEAK, &[]).await;
        let answer = fetched(&mut client, &mut origin, "/x?a", &[INSISTS], (status, &[], "gone")).await;
        assert_eq!(answer.status, status);
        let answer = fetched(&mut client, &mut origin, "/x?b", &[], (status, &[], "gone")).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn r12b_a_status_that_speaks_of_the_request_revokes_nothing() {
    for status in [400, 401, 403, 406, 417, 421, 431] {
        let (mut origin, _proxy, mut client) = two_queries(WEAK, &[V1]).await;
        let odd = [INSISTS, ("X-Odd", "1")];
        let answer = fetched(&mut client, &mut origin, "/x?a", &odd, (status, &[], "no")).await;
        assert_eq!((answer.status, answer.text()), (status, "no"));
        is_hit(&mut client, "/x?b", "old").await;
        is_hit(&mut client, "/x?a", "old").await;
    }
}

#[tokio::test]
async fn r5c_the_requesters_own_condition_is_applied_to_an_answer_that_is_not_stored() {
    for level in ["weak", "eventual", "strong"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, &format!("consistency = \"{level}\"")).await;
        let mut client = proxy.client().await;
        let private = [
            V1,
            ("Cache-Control", "private"),
            ("Set-Cookie", "a=b"),
            ("Content-Type", "text/x"),
        ];
        for (has, status, body) in [("\"1\"", 304, ""), ("\"0\", W/\"1\"", 304, ""), ("\"0\"", 200, "mine")] {
            let exchange = asked(&mut client, &mut origin, "/", &[("If-None-Match", has)]).await;
            assert!(
                !exchange.headers.has("if-none-match"),
                "{level}: flights carry no conditions"
            );
            exchange.respond(200, &private, "mine").await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text()), (status, body), "{level} {has}");
            assert_eq!(answer.header("etag"), Some("\"1\""), "{level} {has}");
            assert_eq!(answer.header("set-cookie"), Some("a=b"), "{level} {has}");
            assert_eq!(answer.headers.has("content-type"), status == 200, "{level} {has}");
        }
    }
}

#[tokio::test]
async fn r5b_whatever_passes_to_a_strong_primary_carries_no_cache() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"strong\"").await;
    let mut client = proxy.client().await;
    let passes: [(&str, Fields<'_>, &[u8]); 6] = [
        ("GET", &[("If-Match", "\"1\"")], b""),
        ("GET", &[("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], b""),
        ("GET", &[("Cache-Control", "max-stale")], b"a body"),
        ("QUERY", &[], b"select"),
        ("OPTIONS", &[], b""),
        ("HEAD", &[("Cache-Control", "max-age=600")], b""),
    ];
    for (method, fields, body) in passes {
        client.ask(method, "/", fields, body).await;
        let exchange = origin.next().await;
        assert_eq!(exchange.method, method);
        assert_eq!(
            exchange.headers.all("cache-control"),
            ["no-cache"],
            "{method} {fields:?}"
        );
        exchange.respond(200, &[V1], "").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_weak_validator_does_not_confirm_what_a_purge_has_taken_away_since() {
    for keys in ["consistency = \"weak\"", "consistency = \"eventual\""] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, keys).await;
        let mut client = proxy.client().await;
        let weak = [("ETag", "W/\"1\""), ("Cache-Control", "max-age=0")];
        fetched(&mut client, &mut origin, "/", &[], (200, &weak, "old")).await;
        let sent = asked(&mut client, &mut origin, "/", &[]).await;
        assert_eq!(sent.header("if-none-match"), Some("W/\"1\""));
        assert_eq!(proxy.purge(r#"{"url": "/"}"#).await, 1);
        sent.respond(304, &[weak[0]], "").await;
        let again = origin.next().await;
        assert!(!again.headers.has("if-none-match"), "{keys}");
        again.respond(200, &weak, "new").await;
        assert_eq!(client.answer().await.text(), "new", "{keys}");
    }
}
