//! The position that clients have been shown (R32), counted by whoever passes answers on and read by whoever promotes. One per reign: a new
//! primary begins a new one, because positions of two epochs do not compare (R36).
//!
//! Invariant: while it says a position, no answer of this reign that was noted before carried a larger one or none at all.

use super::event::Observed;
use crate::core::consistency::bound::Position;
use crate::core::time::MonoTime;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one reign's answers and probes have shown.
#[derive(Debug)]
pub struct Observing {
    largest: AtomicU64,
    /// The latest instant at which an answer without a position was noted, in microseconds; at first the beginning of the reign or of the
    /// process, before which nothing is known.
    blind_at: AtomicU64,
    /// The latest instant at which a probe of the primary was sent that reported a position, in microseconds.
    probed_at: AtomicU64,
}

impl Observing {
    /// A reign that begins, or that a process that starts finds: unknown until the primary has been probed.
    #[must_use]
    pub const fn from(now: MonoTime) -> Self {
        Self {
            largest: AtomicU64::new(0),
            blind_at: AtomicU64::new(now.as_micros()),
            probed_at: AtomicU64::new(0),
        }
    }

    /// An answer is about to be passed on. To be called before the view is looked at again: what passes that look was noted.
    pub fn answered(&self, now: MonoTime, position: Option<Position>) {
        match position {
            Some(position) => self.largest.fetch_max(position.0, Ordering::AcqRel),
            None => self.blind_at.fetch_max(now.as_micros(), Ordering::AcqRel),
        };
    }

    /// A probe of the primary that was sent at `sent` reported this position: everything answered before `sent` lies at or below it.
    pub fn probed(&self, sent: MonoTime, position: Position) {
        // In this order: whoever sees the instant sees the position.
        self.largest.fetch_max(position.0, Ordering::AcqRel);
        self.probed_at.fetch_max(sent.as_micros(), Ordering::AcqRel);
    }

    /// What clients have been shown.
    #[must_use]
    pub fn read(&self) -> Observed {
        let probed_at = self.probed_at.load(Ordering::Acquire);
        // Of one instant: the probe may have been the earlier of the two.
        if probed_at <= self.blind_at.load(Ordering::Acquire) {
            return Observed::Unknown; // R32
        }
        Observed::At(Position(self.largest.load(Ordering::Acquire)))
    }
}

/// Two views are told apart by what they say, not by what was observed under them.
impl PartialEq for Observing {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Observing {}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(us: u64) -> MonoTime {
        MonoTime::from_micros(us)
    }

    #[test]
    fn r32_an_answer_without_a_position_makes_it_unknown_until_a_later_probe() {
        let observing = Observing::from(at(10));
        assert_eq!(observing.read(), Observed::Unknown, "a restart forgets");
        observing.answered(at(11), Some(Position(7)));
        assert_eq!(
            observing.read(),
            Observed::Unknown,
            "what was shown before is not known"
        );
        observing.probed(at(10), Position(5));
        assert_eq!(observing.read(), Observed::Unknown, "not sent after the start");
        observing.probed(at(12), Position(5));
        assert_eq!(observing.read(), Observed::At(Position(7)), "the largest of all");
        observing.answered(at(20), None);
        assert_eq!(observing.read(), Observed::Unknown);
        observing.probed(at(19), Position(9));
        assert_eq!(observing.read(), Observed::Unknown, "sent before it");
        observing.probed(at(21), Position(8));
        assert_eq!(observing.read(), Observed::At(Position(9)));
    }
}
