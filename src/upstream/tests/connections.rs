//! Who gets which connection, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{Door, Rig, ended, settle, text};
use crate::core::retry::Sent;
use crate::core::time::Span;
use crate::upstream::CallErrorKind;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_when_its_answer_was_read() {
    let mut rig = Rig::new(1, 1, "");
    let call = rig.start(rig.read("/1"));
    let mut peer = rig.nodes[0].accept().await;
    assert!(peer.head().await.starts_with("get /1 http/1.1\r\n"));
    peer.ok("one").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "one");
    let call = rig.start(rig.read("/2"));
    assert!(peer.head().await.starts_with("get /2 "), "on the same connection");
    peer.ok("two").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "two");
    assert_eq!(rig.nodes[0].connects(), 1);
    assert_eq!(rig.counts(0), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_small_answer_frees_its_connection_before_its_body_is_read() {
    let mut rig = Rig::new(1, 1, "");
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.ok("small").await;
    let answered = call.await.unwrap().unwrap();
    assert_eq!(rig.counts(0), (1, 0, 1, 0));
    assert_eq!(text(answered.body).await.unwrap(), "small");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_node_closed_or_wrote_to_is_not_used() {
    let mut rig = Rig::new(1, 1, "");
    let junk = ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"];
    for text_between in junk {
        let call = rig.start(rig.read("/"));
        let mut peer = rig.nodes[0].accept().await;
        peer.head().await;
        peer.ok("").await;
        drop(call.await.unwrap().unwrap());
        if text_between.is_empty() {
            drop(peer);
        } else {
            peer.write(text_between).await;
            let call = rig.start(rig.write("/", "body"));
            let mut fresh = rig.nodes[0].accept().await;
            fresh.head().await;
            fresh.ok("good").await;
            assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "good");
            drop(fresh);
        }
        settle().await;
    }
    assert_eq!(rig.nodes[0].connects(), 3);
    rig.upstreams.cores[0].sweep(0);
    assert_eq!(rig.counts(0), (0, 0, 0, 0), "a sweep closes what the node has closed");
}

#[tokio::test(start_paused = true)]
async fn waiters_get_freed_connections_in_order_and_beyond_the_bound_there_is_no_waiting() {
    let mut rig = Rig::new(1, 1, "max_connections = 1\nmax_pending = 2");
    let first = rig.start(rig.read("/first"));
    let mut peer = rig.nodes[0].accept().await;
    let mut second = rig.start(rig.read("/second"));
    settle().await;
    let mut third = rig.start(rig.read("/third"));
    settle().await;
    assert_eq!(rig.counts(0), (1, 1, 0, 2));
    let refused = rig.pool().call(rig.read("/fourth")).await.unwrap_err();
    assert_eq!((refused.kind, refused.sent), (CallErrorKind::QueueFull, Sent::Nothing));

    peer.head().await;
    peer.ok("1").await;
    drop(first.await.unwrap().unwrap());
    assert!(
        peer.head().await.starts_with("get /second "),
        "the same connection, in order"
    );
    assert!(ended(&mut third).await.is_none());
    peer.ok("2").await;
    drop((&mut second).await.unwrap().unwrap());
    assert!(peer.head().await.starts_with("get /third "));
    peer.ok("3").await;
    assert_eq!(text(third.await.unwrap().unwrap().body).await.unwrap(), "3");
    assert_eq!(rig.nodes[0].connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_wait_for_a_connection() {
    let mut rig = Rig::new(1, 1, "max_connections = 1");
    let first = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    let mut call = rig.read("/late");
    call.deadline = rig.now().after(Span::from_secs(5));
    let before = rig.now();
    let error = rig.pool().call(call).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sent),
        (CallErrorKind::DeadlineExceeded, Sent::Nothing)
    );
    assert_eq!(rig.now().since(before).as_secs(), 5);
    assert_eq!(rig.counts(0), (1, 1, 0, 0), "it left the queue");
    peer.head().await;
    peer.ok("").await;
    drop(first.await.unwrap().unwrap());
    assert_eq!(rig.counts(0), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_hands_its_slot_to_the_next_waiter() {
    let mut rig = Rig::new(1, 1, "max_connections = 1\nretry = { attempts = 1 }");
    rig.nodes[0].door(Door::Hangs);
    let mut first = rig.start(rig.read("/1"));
    settle().await;
    let second = rig.start(rig.read("/2"));
    assert!(ended(&mut first).await.is_none());
    assert_eq!(rig.counts(0), (1, 1, 0, 1));
    rig.nodes[0].door(Door::Open);
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.kind, CallErrorKind::ConnectTimedOut);
    let mut peer = rig.nodes[0].accept().await;
    assert!(peer.head().await.starts_with("get /2 "));
    peer.ok("").await;
    drop(second.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_closes_its_connection_and_frees_its_slot() {
    let mut rig = Rig::new(1, 1, "max_connections = 1");
    let first = rig.start(rig.read("/1"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    let second = rig.start(rig.read("/2"));
    let waiting = rig.start(rig.read("/3"));
    settle().await;
    assert_eq!(rig.counts(0), (1, 1, 0, 2));
    first.abort();
    peer.closed().await;
    let mut peer = rig.nodes[0].accept().await;
    assert!(peer.head().await.starts_with("get /2 "), "the waiter has the slot");
    waiting.abort();
    settle().await;
    assert_eq!(rig.counts(0), (1, 1, 0, 0), "an aborted waiter leaves the queue");
    peer.ok("").await;
    drop(second.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_slot_handed_to_a_waiter_that_has_left_goes_on_to_the_next() {
    let mut rig = Rig::new(1, 1, "max_connections = 1");
    let first = rig.start(rig.read("/1"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    let pool = rig.pool();
    let mut leaving = Box::pin(pool.call(rig.read("/2")));
    assert!(ended(&mut leaving).await.is_none());
    let staying = rig.start(rig.read("/3"));
    settle().await;
    assert_eq!(rig.counts(0), (1, 1, 0, 2));
    peer.ok("").await;
    drop(first.await.unwrap().unwrap());
    assert_eq!(
        rig.counts(0),
        (1, 1, 0, 1),
        "the first waiter has been handed the slot and has not looked"
    );
    drop(leaving);
    assert!(peer.head().await.starts_with("get /3 "), "with the connection");
    peer.ok("").await;
    drop(staying.await.unwrap().unwrap());
    settle().await;
    assert_eq!(rig.counts(0), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_before_its_end_closes_the_connection() {
    let mut rig = Rig::new(1, 1, "");
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let answered = call.await.unwrap().unwrap();
    assert_eq!(rig.counts(0), (1, 1, 0, 0));
    drop(answered);
    peer.closed().await;
    assert_eq!(rig.counts(0), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn max_in_flight_bounds_a_node_below_max_connections() {
    let rig = Rig::with_node_keys("max_in_flight = 3", 2, "");
    // Three over two cores: two and one.
    let calls: Vec<_> = (0..6).map(|n| rig.start_on(n % 2, rig.read("/"))).collect();
    settle().await;
    assert_eq!(rig.counts(0), (2, 2, 0, 1));
    assert_eq!(rig.upstreams.cores[1].counts(0, 0), (1, 1, 0, 2));
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn closing_a_body_tells_when_and_closes_at_once() {
    let mut rig = Rig::new(1, 1, "");
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
    let answered = call.await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let closed_at = answered.body.close(&*rig.world.clock);
    assert_eq!(closed_at, rig.now());
    peer.closed().await;
}
