//! What the answer to a write may promise: nothing unknown looks definite, nothing unsent looks sent, and a write goes on without its
//! client.

use super::support::client::Client;
use super::support::eventually;
use super::support::origin::Origin;
use super::support::proxy::{Binary, Proxy, one_route};
use rustix::process::Signal;
use std::time::Duration;

const ONE_ATTEMPT: &str = "\n[upstreams.o.retry]\nattempts = 1\n";

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&(one_route(keys) + ONE_ATTEMPT), &[("origin", &origin.url())]).await
}

#[tokio::test]
async fn r11_a_200_that_came_after_half_of_a_strong_upload_is_unknown() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"strong\"").await;
    let mut client = proxy.client().await;
    client
        .ask("PUT", "/", &[("Content-Length", "1000000")], &[b'x'; 1000])
        .await;
    let mut exchange = origin.next().await;
    assert!(exchange.body_part().await.is_some());
    exchange
        .head(200, &[("Content-Length", "4"), ("Connection", "close")])
        .await;
    exchange.send("done").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "unknown"));
    assert_eq!(answer.consistency(), "");
    exchange.gone().await;
    let unknown = [("outcome", "unknown")];
    assert_eq!(proxy.metric("tidegate_writes_total", &unknown).await, 1.0);
}

#[tokio::test]
async fn r11_an_origins_own_500_and_202_to_a_strong_write_pass_unchanged_and_promise_nothing() {
    for (status, promised) in [(500, ""), (503, ""), (202, ""), (200, "strong"), (409, "strong")] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, "consistency = \"strong\"").await;
        let mut client = proxy.client().await;
        client.ask("PUT", "/", &[], b"x").await;
        origin.next().await.respond(status, &[("X-Own", "1")], "own").await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.text(), answer.header("x-own")),
            (status, "own", Some("1"))
        );
        assert_eq!(answer.consistency(), promised, "{status}");
    }
}

#[tokio::test]
async fn r12_what_a_202_names_is_dropped_too() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, "consistency = \"weak\"\nttl = \"1h\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/job", &[], b"").await;
    origin.next().await.respond(200, &[], "none yet").await;
    assert_eq!(client.answer().await.text(), "none yet");
    assert!(client.get("/job").await.is_hit());
    client.ask("POST", "/work", &[], b"x").await;
    origin.next().await.respond(202, &[("Location", "/job")], "").await;
    assert_eq!(client.answer().await.status, 202);
    client.ask("GET", "/job", &[], b"").await;
    origin.next().await.respond(200, &[], "running").await;
    assert_eq!(client.answer().await.text(), "running");
}

#[tokio::test]
async fn a_write_whose_time_ran_out_before_it_was_sent_is_503() {
    for level in ["off", "weak", "eventual"] {
        let mut origin = Origin::start().await;
        // The one connection is taken by a route that waits long.
        let config = format!(
            "[server]\nthreads = 1\n\n[upstreams.o]\nnodes = [{{ url = \"{{origin}}\" }}]\nmax_connections = 1\n\n\
             [[routes]]\nmatch = {{ path = \"/slow\" }}\nupstream = \"o\"\n\n\
             [[routes]]\nupstream = \"o\"\nconsistency = \"{level}\"\ntimeout = \"200ms\"\n{ONE_ATTEMPT}"
        );
        let proxy = Proxy::start(&config, &[("origin", &origin.url())]).await;
        let mut slow = proxy.client().await;
        slow.ask("GET", "/slow", &[], b"").await;
        let held = origin.next().await;
        let answer = proxy.put("/x", "never sent").await;
        let shown = answer.text();
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "unreachable"),
            "{level}: {shown}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"), "{level}");
        held.respond(200, &[], "").await;
        assert_eq!(slow.answer().await.status, 200);
        origin.expect_idle().await;
    }
}

#[tokio::test]
async fn leaving_waits_for_a_write_whose_client_has_left() {
    let mut origin = Origin::start().await;
    let mut tidegate = Binary::run(&one_route("consistency = \"strong\""), &[("origin", &origin.url())]);
    let (address, _) = tidegate.ready();
    let mut client = Client::connect(address).await;
    client.ask("PUT", "/x", &[], b"value").await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.body().await, b"value");
    client.abort();
    tidegate.signal(Signal::TERM);
    eventually("the listener to be closed", || async {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    // Whoever does not wait for the write closes its connection on the way out.
    let closed = tokio::time::timeout(Duration::from_secs(1), exchange.gone()).await;
    assert!(closed.is_err(), "the process left a write behind");
    exchange.respond(200, &[], "").await;
    assert_eq!(tidegate.ended().await.code, Some(0));
}
