//! The judge, judged: against hand-written cases, and against a search through all orders (Wing and Gong) on random small histories.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use std::collections::BTreeSet;

fn op(kind: Kind, value: &str, start_ns: u64, end_ns: u64, outcome: Outcome) -> Operation {
    Operation {
        key: "k".into(),
        client: 0,
        kind,
        value: value.into(),
        start_ns,
        end_ns,
        outcome,
        how: String::new(),
    }
}

fn write(value: &str, start: u64, end: u64) -> Operation {
    op(Kind::Write, value, start, end, Outcome::Ok)
}

fn maybe(value: &str, start: u64) -> Operation {
    op(Kind::Write, value, start, start, Outcome::Ambiguous)
}

fn read(value: &str, start: u64, end: u64) -> Operation {
    op(Kind::Read, value, start, end, Outcome::Ok)
}

fn faults(history: &[Operation]) -> Vec<Fault> {
    judge(history).unwrap().violations.iter().map(|v| v.fault).collect()
}

// ---- by hand

#[test]
fn what_can_be_explained_is_accepted() {
    let cases: &[(&str, Vec<Operation>)] = &[
        ("nothing at all", vec![]),
        ("a write alone", vec![write("a", 0, 1)]),
        (
            "old and new during a write",
            vec![
                write("a", 0, 10),
                write("b", 40, 60),
                read("a", 45, 50),
                read("b", 50, 70),
                read("b", 80, 90),
            ],
        ),
        (
            "two writes at once, the first to end in force",
            vec![write("a", 0, 9), write("b", 1, 2), read("a", 10, 11)],
        ),
        (
            "an unknown write that nobody saw",
            vec![write("a", 0, 1), maybe("b", 2), read("a", 9, 10)],
        ),
        (
            "an unknown write seen late",
            vec![
                write("a", 0, 1),
                maybe("b", 2),
                read("a", 4, 5),
                read("b", 6, 7),
                read("b", 8, 9),
            ],
        ),
        (
            "an unknown write over a later acknowledged one",
            vec![maybe("a", 0), write("b", 2, 3), read("b", 4, 5), read("a", 6, 7)],
        ),
        (
            "a failed write that nobody saw",
            vec![
                write("a", 0, 1),
                op(Kind::Write, "b", 2, 3, Outcome::Failed),
                read("a", 4, 5),
            ],
        ),
        (
            "reads without an answer say nothing",
            vec![
                write("a", 0, 1),
                write("b", 2, 3),
                op(Kind::Read, "a", 4, 5, Outcome::Failed),
                op(Kind::Read, "c", 4, 5, Outcome::Ambiguous),
            ],
        ),
        (
            "two readers while two writes are open",
            vec![
                write("a", 0, 10),
                write("b", 0, 10),
                read("a", 1, 5),
                read("b", 2, 6),
                read("a", 3, 20),
            ],
        ),
        (
            "one instant: both orders are possible",
            vec![write("a", 0, 1), write("b", 1, 2), read("a", 2, 3)],
        ),
        (
            "other keys do not count",
            vec![
                write("a", 0, 1),
                write("b", 2, 3),
                Operation {
                    key: "l".into(),
                    ..write("a", 0, 1)
                },
                Operation {
                    key: "l".into(),
                    ..read("a", 5, 6)
                },
            ],
        ),
    ];
    for (name, history) in cases {
        let verdict = judge(history).unwrap();
        assert!(verdict.holds(), "{name}: {}", verdict.violations[0]);
        assert!(search(history), "{name}: not even the search accepts it");
    }
}

#[test]
fn planted_violations_are_found_and_told_by_the_fewest_operations() {
    let cases: &[(&str, Fault, usize, Vec<Operation>)] = &[
        (
            "a stale read",
            Fault::StaleRead,
            3,
            vec![
                write("z", 0, 1),
                write("a", 2, 3),
                read("a", 4, 5),
                write("b", 6, 7),
                read("b", 8, 9),
                read("a", 10, 11),
            ],
        ),
        (
            "a read that goes back while the write is open",
            Fault::StaleRead,
            4,
            vec![write("a", 0, 1), write("b", 2, 20), read("b", 3, 4), read("a", 5, 6)],
        ),
        (
            "the same for a write that never ends",
            Fault::StaleRead,
            4,
            vec![write("a", 0, 1), maybe("b", 2), read("b", 3, 4), read("a", 5, 6)],
        ),
        (
            "two readers, two orders",
            Fault::BackAndForth,
            4,
            vec![
                write("a", 0, 10),
                write("b", 0, 10),
                read("a", 11, 12),
                read("b", 13, 14),
                read("a", 15, 16),
            ],
        ),
        (
            "two readers, two orders of two unknown writes",
            Fault::BackAndForth,
            6,
            vec![
                maybe("a", 0),
                maybe("b", 0),
                read("a", 1, 3),
                read("b", 1, 3),
                read("b", 5, 6),
                read("a", 5, 6),
            ],
        ),
        (
            "an unknown write seen, replaced, and seen again",
            Fault::StaleRead,
            5,
            vec![
                maybe("a", 0),
                maybe("b", 0),
                read("a", 2, 3),
                read("b", 4, 5),
                read("a", 6, 7),
                read("b", 8, 9),
            ],
        ),
        (
            "1, 2, 1 after a repeated write",
            Fault::StaleRead,
            4,
            vec![maybe("a", 0), read("a", 2, 3), write("b", 4, 5), read("a", 8, 9)],
        ),
        (
            "from nowhere",
            Fault::NeverWritten,
            1,
            vec![write("a", 0, 1), read("b", 2, 3)],
        ),
        (
            "a write that was refused is seen",
            Fault::NeverWritten,
            1,
            vec![op(Kind::Write, "b", 0, 1, Outcome::Failed), read("b", 2, 3)],
        ),
        (
            "too early",
            Fault::FromTheFuture,
            2,
            vec![read("a", 0, 1), write("a", 2, 3)],
        ),
    ];
    for (name, fault, fewest, history) in cases {
        let verdict = judge(history).unwrap();
        let clearest = verdict.clearest().unwrap_or_else(|| panic!("{name}: accepted"));
        assert!(faults(history).contains(fault), "{name}: {verdict:?}");
        assert_eq!(clearest.operations.len(), *fewest, "{name}: {clearest}");
        assert!(!search(history), "{name}: the search accepts it");
    }
}

#[test]
fn a_history_that_names_no_write_is_refused() {
    let twice = [write("a", 0, 1), write("a", 2, 3)];
    assert!(matches!(judge(&twice), Err(Malformed::WrittenTwice { .. })));
    assert!(matches!(judge(&[read("a", 5, 4)]), Err(Malformed::EndsFirst { .. })));
    let other_key = [
        write("a", 0, 1),
        Operation {
            key: "l".into(),
            ..write("a", 2, 3)
        },
    ];
    assert!(judge(&other_key).is_ok());
}

#[test]
fn an_acknowledged_write_must_survive_or_be_replaced() {
    let last = |value: Option<&str>| BTreeMap::from([("k".to_owned(), value.map(str::to_owned))]);
    let history = [write("a", 0, 1), write("b", 2, 3), maybe("c", 0), write("d", 0, 9)];
    assert!(lost_writes(&history, &last(Some("b"))).is_empty());
    assert!(
        lost_writes(&history, &last(Some("c"))).is_empty(),
        "an unknown write may come last"
    );
    assert!(
        lost_writes(&history, &last(Some("d"))).is_empty(),
        "so may one that was still open"
    );
    let lost = lost_writes(&history, &last(Some("a")));
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].operations, [history[0].clone(), history[1].clone()]);
    assert_eq!(
        lost_writes(&history, &last(None)).len(),
        3,
        "all that were acknowledged"
    );
    assert_eq!(lost_writes(&history, &last(Some("x"))).len(), 3);
}

#[test]
fn a_violation_can_be_read() {
    let history = [
        write("a", 0, 1_000),
        Operation {
            client: 1,
            how: "204".into(),
            ..write("b", 2_000, 3_000)
        },
        Operation {
            client: 2,
            how: "200 hit".into(),
            ..read("a", 5_000, 1_000_000_000)
        },
    ];
    assert_eq!(
        judge(&history).unwrap().violations[0].to_string(),
        "k: a stale read\n     \
         0.000000000 ..    0.000001000  client   0  write a            ok        \n     \
         0.000002000 ..    0.000003000  client   1  write b            ok        204\n     \
         0.000005000 ..    1.000000000  client   2  read  a            ok        200 hit\n  \
         \"a\" before \"b\": client 0's write of \"a\" had ended when client 1's write of \"b\" began; \
         but \"b\" before \"a\": client 1's write of \"b\" had ended when client 2's read of \"a\" began"
    );
}

// ---- against a search through all orders

/// Whether some order of one key's operations explains them: each read sees the write before it, who ended before another started
/// comes first, an ambiguous write may be left out. Tries them all.
fn search(history: &[Operation]) -> bool {
    let keys: BTreeSet<&str> = history.iter().map(|o| o.key.as_str()).collect();
    keys.iter().all(|key| {
        let operations: Vec<&Operation> = history
            .iter()
            .filter(|o| o.key == *key)
            .filter(|o| match o.kind {
                Kind::Read => o.outcome == Outcome::Ok,
                Kind::Write => o.outcome != Outcome::Failed,
            })
            .collect();
        step(&operations, 0, None, &mut BTreeSet::new())
    })
}

fn step(operations: &[&Operation], done: u32, value: Option<usize>, seen: &mut BTreeSet<(u32, Option<usize>)>) -> bool {
    let left = || (0..operations.len()).filter(|i| done & (1 << i) == 0);
    if left().all(|i| operations[i].outcome == Outcome::Ambiguous) {
        return true;
    }
    if !seen.insert((done, value)) {
        return false;
    }
    left().any(|i| {
        let operation = operations[i];
        let next = match operation.kind {
            Kind::Write => Some(i),
            Kind::Read => value,
        };
        let possible = operation.kind == Kind::Write || value.is_some_and(|v| operations[v].value == operation.value);
        let in_turn = left().all(|j| operations[j].ends() >= operation.start_ns);
        possible && in_turn && step(operations, done | (1 << i), next, seen)
    })
}

/// A small generator of one's own: the same seed makes the same histories everywhere (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Intervals and values by chance, on a clock so coarse that many times are equal.
fn wild(chance: &mut Chance) -> Vec<Operation> {
    let writes = 1 + chance.below(4);
    let mut history = Vec::new();
    for value in 0..writes {
        let start = chance.below(14);
        let outcome = match chance.below(10) {
            0..3 => Outcome::Ambiguous,
            3 => Outcome::Failed,
            _ => Outcome::Ok,
        };
        history.push(op(
            Kind::Write,
            &value.to_string(),
            start,
            start + chance.below(8),
            outcome,
        ));
    }
    for _ in 0..chance.below(6) {
        let start = chance.below(20);
        let value = chance.below(writes).to_string();
        history.push(read(&value, start, start + chance.below(6)));
    }
    history
}

/// What a true register shows: operations take effect at instants by chance inside their intervals. Then perhaps one thing is changed,
/// so that many of these are almost right.
fn nearly_true(chance: &mut Chance) -> Vec<Operation> {
    let mut history = Vec::new();
    let mut effects: Vec<(u64, usize)> = Vec::new();
    for i in 0..4 + chance.below(7) {
        let start = chance.below(30);
        let length = chance.below(6);
        let at = start + chance.below(length + 1);
        let (kind, outcome, at) = match chance.below(10) {
            0..5 => (Kind::Read, Outcome::Ok, Some(at)),
            5..8 => (Kind::Write, Outcome::Ok, Some(at)),
            8 => (Kind::Write, Outcome::Ambiguous, Some(start + chance.below(30))),
            _ => (Kind::Write, Outcome::Ambiguous, None),
        };
        if let Some(at) = at {
            effects.push((at, history.len()));
        }
        history.push(op(kind, &i.to_string(), start, start + length, outcome));
    }
    effects.sort_unstable();
    let mut value = None;
    for (_, i) in effects {
        match (history[i].kind, &value) {
            (Kind::Write, _) => value = Some(history[i].value.clone()),
            (Kind::Read, Some(seen)) => history[i].value.clone_from(seen),
            (Kind::Read, None) => history[i].outcome = Outcome::Failed,
        }
    }
    for _ in 0..chance.below(3) {
        let at = usize::try_from(chance.below(history.len() as u64)).unwrap();
        let other = usize::try_from(chance.below(history.len() as u64)).unwrap();
        let seen = history[other].value.clone();
        let known = history.iter().any(|o| o.kind == Kind::Write && o.value == seen);
        let changed = &mut history[at];
        if changed.kind == Kind::Read && known {
            changed.value = seen;
        } else {
            changed.end_ns -= chance.below(changed.end_ns - changed.start_ns + 1);
        }
    }
    history
}

#[test]
fn the_zones_say_what_a_search_through_all_orders_says() {
    type Source = fn(&mut Chance) -> Vec<Operation>;
    let sources: [(&str, Source); 2] = [("wild", wild), ("nearly true", nearly_true)];
    for (name, source) in sources {
        let mut chance = Chance(1);
        let mut accepted = [0, 0];
        for round in 0..20_000 {
            let history = source(&mut chance);
            let verdict = judge(&history).unwrap();
            let truth = search(&history);
            let shown = || history.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert_eq!(
                verdict.holds(),
                truth,
                "{name} {round}: the search says {truth}, the zones {:?} of\n{}",
                verdict.violations,
                shown()
            );
            accepted[usize::from(truth)] += 1;
            for violation in &verdict.violations {
                explains(violation, &shown());
            }
        }
        assert!(accepted.iter().all(|n| *n > 1_000), "{name}: one-sided, {accepted:?}");
    }
}

/// The told operations contradict each other by themselves, and no fewer of them do (a write stays while a read of it does).
fn explains(violation: &Violation, shown: &str) {
    let told = &violation.operations;
    assert!(!search(told), "{violation}\nis no contradiction in\n{shown}");
    for left_out in told {
        let rest: Vec<Operation> = told.iter().filter(|o| *o != left_out).cloned().collect();
        let orphans = left_out.kind == Kind::Write && rest.iter().any(|o| o.value == left_out.value);
        assert!(orphans || search(&rest), "{violation}\nneeds no {left_out} in\n{shown}");
    }
}
