//! The passes against hand-written cases, and against a search through all orders of the writes on random small histories.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

fn op(client: u32, kind: Kind, value: &str, start_ns: u64, end_ns: u64) -> Operation {
    Operation {
        key: "k".into(),
        client,
        kind,
        value: value.into(),
        start_ns,
        end_ns,
        outcome: Outcome::Ok,
        how: String::new(),
    }
}

fn write(client: u32, value: &str, start: u64, end: u64) -> Operation {
    op(client, Kind::Write, value, start, end)
}

fn read(client: u32, value: &str, start: u64, end: u64) -> Operation {
    op(client, Kind::Read, value, start, end)
}

fn maybe(operation: Operation) -> Operation {
    Operation {
        outcome: Outcome::Ambiguous,
        ..operation
    }
}

#[test]
fn r42_what_was_replaced_before_the_bound_is_too_old() {
    let history = |last: Operation| vec![write(0, "a", 0, 1), write(0, "b", 10, 20), last];
    let cases: &[(&str, Vec<Operation>, bool)] = &[
        ("within the bound", history(read(1, "a", 25, 26)), true),
        ("exactly at it", history(read(1, "a", 30, 31)), true),
        ("just beyond it", history(read(1, "a", 31, 32)), false),
        ("the new value", history(read(1, "b", 99, 100)), true),
        (
            "what was there before everything",
            history(read(1, NOTHING, 12, 13)),
            false,
        ),
        (
            "an unknown write may still come",
            vec![maybe(write(0, "a", 0, 1)), write(0, "b", 10, 20), read(1, "a", 99, 100)],
            true,
        ),
        (
            "an unknown write replaces nothing for certain",
            vec![write(0, "a", 0, 1), maybe(write(0, "b", 10, 20)), read(1, "a", 99, 100)],
            true,
        ),
        (
            "writes at once: either may be last",
            vec![write(0, "a", 0, 15), write(1, "b", 10, 20), read(1, "a", 99, 100)],
            true,
        ),
        (
            "of several that replaced it, the first to end counts",
            vec![
                write(0, "a", 0, 1),
                write(0, "b", 2, 90),
                write(1, "c", 3, 4),
                read(1, "a", 15, 16),
            ],
            false,
        ),
    ];
    for (name, history, holds) in cases {
        let passed = bounded(history, |_, _| Some(10));
        assert_eq!(passed.violations.is_empty(), *holds, "{name}: {passed:?}");
        assert_eq!(passed.judged, 1, "{name}");
    }
    assert_eq!(bounded(&history(read(1, "a", 31, 32)), |_, _| None), Passed::default());
}

#[test]
fn r47_a_client_sees_its_own_writes_and_never_goes_back() {
    let two = [write(0, "a", 0, 1), write(1, "b", 10, 20)];
    let with = |more: &[Operation]| [&two[..], more].concat();
    let cases: &[(&str, Vec<Operation>, bool, bool)] = &[
        (
            "another's write need not be seen",
            with(&[read(0, "a", 30, 31)]),
            true,
            true,
        ),
        ("one's own must be", with(&[read(1, "a", 30, 31)]), false, true),
        ("not while it is under way", with(&[read(1, "a", 15, 31)]), true, true),
        (
            "what was seen stays seen",
            with(&[read(0, "b", 30, 31), read(0, "a", 32, 33)]),
            true,
            false,
        ),
        (
            "by this client only",
            with(&[read(0, "b", 30, 31), read(2, "a", 32, 33)]),
            true,
            true,
        ),
        (
            "nothing at all after something",
            with(&[read(0, "a", 5, 6), read(0, NOTHING, 7, 8)]),
            false,
            false,
        ),
        (
            "writes at once have no order",
            vec![
                write(0, "a", 0, 15),
                write(1, "b", 10, 20),
                read(1, "a", 30, 31),
                read(1, "b", 32, 33),
                read(1, "a", 34, 35),
            ],
            true,
            true,
        ),
    ];
    for (name, history, own, back) in cases {
        let found = read_your_writes(history, |_| true).violations;
        assert_eq!(found.is_empty(), *own, "own writes: {name}: {found:?}");
        let found = monotonic_reads(history, |_| true).violations;
        assert_eq!(found.is_empty(), *back, "monotonic: {name}: {found:?}");
    }
}

/// All orders in which the writes may have come into force; unknown ones may be missing.
fn orders<'a>(writes: &[&'a Operation]) -> Vec<Vec<&'a Operation>> {
    let mut found = Vec::new();
    let mut order = Vec::new();
    extend(&mut order, writes, &mut found);
    found
}

fn extend<'a>(order: &mut Vec<&'a Operation>, left: &[&'a Operation], found: &mut Vec<Vec<&'a Operation>>) {
    if left.iter().all(|w| w.outcome == Outcome::Ambiguous) {
        found.push(order.clone());
    }
    for (at, next) in left.iter().enumerate() {
        if left.iter().any(|other| other.ends() < next.start_ns) {
            continue;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        order.push(next);
        extend(order, &rest, found);
        order.pop();
    }
}

/// Whether a read of `value` at one instant of a window can be explained: the same search with the read as one more step.
fn can_be_read(writes: &[&Operation], value: &str, (start, end): (u64, u64), now: &str) -> bool {
    let may_read = writes.iter().all(|w| w.ends() >= start);
    if may_read && now == value {
        return true;
    }
    (0..writes.len()).any(|at| {
        let next = writes[at];
        let blocked = writes.iter().any(|other| other.ends() < next.start_ns) || end < next.start_ns;
        let mut rest = writes.to_vec();
        rest.remove(at);
        !blocked && can_be_read(&rest, value, (start, end), &next.value)
    })
}

fn place(order: &[&Operation], value: &str) -> Option<usize> {
    if value == NOTHING {
        return Some(0);
    }
    order.iter().position(|w| w.value == value).map(|at| at + 1)
}

/// Whether some order has what `read` saw at or behind everything of `known`.
fn is_behind(writes: &[&Operation], known: &[&Operation], read: &Operation) -> bool {
    orders(writes).iter().any(|order| {
        let at = place(order, &read.value);
        at.is_some_and(|at| {
            known
                .iter()
                .all(|k| place(order, &k.value).is_some_and(|place| place <= at))
        })
    })
}

prop_compose! {
    fn interval()(start in 0_u64..14, length in 0_u64..6) -> (u64, u64) {
        (start, start + length)
    }
}

prop_compose! {
    fn histories()(
        writes in prop::collection::vec((interval(), 0_u32..3, prop::bool::weighted(0.2)), 0..5),
        reads in prop::collection::vec((interval(), 0_u32..3, 0_usize..5), 1..4),
    ) -> Vec<Operation> {
        let name = |n: usize| format!("v{n}");
        let mut history = Vec::new();
        for (n, ((start, end), client, unknown)) in writes.iter().enumerate() {
            let one = write(*client, &name(n), *start, *end);
            history.push(if *unknown { maybe(one) } else { one });
        }
        for ((start, end), client, n) in reads {
            // Of what was written before the read ended; the rest is another judge's.
            let value = writes.get(n).filter(|((begin, _), ..)| *begin <= end).map_or(NOTHING.to_owned(), |_| name(n));
            history.push(read(client, &value, start, end));
        }
        history
    }
}

/// A violation is told by operations that show it, none of which could be left out.
fn is_least(violation: &Violation, again: impl Fn(&[Operation]) -> Passed) {
    let told = &violation.operations;
    assert!(!again(told).violations.is_empty(), "{violation}");
    for left_out in told {
        let rest: Vec<_> = told.iter().filter(|o| *o != left_out).cloned().collect();
        assert!(again(&rest).violations.is_empty(), "without {left_out}: {violation}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_passes_say_what_a_search_through_all_orders_says(history in histories(), bound in 0_u64..8) {
        let writes: Vec<&Operation> = history.iter().filter(|o| o.kind == Kind::Write).collect();
        for (index, one) in history.iter().enumerate().filter(|(_, o)| o.kind == Kind::Read) {
            let fast = bounded(&history, |i, _| (i == index).then_some(bound));
            let window = (one.start_ns.saturating_sub(bound), one.end_ns);
            prop_assert_eq!(fast.violations.is_empty(), can_be_read(&writes, &one.value, window, NOTHING), "{:#?}", fast);

            let before = |o: &&Operation| o.client == one.client && o.end_ns < one.start_ns && o.outcome == Outcome::Ok;
            let mine: Vec<_> = history.iter().filter(before).collect();
            let (written, seen): (Vec<_>, Vec<_>) = mine.into_iter().partition(|o| o.kind == Kind::Write);
            let fast = read_your_writes(&history, |i| i == index);
            prop_assert_eq!(fast.violations.is_empty(), is_behind(&writes, &written, one), "{:#?}", fast);
            let fast = monotonic_reads(&history, |i| i == index);
            // A value nobody can have seen yet has no place in any order; of those `monotonic_reads` says nothing.
            prop_assert_eq!(fast.violations.is_empty(), is_behind(&writes, &seen, one), "{:#?}", fast);
        }
    }

    #[test]
    fn a_violation_is_told_by_the_fewest_operations(history in histories(), bound in 0_u64..8) {
        for violation in bounded(&history, |_, _| Some(bound)).violations {
            is_least(&violation, |h| bounded(h, |_, _| Some(bound)));
        }
        for violation in read_your_writes(&history, |_| true).violations {
            is_least(&violation, |h| read_your_writes(h, |_| true));
        }
        for violation in monotonic_reads(&history, |_| true).violations {
            is_least(&violation, |h| monotonic_reads(h, |_| true));
        }
    }
}
