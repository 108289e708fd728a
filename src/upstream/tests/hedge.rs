//! Slow reads sent a second time (R22), and what pays for repeats over all cores.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::attempts::fed;
use super::support::{Node, Peer, Rig, settle, text};
use crate::core::time::Span;
use crate::upstream::{CallErrorKind, Kind, OutBody};
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const HEDGED: &str = "balance = \"round-robin\"\nhedge = { after = \"50ms\", max = \"100%\" }";

fn both(rig: &mut Rig) -> (Node, Node) {
    let mut nodes = std::mem::take(&mut rig.nodes).into_iter();
    (nodes.next().unwrap(), nodes.next().unwrap())
}

/// The first copy's connection and the second one's, whichever node has which, each with its request read.
async fn copies(a: &mut Node, b: &mut Node) -> (Peer, Peer) {
    let (mut first, mut second) = tokio::select! {
        peer = a.accept() => (peer, b.accept().await),
        peer = b.accept() => (peer, a.accept().await),
    };
    assert_eq!(first.head().await, second.head().await, "the same request");
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn r22_a_slow_read_goes_to_another_node_too_and_the_copy_that_loses_is_closed() {
    for copy_wins in [true, false] {
        let mut rig = Rig::new(2, 1, HEDGED);
        let start = rig.now();
        let mut call = rig.read("/slow");
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        call.before_send = Some(Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        let call = rig.start(call);
        let (mut a, mut b) = both(&mut rig);
        let (mut first, mut second) = copies(&mut a, &mut b).await;
        assert_eq!(
            rig.now().since(start).as_millis(),
            50,
            "when it was slow, and not before"
        );
        let (winner, loser) = if copy_wins {
            (&mut second, &mut first)
        } else {
            (&mut first, &mut second)
        };
        winner.ok("won").await;
        let answered = call.await.unwrap().unwrap();
        let sent = if copy_wins { 50 } else { 0 };
        assert_eq!(
            answered.sent.since(start).as_millis(),
            sent,
            "R42: the send time of the answer's own copy"
        );
        assert_eq!(text(answered.body).await.unwrap(), "won");
        loser.closed().await;
        assert_eq!(runs.load(Ordering::SeqCst), 1, "R8: told once");
        assert_eq!(rig.told().iter().filter(|what| *what == "retried hedge").count(), 1);
        settle().await;
        let in_flight = rig.counts(0).1 + rig.counts(1).1;
        assert_eq!(in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn r22_a_quick_read_a_write_and_a_body_that_cannot_be_replayed_go_once() {
    let mut rig = Rig::new(
        2,
        1,
        &format!("{HEDGED}\nresponse_timeout = \"10s\"\nretry = {{ attempts = 1 }}"),
    );
    let (_feed, body) = fed();
    let calls = [
        rig.write("/", "once"),
        rig.call(Method::GET, "/", body, Kind::Read { primary: false }),
    ];
    for call in calls {
        let error = rig.pool().call(call).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::HeadTimedOut, "long after 50 ms");
    }
    assert_eq!(rig.nodes[0].connects() + rig.nodes[1].connects(), 2);
    let quick = rig.start(rig.read("/"));
    let (mut a, mut b) = both(&mut rig);
    // The two that timed out have left their closed connections behind.
    let (mut old, mut older) = (a.accept().await, b.accept().await);
    old.head().await;
    older.head().await;
    let mut peer = tokio::select! { peer = a.accept() => peer, peer = b.accept() => peer };
    peer.head().await;
    peer.ok("").await;
    drop(quick.await.unwrap().unwrap());
    assert_eq!(a.connects() + b.connects(), 3);
    assert!(!rig.told().contains(&"retried hedge".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn r22_both_copies_of_a_strong_read_go_to_the_primary() {
    let mut rig = Rig::new(2, 1, &format!("{HEDGED}\nreplication = \"primary\"\nmax_lag = \"1s\""));
    let call = rig.start(rig.call(Method::GET, "/", OutBody::Empty, Kind::Read { primary: true }));
    let _first = rig.nodes[0].accept().await;
    let mut second = rig.nodes[0].accept().await;
    second.head().await;
    second.ok("the primary's").await;
    let answered = call.await.unwrap().unwrap();
    assert_eq!((answered.node, rig.nodes[1].connects()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_copys_node_does_not_win_and_a_first_copy_that_fails_leaves_it_to_the_second() {
    let mut rig = Rig::new(2, 1, &format!("{HEDGED}\nretry = {{ attempts = 1 }}"));
    let call = rig.start(rig.read("/"));
    let (mut a, mut b) = both(&mut rig);
    let (mut first, mut second) = copies(&mut a, &mut b).await;
    second.write("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").await;
    settle().await;
    first.ok("the first").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "the first");

    let call = rig.start(rig.read("/"));
    drop((first, second));
    let (first, mut second) = copies(&mut a, &mut b).await;
    drop(first);
    settle().await;
    second.ok("the second").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "the second");
}

#[tokio::test(start_paused = true)]
async fn second_copies_stay_within_their_share_of_reads() {
    let mut rig = Rig::new(1, 1, "hedge = { after = \"50ms\", max = \"5%\" }");
    rig.nodes.remove(0).serve_after(std::time::Duration::from_millis(100));
    for n in 0..60 {
        let answered = rig.pool().call(rig.read(&format!("/{n}"))).await.unwrap();
        drop(text(answered.body).await);
    }
    let hedged = rig.told().iter().filter(|what| *what == "retried hedge").count();
    assert_eq!(hedged, 3, "of 60 slow reads within ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_for_a_connection_is_not_overtaken_by_its_own_copy() {
    let mut rig = Rig::new(
        1,
        1,
        "max_connections = 1\nhedge = { after = \"50ms\", max = \"100%\" }",
    );
    let holding = rig.start(rig.write("/", "x"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    assert_eq!(peer.bytes(1).await, "x");
    let waiting = rig.start(rig.read("/waits"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(rig.counts(0), (1, 1, 0, 1), "one waits, not two");
    peer.ok("").await;
    drop(holding.await.unwrap().unwrap());
    assert!(peer.head().await.starts_with("get /waits "));
    peer.ok("").await;
    drop(waiting.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_retry_budget_is_one_for_all_cores() {
    let mut rig = Rig::new(
        2,
        4,
        "retry = { attempts = 10, budget = \"20%\", on = [\"reset\", \"503\"] }",
    );
    for node in std::mem::take(&mut rig.nodes) {
        node.serve("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n");
    }
    for turn in 0..40 {
        let pool = rig.upstreams.pool(turn % 4);
        let mut call = rig.read("/");
        call.deadline = rig.now().after(Span::from_secs(5));
        drop(text(pool.call(call).await.unwrap().body).await);
    }
    let retries = rig.told().iter().filter(|what| *what == "retried status").count();
    assert_eq!(retries, 10, "the floor of one budget, not of four");
}
