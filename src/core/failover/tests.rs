//! Every order of probe results on two and three nodes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::event::{Effect, Event, Observed, Said};
use super::health::{Health, Outcome, Thresholds, Turn, Why};
use super::machine::Machine;
use super::settings::{Grade, Initial, Settings, Slot, Spread};
use super::view::Epoch;
use crate::core::reason::NodeState;
use crate::core::time::{MonoTime, Span};
use std::time::Duration;

mod hooks;
mod reigns;
mod take_over;
mod walk;
mod words;

const OUTCOMES: [Outcome; 3] = [Outcome::Passed, Outcome::Refused, Outcome::Unreachable];
const THRESHOLDS: Thresholds = Thresholds {
    healthy: 2,
    unhealthy: 2,
};

fn machine(spread: Spread, initial: Initial, nodes: usize) -> Machine {
    let slots = (0..nodes).map(|n| Slot::of((n > 0).then_some(Grade::Hot))).collect();
    let settings = Settings::shared(spread, THRESHOLDS, initial, slots, Epoch(7));
    Machine::new(MonoTime::default(), settings, None)
}

fn probed(node: usize, outcome: Outcome) -> Event {
    Event::Probed {
        node,
        outcome,
        said: Said::default(),
        sent: MonoTime::default(),
    }
}

/// What a node's state must be by its history alone, counted in the plainest way: look at the last results.
fn up_by_history(initial: Initial, history: &[Outcome]) -> bool {
    let mut up = matches!(initial, Initial::Healthy);
    for end in 1..=history.len() {
        let seen = &history[..end];
        let row = |wanted: bool, n: usize| {
            seen.len() >= n && seen[seen.len() - n..].iter().all(|o| (*o == Outcome::Passed) == wanted)
        };
        if end == 1 && matches!(initial, Initial::Unprobed) {
            up = seen[0] == Outcome::Passed;
        } else if up && row(false, 2) {
            up = false;
        } else if !up && row(true, 2) {
            up = true;
        }
    }
    up
}

fn walk(spread: Spread, initial: Initial, nodes: usize, depth: usize) {
    crate::core::rules::switch_off_as_told();
    fn go(m: &Machine, histories: &mut Vec<Vec<Outcome>>, depth: usize, at: u64, spread: Spread, initial: Initial) {
        check(m, histories, spread, initial);
        if depth == 0 {
            return;
        }
        for node in 0..histories.len() {
            for outcome in OUTCOMES {
                let mut next = m.clone();
                let before = m.view();
                let mut effects = Vec::new();
                let now = MonoTime::default().after(Span::from_secs(at));
                next.step(now, probed(node, outcome), Observed::Unknown, &mut effects);
                let after = next.view();
                histories[node].push(outcome);
                check_step(&before, &after, &effects, histories);
                go(&next, histories, depth - 1, at + 1, spread, initial);
                histories[node].pop();
            }
        }
    }
    go(
        &machine(spread, initial, nodes),
        &mut vec![Vec::new(); nodes],
        depth,
        1,
        spread,
        initial,
    );
}

fn check(m: &Machine, histories: &[Vec<Outcome>], spread: Spread, initial: Initial) {
    let view = m.view();
    for (node, history) in histories.iter().enumerate() {
        let up = up_by_history(initial, history);
        let state = view.state(node);
        let healthy = matches!(state, NodeState::Active | NodeState::Standby);
        assert_eq!(
            healthy, up,
            "node {node} after {history:?} is {state:?}: interleaved results must not add up"
        );
        assert!(
            up || !view.candidates.contains(&node),
            "an unhealthy node takes traffic: {histories:?}"
        );
        assert_eq!(
            view.candidates.contains(&node),
            state == NodeState::Active,
            "{histories:?}"
        );
    }
    match spread {
        Spread::All => assert_eq!(view.active(), None),
        Spread::One => {
            assert!(view.candidates.len() <= 1, "two nodes are active: {histories:?}");
            assert_eq!(view.candidates.first().copied(), view.active());
            let undecided = matches!(initial, Initial::Unprobed) && histories.iter().any(Vec::is_empty);
            let any_up = histories.iter().any(|h| up_by_history(initial, h));
            assert!(
                undecided || !any_up || view.active().is_some(),
                "a healthy node exists and none is active: {histories:?}"
            );
        }
    }
}

fn check_step(before: &super::view::View, after: &super::view::View, effects: &[Effect], histories: &[Vec<Outcome>]) {
    assert!(after.epoch >= before.epoch, "the epoch fell: {histories:?}");
    if let (Some(was), Some(is)) = (before.active(), after.active()) {
        assert_eq!(
            after.epoch > before.epoch,
            was != is,
            "the epoch tells of a change of the active node: {histories:?}"
        );
        if was != is {
            assert_eq!(
                after.state(was),
                NodeState::Unhealthy,
                "a healthy active node lost its place"
            );
        }
    }
    for (node, history) in histories.iter().enumerate() {
        let told = effects
            .iter()
            .any(|e| matches!(e, Effect::State { node: n, .. } if *n == node));
        assert_eq!(
            told,
            before.state(node) != after.state(node),
            "changes of state are told, and only those"
        );
        let fell = before.state(node) != NodeState::Unhealthy && after.state(node) == NodeState::Unhealthy;
        let closed = effects
            .iter()
            .any(|e| *e == Effect::CloseAll { node } || *e == Effect::CloseIdle { node });
        assert!(!fell || closed, "a node that fell keeps its connections");
        if fell && history.last() == Some(&Outcome::Unreachable) {
            assert!(effects.contains(&Effect::CloseAll { node }));
        }
    }
}

#[test]
fn every_order_of_probes_keeps_the_invariants() {
    for spread in [Spread::All, Spread::One] {
        for initial in [Initial::Unprobed, Initial::Healthy] {
            walk(spread, initial, 2, 6);
            walk(spread, initial, 3, 4);
        }
    }
}

#[test]
fn the_first_probe_alone_decides() {
    let thresholds = Thresholds {
        healthy: 5,
        unhealthy: 5,
    };
    assert_eq!(
        Health::Unprobed.after(Outcome::Passed, thresholds),
        (Health::Up { failures: 0 }, Turn::Up)
    );
    assert_eq!(
        Health::Unprobed.after(Outcome::Unreachable, thresholds).1,
        Turn::Down(Why::Unreachable)
    );
}

#[test]
fn a_standby_whose_first_probe_ends_first_does_not_become_active() {
    let mut m = machine(Spread::One, Initial::Unprobed, 3);
    let probe = |m: &mut Machine, node, outcome| {
        m.step(
            MonoTime::default(),
            probed(node, outcome),
            Observed::Unknown,
            &mut Vec::new(),
        )
    };
    probe(&mut m, 2, Outcome::Passed);
    assert_eq!(m.view().active(), None);
    probe(&mut m, 0, Outcome::Unreachable);
    assert_eq!(m.view().active(), None, "node 1 is preferred to node 2 and unprobed");
    probe(&mut m, 1, Outcome::Passed);
    assert_eq!(m.view().active(), Some(1));
    assert_eq!(m.view().epoch, Epoch(7), "the first election is no change");
}

#[test]
fn a_node_that_returns_waits_in_reserve() {
    let mut m = machine(Spread::One, Initial::Healthy, 2);
    let mut effects = Vec::new();
    let at = |s| MonoTime::default().after(Span::from_secs(s));
    let failed = probed(0, Outcome::Unreachable);
    let passed = probed(0, Outcome::Passed);
    m.step(at(10), failed, Observed::Unknown, &mut effects);
    assert_eq!(effects, []);
    m.step(at(11), failed, Observed::Unknown, &mut effects);
    assert!(effects.contains(&Effect::Failover {
        from: 0,
        to: 1,
        took: Duration::from_secs(1)
    }));
    m.step(at(12), passed, Observed::Unknown, &mut effects);
    m.step(at(13), passed, Observed::Unknown, &mut effects);
    assert_eq!(m.view().active(), Some(1));
    assert_eq!(m.view().state(0), NodeState::Standby);
    assert_eq!(m.view().epoch, Epoch(8));
}

#[test]
fn a_node_down_by_status_that_then_vanishes_loses_its_connections_in_flight() {
    let mut m = machine(Spread::All, Initial::Healthy, 2);
    let mut effects = Vec::new();
    let probed = |outcome| probed(0, outcome);
    for _ in 0..2 {
        m.step(
            MonoTime::default(),
            probed(Outcome::Refused),
            Observed::Unknown,
            &mut effects,
        );
    }
    assert!(effects.contains(&Effect::CloseIdle { node: 0 }));
    assert!(!effects.contains(&Effect::CloseAll { node: 0 }));
    m.step(
        MonoTime::default(),
        probed(Outcome::Unreachable),
        Observed::Unknown,
        &mut effects,
    );
    assert!(effects.contains(&Effect::CloseAll { node: 0 }));
}
