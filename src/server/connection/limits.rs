//! The time limits of a connection, and when it has been quiet for long enough to be put aside.

use super::End;
use crate::config::runtime::Listener;
use crate::core::time::MonoTime;
use crate::server::watch::{Marks, Stage};
use std::time::Duration;

/// How long a connection is idle before it is put aside: longer than a busy client pauses, as it costs a wake-up a second, and short
/// beside how long clients keep connections.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// Which limit runs, since when, and when the one timer of the connection fires: it is moved only when it fires too early to matter or
/// would fire too late.
#[derive(Debug)]
pub(super) struct Limits {
    head: Duration,
    idle: Duration,
    stall: Duration,
    seen: Marks,
    pub(super) since: MonoTime,
    fires: MonoTime,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Wait,
    Arm(Duration),
    TimedOut(End),
}

impl Limits {
    pub(super) fn new(listener: &Listener, seen: Marks, now: MonoTime) -> Self {
        Self {
            head: listener.header_timeout,
            idle: listener.idle_timeout,
            stall: listener.body_timeout,
            seen,
            since: now,
            fires: now.after(listener.header_timeout.into()),
        }
    }

    pub(super) fn remaining_at_start(&self) -> Duration {
        self.head
    }

    /// The limit that runs in `marks`, and the end it brings.
    fn limit(&self, marks: Marks) -> Option<(Duration, End)> {
        if marks.is_stalled() {
            return Some((self.stall, End::Stalled));
        }
        match marks.stage() {
            Stage::Fresh | Stage::Head => Some((self.head, End::HeadTimedOut)),
            Stage::Idle if self.idle > QUIET && !marks.may_be_in_a_body() => Some((QUIET, End::Quiet)),
            Stage::Idle => Some((self.idle, End::IdleTimedOut)),
            // The service has its own limits.
            Stage::Busy => None,
        }
    }

    pub(super) fn check(&mut self, marks: Marks, fired: bool, now: impl FnOnce() -> MonoTime) -> Verdict {
        let changed = marks != self.seen;
        if !changed && !fired {
            return Verdict::Wait;
        }
        let now = now();
        if changed {
            // A head may take as long as it may from the accept, or from its own first byte.
            let still_the_first_head = self.seen.stage() == Stage::Fresh && marks.stage() == Stage::Head;
            self.seen = marks;
            if !still_the_first_head {
                self.since = now;
            }
        }
        let Some((limit, end)) = self.limit(marks) else {
            return Verdict::Wait;
        };
        let deadline = self.since.after(limit.into());
        if now >= deadline {
            return Verdict::TimedOut(end);
        }
        if fired || deadline < self.fires {
            self.fires = deadline;
            return Verdict::Arm(deadline.duration_since(now));
        }
        Verdict::Wait
    }
}
