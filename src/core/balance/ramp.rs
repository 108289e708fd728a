//! Slow start: a node that comes into service while others serve is given its share little by little, since what it has not warmed up
//! yet would fail under all of it.

use super::FULL;
use crate::core::time::MonoTime;
use std::time::Duration;

/// The least a node is given, in parts of [`FULL`] (Envoy's default): it must be asked to warm up.
const LEAST: u32 = 10;

/// Whether a node is in service, and since when.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// It takes nothing.
    #[default]
    Out,
    /// It takes traffic.
    In {
        /// Since when.
        since: MonoTime,
        /// Whether its share grows: others were there to carry the rest.
        slowly: bool,
    },
}

impl Service {
    /// After a new view. `others` says whether another node was in service that could carry the rest.
    #[must_use]
    pub const fn after(self, now: MonoTime, in_service: bool, others: bool) -> Self {
        match (self, in_service) {
            (_, false) => Self::Out,
            (Self::Out, true) => Self::In {
                since: now,
                slowly: others,
            },
            (Self::In { .. }, true) => self,
        }
    }

    /// Whether the node has been in service for so long.
    #[must_use]
    pub fn is_settled(self, now: MonoTime, length: Duration) -> bool {
        matches!(self, Self::In { since, .. } if now.duration_since(since) > length)
    }

    /// How much of its share the node is given, in parts of [`FULL`].
    #[must_use]
    pub fn ramp(self, now: MonoTime, over: Duration) -> u32 {
        let Self::In { since, slowly: true } = self else {
            return FULL;
        };
        let (age, over) = (now.duration_since(since).as_micros(), over.as_micros());
        if age >= over {
            return FULL;
        }
        let part = (age * u128::from(FULL)).checked_div(over).unwrap_or(0);
        u32::try_from(part).unwrap_or(FULL).clamp(LEAST, FULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Span;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::default().after(Span::from_secs(seconds))
    }

    fn since(seconds: u64, slowly: bool) -> Service {
        Service::In {
            since: at(seconds),
            slowly,
        }
    }

    #[test]
    fn a_share_grows_over_the_slow_start() {
        let over = Duration::from_secs(30);
        for (service, now, ramp) in [
            (since(100, false), 100, 100),
            (since(100, true), 99, 10),
            (since(100, true), 100, 10),
            (since(100, true), 103, 10),
            (since(100, true), 115, 50),
            (since(100, true), 129, 96),
            (since(100, true), 130, 100),
            (since(100, true), 100_000, 100),
            (Service::Out, 0, 100),
        ] {
            assert_eq!(service.ramp(at(now), over), ramp, "{service:?} at {now}");
        }
        assert_eq!(since(1, true).ramp(at(1), Duration::ZERO), 100, "no slow start");
    }

    #[test]
    fn who_comes_while_others_serve_starts_slowly() {
        let cases = [
            ("was there, stays", since(1, false), true, true, since(1, false)),
            ("leaves", since(1, false), false, true, Service::Out),
            ("leaves while it starts", since(1, true), false, true, Service::Out),
            ("comes, with others", Service::Out, true, true, since(9, true)),
            ("comes, alone", Service::Out, true, false, since(9, false)),
            ("goes on starting", since(1, true), true, true, since(1, true)),
            ("stays out", Service::Out, false, true, Service::Out),
        ];
        for (name, before, in_service, others, after) in cases {
            assert_eq!(before.after(at(9), in_service, others), after, "{name}");
        }
    }
}
