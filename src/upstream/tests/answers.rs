//! What comes back, well formed and otherwise.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::attempts::fed;
use super::support::{Rig, settle, text};
use crate::core::retry::Sent;
use crate::upstream::{Answered, BodyError, CallError, CallErrorKind, Kind, OutBody};
use http::Method;
use http_body::Body;

/// The answer to a request when the node writes this and, if `then_closes`, closes.
async fn answer(rig: &mut Rig, method: Method, bytes: &str, then_closes: bool) -> Result<Answered, CallError> {
    let call = rig.start(rig.call(method, "/", OutBody::Empty, Kind::Write { repeatable: false }));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    peer.write(bytes).await;
    if then_closes {
        drop(peer);
    } else {
        // The node keeps its end; the test's own end of the connection is what is looked at.
        tokio::spawn(async move { peer.closed().await });
    }
    call.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_http_is_garbage_and_closes_the_connection() {
    let cases = [
        ("nonsense", "GARBAGE\r\n\r\n"),
        ("a bad status", "HTTP/1.1 9x9 x\r\n\r\n"),
        ("another protocol", "HTTP/3.7 200 x\r\n\r\n"),
        (
            "a space before the colon",
            "HTTP/1.1 200 x\r\ncontent-length : 2\r\n\r\nok",
        ),
        (
            "folded lines",
            "HTTP/1.1 200 x\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        ),
        ("a bad length", "HTTP/1.1 200 x\r\ncontent-length: +2\r\n\r\nok"),
        (
            "a coding we do not know",
            "HTTP/1.1 200 x\r\ntransfer-encoding: gzip\r\n\r\n",
        ),
        (
            "a list of codings",
            "HTTP/1.1 200 x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "codings on two lines",
            "HTTP/1.1 200 x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked in HTTP/1.0",
            "HTTP/1.0 200 x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "an upgrade nobody asked for",
            "HTTP/1.1 101 x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        ),
    ];
    for (name, bytes) in cases {
        let mut rig = Rig::new(1, 1, "");
        let error = answer(&mut rig, Method::GET, bytes, false).await.expect_err(name);
        assert_eq!(
            (error.kind, error.sent),
            (CallErrorKind::Garbage, Sent::Maybe),
            "{name}"
        );
        assert_eq!(rig.counts(0), (0, 0, 0, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_before_or_within_the_head_is_a_reset() {
    for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let mut rig = Rig::new(1, 1, "");
        let error = answer(&mut rig, Method::POST, bytes, true).await.unwrap_err();
        assert_eq!(
            (error.kind, error.sent),
            (CallErrorKind::Reset, Sent::Maybe),
            "{bytes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn informational_answers_are_skipped() {
    let mut rig = Rig::new(1, 1, "");
    let bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let answered = answer(&mut rig, Method::GET, bytes, false).await.unwrap();
    assert_eq!(answered.parts.status, 200);
    assert!(!answered.parts.headers.contains_key("link"));
    assert_eq!(text(answered.body).await.unwrap(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_length_beside_chunked_is_dropped_and_the_connection_is_not_trusted_again() {
    let mut rig = Rig::new(1, 1, "");
    let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let answered = answer(&mut rig, Method::GET, bytes, false).await.unwrap();
    assert!(!answered.parts.headers.contains_key("content-length"));
    assert_eq!(text(answered.body).await.unwrap(), "ok");
    assert_eq!(rig.counts(0), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn chunked_bodies_end_where_they_say_and_their_connection_is_used_again() {
    let mut rig = Rig::new(1, 1, "");
    let bytes = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n3\r\n...\r\n0\r\n\r\n";
    let answered = answer(&mut rig, Method::GET, bytes, false).await.unwrap();
    assert!(!answered.close_delimited);
    assert_eq!(text(answered.body).await.unwrap(), "ok...");
    assert_eq!(rig.counts(0), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn r16b_a_body_that_ends_with_the_connection_is_marked() {
    let mut rig = Rig::new(1, 1, "");
    let answered = answer(&mut rig, Method::GET, "HTTP/1.1 200 OK\r\n\r\nall of it", true)
        .await
        .unwrap();
    assert!(answered.close_delimited);
    assert_eq!(text(answered.body).await.unwrap(), "all of it");
    assert_eq!(rig.counts(0), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_an_error() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let mut rig = Rig::new(1, 1, "");
        let answered = answer(&mut rig, Method::GET, bytes, true).await.unwrap();
        assert_eq!(text(answered.body).await, Err(BodyError::Reset), "{bytes:?}");
        assert_eq!(rig.counts(0), (0, 0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_leave_their_connection_ready() {
    let cases = [
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 x\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 304 x\r\netag: \"a\"\r\ncontent-length: 77\r\n\r\n",
        ),
    ];
    for (method, bytes) in cases {
        let mut rig = Rig::new(1, 1, "");
        let answered = answer(&mut rig, method, bytes, false).await.unwrap();
        assert!(answered.body.is_end_stream() && !answered.close_delimited, "{bytes:?}");
        assert_eq!(rig.counts(0), (1, 0, 1, 0), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_the_node_will_close_is_not_kept() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let mut rig = Rig::new(1, 1, "");
        let answered = answer(&mut rig, Method::GET, bytes, false).await.unwrap();
        assert_eq!(text(answered.body).await.unwrap(), "ok");
        assert_eq!(rig.counts(0), (0, 0, 0, 0), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_body_streams_with_bounded_memory() {
    const PIECES: usize = 200;
    const PIECE: usize = 10_000;
    let mut rig = Rig::new(1, 1, "");
    let call = rig.start(rig.read("/"));
    let mut peer = rig.nodes[0].accept().await;
    peer.head().await;
    let total = PIECES * PIECE;
    let written = tokio::spawn(async move {
        peer.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n"))
            .await;
        for _ in 0..PIECES {
            peer.write(&"x".repeat(PIECE)).await;
        }
        peer
    });
    let answered = call.await.unwrap().unwrap();
    settle().await;
    assert!(
        !written.is_finished(),
        "a body that nobody reads is not read from the node"
    );
    assert_eq!(text(answered.body).await.unwrap().len(), total);
    let _peer = written.await.unwrap();
    assert_eq!(rig.counts(0), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_host_sent_is_the_one_configured() {
    for (keys, wanted) in [
        ("", "host: client.example\r\n"),
        ("host = \"node\"", "host: 10.0.0.1:80\r\n"),
        ("host = \"fixed.example\"", "host: fixed.example\r\n"),
    ] {
        let mut rig = Rig::new(1, 1, keys);
        let call = rig.start(rig.read("/p?q=1"));
        let mut peer = rig.nodes[0].accept().await;
        let head = peer.head().await;
        assert!(head.starts_with("get /p?q=1 http/1.1\r\n"), "{head}");
        assert!(head.contains(wanted), "{head}");
        assert_eq!(head.matches("host:").count(), 1);
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn every_body_is_framed_whatever_the_method() {
    let mut rig = Rig::new(1, 1, "");
    let kind = Kind::Write { repeatable: false };
    for method in [Method::GET, Method::POST, Method::from_bytes(b"REPORT").unwrap()] {
        let (feed, body) = fed();
        feed.send(Ok("xyz")).unwrap();
        drop(feed);
        let call = rig.start(rig.call(method.clone(), "/", body, kind));
        let mut peer = rig.nodes[0].accept().await;
        let head = peer.head().await;
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{method}: {head}");
        assert_eq!(peer.bytes(13).await, "3\r\nxyz\r\n0\r\n\r\n");
        call.abort();
    }
    for (method, wanted) in [
        (Method::POST, true),
        (Method::PUT, true),
        (Method::GET, false),
        (Method::DELETE, false),
    ] {
        let call = rig.start(rig.call(method.clone(), "/", OutBody::Empty, kind));
        let mut peer = rig.nodes[0].accept().await;
        let head = peer.head().await;
        assert_eq!(head.contains("content-length: 0\r\n"), wanted, "{method}: {head}");
        assert!(!head.contains("transfer-encoding"));
        call.abort();
    }
    let full = OutBody::from(bytes::Bytes::from_static(b"four"));
    let call = rig.start(rig.call(Method::GET, "/", full, kind));
    let mut peer = rig.nodes[0].accept().await;
    assert!(peer.head().await.contains("content-length: 4\r\n"));
    assert_eq!(peer.bytes(4).await, "four");
    call.abort();
}
