//! The `PURGE` method on the traffic port: the same as `POST /purge` with a `url`, for the peers that `purge_from` names and for nobody else.

use super::support::client::{Answer, Client};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";

/// One route for everything, and who may use PURGE.
async fn purgeable(origin: &Origin, keys: &str, listener: &str) -> Proxy {
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:0\"\n{listener}\n\n{}",
        one_route(keys)
    );
    Proxy::start(&config, &[("origin", &origin.url())]).await
}

async fn fetched(client: &mut Client, origin: &mut Origin, target: &str) {
    client.ask("GET", target, &[], b"").await;
    origin.next().await.respond(200, &[("ETag", "\"1\"")], "body").await;
    assert_eq!(client.answer().await.text(), "body");
    assert!(client.get(target).await.is_hit(), "{target}");
}

#[tokio::test]
async fn the_purge_method_takes_its_url_out_of_service_and_answers_as_the_admin_port_does() {
    let mut origin = Origin::start().await;
    let proxy = purgeable(&origin, WEAK, "purge_from = [\"127.0.0.0/8\"]").await;
    let mut client = proxy.client().await;
    for target in ["/a", "/a?x=1", "/a?x=2", "/b"] {
        fetched(&mut client, &mut origin, target).await;
    }
    let json = |answer: &Answer| -> serde_json::Value {
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/json")),
            "{}",
            answer.text()
        );
        serde_json::from_slice(&answer.body).unwrap()
    };
    // With a query that query, without one all of them; on another host nothing.
    let one = json(&client.request("PURGE", "/a?x=1", &[], b"").await);
    assert_eq!(one["entries"], 1);
    let elsewhere = json(&client.request("PURGE", "/a", &[("Host", "other.example")], b"").await);
    assert_eq!(elsewhere["entries"], 0);
    let all = json(&client.request("PURGE", "/a", &[], b"").await);
    assert_eq!(all["entries"], 2);
    assert!(all["epoch"].as_u64() > one["epoch"].as_u64());
    assert!(client.get("/b").await.is_hit());
    fetched(&mut client, &mut origin, "/a").await;
    // A body is of no interest, and an absolute target is one.
    let absolute = format!("http://{}/b", super::support::client::HOST);
    let again = json(&client.request("PURGE", &absolute, &[], b"ignored").await);
    assert_eq!(again["entries"], 1);
    fetched(&mut client, &mut origin, "/b").await;
    origin.expect_idle().await;
    assert_eq!(
        proxy
            .metric("tidegate_requests_total", &[("code", "200"), ("route", "")])
            .await,
        4.0
    );
}

#[tokio::test]
async fn r1_a_fetch_in_flight_does_not_outlive_a_purge_by_method() {
    let mut origin = Origin::start().await;
    let proxy = purgeable(&origin, WEAK, "purge_from = [\"127.0.0.1/32\"]").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/a", &[], b"").await;
    let exchange = origin.next().await;
    assert_eq!(proxy.request("PURGE", "/a", &[], "").await.status, 200);
    exchange.respond(200, &[], "old").await;
    assert_eq!(client.answer().await.text(), "old");
    fetched(&mut client, &mut origin, "/a").await;
}

#[tokio::test]
async fn purge_is_405_for_everybody_else_and_for_whatever_came_through_another_proxy() {
    let both = "purge_from = [\"127.0.0.0/8\"]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let cases: [(&str, &[(&str, &str)]); 7] = [
        ("", &[]),
        ("purge_from = []", &[]),
        ("purge_from = [\"10.0.0.0/8\", \"::1\"]", &[]),
        // The client's address is a claim, also a trusted proxy's.
        (
            "purge_from = [\"10.0.0.0/8\"]\ntrusted_proxies = [\"127.0.0.0/8\"]",
            &[("X-Forwarded-For", "10.0.0.1")],
        ),
        (both, &[("X-Forwarded-For", "127.0.0.1")]),
        (both, &[("Forwarded", "for=127.0.0.1")]),
        (both, &[("Via", "1.1 edge")]),
    ];
    for (listener, fields) in cases {
        let mut origin = Origin::start().await;
        let proxy = purgeable(&origin, WEAK, listener).await;
        let mut client = proxy.client().await;
        fetched(&mut client, &mut origin, "/a").await;
        let refused = client.request("PURGE", "/a", fields, b"").await;
        assert_eq!(refused.status, 405, "{listener} {fields:?}");
        assert!(refused.headers.has("allow"));
        assert!(client.get("/a").await.is_hit(), "{listener} {fields:?}");
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn a_purge_of_nothing_sensible_is_400() {
    let mut origin = Origin::start().await;
    let proxy = purgeable(&origin, WEAK, "purge_from = [\"127.0.0.0/8\"]").await;
    for request in [
        "PURGE * HTTP/1.1\r\nHost: a\r\n\r\n",
        "PURGE / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "PURGE / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.send(request).await;
        assert_eq!(client.answer().await.status, 400, "{request:?}");
    }
    origin.expect_idle().await;
}
