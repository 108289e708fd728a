//! Each promise is seen to break by a planted violation, and a history that shows nothing is never called kept.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const STRONG: &str = "strong;proof=exclusive";
const BOUNDED: &str = "bounded;staleness=1;bound=10";

fn op(kind: Kind, client: u32, value: &str, ms: (u64, u64), consistency: &str) -> Recorded {
    Recorded {
        operation: Operation {
            key: "k".into(),
            client,
            kind,
            value: value.into(),
            start_ns: ms.0 * 1_000_000,
            end_ns: ms.1 * 1_000_000,
            outcome: Outcome::Ok,
            how: String::new(),
        },
        consistency: consistency.into(),
        token: false,
        last: false,
    }
}

fn two_writes(more: Vec<Recorded>) -> Vec<Recorded> {
    let mut all = vec![
        op(Kind::Write, 0, "a", (0, 1), ""),
        op(Kind::Write, 1, "b", (10, 20), ""),
    ];
    all.extend(more);
    all
}

fn broken(history: &[Recorded], terms: &Terms) -> Vec<&'static str> {
    let verdict = judge(history, terms, &[]).unwrap();
    let broken = verdict.promises.iter().filter(|p| !p.violations.is_empty());
    let broken: Vec<_> = broken.map(|p| p.name).collect();
    assert_eq!(verdict.holds(), broken.is_empty() && verdict.short.is_empty());
    assert_eq!(text(&verdict).ends_with("verdict: KEPT"), verdict.holds());
    broken
}

#[test]
fn a_planted_violation_of_each_promise_is_found() {
    let read = |client, value: &str, ms, consistency: &str| op(Kind::Read, client, value, ms, consistency);
    let terms = Terms::default();
    let with_token = |one: Recorded| Recorded { token: true, ..one };
    let last = |one: Recorded| Recorded { last: true, ..one };
    let cases: Vec<(&str, Vec<Recorded>, &[&str])> = vec![
        ("all is well", vec![read(2, "b", (30, 31), STRONG)], &[]),
        (
            "a stale strong read",
            vec![read(2, "a", (30, 31), STRONG)],
            &["linearizable"],
        ),
        (
            "one's own write",
            vec![read(1, "a", (30, 31), STRONG)],
            &["linearizable", "read your writes"],
        ),
        (
            "an invented value",
            vec![read(2, "c", (30, 31), STRONG)],
            &["every value read was written"],
        ),
        (
            "nothing, on strong",
            vec![read(2, NOTHING, (30, 31), STRONG)],
            &["every value read was written"],
        ),
        ("within its bound", vec![read(2, "a", (30, 31), BOUNDED)], &[]),
        (
            "beyond its bound",
            vec![read(2, "a", (31, 32), BOUNDED)],
            &["within the bound"],
        ),
        (
            "beyond, and says so",
            vec![
                read(2, "b", (31, 32), BOUNDED),
                read(2, "a", (31, 32), "breached;staleness=11;bound=10"),
            ],
            &[],
        ),
        ("a session without a token", vec![read(1, "a", (21, 22), BOUNDED)], &[]),
        (
            "with one",
            vec![with_token(read(1, "a", (21, 22), BOUNDED))],
            &["read your writes"],
        ),
        (
            "and back",
            vec![
                read(2, "b", (21, 22), BOUNDED),
                with_token(read(2, "a", (23, 24), BOUNDED)),
            ],
            &["monotonic reads"],
        ),
        (
            "back, in a session, and says so",
            vec![
                read(1, "b", (21, 22), BOUNDED),
                with_token(read(1, "a", (23, 24), "breached;staleness=11;bound=10")),
            ],
            &[],
        ),
        (
            "a lost write",
            vec![last(read(2, "a", (30, 31), ""))],
            &["no acknowledged write is lost"],
        ),
        (
            "all of it lost",
            vec![last(read(2, NOTHING, (30, 31), ""))],
            &["no acknowledged write is lost"],
        ),
        (
            "a write that one of two proxies has lost",
            vec![last(read(2, "a", (30, 31), "")), last(read(2, "b", (32, 33), ""))],
            &["no acknowledged write is lost"],
        ),
        ("a weak stale read", vec![read(2, "a", (99, 100), "")], &[]),
    ];
    for (name, reads, expected) in cases {
        assert_eq!(broken(&two_writes(reads), &terms), expected, "{name}");
    }
}

#[test]
fn terms_go_before_what_the_answers_claim() {
    let stale = two_writes(vec![op(Kind::Read, 2, "a", (99, 100), BOUNDED)]);
    let terms = |level, ms: Option<u64>| Terms {
        level,
        max_staleness: ms.map(Span::from_millis),
        ..Terms::default()
    };
    assert_eq!(broken(&stale, &terms(None, Some(80))), Vec::<&str>::new());
    assert_eq!(broken(&stale, &terms(None, Some(78))), ["within the bound"]);
    assert_eq!(broken(&stale, &terms(Some(Level::Weak), None)), Vec::<&str>::new());
    assert_eq!(broken(&stale, &terms(Some(Level::Strong), None)), ["linearizable"]);
    let own = two_writes(vec![op(Kind::Read, 1, "a", (25, 26), BOUNDED)]);
    let sessions = Terms {
        sessions: true,
        ..Terms::default()
    };
    assert_eq!(broken(&own, &sessions), ["read your writes"]);
}

#[test]
fn what_could_not_be_judged_is_not_kept() {
    let few = two_writes(vec![op(Kind::Read, 2, "b", (30, 31), STRONG)]);
    let least = |reads, writes| Terms {
        least: (reads, writes),
        ..Terms::default()
    };
    for (name, terms, unread, holds) in [
        ("enough", least(1, 2), vec![], true),
        ("too few reads", least(2, 2), vec![], false),
        ("too few writes", least(1, 3), vec![], false),
        ("an end nobody could read", least(1, 2), vec!["k".to_owned()], false),
    ] {
        let verdict = judge(&few, &terms, &unread).unwrap();
        assert_eq!(verdict.holds(), holds, "{name}");
        assert_eq!(
            text(&verdict).contains("too few"),
            name.starts_with("too few"),
            "{name}"
        );
        assert_eq!(text(&verdict).ends_with("NOT KEPT"), !holds, "{name}");
    }
    let eventual = Terms {
        level: Some(Level::Eventual),
        ..Terms::default()
    };
    assert!(!judge(&few, &eventual, &[]).unwrap().holds(), "no read names a bound");
    assert!(!judge(&[], &least(1, 1), &[]).unwrap().holds(), "nothing at all");
}

#[test]
fn the_verdict_shows_the_smallest_schedule() {
    let history = two_writes(vec![
        op(Kind::Read, 2, "b", (30, 31), STRONG),
        op(Kind::Read, 3, "a", (32, 33), STRONG),
    ]);
    let verdict = judge(&history, &Terms::default(), &[]).unwrap();
    let shown = text(&verdict);
    assert!(
        shown.contains("linearizable                   NO, 1 violations of 4 judged\n"),
        "{shown}"
    );
    assert!(shown.contains("k: a stale read\n"), "{shown}");
    assert_eq!(verdict.clearest().unwrap().operations.len(), 3, "{shown}");
}

#[test]
fn a_route_whose_every_read_admits_to_be_beyond_its_bound_is_not_kept() {
    let breached = op(Kind::Read, 2, "a", (99, 100), "breached;staleness=98;bound=10");
    let verdict = judge(&two_writes(vec![breached]), &Terms::default(), &[]).unwrap();
    assert_eq!(verdict.level, Level::Eventual, "it names a bound");
    assert!(!verdict.holds() && !verdict.short.is_empty(), "{}", text(&verdict));
}
