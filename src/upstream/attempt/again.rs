//! Whether a request goes out again, and with what: by the rules of repeats ([`decide`]), to another node where there is one, and only while
//! it can be made anew.

use super::Progress;
use super::outgoing::request;
use crate::core::reason::RetryReason;
use crate::core::retry::{Attempt, Failure, Nature, On, Sent, Verdict, decide};
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};
use crate::upstream::Pool;
use crate::upstream::body::OutBody;
use http::Request;

/// One in so many parts of the time that is left is for passing on an answer that was kept.
const TIME_TO_PASS_ON: u64 = 16;

impl Pool {
    /// Whether there will be another attempt; if so, everything is prepared for it.
    pub(super) fn again(&self, progress: &mut Progress<'_>, failure: Failure, sent: Sent, node: usize) -> bool {
        let retry = &progress.one.config.retry;
        let verdict = decide(&Attempt {
            failure,
            sent,
            nature: progress.nature,
            replayable: progress.can_repeat(),
            made: progress.made,
            allowed: retry.attempts,
            on: On {
                connect: retry.on.connect,
                reset: retry.on.reset,
                statuses: &retry.on.statuses,
            },
        });
        let (reason, same_node, budgeted) = match verdict {
            Verdict::GiveUp => return false,
            Verdict::Again {
                reason,
                same_node,
                budgeted,
            } => (reason, same_node, budgeted),
        };
        progress.tried.push(node);
        let view = progress.one.view();
        let elsewhere = progress.aim.takers(&view).any(|node| !progress.tried.contains(&node));
        if !elsewhere && !same_node {
            return false;
        }
        let now = self.core.shared.world.clock.mono();
        if budgeted && !progress.one.retries.pay(self.core.number, now) {
            return false;
        }
        if !elsewhere {
            progress.tried.clone_from(&progress.elsewhere);
        }
        self.note_retry(progress.upstream, reason);
        true
    }

    pub(super) fn note_retry(&self, upstream: usize, reason: RetryReason) {
        self.core.shared.events.retried(upstream, reason);
    }
}

impl Progress<'_> {
    /// An answer is kept that will do: the attempts end a little before the call's deadline, so that there is time to pass it on.
    pub(super) fn leave_time(&mut self, now: MonoTime) {
        let left = self.deadline.since(now);
        self.deadline = self
            .deadline
            .before(Span::from_millis(left.as_millis() / TIME_TO_PASS_ON));
    }

    /// The request, for an attempt.
    pub(super) fn take_request(&mut self) -> Option<Request<OutBody>> {
        let remakes = std::mem::take(&mut self.remakes);
        let made = || {
            self.again
                .as_ref()
                .filter(|_| remakes)
                .map(|again| request(again.by.head(again.insists), OutBody::Empty))
        };
        self.request.take().or_else(made)
    }

    /// Whether it can be sent again.
    pub(super) fn can_repeat(&self) -> bool {
        self.request.is_some() || self.remakes
    }

    /// Whether a copy of the request is worth keeping while it is sent: another attempt may follow that is allowed to.
    pub(super) fn may_need_again(&self, reused: bool) -> bool {
        let more = self.made < self.one.config.retry.attempts;
        // A kept-alive connection may die before a byte of the request was written, whatever the request is.
        let strict_read = !self.write && self.strict.is_some() && !self.one.is_shared();
        reused || strict_read || (more && (matches!(self.nature, Nature::Repeatable) || !Rule::R20.holds()))
    }
}
