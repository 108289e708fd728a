//! May this attempt be repeated: by what failed, how far it got, what kind of request it is and what the budget leaves.
//!
//! R20: a write is repeated only when it provably never reached an application, or carries the policy's idempotency header. Reads are
//! repeated as configured. Nothing is repeated once its answer's head was passed on (the caller never asks then).
//!
//! Two repeats cost nothing of the budget, because pooled connections bound them: a *stale* connection (it died before a byte of this
//! request was written; the request goes out on a fresh one and this is no attempt at all), and a kept-alive connection that the node
//! closed before the first byte of an answer (an attempt, but not the node's overload).

use crate::core::reason::RetryReason;
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};

/// Whether bytes of a request went out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Not one byte was written: no application has seen it.
    Nothing,
    /// Some were: an application may have it.
    Maybe,
}

/// What a request may stand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Repeating it changes nothing: a read, or a write with the idempotency header.
    Repeatable,
    /// Repeating it may apply it twice.
    Once,
}

/// How an attempt ended without an answer that can be passed on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made, or not in time.
    Connect,
    /// The connection broke before an answer's head was complete.
    Broke {
        /// It was a kept-alive one and nothing of an answer had come: the node may just have closed it (RFC 9112 s9.3.1).
        kept_alive: bool,
    },
    /// The node answered this status.
    Status(u16),
    /// Anything else: no answer in time, an answer that is not HTTP, the client's upload broke.
    Final,
}

/// What is repeated, as configured.
#[derive(Copy, Clone, Debug)]
pub struct On<'a> {
    /// Failed connects.
    pub connect: bool,
    /// Broken connections.
    pub reset: bool,
    /// These statuses.
    pub statuses: &'a [u16],
}

/// One ended attempt.
#[derive(Copy, Clone, Debug)]
pub struct Attempt<'a> {
    /// How it ended.
    pub failure: Failure,
    /// How far it got.
    pub sent: Sent,
    /// What the request may stand.
    pub nature: Nature,
    /// Whether the request can be sent again from its first byte: its body is empty or held in memory, or was never touched.
    pub replayable: bool,
    /// Attempts made, this one included.
    pub made: u32,
    /// Attempts allowed in all.
    pub allowed: u32,
    /// What is repeated.
    pub on: On<'a>,
}

/// What to do next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The failure is the answer.
    GiveUp,
    /// Once more.
    Again {
        /// As metrics name it.
        reason: RetryReason,
        /// Whether the same node will do when there is no other.
        same_node: bool,
        /// Whether the budget pays.
        budgeted: bool,
    },
}

/// Decides.
#[must_use]
pub fn decide(attempt: &Attempt<'_>) -> Verdict {
    if attempt.made >= attempt.allowed || !attempt.replayable {
        return Verdict::GiveUp;
    }
    // R20
    let harmless = match (attempt.sent, attempt.nature) {
        (Sent::Nothing, Nature::Once | Nature::Repeatable) | (Sent::Maybe, Nature::Repeatable) => true,
        (Sent::Maybe, Nature::Once) => !Rule::R20.holds(),
    };
    if !harmless {
        return Verdict::GiveUp;
    }
    match attempt.failure {
        Failure::Connect if attempt.on.connect => Verdict::Again {
            reason: RetryReason::Connect,
            same_node: false,
            budgeted: true,
        },
        Failure::Broke { kept_alive } if attempt.on.reset => Verdict::Again {
            reason: RetryReason::Reset,
            same_node: true,
            budgeted: !kept_alive,
        },
        Failure::Status(status) if attempt.on.statuses.contains(&status) => Verdict::Again {
            reason: RetryReason::Status,
            same_node: false,
            budgeted: true,
        },
        Failure::Connect | Failure::Broke { .. } | Failure::Status(_) | Failure::Final => Verdict::GiveUp,
    }
}

/// How far back the budget looks.
const WINDOW: Span = Span::from_secs(10);
/// In how many pieces: old requests leave the window a second at a time.
const BUCKETS: usize = 10;
/// Retries that are always allowed in a window, so that a quiet route may repeat at all.
const FLOOR: u64 = 10;

/// Repeats as a share of requests over the last ten seconds, with a small floor: a broken upstream is not asked twice as often by
/// everybody at once. One upstream's budget may be kept in several parts, each counting a share of its requests: then what they have
/// counted together decides.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u64,
    floor: u64,
    buckets: [Bucket; BUCKETS],
}

/// What was counted in the window.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests.
    pub requests: u64,
    /// Repeats.
    pub repeats: u64,
}

impl std::ops::Add for Spent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            repeats: self.repeats.saturating_add(other.repeats),
        }
    }
}

#[derive(Copy, Clone, Debug, Default)]
struct Bucket {
    /// Which slice of time it counts.
    slice: u64,
    spent: Spent,
}

impl Budget {
    /// A budget of `percent` retries per hundred requests, and of a few when there are hardly any requests.
    #[must_use]
    pub fn new(percent: u32) -> Self {
        Self::with_floor(percent, FLOOR)
    }

    /// A budget of `percent` per hundred requests and not one more: for what is never needed.
    #[must_use]
    pub fn strict(percent: u32) -> Self {
        Self::with_floor(percent, 0)
    }

    fn with_floor(percent: u32, floor: u64) -> Self {
        Self {
            percent: u64::from(percent),
            floor,
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    /// Counts a request.
    pub fn request(&mut self, now: MonoTime) {
        self.current(now).requests += 1;
    }

    /// What this part has counted in the window.
    #[must_use]
    pub fn spent(&self, now: MonoTime) -> Spent {
        let slice = slice(now);
        let within = |bucket: &&Bucket| slice.saturating_sub(bucket.slice) < BUCKETS as u64;
        let counted = self.buckets.iter().filter(within).map(|bucket| bucket.spent);
        counted.fold(Spent::default(), |sum, each| sum + each)
    }

    /// Takes one repeat out, when all parts together leave one.
    #[must_use]
    pub fn withdraw(&mut self, now: MonoTime, all: Spent) -> bool {
        if self.percent == 0 {
            return false;
        }
        let allowed = (all.requests.saturating_mul(self.percent) / 100).max(self.floor);
        if all.repeats >= allowed {
            return false;
        }
        self.current(now).repeats += 1;
        true
    }

    fn current(&mut self, now: MonoTime) -> &mut Spent {
        let slice = slice(now);
        let [first, rest @ ..] = &mut self.buckets;
        let at = usize::try_from(slice % BUCKETS as u64).unwrap_or(0);
        let bucket = match at.checked_sub(1).and_then(|at| rest.get_mut(at)) {
            Some(bucket) => bucket,
            None => first,
        };
        if bucket.slice != slice {
            *bucket = Bucket {
                slice,
                ..Bucket::default()
            };
        }
        &mut bucket.spent
    }
}

fn slice(now: MonoTime) -> u64 {
    now.as_micros() / (WINDOW.as_millis() * 1000 / BUCKETS as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const ON: On<'static> = On {
        connect: true,
        reset: true,
        statuses: &[502, 503, 504],
    };

    fn attempt(failure: Failure, sent: Sent, nature: Nature) -> Attempt<'static> {
        Attempt {
            failure,
            sent,
            nature,
            replayable: true,
            made: 1,
            allowed: 2,
            on: ON,
        }
    }

    fn again(attempt: &Attempt<'_>) -> bool {
        matches!(decide(attempt), Verdict::Again { .. })
    }

    const FAILURES: [Failure; 5] = [
        Failure::Connect,
        Failure::Broke { kept_alive: false },
        Failure::Broke { kept_alive: true },
        Failure::Status(503),
        Failure::Final,
    ];

    #[test]
    fn r20_a_write_of_which_something_was_sent_is_never_repeated() {
        for failure in FAILURES {
            assert!(!again(&attempt(failure, Sent::Maybe, Nature::Once)), "{failure:?}");
        }
    }

    #[test]
    fn r20_a_write_of_which_nothing_was_sent_is_repeated() {
        assert!(again(&attempt(Failure::Connect, Sent::Nothing, Nature::Once)));
        let broke = Failure::Broke { kept_alive: false };
        assert!(again(&attempt(broke, Sent::Nothing, Nature::Once)));
    }

    #[test]
    fn reads_are_repeated_on_what_is_configured_and_nothing_else() {
        let on = |connect, reset, statuses| On {
            connect,
            reset,
            statuses,
        };
        let cases = [
            (Failure::Connect, on(true, false, &[] as &[u16]), true),
            (Failure::Connect, on(false, true, &[503]), false),
            (Failure::Broke { kept_alive: false }, on(false, true, &[]), true),
            (Failure::Broke { kept_alive: true }, on(true, false, &[503]), false),
            (Failure::Status(503), on(false, false, &[503]), true),
            (Failure::Status(500), on(true, true, &[502, 503]), false),
            (Failure::Final, on(true, true, &[500, 502, 503, 504]), false),
        ];
        for (failure, on, wanted) in cases {
            let attempt = Attempt {
                on,
                ..attempt(failure, Sent::Maybe, Nature::Repeatable)
            };
            assert_eq!(again(&attempt), wanted, "{failure:?} {on:?}");
        }
    }

    #[test]
    fn a_body_that_is_gone_or_an_attempt_too_many_ends_it() {
        let fine = attempt(Failure::Connect, Sent::Nothing, Nature::Repeatable);
        assert!(again(&fine));
        assert!(!again(&Attempt {
            replayable: false,
            ..fine
        }));
        assert!(!again(&Attempt { made: 2, ..fine }));
    }

    fn takes(budget: &mut Budget, now: MonoTime) -> bool {
        let all = budget.spent(now);
        budget.withdraw(now, all)
    }

    #[test]
    fn the_budget_is_a_share_of_requests_and_runs_out() {
        let now = MonoTime::from_micros(50_000_000);
        let mut budget = Budget::new(20);
        for _ in 0..100 {
            budget.request(now);
        }
        let granted = (0..100).filter(|_| takes(&mut budget, now)).count();
        assert_eq!(granted, 20);
    }

    #[test]
    fn a_quiet_upstream_has_the_floor_and_a_strict_budget_has_none() {
        let now = MonoTime::from_micros(50_000_000);
        let mut budget = Budget::new(20);
        assert_eq!((0..100).filter(|_| takes(&mut budget, now)).count(), 10);
        assert!(!takes(&mut Budget::new(0), now), "a budget of nothing has no floor");
        let mut strict = Budget::strict(5);
        assert!(!takes(&mut strict, now));
        for _ in 0..40 {
            strict.request(now);
        }
        assert_eq!((0..100).filter(|_| takes(&mut strict, now)).count(), 2);
    }

    #[test]
    fn parts_of_a_budget_are_spent_as_one() {
        let now = MonoTime::from_micros(50_000_000);
        let mut parts = [Budget::new(20), Budget::new(20)];
        for _ in 0..100 {
            parts[0].request(now);
        }
        let mut granted = 0;
        for turn in 0..100 {
            let all = parts[0].spent(now) + parts[1].spent(now);
            granted += usize::from(parts[turn % 2].withdraw(now, all));
        }
        assert_eq!(granted, 20);
    }

    #[test]
    fn the_window_moves_on() {
        let at = |s: u64| MonoTime::from_micros(s * 1_000_000);
        let mut budget = Budget::new(20);
        assert_eq!((0..100).filter(|_| takes(&mut budget, at(50))).count(), 10);
        assert!(
            !takes(&mut budget, at(59)),
            "nine seconds later the window still holds them"
        );
        assert!(takes(&mut budget, at(60)));
    }
}
