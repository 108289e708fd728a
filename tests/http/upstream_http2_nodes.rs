//! HTTP/2 to nodes where there is more than one of them, or more than one reason to let go of one: second copies, failures in a row,
//! the operator's word, standbys, and nodes that refuse and leave under load.

use super::support::client::Client;
use super::support::eventually;
use super::support::frames::{ACK, DATA, END_STREAM, Frames, HEADERS, RST_STREAM, SETTINGS};
use super::support::h2::H2;
use super::support::node2::{Exchange2, Node2, config};
use super::support::proxy::Proxy;
use super::support::traffic::{Answering, Traffic};
use super::support::within;
use bytes::Bytes;
use h2::Reason;
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

const OFF: &str = "consistency = \"off\"";
const ONCE: &str = "retry = { attempts = 1 }";

async fn over(a: &str, b: &str, upstream: &str, route: &str) -> Proxy {
    Proxy::start(&config(&[a, b], upstream, route), &[]).await
}

/// The next request at either node.
async fn at_either(a: &mut Node2, b: &mut Node2) -> Exchange2 {
    tokio::select! { exchange = a.next() => exchange, exchange = b.next() => exchange }
}

/// Asks until it is this node's turn; whatever comes to another is answered there.
async fn until_asked(client: &mut Client, node: &mut Node2) -> Exchange2 {
    loop {
        client.ask("GET", "/", &[], b"").await;
        tokio::select! {
            exchange = node.next() => return exchange,
            answer = client.answer() => assert_eq!(answer.status, 200),
        }
    }
}

#[tokio::test]
async fn r22_the_copy_that_loses_is_reset_and_its_connection_goes_on() {
    let (mut a, mut b) = (Node2::start(100).await, Node2::start(100).await);
    let hedge = format!("hedge = {{ after = \"10ms\", max = \"100%\" }}\n{ONCE}");
    let proxy = over(&a.url(), &b.url(), &hedge, OFF).await;
    let mut client = proxy.client().await;
    for copy_wins in [true, false] {
        client.ask("GET", "/slow", &[], b"").await;
        let (first, copy) = tokio::select! {
            first = a.next() => (first, b.next().await),
            first = b.next() => (first, a.next().await),
        };
        let (winner, mut loser) = if copy_wins { (copy, first) } else { (first, copy) };
        winner.respond(200, &[], "won");
        assert_eq!(client.answer().await.text(), "won");
        assert_eq!(loser.reset().await, Reason::CANCEL, "copy_wins {copy_wins}");
    }
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
    let labels = [("upstream", "o"), ("reason", "hedge")];
    assert_eq!(proxy.metric("tidegate_retries_total", &labels).await, 2.0);
}

#[tokio::test]
async fn r22_both_copies_of_a_slow_strong_read_go_to_the_primary_over_its_one_connection() {
    let (mut primary, mut replica) = (Node2::start(100).await, Node2::start(100).await);
    let keys =
        format!("hedge = {{ after = \"10ms\", max = \"100%\" }}\n{ONCE}\nreplication = \"primary\"\nmax_lag = \"1s\"");
    let proxy = over(&primary.url(), &replica.url(), &keys, "consistency = \"strong\"").await;
    let mut client = proxy.client().await;
    client.ask("GET", "/r", &[], b"").await;
    let (mut slow, copy) = (primary.next().await, primary.next().await);
    assert_eq!((slow.connection, copy.connection), (0, 0));
    copy.respond(200, &[("etag", "\"1\"")], "the primary's");
    assert_eq!(client.answer().await.text(), "the primary's");
    assert_eq!(slow.reset().await, Reason::CANCEL);
    assert!(!replica.is_asked());
}

#[tokio::test]
async fn a_node_that_resets_what_it_is_asked_is_ejected_and_one_that_refuses_it_is_not() {
    for (name, reason, attempts, state) in [
        ("it fails", Reason::INTERNAL_ERROR, 1, "ejected"),
        (
            "RFC 9113 s8.7: it did not look at it",
            Reason::REFUSED_STREAM,
            4,
            "active",
        ),
    ] {
        let (mut a, b) = (Node2::start(100).await, Answering::start().await);
        let keys = format!(
            "balance = \"round-robin\"\nretry = {{ attempts = {attempts}, budget = \"100%\" }}\n\
             outlier = {{ consecutive_errors = 3, ejection_time = \"10m\", max_ejected = \"50%\" }}"
        );
        let proxy = over(&a.url(), &b.url, &keys, OFF).await;
        let failing = tokio::spawn(async move {
            for _ in 0..3 {
                a.next().await.reply.send_reset(reason);
            }
            a
        });
        let mut client = proxy.client().await;
        let mut statuses = Vec::new();
        while !failing.is_finished() {
            statuses.push(client.get("/").await.status);
        }
        let refused = statuses.iter().filter(|status| **status != 200).count();
        assert_eq!(refused, if attempts == 1 { 3 } else { 0 }, "{name}: {statuses:?}");
        let mut a = failing.await.unwrap();
        proxy.until_state("o", "a", state).await;
        if state == "ejected" {
            let before = b.asked();
            for _ in 0..20 {
                assert_eq!(client.get("/").await.status, 200, "{name}");
            }
            assert_eq!(b.asked(), before + 20, "{name}: the other one has them all");
            assert!(!a.is_asked(), "{name}");
        } else {
            // It is asked on, on the connection it has.
            let (answer, ()) = tokio::join!(
                async {
                    let answered = [client.get("/").await, client.get("/").await];
                    answered.map(|answer| answer.status)
                },
                async { a.next().await.respond(200, &[], "x") }
            );
            assert_eq!(answer, [200, 200], "{name}");
            assert_eq!(a.accepted(), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_under_way_at_a_node_that_is_drained_ends_there_and_nothing_new_comes() {
    let (mut a, mut b) = (Node2::start(100).await, Node2::start(100).await);
    let proxy = over(&a.url(), &b.url(), "balance = \"round-robin\"", OFF).await;
    let say = async |word: &str| {
        let answer = proxy.admin_post(&format!("/upstreams/o/nodes/a/{word}"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    // One under way at each.
    let (mut drained, mut stays) = (proxy.client().await, proxy.client().await);
    drained.ask("GET", "/", &[], b"").await;
    let mut out = at_either(&mut a, &mut b).await;
    stays.ask("GET", "/", &[], b"").await;
    let mut here = at_either(&mut a, &mut b).await;
    if out.node == b.address {
        (drained, stays, out, here) = (stays, drained, here, out);
    }
    assert_eq!((out.node, here.node), (a.address, b.address), "round robin");
    let mut body = out.begin(200, &[], false);
    body.send_data("begun ".into(), false).unwrap();
    let (status, _) = drained.head().await;
    assert_eq!(status, 200);
    say("drain").await;
    assert_eq!(proxy.node_state("o", "a").await, "draining");
    here.respond(200, &[], "");
    assert_eq!(stays.answer().await.status, 200);
    for _ in 0..6 {
        stays.ask("GET", "/", &[], b"").await;
        b.next().await.respond(200, &[], "b");
        assert_eq!(stays.answer().await.text(), "b");
    }
    assert!(!a.is_asked());
    body.send_data("and ended".into(), true).unwrap();
    assert_eq!(drained.body_up_to(15).await, b"begun and ended");
    say("undrain").await;
    for _ in 0..2 {
        stays.ask("GET", "/", &[], b"").await;
        at_either(&mut a, &mut b).await.respond(200, &[], "");
        assert_eq!(stays.answer().await.status, 200);
    }
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
}

#[tokio::test]
async fn a_connection_to_a_node_that_says_it_is_ill_ends_with_its_last_stream() {
    let (mut a, b) = (Node2::start(100).await, Answering::start().await);
    let check =
        "health_check = { path = \"/healthz\", interval = \"20ms\", unhealthy_threshold = 1, healthy_threshold = 1 }";
    let proxy = over(&a.url(), &b.url, check, OFF).await;
    let mut client = proxy.client().await;
    let mut under_way = until_asked(&mut client, &mut a).await;
    let was = under_way.connection;
    a.set_healthy(false);
    proxy.until_state("o", "a", "unhealthy").await;
    a.set_healthy(true);
    proxy.until_state("o", "a", "active").await;
    under_way.begin(200, &[], true);
    assert_eq!(client.answer().await.status, 200);
    // It restarts, as a rule: what was open before is not used again.
    let again = until_asked(&mut client, &mut a).await;
    assert_ne!(again.connection, was);
    again.respond(200, &[], "");
}

#[tokio::test]
async fn a_node_that_accepts_no_more_connections_is_asked_on_over_the_one_it_has() {
    let (mut a, b) = (Node2::start(1).await, Answering::start().await);
    let proxy = over(&a.url(), &b.url, "balance = \"round-robin\"", OFF).await;
    let (mut first, mut client) = (proxy.client().await, proxy.client().await);
    let held = until_asked(&mut first, &mut a).await;
    a.deaf().await;
    // It lends one stream and no other connection: the other node has what comes.
    let before = b.asked();
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(b.asked(), before + 10);
    held.respond(200, &[], "");
    assert_eq!(first.answer().await.status, 200);
    let again = until_asked(&mut client, &mut a).await;
    assert_eq!(again.connection, 0);
    again.respond(200, &[], "");
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn the_first_request_after_a_failover_to_a_hot_standby_goes_over_the_connection_it_had() {
    const THREADS: usize = 2;
    const PROBES: usize = 1;
    let (mut active, mut hot) = (Node2::start(100).await, Node2::start(100).await);
    let keys = "mode = \"active-passive\"\nfailover = { hold = \"10s\" }\n\
        health_check = { path = \"/healthz\", interval = \"60s\", timeout = \"2s\", unhealthy_threshold = 1, healthy_threshold = 1 }";
    let text = config(&[&active.url(), &hot.url()], keys, "consistency = \"strong\"");
    let proxy = Proxy::start(&text.replace("threads = 1", "threads = 2"), &[]).await;
    let until_accepted = async |node: &Node2, count: usize| {
        eventually(format!("{count} connections"), || async { node.accepted() >= count }).await;
    };
    until_accepted(&hot, PROBES + THREADS).await;
    // What the node closes is opened again.
    hot.cut_connections();
    until_accepted(&hot, PROBES + 2 * THREADS).await;
    assert_eq!(hot.accepted(), PROBES + 2 * THREADS, "one on each thread is enough");
    let (answer, ()) = tokio::join!(proxy.get("/first"), async {
        active.next().await.respond(200, &[], "active");
    });
    assert_eq!(answer.text(), "active");
    // From now on a connect to the standby would be refused.
    hot.deaf().await;
    active.deaf().await;
    active.cut_connections();
    let mut client = proxy.client().await;
    client.ask("PUT", "/after", &[], b"body").await;
    let mut asked = hot.next().await;
    assert_eq!(asked.target(), "/after");
    assert_eq!(asked.rest().await.0, b"body");
    asked.respond(204, &[], "");
    assert_eq!(client.answer().await.status, 204);
}

/// Reads and writes with and without a body, none of which may be repeated unless the node never looked at it.
fn all_sorts(turn: usize) -> (&'static str, String, &'static str) {
    let (method, body) = [("GET", ""), ("PUT", "body"), ("DELETE", "")][turn % 3];
    (method, format!("/{turn}"), body)
}

/// One connection of a node that refuses every third stream and leaves after twenty. Counts what it has answered.
async fn refuses_and_leaves(mut node: Frames, processed: Arc<AtomicUsize>) {
    const MOST: usize = 20;
    /// `:status 200` and `content-length: 1` (RFC 7541 appendix A and s6.2.1).
    const HEAD: &[u8] = &[0x88, 0x0f, 0x0d, 0x01, b'1'];
    let (mut seen, mut last) = (0, 0);
    let mut going = Vec::new();
    while let Some(frame) = node.next().await {
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            node.send(SETTINGS, ACK, 0, &[]).await;
        }
        // What comes behind the GOAWAY is not looked at.
        if frame.kind == HEADERS && seen <= MOST {
            seen += 1;
            if seen > MOST {
                node.goaway(last).await;
                continue;
            }
            last = frame.stream;
            if seen % 3 == 0 {
                node.send(RST_STREAM, 0, last, &7_u32.to_be_bytes()).await;
            } else {
                going.push(last);
            }
        }
        let at = going.iter().position(|stream| *stream == frame.stream);
        if let Some(at) = at.filter(|_| matches!(frame.kind, HEADERS | DATA)) {
            assert!(frame.kind == HEADERS || frame.payload == b"body", "{frame:?}");
            if frame.flags & END_STREAM != 0 {
                going.remove(at);
                processed.fetch_add(1, Ordering::SeqCst);
                node.send(HEADERS, 4, frame.stream, HEAD).await;
                node.send(DATA, END_STREAM, frame.stream, b"x").await;
            }
        }
    }
}

#[tokio::test]
async fn r20_a_node_that_refuses_and_leaves_under_load_loses_no_request_and_gets_none_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let processed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&processed);
    let accepting = tokio::spawn(async move {
        loop {
            let node = Frames::accept(&listener).await;
            tokio::spawn(refuses_and_leaves(node, Arc::clone(&counted)));
        }
    });
    for route in [OFF, "consistency = \"strong\""] {
        processed.store(0, Ordering::SeqCst);
        let retry = "retry = { attempts = 10, budget = \"100%\" }";
        let proxy = Proxy::start(&config(&[&url], retry, route), &[]).await;
        let traffic = Traffic::start(proxy.address, 16, all_sorts);
        traffic.goes_on(600).await;
        let answered = traffic.end().await;
        assert_eq!(processed.load(Ordering::SeqCst), answered, "{route}");
    }
    accepting.abort();
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_answer_takes_nothing_from_the_others() {
    let mut node = Node2::start(100).await;
    // The connection's window is of two streams.
    let proxy = node
        .proxied("http2 = { window = \"64KiB\", max_streams = 2 }", OFF)
        .await;
    let piece = Bytes::from(vec![b'x'; 48 * 1024]);
    let mut stays = proxy.client().await;
    stays.ask("GET", "/stays", &[], b"").await;
    let mut lasting = node.next().await;
    let mut rest = lasting.begin(200, &[("content-length", "300000")], false);
    rest.send_data(Bytes::from(vec![b'y'; 100_000]), false).unwrap();
    let (status, _) = stays.head().await;
    assert_eq!(status, 200);
    for turn in 0..8 {
        let mut body = if turn % 2 == 0 {
            let mut leaves = Client::connect_with_small_window(proxy.address).await;
            leaves.ask("GET", "/leaves", &[], b"").await;
            let mut exchange = node.next().await;
            let mut body = exchange.begin(200, &[], false);
            body.send_data(piece.clone(), false).unwrap();
            let (status, _) = leaves.head().await;
            assert_eq!(status, 200);
            leaves.abort();
            body
        } else {
            let h2 = H2::connect(proxy.address).await;
            let request = H2::request("GET", "/leaves").body(Full::default()).unwrap();
            let (answer, mut body) = tokio::join!(h2.head(request), async {
                let mut exchange = node.next().await;
                let mut body = exchange.begin(200, &[], false);
                body.send_data(piece.clone(), false).unwrap();
                body
            });
            let mut answer = answer.unwrap().into_body();
            assert!(within("a piece", answer.frame()).await.unwrap().is_ok());
            drop(answer);
            // More than it took so far is on its way.
            body.send_data(piece.clone(), false).unwrap();
            body
        };
        let reset = within("a reset", std::future::poll_fn(|cx| body.poll_reset(cx))).await;
        assert_eq!(reset.unwrap(), Reason::CANCEL, "{turn}");
    }
    rest.send_data(Bytes::from(vec![b'y'; 200_000]), true).unwrap();
    assert_eq!(stays.body_up_to(300_000).await.len(), 300_000);
    assert_eq!(node.accepted(), 1);
}
