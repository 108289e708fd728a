//! Collapsed forwarding (HTTP.md 14): one fill for many readers, none of whom can spoil it for the others.

use super::support::client::Client;
use super::support::h2::H2;
use super::support::origin::Origin;
use super::support::proxy::{Proxy, one_route};
use super::support::register::{Point, Register};
use super::support::within;
use std::sync::Arc;
use tokio::task::JoinSet;

const WEAK: &str = "consistency = \"weak\"\nttl = \"1h\"";

async fn before(origin: &Origin, keys: &str) -> Proxy {
    Proxy::start(&one_route(keys), &[("origin", &origin.url())]).await
}

async fn ask(proxy: &Proxy, headers: &[(&str, &str)]) -> Client {
    let mut client = proxy.client().await;
    client.ask("GET", "/x", headers, b"").await;
    client
}

/// Waits until the proxy has this many requests of the route in its hands: then all of them are waiting for the fill.
async fn until_waiting(proxy: &Proxy, clients: &mut [Client]) {
    // Each client pipelines nothing and has sent everything; a request that passes through both threads afterwards was read after them.
    for _ in 0..4 {
        let mut own = proxy.client().await;
        own.ask("GET", "/x", &[("Cache-Control", "only-if-cached")], b"").await;
        assert_eq!(own.answer().await.status, 504);
    }
    assert!(!clients.is_empty());
}

#[tokio::test]
async fn many_readers_are_one_request_upstream_and_say_collapsed() {
    let register = Register::new();
    register.write("/x", "shared");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(WEAK), &[("origin", &node.url())]).await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut clients = vec![ask(&proxy, &[]).await];
    let held = hold.next().await;
    for _ in 0..49 {
        clients.push(ask(&proxy, &[]).await);
    }
    until_waiting(&proxy, &mut clients).await;
    held.release();
    let mut collapsed = 0;
    for client in &mut clients {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "shared"));
        collapsed += usize::from(answer.cache_status().contains("collapsed"));
    }
    assert_eq!(register.count("GET", "/x"), 1);
    assert!(
        (1..=49).contains(&collapsed),
        "{collapsed} of 50 say collapsed: followers only"
    );
}

#[tokio::test]
async fn a_thousand_who_wait_for_one_slow_fill_are_one_request_upstream() {
    const CONNECTIONS: usize = 27;
    const EACH: usize = 37; // with the first one as many as a route has in flight
    let register = Register::new();
    register.write("/x", "shared");
    let node = register.node("a").await;
    let proxy = Proxy::start(&one_route(WEAK), &[("origin", &node.url())]).await;
    let mut hold = register.hold("GET", "/x", Point::Arrived);
    let mut first = ask(&proxy, &[]).await;
    let held = hold.next().await;
    let mut waiting = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = Arc::new(H2::connect(proxy.address).await);
        for _ in 0..EACH {
            let connection = Arc::clone(&connection);
            waiting.spawn(async move { connection.get("/x").await });
        }
        connections.push(connection);
    }
    tokio::task::yield_now().await;
    // What came on a connection before this was read before it.
    for connection in &connections {
        let request = H2::request("GET", "/x").header("Cache-Control", "only-if-cached");
        let answer = connection
            .send(request.body(http_body_util::Full::default()).unwrap())
            .await;
        assert_eq!(answer.status, 504, "nothing is stored yet");
    }
    held.release();
    assert_eq!(first.answer().await.text(), "shared");
    let mut collapsed = 0;
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "shared"));
        collapsed += usize::from(answer.header("cache-status").unwrap().contains("collapsed"));
    }
    assert_eq!(register.count("GET", "/x"), 1);
    assert!(
        collapsed > CONNECTIONS * EACH / 2,
        "{collapsed} have waited: the rest came late and were hits"
    );
}

#[tokio::test]
async fn followers_receive_the_body_while_it_arrives() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut leader = ask(&proxy, &[]).await;
    let mut exchange = origin.next().await;
    exchange.head(200, &[("Transfer-Encoding", "chunked")]).await;
    exchange.chunk("first ").await;
    assert_eq!(leader.head().await.0, 200);
    assert_eq!(leader.body_up_to(6).await, b"first ");
    let mut follower = ask(&proxy, &[]).await;
    assert_eq!(follower.head().await.0, 200);
    assert_eq!(follower.body_up_to(6).await, b"first ");
    exchange.chunk("second").await;
    exchange.last_chunk().await;
    for client in [&mut leader, &mut follower] {
        assert_eq!(client.body_up_to(usize::MAX).await, b"second");
    }
    assert_eq!(proxy.get("/x").await.text(), "first second");
    origin.expect_idle().await;
}

#[tokio::test]
async fn r21_a_leader_that_leaves_fails_no_follower() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let leader = ask(&proxy, &[]).await;
    let exchange = origin.next().await;
    let mut followers = Vec::new();
    for _ in 0..10 {
        followers.push(ask(&proxy, &[]).await);
    }
    until_waiting(&proxy, &mut followers).await;
    leader.abort();
    exchange.respond(200, &[], "still served").await;
    for follower in &mut followers {
        assert_eq!(follower.answer().await.text(), "still served");
    }
    origin.expect_idle().await;
}

#[tokio::test]
async fn an_answer_that_may_not_be_shared_releases_all_at_once() {
    for header in [
        ("Cache-Control", "private"),
        ("Cache-Control", "no-store"),
        ("Set-Cookie", "a=b"),
    ] {
        let mut origin = Origin::start().await;
        let proxy = before(&origin, WEAK).await;
        let mut leader = ask(&proxy, &[]).await;
        let exchange = origin.next().await;
        let mut followers = Vec::new();
        for _ in 0..5 {
            followers.push(ask(&proxy, &[]).await);
        }
        until_waiting(&proxy, &mut followers).await;
        exchange.respond(200, &[header], "the leader's own").await;
        assert_eq!(leader.answer().await.text(), "the leader's own");
        // All five come at once: none waits for another.
        let mut own = Vec::new();
        for _ in 0..5 {
            own.push(origin.next().await);
        }
        for exchange in own {
            exchange.respond(200, &[header], "a follower's own").await;
        }
        for follower in &mut followers {
            assert_eq!(follower.answer().await.text(), "a follower's own", "{header:?}");
        }
        // And it is remembered: later requests do not queue (hit-for-miss).
        let (mut a, mut b) = (ask(&proxy, &[]).await, ask(&proxy, &[]).await);
        let (one, two) = (origin.next().await, origin.next().await);
        one.respond(200, &[header], "x").await;
        two.respond(200, &[header], "x").await;
        a.answer().await;
        b.answer().await;
    }
}

#[tokio::test]
async fn followers_that_the_variant_does_not_fit_leave_at_the_head() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut de = ask(&proxy, &[("Accept-Language", "de")]).await;
    let exchange = origin.next().await;
    let mut en = ask(&proxy, &[("Accept-Language", "en")]).await;
    // It may have joined, or started its own: both are right. What it gets must fit.
    exchange.respond(200, &[("Vary", "Accept-Language")], "Hallo").await;
    assert_eq!(de.answer().await.text(), "Hallo");
    let own = origin.next().await;
    assert_eq!(own.header("accept-language"), Some("en"));
    own.respond(200, &[("Vary", "Accept-Language")], "Hello").await;
    assert_eq!(en.answer().await.text(), "Hello");
}

#[tokio::test]
async fn r14_a_follower_with_credentials_gets_no_answer_made_for_others() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut leader = ask(&proxy, &[]).await;
    let exchange = origin.next().await;
    let mut personal = ask(&proxy, &[("Authorization", "Basic eA==")]).await;
    let own = async {
        exchange.respond(200, &[], "public").await;
        origin.next().await
    };
    let own = within("a fetch of its own", own).await;
    assert_eq!(own.header("authorization"), Some("Basic eA=="));
    own.respond(200, &[], "personal").await;
    assert_eq!(leader.answer().await.text(), "public");
    assert_eq!(personal.answer().await.text(), "personal");
}

#[tokio::test]
async fn waiters_are_bounded_and_one_more_fetches_on_its_own() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, &format!("{WEAK}\nmax_waiters = 2")).await;
    let mut clients = vec![ask(&proxy, &[]).await];
    let leader = origin.next().await;
    for _ in 0..3 {
        clients.push(ask(&proxy, &[]).await);
    }
    let extra = origin.next().await;
    origin.expect_idle().await;
    extra.respond(200, &[], "x").await;
    leader.respond(200, &[], "x").await;
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "x");
    }
}

#[tokio::test]
async fn collapse_can_be_turned_off() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, &format!("{WEAK}\ncollapse = false")).await;
    let (mut a, mut b) = (ask(&proxy, &[]).await, ask(&proxy, &[]).await);
    let (one, two) = (origin.next().await, origin.next().await);
    one.respond(200, &[], "x").await;
    two.respond(200, &[], "x").await;
    assert_eq!((a.answer().await.text(), b.answer().await.text()), ("x", "x"));
}

#[tokio::test]
async fn a_fill_that_breaks_off_breaks_off_for_all_and_is_not_stored() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut leader = ask(&proxy, &[]).await;
    let mut exchange = origin.next().await;
    exchange.head(200, &[("Content-Length", "100")]).await;
    exchange.send("half").await;
    assert_eq!(leader.head().await.0, 200);
    let mut follower = ask(&proxy, &[]).await;
    assert_eq!(follower.head().await.0, 200);
    assert_eq!(follower.body_up_to(4).await, b"half");
    exchange.close();
    assert_eq!(leader.body_up_to(4).await, b"half");
    assert!(leader.try_body_part().await.is_err());
    assert!(follower.try_body_part().await.is_err());
    let mut next = ask(&proxy, &[]).await;
    origin.next().await.respond(200, &[], "whole").await;
    assert_eq!(next.answer().await.text(), "whole");
}

#[tokio::test]
async fn a_slow_reader_holds_back_neither_the_fill_nor_the_others() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, WEAK).await;
    let mut slow = Client::connect_with_small_window(proxy.address).await;
    slow.ask("GET", "/x", &[], b"").await;
    let exchange = origin.next().await;
    let body = vec![b'x'; 4 * 1024 * 1024];
    exchange.respond(200, &[], &body).await;
    assert_eq!(slow.head().await.0, 200);
    super::support::eventually("the entry, while the slow one has not read", || async {
        let answer = proxy.get_with("/x", &[("Cache-Control", "only-if-cached")]).await;
        answer.is_hit() && answer.body.len() == body.len()
    })
    .await;
    let mut came = 0;
    while let Some(part) = slow.body_part().await {
        came += part.len();
    }
    assert_eq!(came, body.len());
}

#[tokio::test]
async fn an_announced_body_above_max_object_is_shared_with_nobody() {
    let mut origin = Origin::start().await;
    let proxy = before(&origin, &format!("{WEAK}\nmax_object = \"1KiB\"")).await;
    let mut leader = ask(&proxy, &[]).await;
    let exchange = origin.next().await;
    let mut follower = ask(&proxy, &[]).await;
    let large = vec![b'x'; 2000];
    exchange.respond(200, &[], &large).await;
    let own = origin.next().await;
    own.respond(200, &[], &large).await;
    assert_eq!(leader.answer().await.body.len(), 2000);
    assert_eq!(follower.answer().await.body.len(), 2000);
}
