#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn at(ms: u64) -> MonoTime {
    MonoTime::from_micros(10_000_000 + ms * 1000)
}

const E: Epoch = Epoch(1);

fn probes(seen: &[(u64, u64)]) -> Probes {
    let mut probes = Probes::default();
    for (ms, position) in seen {
        probes.note(E, at(*ms), Position(*position));
    }
    probes
}

#[test]
fn r42_and_r43_when_an_answer_is_known_to_have_been_current() {
    let age = Some(Span::from_secs(2));
    let cases: &[(&str, Option<Age>, Lag, Option<MonoTime>)] = &[
        ("r42 when it was sent for", None, Lag::None, Some(at(5000))),
        ("r42 less its age and a second", age, Lag::None, Some(at(2000))),
        (
            "r42 an age of nothing is whole seconds too",
            Some(Span::ZERO),
            Lag::None,
            Some(at(4000)),
        ),
        (
            "r43 less the declared lag",
            None,
            Lag::Declared(Span::from_millis(1500)),
            Some(at(3500)),
        ),
        (
            "r43 less both",
            age,
            Lag::Declared(Span::from_millis(1500)),
            Some(at(500)),
        ),
        ("r43 by position", None, Lag::HoldsUpTo(at(3000)), Some(at(3000))),
        (
            "r43 the earlier of the two",
            age,
            Lag::HoldsUpTo(at(3000)),
            Some(at(2000)),
        ),
        (
            "r43 never later than it was sent for",
            None,
            Lag::HoldsUpTo(at(9000)),
            Some(at(5000)),
        ),
        ("r43 nobody can say", None, Lag::Unknown, None),
        (
            "before the clock's origin",
            None,
            Lag::Declared(Span::from_secs(3600)),
            None,
        ),
    ];
    for (name, age, lag, expected) in cases {
        assert_eq!(valid_as_of(at(5000), *age, *lag), *expected, "{name}");
    }
}

#[test]
fn r43_a_replica_holds_what_was_written_before_the_latest_probe_that_reported_no_more() {
    let probes = probes(&[(0, 10), (1000, 10), (2000, 15), (3000, 20)]);
    let lag = |position: u64| probes.lag(E, Some(Position(position)));
    assert_eq!(lag(9), Lag::Unknown, "behind all that is known");
    assert_eq!(
        lag(10),
        Lag::HoldsUpTo(at(1000)),
        "the later of two that reported the same"
    );
    assert_eq!(lag(14), Lag::HoldsUpTo(at(1000)));
    assert_eq!(lag(15), Lag::HoldsUpTo(at(2000)));
    assert_eq!(lag(99), Lag::HoldsUpTo(at(3000)));
    assert_eq!(probes.lag(E, None), Lag::Unknown, "an answer that tells no position");
    assert_eq!(
        probes.lag(Epoch(2), Some(Position(99))),
        Lag::Unknown,
        "r36 of another epoch"
    );
    assert_eq!(probes.last(), Some(Position(20)));
}

#[test]
fn r43_and_r36_positions_count_within_one_epoch_of_one_history() {
    let mut probes = probes(&[(0, 10), (1000, 20)]);
    probes.note(E, at(2000), Position(5));
    assert_eq!(
        probes.lag(E, Some(Position(99))),
        Lag::Unknown,
        "a primary that has gone back"
    );
    probes.note(E, at(3000), Position(30));
    assert_eq!(
        probes.lag(E, Some(Position(99))),
        Lag::Unknown,
        "for the rest of the epoch"
    );
    probes.note(Epoch(2), at(4000), Position(3));
    assert_eq!(probes.lag(Epoch(2), Some(Position(3))), Lag::HoldsUpTo(at(4000)));
    assert_eq!(probes.lag(E, Some(Position(99))), Lag::Unknown, "the old epoch is over");
}

#[test]
fn r43_so_many_probes_are_kept_and_the_oldest_go_first() {
    let many: Vec<(u64, u64)> = (0..2 * MAX_PROBES as u64).map(|n| (n, n)).collect();
    let probes = probes(&many);
    assert_eq!(probes.seen.len(), MAX_PROBES);
    let first = MAX_PROBES as u64;
    assert_eq!(probes.lag(E, Some(Position(first - 1))), Lag::Unknown);
    assert_eq!(probes.lag(E, Some(Position(first))), Lag::HoldsUpTo(at(first)));
}

/// A primary that is written to at these instants: its position at one of them, that write included.
fn position(writes: &[u64], ms: u64) -> u64 {
    writes.iter().filter(|at| **at <= ms).count() as u64
}

proptest! {
    /// The model: a primary with a history of writes, probes of it that take their time, a replica that lags as it likes, and answers
    /// of it that tell how far it was. What is said of an answer is never better than the truth.
    #[test]
    fn r43_whatever_a_replica_lags_an_answer_was_current_when_it_is_said_to_have_been(
        mut writes in proptest::collection::vec(0_u64..5000, 0..60),
        mut asked in proptest::collection::vec((0_u64..5000, 0_u64..300, 0_u64..300), 1..60),
        answers in proptest::collection::vec((0_u64..6000, 0_u64..3000, proptest::option::of(0_u64..3)), 1..40),
        back in proptest::option::of(0_u64..5000),
    ) {
        writes.sort_unstable();
        asked.sort_unstable();
        let mut probes = Probes::default();
        let mut free = 0;
        for (sent, there, home) in asked {
            let sent = sent.max(free); // one at a time, as probes go
            free = sent + there + home;
            let mut reported = position(&writes, sent + there);
            if back.is_some_and(|from| sent >= from) {
                reported /= 2; // it has lost writes
            }
            probes.note(E, at(sent), Position(reported));
        }
        for (when, lag, age) in answers {
            let held = position(&writes, when.saturating_sub(lag));
            let age = age.map(Span::from_secs);
            let lag = probes.lag(E, Some(Position(held)));
            let Some(valid) = valid_as_of(at(when), age, lag) else { continue };
            prop_assert!(valid <= at(when));
            if back.is_none() {
                // Everything written before that instant is in the answer.
                let before = writes.iter().filter(|write| at(**write) < valid).count() as u64;
                prop_assert!(before <= held, "{before} writes before {valid:?}, {held} in the answer");
            }
        }
    }

    #[test]
    fn r42_age_and_lag_only_ever_make_an_answer_older(ms in 0_u64..1 << 40, age in proptest::option::of(0_u64..1 << 33), lag in 0_u64..1 << 40) {
        let age = age.map(Span::from_secs);
        let plain = valid_as_of(at(ms), age, Lag::None);
        prop_assert!(plain.is_none_or(|valid| valid <= at(ms)));
        for lag in [Lag::Declared(Span::from_millis(lag)), Lag::HoldsUpTo(at(lag))] {
            if let Some(valid) = valid_as_of(at(ms), age, lag) {
                prop_assert!(plain.is_some_and(|plain| valid <= plain));
            }
        }
    }
}
