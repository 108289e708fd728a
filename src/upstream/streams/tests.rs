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
use http::uri::Scheme;
use http::{HeaderValue, Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
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
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == kind {
                return Some(payload);
            }
        }
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
        tokio::time::sleep(Duration::from_millis(1)).await; // paused: until nothing is left to do
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
