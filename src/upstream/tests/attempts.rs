//! What is sent, how often, and what is known about it when it fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::{Door, Peer, Rig, settle, text};
use crate::core::retry::Sent;
use crate::core::time::Span;
use crate::upstream::{BoxError, CallErrorKind, Kind, OutBody, Step};
use bytes::Bytes;
use http::Method;
use http_body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// A request body fed by the test.
struct Fed(mpsc::UnboundedReceiver<Result<&'static str, BoxError>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let next = self.0.poll_recv(cx);
        next.map(|item| item.map(|result| result.map(|text| Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

pub(super) fn fed() -> (mpsc::UnboundedSender<Result<&'static str, BoxError>>, OutBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, OutBody::stream(Fed(receiver)))
}

/// A streamed body that is all there.
fn streamed(text: &'static str) -> OutBody {
    let (feed, body) = fed();
    feed.send(Ok(text)).unwrap();
    body
}

/// Makes an idle connection to a node and gives the node's end.
async fn warm(rig: &mut Rig, node: usize) -> Peer {
    let call = rig.start(rig.read("/warm"));
    let mut peer = rig.nodes[node].accept().await;
    peer.head().await;
    peer.ok("").await;
    drop(call.await.unwrap().unwrap());
    peer
}

#[tokio::test(start_paused = true)]
async fn r20_a_write_whose_connect_is_refused_goes_to_another_node() {
    let mut rig = Rig::new(2, 1, "balance = \"round-robin\"");
    rig.nodes[0].door(Door::Refuses);
    for _ in 0..4 {
        let call = rig.start(rig.write("/", "x"));
        let mut peer = rig.nodes[1].accept().await;
        peer.head().await;
        peer.write("HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
        let answered = call.await.unwrap().unwrap();
        assert_eq!((answered.node, answered.after_maybe_applied), (1, false));
    }
    assert_eq!(rig.nodes[0].connects(), 1, "a node that refused is avoided for a while");
    assert!(rig.told().contains(&"retried connect".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_says_that_nothing_was_sent() {
    let rig = Rig::new(1, 1, "");
    rig.nodes[0].door(Door::Refuses);
    let error = rig.pool().call(rig.write("/", "x")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sent, error.node),
        (CallErrorKind::ConnectFailed(Step::Connection), Sent::Nothing, Some(0))
    );
    assert_eq!(
        rig.nodes[0].connects(),
        1,
        "the only node that refused is not asked again"
    );
}

#[tokio::test(start_paused = true)]
async fn r20_a_write_whose_connection_broke_after_a_byte_is_not_repeated() {
    let mut rig = Rig::new(2, 1, "");
    let call = rig.start(rig.write("/", "x"));
    let mut peer = accept_any(&mut rig).await;
    peer.head().await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::Reset, Sent::Maybe));
    assert_eq!(rig.nodes[0].connects() + rig.nodes[1].connects(), 1);
}

async fn accept_any(rig: &mut Rig) -> Peer {
    let [a, b] = rig.nodes.as_mut_slice() else {
        panic!("two nodes");
    };
    tokio::select! {
        peer = a.accept() => peer,
        peer = b.accept() => peer,
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_connection_broke_is_repeated_at_another_node() {
    let mut rig = Rig::new(2, 1, "");
    let call = rig.start(rig.read("/"));
    let mut peer = accept_any(&mut rig).await;
    peer.head().await;
    drop(peer);
    let mut peer = accept_any(&mut rig).await;
    peer.head().await;
    peer.ok("there").await;
    let answered = call.await.unwrap().unwrap();
    assert!(answered.after_maybe_applied);
    assert_eq!(text(answered.body).await.unwrap(), "there");
    assert_eq!(
        (rig.nodes[0].connects(), rig.nodes[1].connects()),
        (1, 1),
        "not twice at one"
    );
    assert_eq!(rig.told().iter().filter(|t| *t == "retried reset").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn r20_a_pooled_connection_that_dies_before_a_byte_is_replaced_for_writes_too() {
    let mut rig = Rig::new(1, 1, "retry = { attempts = 1, budget = \"0%\" }");
    for body in ["", "a body"] {
        let peer = warm(&mut rig, 0).await;
        peer.break_writes();
        let call = rig.start(rig.write("/w", body));
        let mut fresh = rig.nodes[0].accept().await;
        assert!(fresh.head().await.starts_with("post /w "));
        assert_eq!(fresh.bytes(body.len()).await, body);
        fresh.write("HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").await;
        let answered = call.await.unwrap().unwrap();
        assert!(!answered.after_maybe_applied, "nothing had been sent");
    }
    assert_eq!(
        rig.told().iter().filter(|t| t.starts_with("retried")).count(),
        0,
        "no retry"
    );
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_that_was_touched_is_not_sent_twice() {
    let mut rig = Rig::new(1, 1, "");
    let peer = warm(&mut rig, 0).await;
    peer.break_writes();
    let (feed, body) = fed();
    feed.send(Ok("chunk")).unwrap();
    let call = rig.call(Method::PUT, "/", body, Kind::Write { repeatable: true });
    let error = rig.pool().call(call).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::Reset, Sent::Nothing));
}

#[tokio::test(start_paused = true)]
async fn a_kept_alive_connection_closed_without_an_answer_is_replaced_for_reads_without_budget() {
    let mut rig = Rig::new(1, 1, "retry = { attempts = 2, budget = \"0%\" }");
    let mut peer = warm(&mut rig, 0).await;
    let call = rig.start(rig.read("/again"));
    peer.head().await;
    drop(peer);
    let mut fresh = rig.nodes[0].accept().await;
    assert!(fresh.head().await.starts_with("get /again "));
    fresh.ok("").await;
    drop(call.await.unwrap().unwrap());

    let call = rig.start(rig.write("/once", "x"));
    fresh.head().await;
    drop(fresh);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::Reset, Sent::Maybe), "R20");
}

#[tokio::test(start_paused = true)]
async fn the_budget_ends_retries() {
    let mut rig = Rig::new(1, 1, "retry = { attempts = 2, budget = \"20%\" }");
    let mut node = rig.nodes.remove(0);
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            drop(node.accept().await);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    for _ in 0..20 {
        let error = rig.pool().call(rig.read("/")).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Reset);
    }
    settle().await;
    assert_eq!(
        accepted.load(Ordering::SeqCst),
        20 + 10,
        "20 requests and the floor of 10 retries"
    );
}

#[tokio::test(start_paused = true)]
async fn before_send_runs_once_before_the_first_byte_and_not_for_a_connect_that_fails() {
    let mut rig = Rig::new(2, 1, "balance = \"round-robin\"\nretry = { attempts = 3 }");
    rig.nodes[0].door(Door::Refuses);
    let ran = Arc::new(AtomicUsize::new(0));
    let with_hook = |rig: &Rig| {
        let ran = Arc::clone(&ran);
        let mut call = rig.read("/");
        call.before_send = Some(Box::new(move || {
            ran.fetch_add(1, Ordering::SeqCst);
        }));
        call
    };
    let call = rig.start(with_hook(&rig));
    let mut peer = rig.nodes[1].accept().await;
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    peer.head().await;
    // The second attempt broke; a third has no node but the second.
    drop(peer);
    let mut peer = rig.nodes[1].accept().await;
    peer.head().await;
    peer.ok("").await;
    drop(call.await.unwrap().unwrap());
    assert_eq!(ran.load(Ordering::SeqCst), 1, "R8: never again for a retry");

    rig.nodes[1].door(Door::Refuses);
    drop(peer);
    settle().await;
    rig.pool().call(with_hook(&rig)).await.unwrap_err();
    assert_eq!(ran.load(Ordering::SeqCst), 1, "nothing was about to be sent");
}

#[tokio::test(start_paused = true)]
async fn a_listed_status_is_repeated_elsewhere_and_passed_on_when_there_is_nowhere() {
    let unavailable = "HTTP/1.1 503 x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy";
    let mut rig = Rig::new(2, 1, "");
    let mut call = rig.write("/", "x");
    call.kind = Kind::Write { repeatable: true };
    let call = rig.start(call);
    let mut first = accept_any(&mut rig).await;
    first.head().await;
    first.write(unavailable).await;
    let mut second = accept_any(&mut rig).await;
    second.head().await;
    second
        .write("HTTP/1.1 409 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
    let answered = call.await.unwrap().unwrap();
    assert_eq!(answered.parts.status, 409);
    assert!(
        answered.after_maybe_applied,
        "R20: this 409 may answer the first attempt's own effect"
    );

    let call = rig.start(rig.read("/"));
    for _ in 0..2 {
        let mut peer = accept_any(&mut rig).await;
        peer.head().await;
        peer.write(unavailable).await;
    }
    let answered = call.await.unwrap().unwrap();
    assert_eq!(answered.parts.status, 503);
    assert_eq!(text(answered.body).await.unwrap(), "busy");

    let mut call = rig.write("/", "x");
    call.kind = Kind::Write { repeatable: false };
    let call = rig.start(call);
    let mut peer = accept_any(&mut rig).await;
    peer.head().await;
    peer.write(unavailable).await;
    assert_eq!(
        call.await.unwrap().unwrap().parts.status,
        503,
        "a write once answered is not repeated"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_a_listed_status_stands_when_its_repeat_brings_none() {
    const UNAVAILABLE: &str = "HTTP/1.1 503 x\r\nx-from: the first\r\ncontent-length: 8\r\n\r\nbu";
    let keys = "connect_timeout = \"1s\"\nresponse_timeout = \"10s\"\nretry = { attempts = 2, on = [\"reset\", \"connect\", \"503\"] }";
    // What the other node does with the repeat, and in seconds: the deadline, and how long the call takes.
    let cases = [
        ("is reset", 60, 0),
        ("is refused", 60, 0),
        ("is not HTTP", 60, 0),
        ("is not answered", 60, 10),
        ("is not answered before the deadline", 8, 7),
    ];
    for (name, deadline, took) in cases {
        let mut rig = Rig::new(2, 1, keys);
        let start = rig.now();
        let mut call = rig.read("/");
        call.deadline = start.after(Span::from_secs(deadline));
        let call = rig.start(call);
        let mut first = accept_any(&mut rig).await;
        first.head().await;
        if name == "is refused" {
            rig.nodes.iter().for_each(|node| node.door(Door::Refuses));
            first.write(UNAVAILABLE).await;
        } else {
            first.write(UNAVAILABLE).await;
            let mut second = accept_any(&mut rig).await;
            second.head().await;
            match name {
                "is reset" => drop(second),
                "is not HTTP" => second.write("nonsense\r\n\r\n").await,
                _ => {
                    tokio::spawn(async move { second.closed().await });
                }
            }
        }
        let answered = call.await.unwrap().expect(name);
        assert_eq!(answered.parts.status, 503, "{name}");
        assert_eq!(answered.parts.headers["x-from"], "the first", "{name}");
        assert_eq!(rig.now().since(start).as_secs(), took, "{name}");
        first.write("sy now").await;
        assert_eq!(text(answered.body).await.unwrap(), "busy now", "{name}");
        let open: usize = (0..2).map(|node| rig.counts(node).0).sum();
        assert_eq!(
            open, 1,
            "{name}: the first one's connection is used again, no other is left"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_repeat_waits_for_a_connection_while_an_answer_holds_one() {
    let keys = "max_connections = 1\nretry = { attempts = 2, on = [\"503\"] }";
    let mut rig = Rig::new(2, 1, keys);
    // Each node answers one of two calls so, and neither body is complete: their repeats have nowhere to go.
    let calls = [rig.start(rig.read("/")), rig.start(rig.read("/"))];
    let mut peers = [accept_any(&mut rig).await, accept_any(&mut rig).await];
    let start = rig.now();
    for peer in &mut peers {
        peer.head().await;
    }
    for peer in &mut peers {
        peer.write("HTTP/1.1 503 x\r\ncontent-length: 4\r\n\r\nbu").await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().parts.status, 503);
    }
    assert_eq!(rig.now().since(start).as_secs(), 0, "they waited for each other");
}

#[tokio::test(start_paused = true)]
async fn r20_a_repeatable_write_gets_the_nodes_503_when_its_repeat_breaks_and_no_connection_is_left() {
    let mut rig = Rig::new(2, 1, "");
    let mut call = rig.write("/", "x");
    call.kind = Kind::Write { repeatable: true };
    let call = rig.start(call);
    let mut first = accept_any(&mut rig).await;
    first.head().await;
    first.write("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").await;
    let mut second = accept_any(&mut rig).await;
    second.head().await;
    drop(second);
    assert_eq!(call.await.unwrap().unwrap().parts.status, 503);
    let open: usize = (0..2).map(|node| rig.counts(node).0).sum();
    assert_eq!(open, 0, "R11");
}

#[tokio::test(start_paused = true)]
async fn time_limits_end_an_attempt_with_its_connection_closed() {
    let keys = "connect_timeout = \"1s\"\nresponse_timeout = \"10s\"\nretry = { attempts = 1 }";
    let mut rig = Rig::new(1, 1, keys);
    // (deadline in seconds, wanted)
    for (deadline, kind, took) in [
        (60, CallErrorKind::HeadTimedOut, 10),
        (4, CallErrorKind::DeadlineExceeded, 4),
    ] {
        let start = rig.now();
        let mut call = rig.write("/", "x");
        call.deadline = start.after(Span::from_secs(deadline));
        let call = rig.start(call);
        let mut peer = rig.nodes[0].accept().await;
        peer.head().await;
        peer.bytes(1).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind, error.sent), (kind, Sent::Maybe));
        assert_eq!(error.closed_at.since(start).as_secs(), took);
        assert_eq!(rig.counts(0), (0, 0, 0, 0));
        peer.closed().await;
    }
    rig.nodes[0].door(Door::Hangs);
    for (deadline_ms, kind) in [
        (60_000, CallErrorKind::ConnectTimedOut),
        (500, CallErrorKind::DeadlineExceeded),
    ] {
        let mut call = rig.read("/");
        call.deadline = rig.now().after(Span::from_millis(deadline_ms));
        let error = rig.pool().call(call).await.unwrap_err();
        assert_eq!((error.kind, error.sent), (kind, Sent::Nothing));
    }
}

#[tokio::test(start_paused = true)]
async fn the_timer_of_a_pooled_connection_starts_anew_for_each_request() {
    let mut rig = Rig::new(1, 1, "response_timeout = \"10s\"\nretry = { attempts = 1 }");
    let mut peer = warm(&mut rig, 0).await;
    for pause in [9, 9, 3600] {
        tokio::time::advance(Duration::from_secs(pause)).await;
        let call = rig.start(rig.read("/"));
        peer.head().await;
        tokio::time::advance(Duration::from_secs(9)).await;
        peer.ok("").await;
        drop(call.await.unwrap().unwrap());
    }
    let start = rig.now();
    let call = rig.start(rig.read("/"));
    peer.head().await;
    assert_eq!(call.await.unwrap().unwrap_err().kind, CallErrorKind::HeadTimedOut);
    assert_eq!(rig.now().since(start).as_secs(), 10);
    assert_eq!(rig.nodes[0].connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_response_timeout_does_not_count_while_the_upload_moves() {
    let mut rig = Rig::new(1, 1, "response_timeout = \"10s\"");
    let (feed, body) = fed();
    let call = rig.start(rig.call(Method::PUT, "/", body, Kind::Write { repeatable: false }));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(8)).await;
        feed.send(Ok("slow")).unwrap();
        settle().await;
    }
    drop(feed);
    settle().await;
    peer.ok("done").await;
    assert_eq!(text(call.await.unwrap().unwrap().body).await.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_broken_upload_is_the_clients_fault_and_closes_the_connection() {
    let mut rig = Rig::new(1, 1, "");
    let (feed, body) = fed();
    let call = rig.start(rig.call(Method::PUT, "/", body, Kind::Write { repeatable: true }));
    feed.send(Ok("first")).unwrap();
    let mut peer = rig.nodes[0].accept().await;
    assert!(peer.head().await.contains("transfer-encoding: chunked"));
    peer.bytes("5\r\nfirst\r\n".len()).await;
    feed.send(Err("the client left".into())).unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::BodyFailed, Sent::Maybe));
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn an_early_final_head_is_passed_on_while_the_upload_goes_on_and_its_connection_is_not_reused() {
    let mut rig = Rig::new(1, 1, "");
    let (feed, body) = fed();
    let call = rig.start(rig.call(Method::PUT, "/", body, Kind::Write { repeatable: false }));
    feed.send(Ok("first")).unwrap();
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.bytes("5\r\nfirst\r\n".len()).await;
    peer.write("HTTP/1.1 413 x\r\ncontent-length: 3\r\n\r\n").await;
    let mut answered = call.await.unwrap().unwrap();
    assert_eq!(answered.parts.status, 413);
    assert!(!answered.upload_complete());
    feed.send(Ok("second")).unwrap();
    drop(feed);
    assert!(answered.body.finish_upload().await);
    assert!(answered.upload_complete());
    peer.bytes("6\r\nsecond\r\n0\r\n\r\n".len()).await;
    peer.write("no!").await;
    assert_eq!(text(answered.body).await.unwrap(), "no!");
    peer.closed().await;
    assert_eq!(rig.counts(0), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_can_not_be_finished_is_said_to_be_incomplete() {
    let mut rig = Rig::new(1, 1, "");
    let (feed, body) = fed();
    let call = rig.start(rig.call(Method::PUT, "/", body, Kind::Write { repeatable: false }));
    feed.send(Ok("first")).unwrap();
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.write("HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n").await;
    let mut answered = call.await.unwrap().unwrap();
    drop(peer);
    feed.send(Ok("second")).unwrap();
    assert!(!answered.body.finish_upload().await);
    assert!(!answered.upload_complete());
}

/// A request body of one chunk and trailers, which does not know that it has ended until it is asked again.
struct WithTrailers(Vec<Frame<Bytes>>);

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_with_trailers_ends_with_them_and_its_connection_is_used_again() {
    for announced in [true, false] {
        let mut rig = Rig::new(1, 1, "");
        let mut fields = http::HeaderMap::new();
        fields.insert("x-sum", http::HeaderValue::from_static("7"));
        let frames = vec![Frame::trailers(fields), Frame::data(Bytes::from_static(b"chunk"))];
        let body = OutBody::stream(WithTrailers(frames));
        let mut call = rig.call(Method::PUT, "/", body, Kind::Write { repeatable: false });
        if announced {
            let name = http::HeaderValue::from_static("x-sum");
            call.parts.headers.insert("trailer", name);
        }
        let call = rig.start(call);
        let mut peer = rig.nodes[0].accept().await;
        peer.head().await;
        let wanted = if announced {
            "5\r\nchunk\r\n0\r\nx-sum: 7\r\n\r\n"
        } else {
            "5\r\nchunk\r\n0\r\n\r\n"
        };
        assert_eq!(peer.bytes(wanted.len()).await, wanted);
        peer.ok("").await;
        let answered = call.await.unwrap().unwrap();
        assert!(answered.upload_complete(), "announced: {announced}");
        drop(answered);
        assert_eq!(rig.counts(0), (1, 0, 1, 0), "announced: {announced}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_upload_is_told_with_the_head() {
    let mut rig = Rig::new(1, 1, "");
    for body in [
        OutBody::Empty,
        OutBody::Full(Bytes::from_static(b"whole")),
        streamed("ab"),
    ] {
        let call = rig.start(rig.call(Method::PUT, "/", body, Kind::Write { repeatable: false }));
        let mut peer = rig.nodes[0].accept().await;
        peer.head().await;
        settle().await;
        peer.write("HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\n").await;
        let answered = call.await.unwrap().unwrap();
        assert!(answered.upload_complete());
        drop(answered);
    }
}
