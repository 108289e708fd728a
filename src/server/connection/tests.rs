#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use super::{Shared, protocol, serve};
use crate::config::runtime::{
    Admin, Bind, Cache, Config, Http2, Listener, LogFormat, Protocols, Server as ServerConfig, Sources, Telemetry,
};
use crate::core::time::{MonoTime, WallTime};
use crate::server::drain::{Drain, Phase};
use crate::server::drive::QUIET;
use crate::server::preface::Prefixed;
use crate::telemetry::metrics::{Gauges, Metrics};
use crate::world::{Clock, Stream};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const STALL: Duration = Duration::from_secs(30);
/// More than a duplex stream holds.
const LARGE: usize = 1024 * 1024;

pub(in crate::server) struct PausedClock(pub(in crate::server) Instant);

impl Clock for PausedClock {
    fn mono(&self) -> MonoTime {
        MonoTime::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap())
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(0)
    }
}

/// A served connection on paused time: moving time forward is what `advance` and waiting do, and nothing else.
struct Client {
    io: DuplexStream,
    served: JoinHandle<()>,
    drain: Arc<Drain>,
    metrics: Arc<Metrics>,
    /// Lets an answer to `/wait` go, and the rest of one to `/halves`.
    go: Arc<Notify>,
    start: Instant,
}

pub(in crate::server) fn listener() -> Listener {
    Listener {
        name: "main".to_owned(),
        bind: Bind::AllInterfaces(0),
        protocols: Protocols {
            http1: true,
            http2: false,
        },
        tls: None,
        http2: Http2 {
            window: 65_535,
            max_streams: 1,
        },
        trusted_proxies: Sources::default(),
        purge_from: Sources::default(),
        debug_from: Sources::default(),
        header_timeout: HEAD,
        idle_timeout: IDLE,
        body_timeout: STALL,
        max_header_bytes: 4096,
        max_headers: 20,
        max_body: 1,
        max_connections: 1,
    }
}

pub(in crate::server) fn metrics() -> Arc<Metrics> {
    let none = Duration::ZERO;
    Metrics::new(&Config {
        server: ServerConfig {
            pair: false,
            threads: 1,
            drain_delay: none,
            state_dir: None,
            drain_timeout: none,
            ready_requires: Vec::new(),
        },
        listeners: Vec::new(),
        admin: Admin {
            address: ([127, 0, 0, 1], 0).into(),
            token: None,
            metrics_token: false,
        },
        cache: Cache {
            max_memory: 1,
            max_object: 1,
        },
        session: Default::default(),
        telemetry: Telemetry {
            log: String::new(),
            log_format: LogFormat::Text,
            access_log: None,
            meter: None,
        },
        upstreams: Vec::new(),
        routes: Vec::new(),
        numbers: Default::default(),
        hash: String::new(),
        effective: std::sync::Arc::default(),
    })
}

impl Client {
    fn connect() -> Self {
        Self::connect_through(|far| Box::new(far))
    }

    fn connect_through(stream: impl FnOnce(DuplexStream) -> Stream) -> Self {
        let (io, far) = tokio::io::duplex(16 * 1024);
        let far = stream(far);
        let start = Instant::now();
        let (drain, metrics, go) = (Arc::new(Drain::new()), metrics(), Arc::new(Notify::new()));
        let shared = Shared {
            clock: Arc::new(PausedClock(start)),
            metrics: Arc::clone(&metrics),
            drain: Arc::clone(&drain),
        };
        let wait = Arc::clone(&go);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let wait = Arc::clone(&wait);
            async move {
                let body = match request.uri().path() {
                    "/wait" => {
                        wait.notified().await;
                        Bytes::from_static(b"waited")
                    }
                    "/halves" => {
                        let (mut half, halves) = Channel::<Bytes, Infallible>::new(2);
                        half.send_data(Bytes::from_static(b"one")).await.unwrap();
                        tokio::spawn(async move {
                            wait.notified().await;
                            half.send_data(Bytes::from_static(b"two")).await.unwrap();
                        });
                        return Ok::<_, Infallible>(Response::new(Either::Right(halves)));
                    }
                    "/large" => Bytes::from(vec![b'x'; LARGE]),
                    "/kept" => {
                        std::mem::forget(request.into_body());
                        Bytes::from_static(b"kept")
                    }
                    "/echo" => request.into_body().collect().await.unwrap().to_bytes(),
                    _ => Bytes::from_static(b"hello"),
                };
                Ok(Response::new(Either::Left(Full::new(body))))
            }
        });
        let served = drain.connections().spawn(async move {
            let listener = listener();
            let builder = protocol(&listener);
            let io = Prefixed::new(Bytes::new(), far);
            let serving = serve(io, &builder, &listener, &shared, Arc::default(), service);
            let size = size_of_val(&serving);
            assert!(size <= 1536, "ten thousand quiet connections have {size} B each of it");
            serving.await;
        });
        Self {
            io,
            served,
            drain,
            metrics,
            go,
            start,
        }
    }

    async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` was received.
    async fn read_to(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let byte = self.io.read_u8().await.unwrap_or_else(|e| panic!("{e} after {text:?}"));
            text.push(char::from(byte));
        }
        text
    }

    /// Reads until the connection is closed; the text and when that was.
    async fn read_to_close(&mut self) -> (String, Duration) {
        let mut text = Vec::new();
        self.io.read_to_end(&mut text).await.unwrap();
        (String::from_utf8(text).unwrap(), self.start.elapsed())
    }

    fn counted(&self, code: u16) -> bool {
        let sample = format!("tidegate_requests_total{{route=\"\",result=\"refused\",code=\"{code}\"}} 1");
        self.metrics.render(&Gauges::default()).contains(&sample)
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_speaks_is_closed_after_the_header_timeout() {
    let mut client = Client::connect();
    assert_eq!(client.read_to_close().await, (String::new(), HEAD));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_complete_in_time_gets_408_however_often_bytes_trickle() {
    let mut client = Client::connect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.send("GET / HTTP/1.1\r\n").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send("x: y\r\n").await;
    }
    let (text, at) = client.read_to_close().await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(at, HEAD);
    assert!(client.counted(408));
}

#[tokio::test(start_paused = true)]
async fn the_second_head_has_its_own_time_from_its_first_byte() {
    let mut client = Client::connect();
    client.send(GET).await;
    client.read_to("hello").await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    client.send("GET /").await;
    let (text, at) = client.read_to_close().await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(at, Duration::from_secs(40) + HEAD);
}

#[tokio::test(start_paused = true)]
async fn between_requests_the_idle_timeout_counts_from_the_last_answer() {
    let mut client = Client::connect();
    for _ in 0..3 {
        client.send(GET).await;
        client.read_to("hello").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let last_answer = Duration::from_secs(120);
    assert_eq!(client.read_to_close().await, (String::new(), last_answer + IDLE));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_put_aside_goes_on_where_it_was() {
    let (begin, rest) = GET.split_at(9);
    for (name, before, after) in [
        ("a whole request", String::new(), GET.to_owned()),
        ("begun behind the last one", begin.to_owned(), rest.to_owned()),
        ("several at once", String::new(), GET.repeat(100)),
        (
            "one that has a body",
            String::new(),
            format!(
                "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n{}hello",
                "x".repeat(8995)
            ),
        ),
    ] {
        let mut client = Client::connect();
        for turn in 0..3 {
            client.send(&format!("{GET}{before}")).await;
            client.read_to("hello").await;
            tokio::time::sleep(QUIET * 3).await;
            client.send(&after).await;
            for _ in 0..after.matches(" HTTP/1.1\r\n").count().max(1) {
                let text = client.read_to("hello").await;
                assert!(text.starts_with("HTTP/1.1 200 "), "{name}, turn {turn}: {text}");
            }
        }
    }
}

/// A stream that takes all it is given and sends it when it is flushed, as TLS does.
struct HoldsBack {
    io: DuplexStream,
    held: Vec<u8>,
}

impl AsyncRead for HoldsBack {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for HoldsBack {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, held } = &mut *self;
        while !held.is_empty() {
            let taken = ready!(Pin::new(&mut *io).poll_write(cx, held))?;
            held.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_holds_back_reaches_a_peer_who_pauses() {
    let mut client = Client::connect_through(|io| Box::new(HoldsBack { io, held: Vec::new() }));
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    tokio::time::sleep(QUIET * 3).await;
    let mut all = vec![0; LARGE];
    client.io.read_exact(&mut all).await.unwrap();
    client.read_to("x").await;
    tokio::time::sleep(QUIET * 3).await;
    client.send(GET).await;
    client.read_to("hello").await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_what_a_stream_holds_back_is_dropped_after_the_body_timeout() {
    let mut client = Client::connect_through(|io| Box::new(HoldsBack { io, held: Vec::new() }));
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    (&mut client.served).await.unwrap();
    assert_eq!(client.start.elapsed(), STALL);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_is_never_read_as_a_request() {
    let mut client = Client::connect();
    client
        .send(&format!(
            "POST /kept HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
            GET.len()
        ))
        .await;
    client.read_to("kept").await;
    tokio::time::sleep(QUIET * 3).await;
    client.send(GET).await;
    tokio::time::sleep(QUIET * 3).await;
    drop(client.io.shutdown().await);
    let (text, _) = client.read_to_close().await;
    assert!(!text.contains("HTTP/1.1 200 "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_not_an_idle_connection() {
    let mut client = Client::connect();
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    tokio::time::sleep(IDLE * 3).await;
    client.go.notify_one();
    client.read_to("waited").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_of_an_answer_is_dropped_after_the_body_timeout() {
    let mut client = Client::connect();
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // It takes something now and then, which is progress.
    let mut some = vec![0; 1000];
    for _ in 0..3 {
        tokio::time::sleep(STALL - Duration::from_secs(1)).await;
        client.io.read_exact(&mut some).await.unwrap();
    }
    let progress = client.start.elapsed();
    (&mut client.served).await.unwrap();
    assert_eq!(client.start.elapsed(), progress + STALL);
}

#[tokio::test(start_paused = true)]
async fn garbage_gets_400_and_too_many_fields_431_and_both_are_counted() {
    let mut client = Client::connect();
    client.send("\u{1}\u{2}garbage\r\n\r\n").await;
    let (text, _) = client.read_to_close().await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(client.counted(400));
    for head in [
        format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(21)),
        format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(4096)),
        // Without an end: the limit must not wait for one.
        format!("GET / HTTP/1.1\r\na: {}", "b".repeat(4096)),
    ] {
        let mut client = Client::connect();
        client.send(&head).await;
        let (text, _) = client.read_to_close().await;
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(client.counted(431));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_when_the_drain_begins_is_answered_and_told_to_close() {
    let mut client = Client::connect();
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.drain.advance(Phase::LameDuck);
    client.drain.advance(Phase::Closing);
    client.drain.advance(Phase::Cutting);
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.go.notify_one();
    let (text, _) = client.read_to_close().await;
    assert!(
        text.contains("connection: close\r\n") && text.ends_with("waited"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_is_the_last_although_it_ends_in_the_poll_that_sees_the_drain() {
    let mut client = Client::connect();
    client.send("GET /halves HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_to("one\r\n").await;
    client.drain.advance_unnoticed(Phase::LameDuck);
    client.go.notify_one();
    let (text, after) = client.read_to_close().await;
    assert_eq!((text.as_str(), after), ("3\r\ntwo\r\n0\r\n\r\n", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_request_on_an_idle_connection_within_the_grace_is_answered_and_told_to_close() {
    for phase in [Phase::LameDuck, Phase::Closing] {
        let mut client = Client::connect();
        client.send(GET).await;
        client.read_to("hello").await;
        client.drain.advance(phase);
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send(GET).await;
        let (text, _) = client.read_to_close().await;
        assert!(
            text.contains("connection: close\r\n") && text.ends_with("hello"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_idle_and_unused_connections_are_closed() {
    for requests in [0, 1] {
        let mut client = Client::connect();
        for _ in 0..requests {
            client.send(GET).await;
            client.read_to("hello").await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.drain.advance(Phase::Cutting);
        assert_eq!(client.read_to_close().await, (String::new(), Duration::from_secs(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_over_a_busy_connection_is_dropped() {
    let mut client = Client::connect();
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.drain.advance(Phase::Over);
    assert_eq!(client.read_to_close().await, (String::new(), Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_wait_for_the_upload_arrives_while_the_peer_still_sends() {
    let mut client = Client::connect();
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n")
        .await;
    let (mut read, mut write) = tokio::io::split(client.io);
    let upload = tokio::spawn(async move {
        // All of it is taken: a reset would be an error here.
        write.write_all(&vec![b'x'; 500_000]).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut text = String::new();
    read.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("hello"), "{text}");
    upload.await.unwrap();
    client.served.await.unwrap();
}
