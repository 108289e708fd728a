//! Drives a client connection to its end, whichever version it speaks: polls it, runs its one limit of time, and passes the drain on to it.
//!
//! What the connection is doing, and which limit that makes run, [`Work`] tells. There is one timer for all limits, moved only
//! when it fires too early to matter or would fire too late, and the clock is read only when something has happened.

use super::connection::Shared;
use super::drain::Phase;
use crate::config::runtime::Listener;
use crate::core::time::MonoTime;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a peer that was told to go may take to understand: one round trip, with room.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a connection is idle before it is put aside: longer than a busy client pauses, as it costs a wake-up a second, and short
/// beside how long clients keep connections.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// A connection as hyper, or h2, has it.
pub(super) trait Connection<E = hyper::Error> {
    /// Ready when it has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>>;

    /// Answers what is under way and asks for nothing more. Done by the polls that follow.
    fn close(&mut self);
}

/// What is known of a connection's requests.
pub(super) trait Work {
    /// What it is doing at one moment; different ones mean that something has happened in between.
    type Moment: Copy + PartialEq;

    /// What it is doing.
    fn moment(&self) -> Self::Moment;

    /// The limit that runs; none: the service has its own.
    fn limit(moment: Self::Moment) -> Option<Limit>;

    /// Whether the connection can be put aside while it is between requests ([`Limit::Quiet`]).
    fn may_rest(_: Self::Moment) -> bool {
        false
    }

    /// Whether the limit that ran goes on from when it began, although something has happened.
    fn goes_on(before: Self::Moment, now: Self::Moment) -> bool;

    /// Whether it may have a request that it has not begun with and that nothing would wake it for.
    fn may_have_left_one(_before: Self::Moment, _now: Self::Moment) -> bool {
        false
    }

    /// Whether to close it in `phase`, once what is under way is answered.
    fn is_to_close(moment: Self::Moment, phase: Phase) -> bool;

    /// Whether the peer is told before a connection is closed because nothing happens.
    const SAYS_GOODBYE: bool;

    /// Whether the peer makes work only to throw it away.
    fn is_flooded(&self) -> bool {
        false
    }

    /// Another number whenever a request has begun, or was answered, where whoever does that reads the clock: in the connection's poll, on its thread.
    fn begun(&self) -> u64 {
        0
    }
}

/// A limit of time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// On the first request's head, or the rest of one: `header_timeout`.
    Head,
    /// Between requests: `idle_timeout`.
    Idle,
    /// Shortly after the last request: the connection can be put aside until there is another one.
    Quiet,
    /// On a peer that takes nothing of what we send: `body_timeout`.
    Stall,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End<E = hyper::Error> {
    /// By either side, in order.
    Closed,
    /// Not HTTP, a limit, or the peer broke off.
    Failed(E),
    /// Nothing happened for too long.
    TimedOut(Limit),
    /// See [`Work::is_flooded`].
    Flooded,
    /// The process leaves.
    Over,
}

/// Polls the connection until it ends, times out, or is told to. Tells since when it has been doing what it did last.
pub(super) async fn drive<E, W: Work>(
    connection: &mut impl Connection<E>,
    work: &W,
    listener: &Listener,
    shared: &Shared,
) -> (End<E>, MonoTime) {
    let drain = &shared.drain;
    let mut limits = Limits::<W>::new(listener, work.moment(), shared.clock.mono());
    let mut timer = pin!(tokio::time::sleep(listener.header_timeout));
    let mut changed = pin!(drain.changed());
    // The timer and the drain are polled only to be registered; whether they fired is then seen without their locks, because their
    // wake-up polls all of this again.
    let mut registered: Option<Waker> = None;
    let mut phase = Phase::Serving;
    let end = poll_fn(|cx| {
        let begun = work.begun();
        // Before it is polled, or an answer that ends in this turn is not known to be the last. Who is to close at the latest phase may
        // have a request waiting to be read: that is seen below.
        let before = drain.phase().min(Phase::Closing);
        if before != Phase::Serving && !limits.closing && W::is_to_close(work.moment(), before) {
            limits.closing = true;
            connection.close();
        }
        if let Poll::Ready(result) = connection.poll(cx) {
            return Poll::Ready(result.map_or_else(End::Failed, |()| End::Closed));
        }
        let same_task = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        // In a drain every time: a phase may be seen before its wake-up comes, which must be seen too for the next one.
        if !same_task || drain.phase() != Phase::Serving {
            while changed.as_mut().poll(cx).is_ready() {
                changed.set(drain.changed());
            }
            phase = drain.phase();
        }
        if phase == Phase::Over {
            return Poll::Ready(End::Over);
        }
        if work.is_flooded() {
            return Poll::Ready(End::Flooded);
        }
        let moment = work.moment();
        if W::may_have_left_one(limits.seen, moment) {
            cx.waker().wake_by_ref();
        }
        let mut close = |limits: &mut Limits<W>| {
            limits.closing = true;
            connection.close();
            // Closing takes another turn.
            cx.waker().wake_by_ref();
        };
        if phase != Phase::Serving && !limits.closing && W::is_to_close(moment, phase) {
            close(&mut limits);
        }
        let now = || match work.begun() == begun {
            true => shared.clock.mono(),
            false => shared.clock.recent(),
        };
        match limits.check(moment, timer.as_ref().is_elapsed(), now) {
            Verdict::Wait => {}
            Verdict::Arm(time) => {
                timer.set(tokio::time::sleep(time));
                // It cannot have passed: it was made just now. Were it so, the next turn sees it.
                if timer.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Verdict::TimedOut(Limit::Head | Limit::Idle) if W::SAYS_GOODBYE && !limits.closing => close(&mut limits),
            Verdict::TimedOut(limit) => return Poll::Ready(End::TimedOut(limit)),
        }
        if !same_task {
            registered = Some(cx.waker().clone());
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await;
    (end, limits.since)
}

/// Which limit runs, since when, and when the timer fires.
struct Limits<W: Work> {
    head: Duration,
    idle: Duration,
    stall: Duration,
    seen: W::Moment,
    /// The peer has been told, or will be with its next answer.
    closing: bool,
    /// What `closing` was when this was last looked at.
    closed: bool,
    since: MonoTime,
    fires: MonoTime,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Arm(Duration),
    TimedOut(Limit),
}

impl<W: Work> Limits<W> {
    fn new(listener: &Listener, seen: W::Moment, now: MonoTime) -> Self {
        Self {
            head: listener.header_timeout,
            idle: listener.idle_timeout,
            stall: listener.body_timeout,
            seen,
            closing: false,
            closed: false,
            since: now,
            fires: now.after(listener.header_timeout.into()),
        }
    }

    fn time(&self, limit: Limit) -> Duration {
        match limit {
            Limit::Head | Limit::Idle if self.closing && W::SAYS_GOODBYE => GOODBYE,
            Limit::Head => self.head,
            Limit::Idle => self.idle,
            Limit::Quiet => QUIET,
            Limit::Stall => self.stall,
        }
    }

    fn limit(&self, moment: W::Moment) -> Option<Limit> {
        match W::limit(moment)? {
            Limit::Idle if self.idle > QUIET && W::may_rest(moment) => Some(Limit::Quiet),
            limit => Some(limit),
        }
    }

    fn check(&mut self, moment: W::Moment, fired: bool, now: impl FnOnce() -> MonoTime) -> Verdict {
        let told = W::SAYS_GOODBYE && self.closing != self.closed;
        let changed = moment != self.seen || told;
        if !changed && !fired {
            return Verdict::Wait;
        }
        let now = now();
        if changed {
            let goes_on = !told && W::goes_on(self.seen, moment);
            (self.seen, self.closed) = (moment, self.closing);
            if !goes_on {
                self.since = now;
            }
        }
        let Some(limit) = self.limit(moment) else {
            return Verdict::Wait;
        };
        let deadline = self.since.after(self.time(limit).into());
        if now >= deadline {
            return Verdict::TimedOut(limit);
        }
        if fired || deadline < self.fires {
            self.fires = deadline;
            return Verdict::Arm(deadline.duration_since(now));
        }
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests;
