//! Whether a core should open another connection to a node that could not be connected to. A node that cannot be reached costs at most
//! one trial per interval and core; the others' requests go elsewhere meanwhile.
//!
//! It is advice for choosing among nodes: with no other node to go to, a request is tried where it can be; where the others are busy it
//! waits for them, as a node that fails fast would draw everybody who finds the rest at work. It says nothing of health
//! either (R39: one bad link is not a failure).

use crate::core::time::{MonoTime, Span};

/// From one trial to the next.
const INTERVAL: Span = Span::from_secs(1);

/// One node's, on one core.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// Connections are opened.
    #[default]
    Closed,
    /// A connect failed: none before this time.
    Open {
        /// When one request may try.
        until: MonoTime,
    },
    /// One request is trying; one more may when nothing is heard of it until then.
    Trial {
        /// When the next one may try.
        until: MonoTime,
    },
}

impl Breaker {
    /// Whether a request should go to this node rather than to none in particular.
    #[must_use]
    pub fn permits(self, now: MonoTime) -> bool {
        match self {
            Self::Closed => true,
            Self::Open { until } | Self::Trial { until } => now >= until,
        }
    }

    /// Whether nothing speaks against the node, at any time.
    #[must_use]
    pub fn is_closed(self) -> bool {
        self == Self::Closed
    }

    /// A request goes there and needs a connection.
    pub fn tries(&mut self, now: MonoTime) {
        match self {
            Self::Closed => {}
            Self::Open { until } | Self::Trial { until } if now < *until => {}
            Self::Open { .. } | Self::Trial { .. } => {
                *self = Self::Trial {
                    until: now.after(INTERVAL),
                }
            }
        }
    }

    /// A connect succeeded.
    pub fn connected(&mut self) {
        *self = Self::Closed;
    }

    /// A connect failed.
    pub fn failed(&mut self, now: MonoTime) {
        *self = Self::Open {
            until: now.after(INTERVAL),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::default().after(Span::from_millis(ms))
    }

    #[test]
    fn a_dead_node_costs_one_trial_per_interval() {
        let mut breaker = Breaker::default();
        assert!(breaker.permits(at(0)));
        breaker.failed(at(0));
        let mut trials = Vec::new();
        for ms in (0..5_000).step_by(10) {
            if breaker.permits(at(ms)) {
                breaker.tries(at(ms));
                trials.push(ms);
                assert!(!breaker.permits(at(ms)), "one at a time");
                breaker.failed(at(ms));
            }
        }
        assert_eq!(trials, [1_000, 2_000, 3_000, 4_000]);
    }

    #[test]
    fn a_trial_that_succeeds_closes_it() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0));
        breaker.tries(at(1_000));
        breaker.connected();
        assert!(breaker.permits(at(1_000)));
    }

    #[test]
    fn a_trial_of_which_nothing_is_heard_blocks_for_one_interval_only() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0));
        breaker.tries(at(1_500));
        assert!(!breaker.permits(at(2_499)));
        assert!(breaker.permits(at(2_500)));
    }

    #[test]
    fn a_request_that_has_no_other_node_does_not_put_the_trial_off() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0));
        breaker.tries(at(900));
        assert!(breaker.permits(at(1_000)));
    }
}
