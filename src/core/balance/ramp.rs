//! Slow start: a node that comes into service later than the others is given its share little by little, since what it has not warmed up
//! yet would fail under all of it. Who has come into service since when is known by the view ([`crate::core::failover::view::View`]).

use super::FULL;
use crate::core::time::MonoTime;
use std::time::Duration;

/// The least a node is given, in parts of [`FULL`] (Envoy's default): it must be asked to warm up.
const LEAST: u32 = 10;

/// How much of its share a node is given, in parts of [`FULL`]. `since`: when it came into service, where that was later than the process.
#[must_use]
pub fn ramp(since: Option<MonoTime>, now: MonoTime, over: Duration) -> u32 {
    let Some(since) = since else {
        return FULL;
    };
    let (age, over) = (now.duration_since(since).as_micros(), over.as_micros());
    if age >= over {
        return FULL;
    }
    let part = (age * u128::from(FULL)).checked_div(over).unwrap_or(0);
    u32::try_from(part).unwrap_or(FULL).clamp(LEAST, FULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Span;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::default().after(Span::from_secs(seconds))
    }

    #[test]
    fn a_share_grows_over_the_slow_start() {
        let over = Duration::from_secs(30);
        for (since, now, expected) in [
            (None, 0, 100),
            (None, 100, 100),
            (Some(100), 99, 10),
            (Some(100), 100, 10),
            (Some(100), 103, 10),
            (Some(100), 115, 50),
            (Some(100), 129, 96),
            (Some(100), 130, 100),
            (Some(100), 100_000, 100),
        ] {
            assert_eq!(ramp(since.map(at), at(now), over), expected, "{since:?} at {now}");
        }
        assert_eq!(ramp(Some(at(1)), at(1), Duration::ZERO), 100, "no slow start");
    }
}
