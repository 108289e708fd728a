//! A call that only the primary may answer, between its attempts: where it may go by the view as it is now, whether it waits for another
//! view, and whether its answer still counts.
//!
//! What had been sent is never held: a write is held only while nothing of it has left (R20). A read may be asked again, so it is held
//! and asked again whatever became of it.

use super::Progress;
use crate::config::runtime::{GateBy, Replication};
use crate::core::failover::view::{Epoch, Primary};
use crate::core::retry::Sent;
use crate::core::time::{MonoTime, Span};
use crate::upstream::error::CallErrorKind;
use crate::upstream::primary::Toward;
use crate::upstream::{One, Pool};
use http::Uri;

/// How often a read is asked again because its answer came from a primary that was one no more.
const ROUNDS: u32 = 3;

/// One in so many parts of the time that is left is for telling the client that there is no primary.
const TIME_TO_TELL: u64 = 16;

/// What a call knows that only the primary may answer.
#[derive(Clone, Debug)]
pub(super) struct Strict {
    /// The resource, by which it has a home.
    path: Box<str>,
    query: Option<Box<str>>,
    /// The view it last went by.
    seen: (Epoch, Primary),
    /// Until when it is held; none: it has not been yet.
    until: Option<MonoTime>,
    rounds: u32,
}

impl Strict {
    pub(super) fn of(one: &One, target: &Uri) -> Self {
        let view = one.view();
        let by_query = one.config.gate == GateBy::Url;
        let homes = one.config.replication == Replication::MultiPrimary;
        Self {
            path: if homes { target.path().into() } else { Box::default() },
            query: target.query().filter(|_| homes && by_query).map(Box::from),
            seen: (view.epoch, view.primary),
            until: None,
            rounds: 0,
        }
    }
}

impl Progress<'_> {
    /// Looks at the view: where the call may go now.
    pub(super) fn look(&mut self) -> Result<(), CallErrorKind> {
        if self.aim.is_over(&self.one.view.load()) {
            return Err(CallErrorKind::NoPrimary);
        }
        let Some(strict) = &mut self.strict else {
            return Ok(());
        };
        let view = self.one.view();
        let seen = (view.epoch, view.primary);
        let query = strict.query.as_deref();
        match self.one.toward(&view, &strict.path, query) {
            Toward::Nobody => {
                strict.seen = seen;
                Err(CallErrorKind::NoPrimary)
            }
            Toward::AllBut(elsewhere) => {
                // Of another view: whoever was tried before may be the primary now.
                if strict.seen != seen || self.elsewhere != elsewhere {
                    self.tried.clone_from(&elsewhere);
                    self.elsewhere = elsewhere;
                }
                strict.seen = seen;
                Ok(())
            }
        }
    }

    /// The epoch in which the call may be sent to a node now (R53): that of the view by which it may go there, so that nothing a deposed
    /// primary says or does is taken for its successor's (R54). None: the view has changed since the node was chosen.
    pub(super) fn epoch_at(&self, node: usize) -> Option<Epoch> {
        let view = self.one.view.load();
        let epoch = view.epoch;
        if self.aim.is_over(&view) {
            return None; // R54: told a later epoch, who was deposed by it would take the write for its successor's
        }
        if self.one.is_shared() || self.aim.only.is_some() {
            return Some(epoch);
        }
        let may = match &self.strict {
            Some(strict) => match self.one.toward(&view, &strict.path, strict.query.as_deref()) {
                Toward::AllBut(elsewhere) => !elsewhere.contains(&node),
                Toward::Nobody => false,
            },
            None => self.aim.takers(&view).any(|taker| taker == node),
        };
        may.then_some(epoch)
    }

    /// A read whose answer counts no more is asked again, where it can be sent again.
    pub(super) fn asks_again(&mut self) -> bool {
        let can = self.can_repeat();
        self.strict.as_mut().is_some_and(|strict| {
            strict.rounds += 1;
            can && strict.rounds < ROUNDS
        })
    }
}

impl Pool {
    /// Waits for another view where one may come by itself, up to `hold`; whether there is a point in trying again.
    pub(super) async fn holds(&self, progress: &mut Progress<'_>, kind: CallErrorKind) -> bool {
        let one = progress.one;
        let may_wait = match kind {
            CallErrorKind::NoNode
            | CallErrorKind::NoPrimary
            | CallErrorKind::ConnectFailed(_)
            | CallErrorKind::ConnectTimedOut => true,
            // Of a connection that broke nobody knows why: what is asked once more by the rules of repeats is enough.
            CallErrorKind::Reset
            | CallErrorKind::Queued
            | CallErrorKind::Unproven
            | CallErrorKind::QueueFull
            | CallErrorKind::HeadTimedOut
            | CallErrorKind::Garbage
            | CallErrorKind::BodyFailed
            | CallErrorKind::DeadlineExceeded => false,
        };
        let unsent = !progress.write || progress.sent == Sent::Nothing;
        if !may_wait || !unsent || !progress.can_repeat() || !one.may_change_hands() {
            return false;
        }
        let Some(strict) = &mut progress.strict else {
            return false;
        };
        let now = self.core.shared.world.clock.mono();
        let deadline = progress.deadline;
        let until = *strict.until.get_or_insert_with(|| {
            let left = deadline.since(now);
            let told = deadline.before(Span::from_millis(left.as_millis() / TIME_TO_TELL));
            now.after(Span::from(one.config.failover.hold)).min(told)
        });
        let left = until.duration_since(now);
        let seen = strict.seen;
        if left.is_zero() {
            return false;
        }
        if progress.place.is_none() {
            progress.place = one.held.enter(one.config.failover.max_held);
        }
        let Some(place) = &progress.place else {
            return false;
        };
        // The place is taken first: a view that comes between the two looks wakes it.
        let view = one.view();
        let changed = (view.epoch, view.primary) != seen;
        drop(view);
        let again = changed || tokio::time::timeout(left, place.news()).await.is_ok();
        if again {
            progress.tried.clone_from(&progress.elsewhere);
        }
        again
    }
}
