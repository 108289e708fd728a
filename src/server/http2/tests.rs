#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use super::super::connection::tests::{PausedClock, listener, metrics};
use super::{Shared, serve};
use crate::config::runtime::{Http2, Listener};
use crate::proxy::Interim;
use crate::server::drain::{Drain, Phase};
use crate::server::preface::Prefixed;
use crate::server::streams::Upload;
use crate::server::tally::Tally;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

mod answers;
mod interim;
mod limits;
mod panics;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// What every peer may be sent before it says otherwise (RFC 9113 s6.9.2).
const WINDOW: usize = 65_535;
const LARGE: usize = 400_000;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Counts what is written to the client.
struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.writes.fetch_add(usize::from(result.is_ready()), Ordering::Relaxed);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What the body of an answer does next.
#[derive(Debug)]
enum Part {
    Data(Bytes),
    Trailers,
    BreaksOff,
    Panics,
}

/// A body that is told what to do.
struct Told(UnboundedReceiver<Part>);

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|part| {
            part.map(|part| match part {
                Part::Data(bytes) => Ok(http_body::Frame::data(bytes)),
                Part::Trailers => Ok(http_body::Frame::trailers(HeaderMap::new())),
                Part::BreaksOff => Err(io::ErrorKind::UnexpectedEof.into()),
                Part::Panics => std::panic::panic_any("told to"),
            })
        })
    }
}

/// A body that has a bug, in what it says of itself or in what it gives.
struct Buggy {
    at_once: bool,
}

impl http_body::Body for Buggy {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        std::panic::panic_any("a bug of the body")
    }

    fn is_end_stream(&self) -> bool {
        assert!(!self.at_once, "a bug of the body, told of its end");
        false
    }
}

/// A body without an end that is always ready, and how much of it was asked for.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
        self.0.fetch_add(PIECE.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&PIECE)))))
    }
}

/// A client of a connection on paused time, frame by frame.
struct Client {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
    drain: Arc<Drain>,
    tally: Arc<Tally>,
    /// Lets so many answers to `/wait` go.
    go: Arc<Semaphore>,
    /// Tells the bodies of answers to `/t` what to do.
    told: UnboundedReceiver<UnboundedSender<Part>>,
    /// Leave interim heads for requests for `/i`.
    hints: UnboundedReceiver<Hint>,
    /// How much of the endless answers was asked for.
    given: Arc<AtomicUsize>,
    start: Instant,
}

/// Leaves an interim head.
type Hint = Box<dyn Fn(StatusCode, &HeaderMap) + Send>;

const HTTP2: Http2 = Http2 {
    window: 65_535,
    max_streams: 100,
};

impl Client {
    fn silent(phase: Phase) -> Self {
        Self::limited(phase, HTTP2)
    }

    fn limited(phase: Phase, http2: Http2) -> Self {
        let (io, far) = tokio::io::duplex(1024 * 1024);
        let start = Instant::now();
        let (drain, tally, go) = (
            Arc::new(Drain::new()),
            Arc::new(Tally::default()),
            Arc::new(Semaphore::new(0)),
        );
        drain.advance(phase);
        let shared = Shared {
            clock: Arc::new(PausedClock(start)),
            metrics: metrics(),
            drain: Arc::clone(&drain),
        };
        let wait = Arc::clone(&go);
        let (tell, told) = unbounded_channel();
        let (hint, hints) = unbounded_channel();
        let interim = Arc::new(Interim::default());
        let places = Arc::clone(&interim);
        let given = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given);
        let service = tower::service_fn(move |request: Request<Upload>| {
            let wait = Arc::clone(&wait);
            let (tell, counted) = (tell.clone(), Arc::clone(&counted));
            if request.uri().path() == "/i" {
                let turn = places.turn_of(request.version()).unwrap();
                let leave: Hint = Box::new(move |status, fields| turn.pass_on(status, Version::HTTP_11, fields));
                hint.send(leave).unwrap();
            }
            Box::pin(async move {
                let path = request.uri().path().to_owned();
                let whole = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
                let body: UnsyncBoxBody<Bytes, io::Error> = match &*path {
                    "/e" => Endless(counted).boxed_unsync(),
                    "/n" => Empty::new().map_err(|never| match never {}).boxed_unsync(),
                    "/t" => {
                        let (sender, parts) = unbounded_channel();
                        tell.send(sender).unwrap();
                        Told(parts).boxed_unsync()
                    }
                    "/m" => whole(Bytes::from(vec![b'x'; 20_000])),
                    "/u" | "/u/later" => {
                        if path == "/u/later" {
                            wait.acquire().await.unwrap().forget();
                        }
                        let told = request.body().size_hint().exact();
                        let upload = request.into_body().collect().await.unwrap();
                        let trailers = upload.trailers().map(HeaderMap::len);
                        whole(format!("{told:?} {} {trailers:?}", upload.to_bytes().len()).into())
                    }
                    "/u/elsewhere" => {
                        let content = request.into_body();
                        let read = tokio::spawn(async move {
                            wait.acquire().await.unwrap().forget();
                            content.collect().await.unwrap().to_bytes()
                        });
                        whole(read.await.unwrap())
                    }
                    "/u/behind" => {
                        let content = request.into_body();
                        tokio::spawn(async move {
                            wait.acquire().await.unwrap().forget();
                            content.collect().await
                        });
                        let (sender, parts) = unbounded_channel();
                        tell.send(sender).unwrap();
                        Told(parts).boxed_unsync()
                    }
                    "/w" | "/i" => {
                        wait.acquire().await.unwrap().forget();
                        whole(Bytes::from_static(b"waited"))
                    }
                    "/p" => std::panic::panic_any("asked to"),
                    "/p/later" => {
                        wait.acquire().await.unwrap().forget();
                        std::panic::panic_any("asked to")
                    }
                    "/b" => Buggy { at_once: false }.boxed_unsync(),
                    "/b/of-its-end" => Buggy { at_once: true }.boxed_unsync(),
                    "/b/later" => {
                        wait.acquire().await.unwrap().forget();
                        Buggy { at_once: false }.boxed_unsync()
                    }
                    "/b/later/of-its-end" => {
                        wait.acquire().await.unwrap().forget();
                        Buggy { at_once: true }.boxed_unsync()
                    }
                    "/l" => whole(Bytes::from(vec![b'x'; LARGE])),
                    _ => whole(Bytes::from(vec![b'x'; 1000])),
                };
                let mut response = Response::new(body);
                if path.starts_with("/h") {
                    let mut value = HeaderValue::from_str(&path).unwrap();
                    value.set_sensitive(true);
                    response.headers_mut().insert("cache-status", value);
                }
                Ok::<_, Infallible>(response)
            })
        });
        let writes = Arc::new(AtomicUsize::new(0));
        let far = Counted {
            io: far,
            writes: Arc::clone(&writes),
        };
        let counts = Arc::clone(&tally);
        drain.connections().spawn(async move {
            let listener = Listener { http2, ..listener() };
            let io = Prefixed::new(Bytes::new(), Box::new(far) as crate::world::Stream);
            serve(io, &listener, &shared, &counts, interim, service).await;
        });
        Self {
            io,
            writes,
            drain,
            tally,
            go,
            told,
            hints,
            given,
            start,
        }
    }

    /// Shaken hands: each has the other's settings.
    async fn connect() -> Self {
        let mut client = Self::silent(Phase::Serving);
        client.begin().await;
        client
    }

    async fn begin(&mut self) {
        self.io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        self.send(SETTINGS, 0, 0, &[]).await;
        self.send(SETTINGS, ACK, 0, &[]).await;
        assert_eq!(self.next().await.unwrap().kind, SETTINGS);
        let mut acked = false;
        while !acked {
            let frame = self.next().await.unwrap();
            acked = (frame.kind, frame.flags) == (SETTINGS, ACK);
        }
        self.writes.store(0, Ordering::Relaxed);
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.io.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    async fn ask(&mut self, stream: u32, path: &str) {
        self.io.write_all(&request(stream, path)).await.unwrap();
    }

    async fn credit(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()).await;
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// The next frame; none when the connection is closed.
    async fn next(&mut self) -> Option<Frame> {
        let frame = async {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.io.read_exact(&mut payload).await.ok()?;
            Some(Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes(head[5..].try_into().unwrap()),
                payload,
            })
        };
        // Longer than any limit: time that is paused stands still where nothing waits for it.
        let come = tokio::time::timeout(IDLE * 10, frame).await;
        come.expect("a frame, or the end")
    }

    /// The next frame of this kind.
    async fn find(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection is open");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads so much of an answer's body, or to its end; whether that was reached.
    async fn read(&mut self, stream: u32, bytes: usize) -> bool {
        let mut seen = 0;
        while seen < bytes {
            let frame = self.find(DATA).await;
            assert_eq!(frame.stream, stream);
            seen += frame.payload.len();
            if frame.flags & END_STREAM != 0 {
                return true;
            }
        }
        false
    }

    /// Closes the connection, and waits until it is counted.
    async fn leave(mut self) -> Arc<Tally> {
        self.io.shutdown().await.unwrap();
        self.rest().await;
        // Until nothing is left to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.tally
    }

    /// Everything until the connection is closed, and when that was.
    async fn rest(&mut self) -> (Vec<Frame>, Duration) {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        (frames, self.start.elapsed())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A GET without a body (RFC 7541 appendix A: `:method GET`, `:scheme http`, `:authority a`, `:path`).
fn request(stream: u32, path: &str) -> Vec<u8> {
    let mut fields = vec![0x82, 0x86, 0x01, 0x01, b'a', 0x04, u8::try_from(path.len()).unwrap()];
    fields.extend(path.as_bytes());
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields)
}

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const STALL: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn answers_that_are_ready_together_leave_in_one_write() {
    let mut client = Client::connect().await;
    let requests: Vec<u8> = (0..8).flat_map(|n| request(2 * n + 1, "/")).collect();
    client.io.write_all(&requests).await.unwrap();
    for _ in 0..8 {
        assert_eq!(client.find(DATA).await.payload.len(), 1000);
    }
    assert_eq!(client.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_that_become_ready_together_leave_in_one_write() {
    let mut client = Client::connect().await;
    let requests: Vec<u8> = (0..8).flat_map(|n| request(2 * n + 1, "/w")).collect();
    client.io.write_all(&requests).await.unwrap();
    // All of them wait: time moves only when nothing else can.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.go.add_permits(8);
    for _ in 0..8 {
        client.find(DATA).await;
    }
    assert_eq!(client.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_ready_does_not_wait_for_one_that_is_not() {
    let mut client = Client::connect().await;
    client.ask(1, "/w").await;
    client.ask(3, "/").await;
    assert_eq!(client.find(DATA).await.stream, 3);
    assert_eq!(client.start.elapsed(), Duration::ZERO, "no timer was needed");
    client.go.add_permits(1);
    assert_eq!(client.find(DATA).await.stream, 1);
}

#[tokio::test(start_paused = true)]
async fn what_changes_with_every_answer_has_a_place_in_the_peer_s_table_only_for_its_name() {
    const STATUS_200: u8 = 0x88;
    // RFC 7541 s6.2.1: a new name, s6.2.3: one from the dynamic table.
    const INDEXED: u8 = 0x40;
    const NEVER_INDEXED: u8 = 0x1f;
    let mut client = Client::connect().await;
    let mut seen = Vec::new();
    for (stream, path) in [(1, "/h1"), (3, "/h2"), (5, "/h3"), (7, "/h4")] {
        client.ask(stream, path).await;
        let fields = client.find(HEADERS).await.payload;
        assert_eq!(fields[0], STATUS_200, "{path}");
        seen.push(fields[1]);
    }
    assert_eq!(seen[0], INDEXED);
    assert_eq!(seen[2..], [NEVER_INDEXED; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_reads_is_not_idle() {
    let mut client = Client::connect().await;
    client.ask(1, "/l").await;
    client.read(1, WINDOW).await;
    let mut whole = false;
    while !whole {
        tokio::time::sleep(STALL - Duration::from_secs(1)).await;
        client.credit(1, 50_000).await;
        whole = client.read(1, 50_000).await;
    }
    assert!(client.start.elapsed() > IDLE * 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_at_all_is_left_after_the_stall_timeout() {
    let mut client = Client::connect().await;
    client.ask(1, "/l").await;
    client.read(1, WINDOW).await;
    let (_, when) = client.rest().await;
    assert_eq!(when, STALL);
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_credited_as_it_is_read_and_ends_with_its_trailers() {
    // RFC 7541 appendix A: `:method POST`, `:scheme http`, `:authority a`, `:path /u`, and a length; `x: y` as a trailer.
    const HEAD: &[u8] = b"\x83\x86\x01\x01a\x04\x02/u\x0f\x0d\x06120000";
    const TRAILERS: &[u8] = b"\x00\x01x\x01y";
    let mut client = Client::connect().await;
    client.send(HEADERS, END_HEADERS, 1, HEAD).await;
    for _ in 0..4 {
        client.send(DATA, 0, 1, &[0; 15_000]).await;
    }
    let credited = [
        client.find(WINDOW_UPDATE).await.stream,
        client.find(WINDOW_UPDATE).await.stream,
    ];
    assert!(
        credited.contains(&1),
        "{credited:?}: or a window's worth were all it could send"
    );
    for _ in 0..4 {
        client.send(DATA, 0, 1, &[0; 15_000]).await;
    }
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS).await;
    assert_eq!(client.find(DATA).await.payload, b"Some(120000) 120000 Some(1)");
}

/// A client that has taken all of a large answer but its last 5 000 bytes: h2 was handed all of it, in pieces of 64 KiB, and no task waits
/// for them.
async fn at_the_last_piece() -> Client {
    const MOST: usize = LARGE - 5_000;
    let mut client = Client::connect().await;
    // INITIAL_WINDOW_SIZE
    let most = u32::try_from(MOST).unwrap().to_be_bytes();
    client.send(SETTINGS, 0, 0, &[&[0, 4][..], &most].concat()).await;
    client.send(WINDOW_UPDATE, 0, 0, &500_000_u32.to_be_bytes()).await;
    client.ask(1, "/l").await;
    assert!(!client.read(1, MOST).await);
    client
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_answer_that_nobody_takes_is_not_kept_for_ever() {
    let (_, when) = at_the_last_piece().await.rest().await;
    assert_eq!(when, STALL);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_answer_may_be_taken_as_slowly_as_the_rest_of_it() {
    let mut client = at_the_last_piece().await;
    let mut whole = false;
    while !whole {
        tokio::time::sleep(STALL - Duration::from_secs(1)).await;
        client.credit(1, 1_000).await;
        whole = client.read(1, 1_000).await;
    }
    assert!(client.start.elapsed() > IDLE);
}

#[tokio::test(start_paused = true)]
async fn who_gives_no_room_for_short_answers_is_left_too() {
    let mut client = Client::connect().await;
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    client.ask(1, "/").await;
    client.find(HEADERS).await;
    let (frames, after) = client.rest().await;
    assert!(frames.iter().all(|frame| frame.kind != DATA));
    assert_eq!(after, STALL);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_taken_is_reset_and_the_others_go_on() {
    let mut client = Client::connect().await;
    client.ask(3, "/w").await;
    client.ask(5, "/l").await;
    client.read(5, WINDOW).await;
    let reset = client.find(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number(0)), (5, 8), "CANCEL");
    let after = client.start.elapsed();
    assert!(after >= STALL && after <= STALL * 2, "{after:?}");
    // Its credit is the connection's again.
    client.send(WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes()).await;
    client.go.add_permits(1);
    assert_eq!(client.find(DATA).await.stream, 3);
    client.ask(7, "/").await;
    assert_eq!(client.find(DATA).await.stream, 7);
}

#[tokio::test(start_paused = true)]
async fn short_answers_that_are_not_taken_are_reset_but_a_few_while_others_go_on() {
    let mut client = Client::connect().await;
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    client.ask(1, "/w").await;
    let asked = 20;
    for n in 1..=asked {
        client.ask(2 * n + 1, "/").await;
    }
    let mut reset = Vec::new();
    while client.start.elapsed() < STALL * 3 && reset.len() < 12 {
        let frame = client.find(RST_STREAM).await;
        assert_eq!(frame.number(0), 8, "CANCEL");
        reset.push(frame.stream);
    }
    // The first eight were handed over.
    assert_eq!(reset, (9..=asked).map(|n| 2 * n + 1).collect::<Vec<_>>());
    client.go.add_permits(1);
    client.find(HEADERS).await;
    client.credit(1, 100).await;
    assert_eq!(client.find(DATA).await.stream, 1);
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_is_seen_before_its_wake_up_does_not_hide_the_next() {
    let mut client = Client::connect().await;
    client.ask(1, "/w").await;
    client.send(PING, 0, 0, &[0; 8]).await;
    client.find(PING).await;
    client.drain.advance_unnoticed(Phase::LameDuck);
    client.send(PING, 0, 0, &[0; 8]).await;
    client.find(PING).await;
    client.drain.advance(Phase::LameDuck);
    client.send(PING, 0, 0, &[0; 8]).await;
    client.find(PING).await;
    // Until nothing is left to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = client.start.elapsed();
    client.drain.advance(Phase::Over);
    client.rest().await;
    assert_eq!(client.start.elapsed(), before, "at once");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_and_its_last_request_answered() {
    let mut client = Client::connect().await;
    client.ask(1, "/").await;
    client.find(DATA).await;
    let told = client.find(GOAWAY).await;
    assert_eq!(
        (told.number(0), told.number(4)),
        (0x7fff_ffff, 0),
        "RFC 9113 s6.8: every stream is taken still"
    );
    assert_eq!(client.start.elapsed(), IDLE);
    // A request that was on its way, and then the answer to the ping.
    client.ask(3, "/").await;
    let ping = client.find(PING).await;
    client.send(PING, ACK, 0, &ping.payload).await;
    let (frames, when) = client.rest().await;
    assert!(
        frames.iter().any(|frame| (frame.kind, frame.stream) == (DATA, 3)),
        "{frames:?}"
    );
    let last = frames.iter().rfind(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!((last.number(0), last.number(4)), (3, 0), "and now the last is named");
    assert_eq!(when, IDLE);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_understand_that_it_is_to_go_is_left() {
    let mut client = Client::connect().await;
    let (frames, when) = client.rest().await;
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY));
    assert_eq!(when, HEAD + GOODBYE, "no request came at all");
    let mut client = Client::connect().await;
    client.ask(1, "/").await;
    client.find(DATA).await;
    client.drain.advance(Phase::Cutting);
    let (frames, when) = client.rest().await;
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY));
    assert_eq!(when, GOODBYE);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_we_still_accept_is_answered_before_it_is_sent_away() {
    let mut client = Client::silent(Phase::LameDuck);
    client.begin().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.ask(1, "/w").await;
    assert_eq!(client.find(GOAWAY).await.number(0), 0x7fff_ffff);
    client.go.add_permits(1);
    assert_eq!(client.find(DATA).await.stream, 1);
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_thrown_away_one_by_one_end_the_connection() {
    // Never two at once, and each was looked at: no limit of h2's is reached.
    let mut client = Client::connect().await;
    let mut streams = 0;
    while client.tally.floods() == 0 {
        assert!(streams < 1000, "no end");
        let stream = 2 * streams + 1;
        let sent = [
            request(stream, "/w"),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ];
        for bytes in sent {
            // It may be closed by now.
            let _ = client.io.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        streams += 1;
    }
    assert!(streams > 500, "{streams}");
    assert!(client.tally.thrown_away() > 500);
}

#[tokio::test(start_paused = true)]
async fn who_takes_as_many_answers_as_it_throws_away_is_no_flood() {
    let mut client = Client::connect().await;
    for n in 0..600 {
        let (first, second) = (4 * n + 1, 4 * n + 3);
        client.ask(first, "/w").await;
        client.ask(second, "/").await;
        assert_eq!(client.find(DATA).await.stream, second);
        client.send(RST_STREAM, 0, first, &8_u32.to_be_bytes()).await;
        client.send(WINDOW_UPDATE, 0, 0, &1000_u32.to_be_bytes()).await;
    }
    client.ask(4 * 600 + 1, "/").await;
    client.find(DATA).await;
}
