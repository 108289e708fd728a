//! When a connection is asked whether its node is still there, and when it is given up or closed (RFC 9113 s6.7).
//!
//! A node is asked by a PING when streams wait and nothing has come for a while, once in a silence; a silence that lasts is broken by its
//! answers alone, and then it is asked again as seldom as gRPC servers allow: those close a connection that pings more often than every
//! five minutes while nothing else moves (GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS).
//!
//! Where a write was given up that strong readers wait for, only the answer to a PING that was sent after that counts, in time, whatever
//! else comes (R19): frames are read in their order, so what the node may still get of that write it has by then.

use super::super::link::waiting_clock;
use crate::config::runtime::Http2;
use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long nothing may come while a stream waits.
pub(super) const QUIET: Duration = Duration::from_secs(10);
/// How long a node may take to answer a PING: longer than a garbage collection, below the 15 s a response may take by default.
pub(super) const ANSWER: Duration = Http2::ANSWER;
/// From one PING to the next while nothing else comes.
const AGAIN: Duration = Duration::from_secs(300);
/// How long a connection without a stream is kept: as Go's client does.
pub(super) const IDLE: Duration = Duration::from_secs(90);

/// What the connection has seen since the last turn.
#[derive(Copy, Clone, Debug)]
pub(super) struct Beat {
    /// Bytes that have come in all.
    pub(super) read: u64,
    /// Something but a PING has come.
    pub(super) worked: bool,
    /// No stream is in use.
    pub(super) idle: bool,
    /// It lends no more.
    pub(super) closing: bool,
    /// A request has waited in vain.
    pub(super) doubtful: bool,
    /// Nothing waits to be written.
    pub(super) written: bool,
}

/// A connection's timers.
pub(super) struct Pulse {
    pings: Option<PingPong>,
    read: u64,
    /// When something came last.
    since: Instant,
    /// When a PING was sent that is not answered.
    asked: Option<Instant>,
    /// When the last PING was sent in this silence.
    last: Option<Instant>,
    /// Until when the PING that is under way must be answered, for the sake of a write that was given up before it.
    owed: Option<Instant>,
    /// The same of a PING that is to be sent when that is answered: for what was given up after it.
    owed_next: Option<Instant>,
    /// That PING must not leave before all that is queued: it would overtake what it is to show the receipt of.
    owed_behind: bool,
    timer: Pin<Box<Sleep>>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        let now = waiting_clock();
        Self {
            pings: None,
            read: 0,
            since: now,
            asked: None,
            last: None,
            owed: None,
            owed_next: None,
            owed_behind: false,
            timer: Box::pin(sleep_until(now + QUIET)),
        }
    }

    /// A write was given up then. `queued`: of which something may be queued.
    pub(super) fn owe(&mut self, at: Instant, queued: bool) {
        self.owed_next.get_or_insert(at + ANSWER);
        self.owed_behind |= queued;
    }

    /// Whether an answer that is owed has not come in time.
    pub(super) fn is_overdue(&self) -> bool {
        let by = self.owed.or(self.owed_next); // the first is the earlier
        by.is_some_and(|by| waiting_clock() >= by)
    }

    /// Ready when the connection is to end: now if its streams cannot go on, or because it has been idle for long.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<T, Bytes>,
        beat: Beat,
    ) -> Poll<()>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if self.pings.is_none() {
            self.pings = connection.ping_pong();
        }
        let now = waiting_clock();
        if beat.read != self.read {
            (self.read, self.since) = (beat.read, now);
        }
        if beat.worked {
            self.last = None;
        }
        // What has come at all shows that the node is there: its answer to the PING will follow.
        while let Some(pings) = &mut self.pings
            && self.asked.is_some()
            && let Poll::Ready(Ok(_)) = pings.poll_pong(cx)
        {
            (self.asked, self.owed) = (None, None);
        }
        self.owed_behind &= !beat.written;
        if self.asked.is_none() && self.owed_next.is_some() && !self.owed_behind {
            self.ask(now);
            if self.asked.is_some() {
                self.owed = self.owed_next.take();
            }
        } else if self.asked.is_none() && beat.doubtful {
            self.ask(now);
        }
        loop {
            let due = self.due(&beat);
            if now < due {
                if due < self.timer.deadline() || self.timer.is_elapsed() {
                    self.timer.as_mut().reset(due);
                }
                match self.timer.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        self.timer.as_mut().reset(due);
                        match self.timer.as_mut().poll(cx) {
                            Poll::Pending => return Poll::Pending,
                            Poll::Ready(()) => return Poll::Ready(()),
                        }
                    }
                }
            }
            if self.asked.is_some() || beat.idle || self.is_overdue() {
                return Poll::Ready(());
            }
            self.ask(now);
        }
    }

    /// When something is to be done next.
    fn due(&self, beat: &Beat) -> Instant {
        let due = self.due_anyway(beat);
        self.owed.or(self.owed_next).map_or(due, |by| by.min(due))
    }

    fn due_anyway(&self, beat: &Beat) -> Instant {
        match (self.asked, self.last) {
            (Some(asked), _) => asked.max(self.since) + ANSWER,
            (None, _) if beat.idle && beat.closing => self.since + ANSWER,
            (None, _) if beat.idle => self.since + IDLE,
            (None, Some(last)) => (self.since + QUIET).max(last + AGAIN),
            (None, None) => self.since + QUIET,
        }
    }

    fn ask(&mut self, now: Instant) {
        self.last = Some(now);
        let sent = self
            .pings
            .as_mut()
            .is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
        if sent {
            self.asked = Some(now);
        }
    }
}
