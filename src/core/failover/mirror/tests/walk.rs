//! Every order of steps of a very small world: two writes, two reads, two or three nodes, and a few of the things that go wrong. Each
//! finished history is judged by brute force. States seen before are not entered again.

use super::judge::{self, Done};
use super::random::did;
use super::world::{Action, Flaw, Kind, Left, World};
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// How a walk went: states entered, and the steps to the first history that is not linearizable.
struct Walked {
    states: usize,
    wrong: Option<Vec<Action>>,
}

/// The steps to a state, last first.
struct Path(Action, Option<Rc<Path>>);

fn steps(path: Option<&Rc<Path>>) -> Vec<Action> {
    let mut steps: Vec<_> = std::iter::successors(path, |path| path.1.as_ref())
        .map(|path| path.0)
        .collect();
    steps.reverse();
    steps
}

fn walk(flaw: Flaw, nodes: usize, clients: &[Vec<Kind>], left: Left) -> Walked {
    let mut seen = HashSet::new();
    let mut open = vec![(World::new(flaw, nodes, clients, 1, left), None)];
    while let Some((world, path)) = open.pop() {
        if world.is_over() && !is_right(&world) {
            return Walked {
                states: seen.len(),
                wrong: Some(steps(path.as_ref())),
            };
        }
        for action in world.actions() {
            let mut next = world.clone();
            next.act(action);
            let mut hasher = DefaultHasher::new();
            next.hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                open.push((next, Some(Rc::new(Path(action, path.clone())))));
            }
        }
    }
    let states = seen.len();
    Walked { states, wrong: None }
}

/// The history, with the order of beginnings and ends as its clock: who had ended before an operation began has a smaller end.
fn is_right(world: &World) -> bool {
    // An operation begins after those that had been told by then; how many they are orders the beginnings, since the set only grows.
    let start = |before: u32| u64::from(before.count_ones()) * 2 + 2;
    let mut history = Vec::new();
    for (n, op) in world.ops.iter().enumerate() {
        let first = world.ops.iter().filter(|later| later.before & 1 << n != 0);
        let end = first.map(|later| start(later.before) - 1).min().unwrap_or(1000);
        let Some(did) = op.told.and_then(|told| did(op.kind, told)) else {
            continue;
        };
        history.push(Done {
            did,
            start: start(op.before),
            end,
        });
    }
    if let Some(value) = world.at_primary() {
        let did = judge::Did::Read(value);
        history.push(Done {
            did,
            start: 2000,
            end: 2001,
        });
    }
    judge::by_force(&history)
}

fn clients() -> Vec<Vec<Kind>> {
    vec![vec![Kind::Write(1)], vec![Kind::Write(2)], vec![Kind::Read, Kind::Read]]
}

const NOTHING: Left = Left {
    losses: 0,
    crashes: 0,
    deaths: 0,
    promotions: 0,
    returns: 0,
};

#[test]
fn r33_r34_every_order_of_two_writes_and_two_reads_on_two_nodes_is_linearizable() {
    for (name, left) in [
        ("a loss", Left { losses: 1, ..NOTHING }),
        (
            "a failover",
            Left {
                deaths: 1,
                promotions: 1,
                ..NOTHING
            },
        ),
        (
            "a loss and a failover",
            Left {
                losses: 1,
                promotions: 1,
                ..NOTHING
            },
        ),
        ("a restart", Left { crashes: 1, ..NOTHING }),
    ] {
        let walked = walk(Flaw::None, 2, &clients(), left);
        assert!(walked.states > 10_000, "{name}: {} states", walked.states);
        assert!(walked.wrong.is_none(), "{name}: {:?}", walked.wrong);
    }
}

/// What random schedules hardly ever find.
pub(super) const RARE: [Flaw; 5] = [
    Flaw::NoComparisonAfterSettling,
    Flaw::IntentsAreForgottenAtARestart,
    Flaw::ARestartClearsTheIntentsItFound,
    Flaw::ANodeReturnsBeforeItIsQuiet,
    Flaw::NodesWithUnansweredCopiesStayAtARestart,
];

#[test]
fn r33b_r34_r35_every_order_of_restarts_and_returns_is_linearizable_and_shows_what_chance_hardly_finds() {
    let (read, first, second) = (Kind::Read, Kind::Write(1), Kind::Write(2));
    for (flaw, clients, left) in [
        (
            Flaw::NoComparisonAfterSettling,
            vec![vec![first], vec![read, read]],
            Left {
                losses: 1,
                promotions: 1,
                ..NOTHING
            },
        ),
        (
            Flaw::IntentsAreForgottenAtARestart,
            vec![vec![first], vec![read, read]],
            Left {
                crashes: 1,
                promotions: 1,
                returns: 1,
                ..NOTHING
            },
        ),
        (
            Flaw::ARestartClearsTheIntentsItFound,
            vec![vec![first], vec![read, read]],
            Left {
                crashes: 2,
                promotions: 1,
                returns: 1,
                ..NOTHING
            },
        ),
        (
            Flaw::ANodeReturnsBeforeItIsQuiet,
            vec![vec![first, second, read]],
            Left {
                losses: 1,
                promotions: 1,
                returns: 1,
                ..NOTHING
            },
        ),
        (
            Flaw::NodesWithUnansweredCopiesStayAtARestart,
            vec![vec![first], vec![read, second, read]],
            Left {
                crashes: 1,
                promotions: 1,
                ..NOTHING
            },
        ),
    ] {
        let walked = walk(Flaw::None, 2, &clients, left);
        assert!(walked.states > 1_000, "{flaw:?}: {} states", walked.states);
        assert!(walked.wrong.is_none(), "without {flaw:?}: {:?}", walked.wrong);
        assert!(walk(flaw, 2, &clients, left).wrong.is_some(), "{flaw:?}");
    }
}
