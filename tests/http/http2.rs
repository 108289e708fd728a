//! HTTP/2 to clients (RFC 9113): the same contracts as over HTTP/1.1, streams side by side, limits and leaving.

use super::support::client::{Client, HOST};
use super::support::floods;
use super::support::h2::{H2, whole};
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::within;
use bytes::Bytes;
use http_body_util::Full;
use tokio::net::TcpStream;

async fn over(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

fn empty() -> Full<Bytes> {
    Full::default()
}

#[tokio::test]
async fn one_port_speaks_both_and_what_one_stored_the_other_is_served() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let h2 = H2::connect(proxy.address).await;
    let (answer, ()) = tokio::join!(h2.get("/a?q=1"), async {
        let exchange = origin.next().await;
        assert_eq!(exchange.target, "/a?q=1");
        assert_eq!(
            exchange.headers.get("host"),
            Some(HOST),
            "`:authority` is the node's Host"
        );
        assert_eq!(exchange.headers.get("via"), Some("2.0 tidegate"), "RFC 9110 s7.6.3");
        exchange
            .respond(200, &[("Connection", "x-hop"), ("X-Hop", "1")], "a")
            .await;
    });
    assert_eq!((answer.status, answer.text()), (200, "a"));
    assert_eq!(answer.header("connection"), None, "RFC 9113 s8.2.2");
    assert_eq!(answer.header("x-hop"), None);
    assert!(h2.get("/a?q=1").await.header("cache-status").unwrap().contains("; hit"));
    assert!(Client::connect(proxy.address).await.get("/a?q=1").await.is_hit());
}

#[tokio::test]
async fn a_slow_stream_does_not_hold_up_another() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let slow = h2.head(H2::request("GET", "/slow").body(empty()).unwrap());
    let fast = async {
        let held = origin.next().await;
        assert_eq!(held.target, "/slow");
        let (answer, ()) = tokio::join!(h2.get("/fast"), async {
            origin.next().await.respond(200, &[], "fast").await;
        });
        assert_eq!(answer.text(), "fast");
        held.respond(200, &[], "slow").await;
    };
    let (slow, ()) = tokio::join!(slow, fast);
    assert_eq!(whole(slow.unwrap()).await.text(), "slow");
}

#[tokio::test]
async fn a_write_goes_through_with_its_body_and_its_contract() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"strong\"").await;
    let h2 = H2::connect(proxy.address).await;
    let body = Bytes::from(vec![b'x'; 300_000]);
    let request = H2::request("PUT", "/a").body(Full::new(body.clone())).unwrap();
    let (answer, ()) = tokio::join!(h2.send(request), async {
        let mut exchange = origin.next().await;
        assert_eq!(exchange.body().await, body);
        exchange.respond(204, &[], "").await;
    });
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("tidegate-consistency"), Some("strong"));
}

#[tokio::test]
async fn cookies_that_come_in_crumbs_reach_the_node_as_one_field() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let request = H2::request("GET", "/").header("cookie", "a=1").header("cookie", "b=2");
    let (_, ()) = tokio::join!(h2.send(request.body(empty()).unwrap()), async {
        let exchange = origin.next().await;
        assert_eq!(exchange.headers.all("cookie"), ["a=1; b=2"], "RFC 9113 s8.2.3");
        exchange.respond(200, &[], "").await;
    });
}

#[tokio::test]
async fn a_host_that_is_not_the_authority_is_refused() {
    let origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let other = H2::request("GET", "/").header("host", "other.example");
    assert_eq!(h2.send(other.body(empty()).unwrap()).await.status, 400);
}

#[tokio::test]
async fn a_large_answer_is_carried_whole_at_the_client_s_pace() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let h2 = H2::connect(proxy.address).await;
    let body = "0123456789abcdef".repeat(200_000);
    let (answer, ()) = tokio::join!(h2.get("/large"), async {
        origin.next().await.respond(200, &[], &body).await;
    });
    assert_eq!(answer.text(), body);
    // From memory, several at once.
    let (a, b, c) = tokio::join!(h2.get("/large"), h2.get("/large"), h2.get("/large"));
    for answer in [a, b, c] {
        assert_eq!(answer.body.len(), body.len());
        assert!(answer.header("cache-status").unwrap().contains("; hit"));
    }
}

#[tokio::test]
async fn an_end_answers_what_is_under_way_and_says_goaway() {
    let mut origin = Origin::start().await;
    let proxy = over(&origin, "consistency = \"off\"").await;
    let h2 = H2::connect(proxy.address).await;
    let idle = H2::connect(proxy.address).await;
    let under_way = h2.head(H2::request("GET", "/").body(empty()).unwrap());
    let leaving = async {
        let exchange = origin.next().await;
        proxy.drain();
        within("the idle connection to be closed", idle.driven)
            .await
            .unwrap()
            .unwrap();
        exchange.respond(200, &[], "late").await;
    };
    let (answer, ()) = tokio::join!(under_way, leaving);
    assert_eq!(whole(answer.unwrap()).await.text(), "late");
    within("the connection to be closed", h2.driven).await.unwrap().unwrap();
}

#[tokio::test]
async fn floods_end_their_connection_and_nobody_else_s() {
    let proxy = Proxy::start("[[routes]]\nrespond = { status = 200, body = \"a\" }\n", &[]).await;
    let other = H2::connect(proxy.address).await;
    let mut flood = TcpStream::connect(proxy.address).await.unwrap();
    within("the end of a flood of resets", floods::rapid_reset(&mut flood)).await;
    let mut flood = TcpStream::connect(proxy.address).await.unwrap();
    within("the end of a list without an end", floods::continuation(&mut flood)).await;
    assert_eq!(other.get("/").await.status, 200);
}
