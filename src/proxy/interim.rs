//! Interim answers (1xx, RFC 9110 s15.2) on their way to a client: 102 and 103 of a node reach the client whose request they
//! belong to, before its final head. They are hints: never stored, never shared with followers, dropped rather than waited for.
//!
//! A node's interim heads are left here. hyper's server cannot send them: over HTTP/1.1 the connection's I/O wrapper
//! (`server/informational`) writes them when that is safe; over HTTP/2 the stream's task sends them (`server/streams`), and our own
//! `100 Continue` with them. Whoever leaves one never waits: what a slow client has not taken is bounded, and the rest is dropped.
//!
//! Invariant: a head that was left for one request is never written for another. Every request of a connection is a *turn* with a number
//! of its own; the writer discards what was left for a turn that is over. Over HTTP/2, where requests come side by side, each that may
//! get one has a place of its own, made when it is first wanted: a hit has none.

use super::headers;
use crate::core::http::hop;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

/// The most interim heads that one request's client is sent: a job that reports its progress every quarter of a minute does so for a
/// quarter of an hour.
const MAX_HEADS: usize = 64;

/// The most bytes that wait for a client: one head at the limit of common servers.
const MAX_WAITING_BYTES: usize = 16 * 1024;

/// Where one connection's interim heads wait to be written. One side is the service, which leaves them; the other its I/O wrapper.
#[derive(Debug, Default)]
pub struct Interim {
    /// The turn's number, and in the lowest bit whether its final answer is still awaited. Changed by the connection's task only.
    turn: AtomicU64,
    /// Something waits; a hint for the writer, so that an answer without interim heads takes no lock.
    waits: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whose heads these are.
    turn: u64,
    /// How many were taken in for it.
    count: usize,
    /// Those that are not written yet.
    heads: Vec<Response<()>>,
    /// What these are as text; over HTTP/2 also what those were that the stream has sent: nobody tells when they are on their way.
    bytes: usize,
    /// The task of the connection, or the stream, while it waits for the final answer.
    task: Option<Waker>,
    /// HTTP/2: the place of the request that is being looked at.
    stream: Option<Arc<Interim>>,
}

const AWAITED: u64 = 1;

impl Interim {
    /// A request's head is in, and its answer awaited. For the connection's task.
    pub fn begin(&self) {
        let next = (self.turn.load(Ordering::Relaxed) | AWAITED).wrapping_add(AWAITED) | AWAITED;
        self.turn.store(next, Ordering::Release);
    }

    /// Its final answer is about to be written: nothing may be left for it any more. For the connection's task.
    pub fn answered(&self) {
        self.turn
            .store(self.turn.load(Ordering::Relaxed) & !AWAITED, Ordering::Release);
    }

    /// Whether the final answer is awaited.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.turn.load(Ordering::Relaxed) & AWAITED != 0
    }

    /// What is another whenever a request's head has come in, or its answer is about to go out.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// The number of the current turn, never 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.turn.load(Ordering::Relaxed) | AWAITED
    }

    /// Whether something waits to be written.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Moves what waits for the current turn behind `out`, and discards what waits for another. With `task`, it is woken for the next.
    pub fn take(&self, out: &mut Vec<u8>, task: Option<&Waker>) {
        let mut waiting = self.waiting.lock();
        self.waits.store(false, Ordering::Relaxed);
        if waiting.turn == self.number() {
            for head in &waiting.heads {
                encode(head, out);
            }
        }
        waiting.heads.clear();
        waiting.bytes = 0;
        if let Some(task) = task {
            waiting.wakes(task);
        }
    }

    /// HTTP/2: what waits for this stream; `task` is woken for the next.
    #[must_use]
    pub fn take_heads(&self, task: &Waker) -> Vec<Response<()>> {
        let mut waiting = self.waiting.lock();
        waiting.wakes(task);
        std::mem::take(&mut waiting.heads)
    }

    /// HTTP/2: the place of the request that is being looked at, on the connection's.
    #[must_use]
    pub fn of_stream(&self) -> Arc<Self> {
        let mut waiting = self.waiting.lock();
        self.waits.store(true, Ordering::Release);
        let stream = waiting.stream.get_or_insert_with(|| {
            let stream = Self::default();
            stream.begin();
            Arc::new(stream)
        });
        Arc::clone(stream)
    }

    /// HTTP/2: the same, if there is one, when the look is over.
    #[must_use]
    pub fn take_stream(&self) -> Option<Arc<Self>> {
        if !self.has_waiting() {
            return None;
        }
        self.waits.store(false, Ordering::Relaxed);
        self.waiting.lock().stream.take()
    }

    /// HTTP/2: the client of this stream may send the content it has announced (RFC 9110 s10.1.1).
    pub fn ask_for_content(&self) {
        self.leave(self.number(), StatusCode::CONTINUE, HeaderMap::new());
    }

    /// The right to leave heads for the request at hand, which is of this version; none where there are none (RFC 9110 s15.2).
    pub(crate) fn turn_of(self: &Arc<Self>, version: Version) -> Option<Turn> {
        match version {
            Version::HTTP_11 => Some(self.turn()),
            Version::HTTP_2 => Some(self.of_stream().turn()),
            _ => None,
        }
    }

    /// The right to leave heads in this turn.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        Turn {
            interim: Arc::clone(self),
            number: self.number(),
        }
    }

    fn leave(&self, turn: u64, status: StatusCode, fields: HeaderMap) {
        let mut waiting = self.waiting.lock();
        if self.turn.load(Ordering::Acquire) != turn {
            return;
        }
        if waiting.turn != turn {
            waiting.turn = turn;
            waiting.count = 0;
            waiting.bytes = 0;
            waiting.heads.clear();
        }
        let mut head = Response::new(());
        (*head.status_mut(), *head.headers_mut()) = (status, fields);
        let bytes = waiting.bytes + size(&head);
        // The client waits for this one, and there is only one.
        let is_awaited = status == StatusCode::CONTINUE;
        if !is_awaited && (waiting.count >= MAX_HEADS || bytes > MAX_WAITING_BYTES) {
            return;
        }
        waiting.heads.push(head);
        (waiting.count, waiting.bytes) = (waiting.count + 1, bytes);
        self.waits.store(true, Ordering::Release);
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Waiting {
    fn wakes(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            self.task = Some(task.clone());
        }
    }
}

/// One request's right to have interim heads sent to its client. It ends with the final answer, and outlives the connection harmlessly.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    interim: Arc<Interim>,
    number: u64,
}

impl Turn {
    /// Passes on an interim head of a node that speaks `version`, unless it is one of those that concern us alone: `100 Continue` (our own
    /// server asks for the body) and `101 Switching Protocols` (which we never ask for). Never waits.
    pub(crate) fn pass_on(&self, status: StatusCode, version: Version, fields: &HeaderMap) {
        if !status.is_informational() || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut fields = fields.clone();
        headers::from_node(&mut fields);
        fields.remove(CONTENT_LENGTH); // RFC 9110 s8.6: there is none in a 1xx
        hop::append_via(&mut fields, version);
        self.interim.leave(self.number, status, fields);
    }
}

/// About as long as it is encoded.
fn size(head: &Response<()>) -> usize {
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    "HTTP/1.1 103 Early Hints\r\n\r\n".len() + head.headers().iter().map(line).sum::<usize>()
}

fn encode(head: &Response<()>, out: &mut Vec<u8>) {
    let status = head.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn taken(interim: &Interim) -> String {
        let mut out = Vec::new();
        interim.take(&mut out, None);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rfc9110_s15_2_a_head_is_passed_on_without_what_belongs_to_the_nodes_connection() {
        let interim = Arc::new(Interim::default());
        interim.begin();
        let lines = [
            ("link", "</a.css>; rel=preload"),
            ("link", "</b.js>; rel=preload"),
            ("connection", "x-private"),
            ("x-private", "1"),
            ("content-length", "4"),
            ("transfer-encoding", "chunked"),
            ("tidegate-consistency", "strong;proof=validated"),
        ];
        interim.turn().pass_on(HINTS, Version::HTTP_11, &fields(&lines));
        assert!(interim.has_waiting());
        assert_eq!(
            taken(&interim),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\nvia: 1.1 tidegate\r\n\r\n"
        );
        assert!(!interim.has_waiting());
        interim
            .turn()
            .pass_on(StatusCode::from_u16(199).unwrap(), Version::HTTP_11, &HeaderMap::new());
        assert_eq!(taken(&interim), "HTTP/1.1 199 \r\nvia: 1.1 tidegate\r\n\r\n");
    }

    #[test]
    fn what_concerns_us_alone_and_what_is_final_is_not_passed_on() {
        let interim = Arc::new(Interim::default());
        interim.begin();
        for status in [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS, StatusCode::OK] {
            interim.turn().pass_on(status, Version::HTTP_11, &HeaderMap::new());
            assert!(!interim.has_waiting(), "{status}");
        }
    }

    #[test]
    fn nothing_is_left_for_a_request_that_was_answered_or_not_begun() {
        let interim = Arc::new(Interim::default());
        interim.turn().pass_on(HINTS, Version::HTTP_11, &HeaderMap::new());
        assert!(!interim.has_waiting(), "no request yet");
        interim.begin();
        let turn = interim.turn();
        interim.answered();
        turn.pass_on(HINTS, Version::HTTP_11, &HeaderMap::new());
        interim.begin();
        turn.pass_on(HINTS, Version::HTTP_11, &HeaderMap::new());
        assert!(!interim.has_waiting(), "its request is over");
    }

    #[test]
    fn what_was_left_for_one_request_is_never_taken_for_another() {
        let interim = Arc::new(Interim::default());
        interim.begin();
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-of", "one")]));
        interim.answered();
        assert!(interim.has_waiting(), "its final head may still follow it");
        interim.begin();
        assert_eq!(taken(&interim), "");
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-of", "two")]));
        interim.answered();
        assert!(taken(&interim).contains("x-of: two"), "before its own final head");
        interim.begin();
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-of", "three")]));
        interim.answered();
        interim.begin();
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-of", "four")]));
        let out = taken(&interim);
        assert!(!out.contains("x-of: three") && out.contains("x-of: four"), "{out}");
    }

    #[test]
    fn who_has_taken_last_is_woken_for_the_next() {
        struct Woken(AtomicU64);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = [Arc::new(Woken(AtomicU64::new(0))), Arc::new(Woken(AtomicU64::new(0)))];
        let interim = Arc::new(Interim::default());
        interim.begin();
        for task in &woken {
            drop(interim.take_heads(&Waker::from(Arc::clone(task))));
        }
        interim.turn().pass_on(HINTS, Version::HTTP_11, &HeaderMap::new());
        let times = woken.map(|task| task.0.load(Ordering::Relaxed));
        assert_eq!(times, [0, 1]);
    }

    #[test]
    fn heads_and_the_bytes_that_wait_are_bounded() {
        let interim = Arc::new(Interim::default());
        interim.begin();
        let large = "x".repeat(MAX_WAITING_BYTES - 200);
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-large", &large)]));
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-larger", &large)]));
        interim
            .turn()
            .pass_on(HINTS, Version::HTTP_11, &fields(&[("x-small", "1")]));
        let out = taken(&interim);
        assert!(out.contains("x-large:") && !out.contains("x-larger:") && out.contains("x-small:"));
        let mut came = 2;
        for _ in 0..2 * MAX_HEADS {
            interim.turn().pass_on(HINTS, Version::HTTP_11, &HeaderMap::new());
            came += taken(&interim).matches("103").count();
        }
        assert_eq!(came, MAX_HEADS);
        let large = fields(&[("x-large", &large)]);
        for _ in 0..2 {
            // What the one before left was not taken.
            interim.begin();
            interim.turn().pass_on(HINTS, Version::HTTP_11, &large);
        }
        assert!(taken(&interim).contains("x-large:"), "the next request starts anew");
    }

    #[test]
    fn a_stream_has_a_place_of_its_own_where_it_is_wanted_and_all_that_goes_there_is_bounded() {
        let connection = Arc::new(Interim::default());
        assert!(connection.take_stream().is_none(), "nobody wanted one");
        assert!(connection.turn_of(Version::HTTP_10).is_none(), "RFC 9110 s15.2");
        let turn = connection.turn_of(Version::HTTP_2).unwrap();
        let stream = connection.take_stream().unwrap();
        assert!(!connection.has_waiting(), "who wants none does not look");
        assert!(connection.take_stream().is_none(), "the next one has another");
        let large = "x".repeat(MAX_WAITING_BYTES / 4);
        let mut came = 0;
        for _ in 0..8 {
            turn.pass_on(HINTS, Version::HTTP_11, &fields(&[("x-large", &large)]));
            came += stream.take_heads(Waker::noop()).len();
        }
        assert_eq!(came, 3, "what was taken may still be on its way");
        for _ in 0..MAX_HEADS {
            turn.pass_on(HINTS, Version::HTTP_11, &HeaderMap::new());
            came += stream.take_heads(Waker::noop()).len();
        }
        assert_eq!(came, MAX_HEADS);
        stream.ask_for_content();
        assert_eq!(
            stream.take_heads(Waker::noop()).len(),
            1,
            "the client waits for this one"
        );
    }
}
