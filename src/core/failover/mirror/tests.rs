//! The machines one by one; the protocol they make together is played in [`walk`] and [`random`].

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod judge;
mod random;
mod walk;
mod world;

use super::Standing;
use super::compare::{self, Compare, Shown};
use super::doubt::Doubt;
use super::missed::{FEW, Listed, MAX_MISSED, Missed, Next};
use super::target::Target;
use super::turns::{Turn, Turns};
use super::write::{self, End, Event, Why, Write};
use crate::core::failover::view::Epoch;
use crate::core::reason::WriteOutcome;
use crate::core::time::{MonoTime, Span};

fn view(epoch: u64, primary: Option<usize>, in_sync: &[usize]) -> Standing {
    Standing {
        epoch: Epoch(epoch),
        primary,
        in_sync: in_sync.to_vec(),
    }
}

fn ends(effects: &[write::Effect]) -> Option<End> {
    effects.iter().find_map(|effect| match effect {
        write::Effect::End(end) => Some(*end),
        _ => None,
    })
}

#[test]
fn r33_a_write_is_acked_only_by_the_set_and_the_view_it_was_sent_under() {
    let (all, alone) = (view(1, Some(0), &[0, 1]), view(1, Some(0), &[0]));
    let (applied, unknown) = (
        Event::Answered(WriteOutcome::Applied),
        Event::Answered(WriteOutcome::Unknown),
    );
    let copied = |confirmed| Event::Copied { node: 1, confirmed };
    let removed = Event::Removed { node: 1 };
    let begun = [(&all, Event::Turn), (&all, Event::Intended(true))];
    type Steps<'a> = Vec<(&'a Standing, Event)>;
    let (later, pending, nobody) = (
        view(2, Some(0), &[0, 1]),
        view(1, None, &[0, 1]),
        view(1, None, &[0, 1]),
    );
    let (joined, out) = (view(1, Some(0), &[0, 1, 2]), view(1, Some(0), &[1]));
    let cases: Vec<(&str, usize, Steps<'_>, End)> = vec![
        (
            "both confirm",
            2,
            vec![(&all, applied), (&all, copied(true))],
            End::Acked,
        ),
        (
            "one leaves",
            1,
            vec![(&all, applied), (&all, copied(false)), (&alone, removed)],
            End::Acked,
        ),
        (
            "too few are left",
            2,
            vec![(&all, applied), (&all, copied(false)), (&alone, removed)],
            End::Unknown,
        ),
        (
            "it could not be removed",
            1,
            vec![(&all, applied), (&all, copied(false)), (&all, removed)],
            End::Unknown,
        ),
        (
            "R29: another epoch",
            1,
            vec![(&all, applied), (&later, copied(true))],
            End::Unknown,
        ),
        ("R29: at once", 1, vec![(&later, applied)], End::Unknown),
        (
            "R29: nobody is primary",
            1,
            vec![(&all, applied), (&pending, copied(true))],
            End::Unknown,
        ),
        (
            "a node has joined",
            1,
            vec![(&all, applied), (&joined, copied(true))],
            End::Unknown,
        ),
        (
            "R37: the primary is out",
            1,
            vec![(&all, applied), (&out, copied(true))],
            End::Unknown,
        ),
        ("unknown at the primary", 1, vec![(&all, unknown)], End::Unknown),
        (
            "refused",
            1,
            vec![(&all, Event::Answered(WriteOutcome::Rejected))],
            End::Rejected,
        ),
        (
            "refused by a deposed one",
            1,
            vec![(&later, Event::Answered(WriteOutcome::Rejected))],
            End::Unknown,
        ),
        (
            "not sent",
            1,
            vec![(&all, Event::Answered(WriteOutcome::NotApplied))],
            End::NotApplied(Why::NotSent),
        ),
    ];
    for (name, enough, steps, expected) in cases {
        let mut write = Write::new(enough);
        let steps = begun.iter().copied().chain(steps);
        let ended = steps
            .map(|(view, event)| ends(&write.step(view, event)))
            .last()
            .flatten();
        assert_eq!(ended, Some(expected), "{name}");
    }
    for (name, view, event, expected) in [
        ("too few in sync", &alone, Event::Turn, Why::TooFew),
        ("no primary", &nobody, Event::Turn, Why::NoPrimary),
        ("the primary is not in sync", &out, Event::Turn, Why::NoPrimary),
        ("no durable intent", &all, Event::Intended(false), Why::NotDurable),
        ("another primary by then", &later, Event::Intended(true), Why::NoPrimary),
    ] {
        let mut write = Write::new(2);
        if !matches!(event, Event::Turn) {
            assert_eq!(write.step(&all, Event::Turn), [write::Effect::Intend]);
        }
        assert_eq!(
            ends(&write.step(view, event)),
            Some(End::NotApplied(expected)),
            "{name}"
        );
    }
}

#[test]
fn r34_a_comparison_repairs_what_differs_and_never_copies_what_is_no_state() {
    use compare::{Effect, End};
    let both = view(1, Some(0), &[0, 1]);
    let alone = view(1, Some(0), &[0]);
    let same = |certain| Effect::End(End::Same { certain });
    let end = Effect::End;
    for (name, shown, expected) in [
        ("the same", [Shown::State(1), Shown::State(1)], vec![same(true)]),
        ("gone from both", [Shown::Gone, Shown::Gone], vec![same(true)]),
        (
            "the same refusal",
            [Shown::Strange(1), Shown::Strange(1)],
            vec![same(false)],
        ),
        (
            "different",
            [Shown::State(1), Shown::State(2)],
            vec![Effect::Copy { node: 1 }],
        ),
        (
            "gone from the primary",
            [Shown::Gone, Shown::State(2)],
            vec![Effect::Copy { node: 1 }],
        ),
        (
            "too large at the other",
            [Shown::State(1), Shown::TooLarge],
            vec![Effect::Copy { node: 1 }],
        ),
        (
            "refused by one",
            [Shown::Strange(1), Shown::State(1)],
            vec![end(End::Unrepairable)],
        ),
        (
            "too large",
            [Shown::TooLarge, Shown::TooLarge],
            vec![end(End::Unrepairable)],
        ),
        (
            "silent primary",
            [Shown::Silent, Shown::State(1)],
            vec![end(End::Unreachable)],
        ),
        (
            "silent standby",
            [Shown::State(1), Shown::Silent],
            vec![Effect::Remove { node: 1 }],
        ),
    ] {
        let mut compare = Compare::default();
        assert_eq!(compare.step(&both, compare::Event::Turn).len(), 2);
        let effects: Vec<_> = shown
            .into_iter()
            .enumerate()
            .flat_map(|(node, shown)| compare.step(&both, compare::Event::Showed { node, shown }))
            .collect();
        assert_eq!(effects, expected, "{name}");
        match expected.first() {
            Some(Effect::Copy { node }) => {
                let node = *node;
                let mut refused = compare.clone();
                let confirmed = compare.step(&both, compare::Event::Copied { node, confirmed: true });
                assert_eq!(confirmed, [same(true)], "{name}");
                let copied = refused.step(&both, compare::Event::Copied { node, confirmed: false });
                assert_eq!(copied, [Effect::Remove { node }], "{name}");
                assert_eq!(refused.step(&alone, compare::Event::Removed { node }), [same(true)]);
            }
            Some(Effect::Remove { node }) => {
                let removed = compare.step(&both, compare::Event::Removed { node: *node });
                assert_eq!(removed, [end(End::Overtaken)], "{name}: it could not be removed");
            }
            _ => {}
        }
    }
}

#[test]
fn r34_writes_wait_for_everything_ahead_and_reads_for_writes_alone() {
    let mut turns = Turns::default();
    let first = [Turn::Read, Turn::Read, Turn::Alone, Turn::Read, Turn::Alone].map(|turn| turns.enter(turn));
    let up = |turns: &Turns| first.map(|ticket| turns.is_up(ticket));
    assert_eq!(up(&turns), [true, true, false, false, false]);
    assert_eq!(turns.leave(first[0]), []);
    assert_eq!(turns.leave(first[1]), [first[2]]);
    assert_eq!(turns.leave(first[2]), [first[3]]);
    turns.becomes_alone(first[3]);
    assert_eq!(
        up(&turns),
        [false, false, false, true, false],
        "it waits for nobody ahead"
    );
    let late = turns.enter(Turn::Read);
    assert_eq!(
        turns.leave(first[4]),
        [],
        "who gives up in the middle lets nobody past a repair"
    );
    assert_eq!(turns.leave(first[3]), [late]);
    assert_eq!(turns.leave(late), []);
    assert!(turns.is_empty());
}

#[test]
fn r34_r35_doubt_ends_with_a_comparison_that_began_after_settling() {
    let at = |ms| MonoTime::default().after(Span::from_millis(ms));
    let mut doubt = Doubt::default();
    doubt.raise(&"/a?x".into(), 1, at(10));
    let early = doubt.begin(at(9));
    assert_eq!(doubt.succeeded(early), []);
    let overtaken = doubt.begin(at(10));
    doubt.raise(&"/a".into(), 2, at(5));
    assert_eq!(doubt.succeeded(overtaken), [], "another unknown since");
    doubt.settles(1, at(20));
    assert_eq!(
        doubt.settled_at(),
        at(20),
        "its connection closed later than was thought"
    );
    assert_eq!(
        doubt.targets().cloned().collect::<Vec<_>>(),
        [Target::from("/a"), "/a?x".into()]
    );
    let begun = doubt.begin(at(20));
    assert_eq!(doubt.succeeded(begun), [(2, "/a".into()), (1, "/a?x".into())]);
    assert!(!doubt.is_open());
}

#[test]
fn r33b_a_node_returns_when_it_is_quiet_and_has_everything_it_missed() {
    let at = |ms| MonoTime::default().after(Span::from_millis(ms));
    let mut missed = Missed::default();
    for held in [false, true] {
        let next = missed.next(1, at(0), held);
        assert_eq!(
            next,
            Next::Recall,
            "what earlier processes have listed is not known yet"
        );
    }
    missed.recalled();
    assert_eq!(missed.next(1, at(0), false), Next::Hold, "it has missed nothing");
    assert_eq!(missed.note(1, &"/b".into()), Listed::New);
    assert_eq!(missed.note(1, &"/b".into()), Listed::Known);
    missed.unanswered(1, at(10));
    assert_eq!(missed.next(1, at(9), true), Next::Wait(at(10)));
    assert_eq!(missed.next(1, at(10), false), Next::Hold);
    assert_eq!(missed.next(1, at(10), true), Next::Copy("/b".into()));
    missed.copied(1, &"/b".into());
    assert_eq!(missed.next(1, at(10), true), Next::Admit);
    for n in 0..=FEW {
        missed.note(1, &format!("/{n}").as_str().into());
    }
    assert!(
        matches!(missed.next(1, at(10), false), Next::Copy(_)),
        "too many to hold writes for"
    );
    for n in 0..=MAX_MISSED {
        missed.note(2, &n.to_string().as_str().into());
    }
    assert_eq!((missed.count(2), missed.next(2, at(0), false)), (None, Next::Operator));
    missed.forget(2);
    assert_eq!(missed.next(2, at(0), true), Next::Admit);
}

#[test]
fn r34_a_copy_that_nobody_confirmed_to_a_node_that_stays_keeps_the_doubt_open() {
    let at = |ms| MonoTime::default().after(Span::from_millis(ms));
    let mut doubt = Doubt::default();
    doubt.unsettle(at(50));
    assert!(!doubt.is_open(), "nothing was in doubt");
    doubt.raise(&"/a".into(), 1, at(10));
    let begun = doubt.begin(at(20));
    doubt.unsettle(at(120));
    assert_eq!(doubt.settled_at(), at(120));
    assert_eq!(doubt.succeeded(begun), [], "one that began before");
    let begun = doubt.begin(at(119));
    assert_eq!(doubt.succeeded(begun), [], "the copy may yet be applied");
    let begun = doubt.begin(at(120));
    assert_eq!(doubt.succeeded(begun), [(1, "/a".into())]);
}

#[test]
fn r34_what_a_client_chose_is_compared_and_never_copied() {
    use compare::{Effect, End};
    for (name, other, expected) in [
        ("the same", Shown::State(1), End::Same { certain: true }),
        ("another", Shown::State(2), End::Unrepairable),
        ("none", Shown::Gone, End::Unrepairable),
    ] {
        let mut compare = Compare::without_repair();
        let view = view(1, Some(0), &[0, 1]);
        assert_eq!(compare.step(&view, compare::Event::Turn).len(), 2);
        let shown = Shown::State(1);
        assert_eq!(compare.step(&view, compare::Event::Showed { node: 0, shown }), []);
        let shown = other;
        let effects = compare.step(&view, compare::Event::Showed { node: 1, shown });
        assert_eq!(effects, [Effect::End(expected)], "{name}");
    }
}
