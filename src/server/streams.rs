//! The streams of one HTTP/2 connection: how many are open, which of them wait for the peer, and what becomes of their answers.
//!
//! A stream is open from its request until the last byte of its answer is on its way to the peer, which is later than when h2 has taken it:
//! it is handed a whole piece as soon as the peer has room for one byte of it. So pieces are small enough to count ([`PIECE`]),
//! and the last holds the stream open. h2 offers no other look at what it has still to send.
//!
//! A stream is answered in its connection's turn where the service has the answer ready ([`exchange`]); only what must wait gets a task
//! ([`tasks`]). There, a peer that takes nothing of the answer for `body_timeout` loses the stream, so that nobody pins answers in memory by not reading them;
//! what goes without a task is a few short answers at most ([`HANDED_OVER`]), which stay as long as the connection.
//!
//! All of it happens on one thread; the atomics are there because the pieces must be `Send`, and every access is relaxed.

use super::drain::Phase;
use super::drive::{Limit, Work};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

mod exchange;
mod heads;
mod tasks;
mod upload;

pub(super) use exchange::Answering;
pub use upload::Upload;

/// What h2 is given of a body at once: what a stream without a task can hold back is one piece.
const PIECE: usize = 64 * 1024;

/// Short answers that h2 is handed without room for them and that are not on their way yet. It passes them on before the next request is
/// looked at where the peer has room; one that has none does not get to pin more than these.
const HANDED_OVER: u64 = 8;

/// Streams a peer may throw away before they count as a flood, if they are the larger part: as many as other proxies allow.
const THROWN_AWAY: u64 = 500;

/// The numbers of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Requests that are not answered to the end.
    open: AtomicU64,
    /// Of these, whose peer must take something before they go on.
    on_peer: AtomicU64,
    /// Of these, whose whole answer was handed over without asking for room ([`HANDED_OVER`]).
    handed_over: AtomicU64,
    /// Changes whenever one of these numbers does, or an answer moves.
    moves: AtomicU64,
    /// Streams that have a task.
    tasks: AtomicU64,
    /// Streams that were answered to the end.
    answered: AtomicU64,
    /// Streams that ended before: the peer reset them, as a rule.
    thrown_away: AtomicU64,
    /// What the body of the stream that was polled last did: [`SILENT`] and the following.
    body: AtomicU8,
    /// How the peer gets on with it, when that is known.
    taking: Mutex<Weak<Taking>>,
    /// How many answers have taught the peer what changes with every one ([`heads`]).
    taught: AtomicU8,
}

/// It was not asked.
const SILENT: u8 = 0;
/// It gave its last piece.
const GAVE_LAST: u8 = 1;
/// It gave a piece, and says in [`Streams::taking`] how it is taken.
const GAVE_PART: u8 = 2;
/// It had nothing to give.
const WAITS: u8 = 3;

fn add(number: &AtomicU64, change: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(change), Ordering::Relaxed);
}

impl Streams {
    fn moved(&self) {
        add(&self.moves, 1);
    }

    /// Whether streams have tasks that may join what is being written.
    pub(super) fn have_tasks(&self) -> bool {
        self.tasks.load(Ordering::Relaxed) > 0
    }

    /// How many the peer threw away.
    pub(super) fn thrown_away(&self) -> u64 {
        self.thrown_away.load(Ordering::Relaxed)
    }

    fn body(&self, did: u8) {
        self.body.store(did, Ordering::Relaxed);
    }
}

/// [`Streams`] at one moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    moves: u64,
    open: u64,
    on_peer: u64,
}

impl Work for Streams {
    type Moment = Moment;

    const SAYS_GOODBYE: bool = true; // RFC 9113 s9.1

    fn moment(&self) -> Moment {
        Moment {
            moves: self.moves.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            on_peer: self.on_peer.load(Ordering::Relaxed),
        }
    }

    fn limit(moment: Moment) -> Option<Limit> {
        if moment.moves == 0 {
            Some(Limit::Head)
        } else if moment.open == 0 {
            Some(Limit::Idle)
        } else {
            // One that is paused alone is its task's to judge.
            (moment.on_peer >= moment.open).then_some(Limit::Stall)
        }
    }

    fn goes_on(_: Moment, _: Moment) -> bool {
        false
    }

    fn is_to_close(moment: Moment, phase: Phase) -> bool {
        match phase {
            Phase::Serving | Phase::Over => false,
            // Who has just come must get an answer here: it would be sent away again as long as we accept.
            Phase::LameDuck | Phase::Closing => moment.moves != 0,
            Phase::Cutting => true,
        }
    }

    fn is_flooded(&self) -> bool {
        let thrown_away = self.thrown_away();
        thrown_away > THROWN_AWAY && thrown_away > self.answered.load(Ordering::Relaxed)
    }
}

/// A request that is not answered to the end.
#[derive(Debug)]
struct Open {
    streams: Arc<Streams>,
    on_peer: AtomicBool,
    handed_over: AtomicBool,
    whole: AtomicBool,
}

impl Open {
    fn new(streams: &Arc<Streams>) -> Self {
        add(&streams.open, 1);
        streams.moved();
        Self {
            streams: Arc::clone(streams),
            on_peer: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            whole: AtomicBool::new(false),
        }
    }

    /// The peer must take something before anybody asks for more; or it has.
    fn on_peer(&self, on_peer: bool) {
        if self.on_peer.load(Ordering::Relaxed) != on_peer {
            self.on_peer.store(on_peer, Ordering::Relaxed);
            add(&self.streams.on_peer, if on_peer { 1 } else { u64::MAX });
        }
        self.streams.moved();
    }

    /// Whether its answer may go without asking for room, and does.
    fn hand_over(&self) -> bool {
        let may = self.streams.handed_over.load(Ordering::Relaxed) < HANDED_OVER;
        if may && !self.handed_over.load(Ordering::Relaxed) {
            self.handed_over.store(true, Ordering::Relaxed);
            add(&self.streams.handed_over, 1);
        }
        may
    }

    /// Nothing is to come, or to be taken.
    fn whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.on_peer(false);
        add(&self.streams.open, u64::MAX);
        if self.handed_over.load(Ordering::Relaxed) {
            add(&self.streams.handed_over, u64::MAX);
        }
        let whole = self.whole.load(Ordering::Relaxed);
        let ended = if whole {
            &self.streams.answered
        } else {
            &self.streams.thrown_away
        };
        add(ended, 1);
    }
}

/// How the peer takes an answer of several pieces.
#[derive(Debug)]
struct Taking {
    bytes: AtomicU64,
    open: Open,
}

/// Who keeps a stream open.
#[derive(Debug)]
enum Held {
    Alone(Open),
    Together(Arc<Taking>),
    Passed,
}

impl Held {
    fn open(&self) -> Option<&Open> {
        match self {
            Self::Alone(open) => Some(open),
            Self::Together(taking) => Some(&taking.open),
            Self::Passed => None,
        }
    }

    /// Nothing is to come of it, or to be taken.
    fn whole(&self) {
        if let Some(open) = self.open() {
            open.whole();
        }
    }

    fn together(&mut self) -> Option<Arc<Taking>> {
        let taking = match std::mem::replace(self, Self::Passed) {
            Self::Alone(open) => Arc::new(Taking {
                bytes: AtomicU64::new(0),
                open,
            }),
            Self::Together(taking) => taking,
            Self::Passed => return None,
        };
        *self = Self::Together(Arc::clone(&taking));
        Some(taking)
    }
}

/// Part of an answer, until it is on its way.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    held: Held,
    is_last: bool,
}

impl Piece {
    fn new(bytes: Bytes, held: Held, is_last: bool) -> Self {
        let piece = Self { bytes, held, is_last };
        piece.taken(0);
        piece
    }

    /// Of a whole answer: see [`Open::hand_over`].
    fn is_handed_over(&self) -> bool {
        self.held.open().is_some_and(Open::hand_over)
    }

    fn taken(&self, count: usize) {
        if let Held::Together(taking) = &self.held {
            add(&taking.bytes, u64::try_from(count).unwrap_or(u64::MAX));
        }
        if let Some(open) = self.held.open() {
            open.streams.moved();
            if self.is_last && self.bytes.is_empty() {
                open.whole();
            }
        }
    }
}

/// A piece that holds nothing open.
fn nothing(bytes: Bytes) -> Piece {
    Piece {
        bytes,
        held: Held::Passed,
        is_last: false,
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.taken(count);
    }
}

pin_project! {
    /// The body of an answer.
    pub(super) struct Answer<B> {
        #[pin]
        inner: B,
        // Of a piece that was too large.
        rest: Bytes,
        held: Held,
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let mut this = self.project();
        let mut bytes = if this.rest.is_empty() {
            let frame = this.inner.as_mut().poll_frame(cx);
            if let Some(open) = this.held.open() {
                open.on_peer(frame.is_ready());
                if frame.is_pending() {
                    open.streams.body(WAITS);
                }
            }
            match ready!(frame) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(trailers) => {
                        this.held.whole();
                        return Poll::Ready(Some(Ok(trailers.map_data(nothing))));
                    }
                },
                ended => {
                    // Broken off is not thrown away: that was no doing of the peer.
                    this.held.whole();
                    return Poll::Ready(ended.map(|broken| broken.map(|frame| frame.map_data(nothing))));
                }
            }
        } else {
            if let Some(open) = this.held.open() {
                open.on_peer(true);
            }
            std::mem::take(this.rest)
        };
        if bytes.len() > PIECE {
            *this.rest = bytes.split_off(PIECE);
        }
        let is_last = this.rest.is_empty() && this.inner.is_end_stream();
        let alone = matches!(this.held, Held::Alone(_));
        let held = if is_last && alone {
            let held = std::mem::replace(this.held, Held::Passed);
            if let Some(open) = held.open() {
                open.streams.body(GAVE_LAST);
            }
            held
        } else {
            match this.held.together() {
                Some(taking) => {
                    taking.open.streams.body(GAVE_PART);
                    *taking.open.streams.taking.lock() = Arc::downgrade(&taking);
                    Held::Together(taking)
                }
                None => Held::Passed,
            }
        };
        Poll::Ready(Some(Ok(Frame::data(Piece::new(bytes, held, is_last)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}
