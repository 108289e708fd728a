//! A connection's clocks and limits, against a node that is played frame by frame under tokio's paused clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::super::body::OutBody;
use super::super::error::CallErrorKind;
use super::super::link::{Broken, waiting_clock};
use super::connection::{self, State};
use super::pulse::{ANSWER, IDLE, QUIET};
use super::stream::Stream;
use crate::config::runtime::Http2;
use crate::core::retry::Sent;
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const LIMITS: Http2 = Http2 {
    window: 65_535,
    max_streams: 10,
};

struct Peer(DuplexStream);

impl Peer {
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.0.write_all(&bytes).await.is_ok()
    }

    /// The next frame of this kind, its payload; none when the connection has ended.
    async fn until(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let (head, payload) = self.frame().await?;
            if head[3] == kind {
                return Some(payload);
            }
        }
    }

    /// The next frame, its head and payload.
    async fn frame(&mut self) -> Option<([u8; 9], Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head, payload))
    }
}

/// An open connection.
async fn connected() -> (Arc<State>, Peer) {
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer(far);
    assert!(peer.send(SETTINGS, 0, 0, &[]).await);
    let state = connection::open(Box::new(near), LIMITS).await.unwrap();
    let mut preface = [0; 24];
    peer.0.read_exact(&mut preface).await.unwrap();
    (state, peer)
}

type Told = JoinHandle<Result<Response<()>, Broken>>;

fn ask(state: &Arc<State>) -> Told {
    assert!(state.take());
    let mut stream = Stream::new(Arc::clone(state), Scheme::HTTP, true);
    tokio::spawn(async move {
        let mut request = Request::new(OutBody::Empty);
        request.headers_mut().insert("host", HeaderValue::from_static("a"));
        let hour = Duration::from_secs(3600);
        let told = Box::pin(stream.exchange(request, hour, hour)).await;
        told.map(|answer| answer.map(drop))
    })
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_silent_while_a_request_waits_is_asked_and_given_up() {
    let (state, mut peer) = connected().await;
    let told = ask(&state);
    peer.until(HEADERS).await.unwrap();
    let began = waiting_clock();
    peer.until(PING).await.unwrap();
    let asked = waiting_clock();
    assert!(asked - began >= QUIET - Duration::from_secs(1), "{:?}", asked - began);
    let broken = told.await.unwrap().err().unwrap();
    assert!(waiting_clock() - asked >= ANSWER - Duration::from_secs(1));
    assert_eq!((broken.kind, broken.sent), (CallErrorKind::Reset, Sent::Maybe));
    assert!(!state.lends() && state.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_is_asked_again_no_sooner_than_grpc_servers_allow() {
    let (state, mut peer) = connected().await;
    let told = ask(&state);
    let mut last = None;
    for _ in 0..3 {
        let asked = peer.until(PING).await.unwrap();
        let now = waiting_clock();
        if let Some(last) = last.replace(now) {
            assert!(now - last >= Duration::from_secs(300), "{:?}", now - last);
        }
        assert!(peer.send(PING, 1, 0, &asked).await);
    }
    assert!(peer.send(HEADERS, 5, 1, &[0x88]).await);
    assert_eq!(told.await.unwrap().ok().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn without_requests_it_is_closed_after_a_while_and_not_asked() {
    let (state, mut peer) = connected().await;
    let began = waiting_clock();
    assert_eq!(peer.until(PING).await, None, "the end");
    assert!(waiting_clock() - began >= IDLE - Duration::from_secs(1));
    assert!(!state.lends());
}

#[tokio::test(start_paused = true)]
async fn a_list_of_fields_without_an_end_ends_the_connection() {
    let (state, mut peer) = connected().await;
    let told = ask(&state);
    peer.until(HEADERS).await.unwrap();
    let fields = [0x00, 0x01, b'x', 0x01, b'y'].repeat(1000);
    let mut alive = peer.send(HEADERS, 0, 1, &[0x88]).await;
    for _ in 0..10_000 {
        alive = alive && peer.send(CONTINUATION, 0, 1, &fields).await;
    }
    assert!(!alive, "it was cut off");
    assert_eq!(told.await.unwrap().err().unwrap().sent, Sent::Maybe);
}

#[tokio::test(start_paused = true)]
async fn a_node_s_limit_is_known_from_its_settings_and_changes_with_them() {
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer(far);
    // SETTINGS_MAX_CONCURRENT_STREAMS (3) is 2.
    assert!(peer.send(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 2]).await);
    let state = connection::open(Box::new(near), LIMITS).await.unwrap();
    assert_eq!(state.free(), 2);
    for (said, free) in [(7, 7), (0, 0), (50, 10)] {
        assert!(peer.send(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, said]).await);
        idle().await;
        assert_eq!(state.free(), free, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_killed_ends_its_streams_at_once() {
    let (state, mut peer) = connected().await;
    let told = ask(&state);
    peer.until(HEADERS).await.unwrap();
    state.kill();
    assert_eq!(told.await.unwrap().err().unwrap().kind, CallErrorKind::Reset);
    assert_eq!(peer.until(PING).await, None);
}

/// A request with a body, on a stream whose write strong readers wait for.
fn put(state: &Arc<State>, body: Vec<u8>) -> Told {
    assert!(state.take());
    let mut stream = Stream::new(Arc::clone(state), Scheme::HTTP, true);
    stream.settles();
    tokio::spawn(async move {
        let mut request = Request::new(OutBody::from(Bytes::from(body)));
        *request.method_mut() = Method::PUT;
        request.headers_mut().insert("host", HeaderValue::from_static("a"));
        let hour = Duration::from_secs(3600);
        let told = Box::pin(stream.exchange(request, hour, hour)).await;
        told.map(|answer| answer.map(drop))
    })
}

/// An open connection over a socket that takes little.
async fn narrow() -> (Arc<State>, Peer) {
    let (near, far) = duplex(256);
    let mut peer = Peer(far);
    assert!(peer.send(SETTINGS, 0, 0, &[]).await);
    let opening = tokio::spawn(async { connection::open(Box::new(near), LIMITS).await });
    let mut preface = [0; 24];
    peer.0.read_exact(&mut preface).await.unwrap();
    (opening.await.unwrap().unwrap(), peer)
}

/// Until nothing is left to do: the clock is paused.
async fn idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn r19_what_had_not_been_written_of_a_body_that_is_given_up_never_is() {
    let (state, mut peer) = narrow().await;
    let told = put(&state, vec![b'x'; 60_000]);
    peer.until(HEADERS).await.unwrap();
    idle().await; // the h2 crate has all of the body, and the socket takes no more
    told.abort();
    assert!(told.await.is_err());
    let mut seen = 0;
    let reset = loop {
        let (head, payload) = peer.frame().await.expect("the connection goes on");
        match head[3] {
            DATA => {
                seen += payload.len();
                assert_eq!(head[4] & 1, 0, "the end of its request");
            }
            RST_STREAM => break payload,
            _ => {}
        }
    };
    assert!(seen < 60_000, "{seen}");
    assert_eq!(reset, 8_u32.to_be_bytes(), "CANCEL");
    assert!(state.lends(), "others go on");
}

#[tokio::test(start_paused = true)]
async fn r19_the_ping_does_not_overtake_the_rest_of_a_body_that_was_answered_before() {
    let (state, mut peer) = narrow().await;
    let told = put(&state, vec![b'x'; 60_000]);
    peer.until(HEADERS).await.unwrap();
    idle().await;
    assert!(peer.send(HEADERS, 5, 1, &[0x88]).await);
    assert_eq!(told.await.unwrap().ok().unwrap().status(), 200);
    let mut is_whole = false;
    loop {
        let (head, _) = peer.frame().await.expect("the connection goes on");
        is_whole |= head[3] == DATA && head[4] & 1 == 1;
        if head[3] == PING {
            break;
        }
    }
    assert!(is_whole, "nothing comes behind it");
}

#[tokio::test(start_paused = true)]
async fn r19_the_ping_does_not_overtake_a_write_that_is_queued() {
    let (state, mut peer) = narrow().await;
    let first = put(&state, vec![b'x'; 60_000]);
    peer.until(HEADERS).await.unwrap();
    idle().await;
    let told = put(&state, Vec::new()); // without a body it is whole with its head
    idle().await;
    told.abort();
    assert!(told.await.is_err());
    let mut came = Vec::new();
    loop {
        let (head, _) = peer.frame().await.expect("the connection goes on");
        match head[3] {
            DATA => {}
            kind => came.push(kind),
        }
        if head[3] == PING {
            break;
        }
    }
    assert_eq!(came, [HEADERS, RST_STREAM, PING]);
    assert!(!first.is_finished());
}

#[tokio::test(start_paused = true)]
async fn r19_a_node_shows_that_nothing_more_of_a_write_can_come_or_loses_the_connection() {
    for answers in [true, false] {
        let (state, mut peer) = connected().await;
        let other = ask(&state);
        let told = put(&state, b"body".to_vec());
        peer.until(DATA).await.unwrap();
        told.abort();
        let began = waiting_clock();
        assert!(told.await.is_err());
        let asked = peer.until(PING).await.unwrap();
        assert!(waiting_clock() - began < Duration::from_secs(1), "at once");
        // Whatever else comes, it proves nothing of that write.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(peer.send(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).await);
        }
        assert!(state.lends());
        if answers {
            assert!(peer.send(PING, 1, 0, &asked).await);
        }
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.send(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).await;
        }
        assert_eq!(state.is_over(), !answers, "{answers}");
        if answers {
            assert!(peer.send(HEADERS, 5, 1, &[0x88]).await);
        }
        assert_eq!(other.await.unwrap().is_ok(), answers);
    }
}

#[tokio::test(start_paused = true)]
async fn r19_a_ping_from_before_shows_nothing_of_a_write_that_is_given_up_after_it() {
    let (state, mut peer) = connected().await;
    let told = put(&state, b"body".to_vec());
    peer.until(DATA).await.unwrap();
    state.doubt();
    let before = peer.until(PING).await.unwrap();
    told.abort();
    assert!(told.await.is_err());
    peer.until(RST_STREAM).await.unwrap();
    assert!(peer.send(PING, 1, 0, &before).await);
    let began = waiting_clock();
    peer.until(PING).await.expect("another one");
    assert!(waiting_clock() - began < Duration::from_secs(1), "at once");
    assert_eq!(peer.until(PING).await, None);
    assert!(waiting_clock() - began <= ANSWER, "{:?}", waiting_clock() - began);
}

#[tokio::test(start_paused = true)]
async fn a_whole_exchange_leaves_nothing_to_reset_or_to_ask() {
    let (state, mut peer) = connected().await;
    let told = put(&state, b"body".to_vec());
    peer.until(DATA).await.unwrap();
    assert!(peer.send(HEADERS, 5, 1, &[0x88]).await);
    assert_eq!(told.await.unwrap().ok().unwrap().status(), 200);
    loop {
        let Some((head, _)) = peer.frame().await else { break };
        assert!(!matches!(head[3], RST_STREAM | PING), "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_s_window_is_as_large_as_those_of_all_its_streams() {
    let (_state, mut peer) = connected().await;
    let given = peer.until(WINDOW_UPDATE).await.unwrap();
    // RFC 9113 s6.9.2: it begins at 65,535.
    assert_eq!(given, (65_535_u32 * 10 - 65_535).to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_only_talks_of_the_connection_is_cut_off() {
    // Each makes us answer, or does nothing at all: SETTINGS, PING, and streams that it resets at once.
    for (name, kind, payload) in [("SETTINGS", SETTINGS, vec![]), ("PING", PING, vec![0; 8])] {
        let (near, far) = duplex(1 << 12); // the node reads nothing of our answers
        let mut peer = Peer(far);
        assert!(peer.send(SETTINGS, 0, 0, &[]).await);
        let state = connection::open(Box::new(near), LIMITS).await.unwrap();
        let told = ask(&state);
        let flood = async {
            for _ in 0..1_000_000 {
                if !peer.send(kind, 0, 0, &payload).await {
                    return;
                }
            }
            panic!("{name}: it was read without an end");
        };
        // Either the connection ends, or nothing more is read: what we hold for it does not grow.
        let _stuck = tokio::time::timeout(Duration::from_secs(3600), flood).await;
        drop(peer);
        assert_eq!(told.await.unwrap().err().unwrap().sent, Sent::Maybe, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn interim_heads_without_an_end_do_not_keep_a_request_beyond_its_time() {
    let (state, mut peer) = connected().await;
    assert!(state.take());
    let mut stream = Stream::new(Arc::clone(&state), Scheme::HTTP, true);
    let told = tokio::spawn(async move {
        let mut request = Request::new(OutBody::Empty);
        request.headers_mut().insert("host", HeaderValue::from_static("a"));
        let told = Box::pin(stream.exchange(request, Duration::from_secs(5), Duration::from_secs(60))).await;
        told.map(|answer| answer.map(drop))
    });
    peer.until(HEADERS).await.unwrap();
    let began = waiting_clock();
    while !told.is_finished() && peer.send(HEADERS, 4, 1, &[0x08, 3, b'1', b'0', b'3']).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        waiting_clock() - began < Duration::from_secs(6),
        "{:?}",
        waiting_clock() - began
    );
    let broken = told.await.unwrap().err().unwrap();
    assert_eq!((broken.kind, broken.sent), (CallErrorKind::HeadTimedOut, Sent::Maybe));
    assert!(state.lends());
}

#[tokio::test(start_paused = true)]
async fn data_behind_a_reset_takes_nothing_from_the_others() {
    let (state, mut peer) = connected().await;
    let told = ask(&state);
    peer.until(HEADERS).await.unwrap();
    told.abort();
    peer.until(RST_STREAM).await.unwrap();
    // RFC 9113 s5.1: it may not have seen the reset yet. What it takes of the connection's window comes back.
    let mut back = 0;
    for _ in 0..64 {
        assert!(peer.send(DATA, 0, 1, &[0; 16_384]).await, "it goes on");
        while back < 16_384 {
            let Ok(given) = tokio::time::timeout(Duration::from_millis(1), peer.until(WINDOW_UPDATE)).await else {
                break;
            };
            let given = given.expect("it goes on");
            back += u32::from_be_bytes([given[0], given[1], given[2], given[3]]);
        }
    }
    assert!(back > 0, "a mebibyte went by, more than the window");
    assert!(state.lends());
}
