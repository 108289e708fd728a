#![allow(clippy::unwrap_used)]

use super::*;
use crate::core::http::testing::meta;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

/// The facts that came back, where they could be told.
fn back(meta: &Meta) -> Option<Meta> {
    let numbers = Numbers::of(meta)?;
    assert_eq!(numbers.facts(meta.part), meta.facts());
    assert_eq!(numbers.tag(), meta.etag.as_ref().map(|etag| etag.weak));
    Some(numbers.meta(meta.part, meta.vary.clone(), meta.etag.clone()))
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        any::<u64>().prop_map(Span::from_millis),
        (0..5_000_000_u64).prop_map(Span::from_secs),
        (0..40_000_000_u64).prop_map(|n| Span::from_millis(n * 100)),
        (0..5_000_000_000_u64).prop_map(Span::from_millis),
        Just(Span::MAX),
    ]
}

fn walls() -> impl Strategy<Value = WallTime> {
    prop_oneof![
        any::<i64>().prop_map(WallTime::from_millis),
        (-10..4_294_967_400_i64).prop_map(|s| WallTime::from_millis(s * 1000)),
    ]
}

proptest! {
    #[test]
    fn numbers_come_back_as_they_were_given_or_are_not_taken(
        (sent, after, before) in (0..1_u64 << 50, 0..1_u64 << 43, prop_oneof![0..1_u64 << 33, (0..1_u64 << 33).prop_map(|ms| ms * 1000)]),
        (epoch, status, marks) in (prop_oneof![0..9_u64, any::<u64>()], 100..600_u16, any::<[bool; 4]>()),
        (initial_age, lifetime, swr, sie) in (spans(), spans(), spans(), prop::option::of(spans())),
        (last_modified, date, weak) in (prop::option::of(walls()), walls(), prop::option::of(any::<bool>())),
    ) {
        let at = MonoTime::from_micros;
        let given = Meta {
            status: StatusCode::from_u16(status).unwrap(),
            sent: at(sent),
            received: at(sent + after),
            valid_as_of: at(sent.saturating_sub(before)),
            epoch: Epoch(epoch),
            initial_age,
            lifetime,
            stale_while_revalidate: swr,
            stale_if_error: sie,
            must_revalidate: marks[0],
            no_cache: marks[1],
            shareable: marks[2],
            proven: marks[3],
            etag: weak.map(|weak| Etag { value: http::HeaderValue::from_static("\"a\""), weak }),
            last_modified,
            date,
            ..meta()
        };
        if let Some(came) = back(&given) {
            prop_assert_eq!(came, given);
        }
    }
}

#[test]
fn what_answers_have_can_be_told() {
    let at = MonoTime::from_micros;
    let sent = at(7_000_000 * SECOND + 3);
    let plain = || Meta {
        sent,
        received: at(sent.as_micros() + 1234),
        valid_as_of: sent,
        ..meta()
    };
    let long_ago = WallTime::from_millis(300 * 86_400_000);
    for (name, meta) in [
        ("as it comes", plain()),
        (
            "an age of a week, as a cache below tells it",
            Meta {
                valid_as_of: sent.before(Span::from_secs(604_800)),
                initial_age: Span::from_millis(604_800_017),
                ..plain()
            },
        ),
        (
            "a replica that is behind",
            Meta {
                valid_as_of: sent.before(Span::from_millis(7_200_001)),
                ..plain()
            },
        ),
        (
            "never known to be current",
            Meta {
                valid_as_of: MonoTime::default(),
                ..plain()
            },
        ),
        (
            "a year of lifetime",
            Meta {
                lifetime: Span::from_secs(31_536_000),
                ..plain()
            },
        ),
        (
            "a tenth of the time since Last-Modified",
            Meta {
                lifetime: Span::from_millis(2_592_000_700),
                last_modified: Some(long_ago),
                ..plain()
            },
        ),
        (
            "a late epoch",
            Meta {
                epoch: Epoch(u64::MAX),
                ..plain()
            },
        ),
        (
            "what the gate proves",
            Meta {
                lifetime: Span::MAX,
                stale_if_error: Some(Span::ZERO),
                ..plain()
            },
        ),
        (
            "without Date: when it was received",
            Meta {
                date: WallTime::from_millis(1_794_000_000_123),
                ..plain()
            },
        ),
    ] {
        assert_eq!(back(&meta).as_ref(), Some(&meta), "{name}");
    }
}

#[test]
fn what_cannot_be_told_exactly_is_not_taken() {
    let sent = MonoTime::from_micros(9_000 * SECOND);
    let plain = || Meta {
        sent,
        received: sent,
        valid_as_of: sent,
        ..meta()
    };
    for (name, meta) in [
        (
            "received before it was sent",
            Meta {
                received: MonoTime::from_micros(1),
                ..plain()
            },
        ),
        (
            "received an hour later, to the microsecond",
            Meta {
                received: MonoTime::from_micros(sent.as_micros() + 3_600 * SECOND + 1),
                ..plain()
            },
        ),
        (
            "current when it was not yet sent",
            Meta {
                valid_as_of: MonoTime::from_micros(sent.as_micros() + 1),
                ..plain()
            },
        ),
        (
            "fifty years",
            Meta {
                lifetime: Span::from_secs(1_576_800_000),
                ..plain()
            },
        ),
        (
            "before 1970",
            Meta {
                last_modified: Some(WallTime::from_millis(-1000)),
                ..plain()
            },
        ),
    ] {
        assert!(back(&meta).is_none(), "{name}");
    }
}

/// One at a time: together with others that are not taken they would show nothing.
#[test]
fn numbers_about_every_limit_come_back_or_are_not_taken() {
    let about = |n: u64| [n.saturating_sub(1), n, n.saturating_add(1)];
    let limits = || {
        let bits = (0..64).map(|bit| 1_u64 << bit);
        let scaled = |n: u64| [1, 100, 1000, 1_000_000].map(|unit| n.saturating_mul(unit));
        bits.chain([u64::MAX, u64::MAX - 1, u64::MAX / 1000])
            .chain([u32::MAX, u32::MAX - 1].map(u64::from))
            .flat_map(about)
            .flat_map(scaled)
    };
    let mut taken = 0;
    let mut check = |meta: &Meta| {
        if let Some(came) = back(meta) {
            assert_eq!(came, *meta);
            taken += 1;
        }
    };
    for n in limits() {
        let (at, span) = (MonoTime::from_micros(n), Span::from_millis(n));
        let wall = WallTime::from_millis(i64::try_from(n).unwrap_or(i64::MAX));
        let long = MonoTime::from_micros(u64::MAX / 2);
        let late = |meta: Meta| Meta {
            sent: long,
            received: long,
            valid_as_of: long,
            ..meta
        };
        let sums = |us: u64| MonoTime::from_micros((u64::MAX / 2).saturating_add(us));
        let differences = |us: u64| MonoTime::from_micros((u64::MAX / 2).saturating_sub(us));
        check(&Meta {
            sent: at,
            received: at,
            valid_as_of: at,
            ..meta()
        });
        check(&Meta {
            received: sums(n),
            ..late(meta())
        });
        check(&Meta {
            received: differences(n),
            ..late(meta())
        });
        check(&Meta {
            valid_as_of: sums(n),
            ..late(meta())
        });
        check(&Meta {
            valid_as_of: differences(n),
            ..late(meta())
        });
        check(&Meta {
            initial_age: span,
            ..meta()
        });
        check(&Meta {
            lifetime: span,
            ..meta()
        });
        check(&Meta {
            stale_while_revalidate: span,
            ..meta()
        });
        check(&Meta {
            stale_if_error: Some(span),
            ..meta()
        });
        check(&Meta {
            epoch: Epoch(n),
            ..meta()
        });
        for wall in [wall, WallTime::from_millis(wall.as_millis().saturating_neg())] {
            check(&Meta {
                last_modified: Some(wall),
                ..meta()
            });
            check(&Meta { date: wall, ..meta() });
        }
    }
    assert!(taken > 1000, "{taken}");
}
