//! What a request is taken for: key, variant and trail come from what the node is sent too, and from nobody's claims but a trusted
//! proxy's.

use super::support::client::{Client, Fields};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";

async fn before(origin: &Origin, listener: &str, keys: &str) -> Proxy {
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\n{listener}\n{}",
        one_route(keys)
    );
    Proxy::start(&config, &[("origin", &origin.url())]).await
}

/// A GET that the origin must be asked for.
async fn fetched(client: &mut Client, origin: &mut Origin, target: &str, fields: Fields<'_>, body: &str) {
    client.ask("GET", target, fields, b"").await;
    let exchange = origin.next().await;
    assert_eq!(exchange.target, target);
    exchange.respond(200, &[("Vary", "Accept-Language")], body).await;
    assert_eq!(client.answer().await.text(), body);
}

/// A GET that memory must answer.
async fn is_hit(client: &mut Client, target: &str, fields: Fields<'_>, body: &str) {
    let answer = client.get_with(target, fields).await;
    assert!(answer.is_hit(), "{target} {fields:?}: {}", answer.cache_status());
    assert_eq!(answer.text(), body, "{target} {fields:?}");
}

#[tokio::test]
async fn a_field_that_is_stripped_for_the_node_chooses_no_variant() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "", WEAK).await;
    let mut client = proxy.client().await;
    let stripped = [("Accept-Language", "de"), ("Connection", "Accept-Language")];
    client.ask("GET", "/p", &stripped, b"").await;
    let exchange = origin.next().await;
    assert!(!exchange.headers.has("accept-language"));
    exchange
        .respond(200, &[("Vary", "Accept-Language")], "no language")
        .await;
    assert_eq!(client.answer().await.text(), "no language");
    fetched(&mut client, &mut origin, "/p", &[("Accept-Language", "de")], "deutsch").await;
    is_hit(&mut client, "/p", &[("Accept-Language", "de")], "deutsch").await;
    is_hit(&mut client, "/p", &[], "no language").await;
}

#[tokio::test]
async fn a_field_that_is_stripped_for_the_node_is_not_in_the_key() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "", &format!("{WEAK}\nkey = {{ headers = [\"X-Tenant\"] }}")).await;
    let mut client = proxy.client().await;
    client
        .ask("GET", "/p", &[("X-Tenant", "a"), ("Connection", "x-tenant")], b"")
        .await;
    let exchange = origin.next().await;
    assert!(!exchange.headers.has("x-tenant"));
    exchange.respond(200, &[], "nobody's").await;
    assert_eq!(client.answer().await.text(), "nobody's");
    fetched(&mut client, &mut origin, "/p", &[("X-Tenant", "a")], "a's").await;
    is_hit(&mut client, "/p", &[("X-Tenant", "a")], "a's").await;
    is_hit(&mut client, "/p", &[], "nobody's").await;
}

#[tokio::test]
async fn connection_cannot_take_the_host_away() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "", WEAK).await;
    let mut client = proxy.client().await;
    for listed in ["host", "close, Host"] {
        client
            .ask("GET", &format!("/{}", listed.len()), &[("Connection", listed)], b"")
            .await;
        let exchange = origin.next().await;
        assert_eq!(exchange.header("host"), Some("shop.example"), "{listed}");
        exchange.respond(200, &[], "").await;
        assert_eq!(client.answer().await.status, 200, "{listed}");
    }
}

#[tokio::test]
async fn what_a_peer_claims_to_have_forwarded_counts_only_from_a_trusted_proxy() {
    let claims = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Port", "666"),
        ("X-Forwarded-Ssl", "on-evil"),
        ("X-Forwarded-Whatever-Comes", "evil"),
        ("Forwarded", "for=6.6.6.6;host=evil.example"),
    ];
    for (listener, trusted) in [("", false), ("trusted_proxies = [\"127.0.0.0/8\"]", true)] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, listener, "").await;
        let mut client = proxy.client().await;
        client.ask("GET", "/", &claims, b"").await;
        let exchange = origin.next().await;
        for (name, value) in claims {
            let came = exchange.headers.all(name).join(", ");
            assert_eq!(came.contains(value), trusted, "{name}: {came:?}, trusted: {trusted}");
        }
        exchange.respond(200, &[], "").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

#[tokio::test]
async fn schemes_and_hosts_that_a_trusted_proxy_names_never_share_an_entry() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, TRUSTED, WEAK).await;
    let mut client = proxy.client().await;
    let seen: [(Fields<'_>, &str); 9] = [
        (&[], "as received"),
        (&[("X-Forwarded-Proto", "https")], "https"),
        (&[("X-Forwarded-Host", "a.example")], "a"),
        (&[("X-Forwarded-Host", "b.example")], "b"),
        (
            &[("X-Forwarded-Host", "b.example"), ("X-Forwarded-Proto", "https")],
            "b by https",
        ),
        (&[("Forwarded", "for=9.9.9.9;host=c.example;proto=https")], "c by https"),
        // Proxies append to what a client sent, and a node may believe the first or the last.
        (&[("X-Forwarded-Host", "b.example, a.example")], "b, then a"),
        (
            &[("X-Forwarded-Host", "b.example"), ("X-Forwarded-Host", "c.example")],
            "b, then c",
        ),
        (
            &[("Forwarded", "host=c.example;proto=https, for=9.9.9.9;host=a.example")],
            "c by https, then a",
        ),
    ];
    for (fields, body) in seen {
        fetched(&mut client, &mut origin, "/p", fields, body).await;
    }
    for (fields, body) in seen {
        is_hit(&mut client, "/p", fields, body).await;
    }
    is_hit(&mut client, "/p", &[("X-Forwarded-Proto", "http")], "as received").await;
}

#[tokio::test]
async fn an_untrusted_peer_cannot_choose_the_entry_by_what_it_claims() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "", WEAK).await;
    let mut client = proxy.client().await;
    fetched(&mut client, &mut origin, "/p", &[], "plain").await;
    for claim in [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example")] {
        is_hit(&mut client, "/p", &[claim], "plain").await;
    }
}

#[tokio::test]
async fn r12_a_location_in_the_scheme_that_a_trusted_proxy_names_is_of_the_same_origin() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, TRUSTED, WEAK).await;
    let mut client = proxy.client().await;
    let https = [("X-Forwarded-Proto", "https")];
    for (location, drops) in [("https://shop.example/x", true), ("http://shop.example/x", false)] {
        fetched(&mut client, &mut origin, "/x", &https, "old").await;
        is_hit(&mut client, "/x", &https, "old").await;
        client.ask("POST", "/w", &https, b"").await;
        origin.next().await.respond(201, &[("Location", location)], "").await;
        assert_eq!(client.answer().await.status, 201);
        if drops {
            fetched(&mut client, &mut origin, "/x", &https, "new").await;
            proxy.admin_post("/purge", r#"{"url": "/x"}"#).await;
        } else {
            is_hit(&mut client, "/x", &https, "old").await;
        }
    }
}

#[tokio::test]
async fn r12_a_location_at_the_host_that_a_trusted_proxy_names_is_of_the_same_origin() {
    for (listener, drops) in [(TRUSTED, true), ("", false)] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, listener, WEAK).await;
        let mut client = proxy.client().await;
        let outside = [("X-Forwarded-Host", "public.example"), ("X-Forwarded-Proto", "https")];
        fetched(&mut client, &mut origin, "/x", &outside, "old").await;
        client.ask("POST", "/w", &outside, b"").await;
        let location = [("Location", "https://public.example/x")];
        origin.next().await.respond(201, &location, "").await;
        assert_eq!(client.answer().await.status, 201);
        if drops {
            fetched(&mut client, &mut origin, "/x", &outside, "new").await;
        } else {
            is_hit(&mut client, "/x", &outside, "old").await;
        }
    }
}

#[tokio::test]
async fn a_query_parameter_with_a_semicolon_is_always_in_the_key() {
    for rule in ["query_ignore = [\"utm_*\"]", "query = [\"page\"]"] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, "", &format!("{WEAK}\nkey = {{ {rule} }}")).await;
        let mut client = proxy.client().await;
        // An origin that splits at `;` too sees a page in each.
        for target in ["/p?utm_source=x;page=2", "/p?utm_source=x;page=3", "/p?utm_source=x"] {
            fetched(&mut client, &mut origin, target, &[], target).await;
        }
        is_hit(&mut client, "/p?utm_source=x;page=2", &[], "/p?utm_source=x;page=2").await;
        is_hit(&mut client, "/p?utm_source=other", &[], "/p?utm_source=x").await;
    }
}
