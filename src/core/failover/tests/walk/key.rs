//! What tells two states apart: times only by their order and by whole units since, epochs not at all.

use super::super::super::event::Role;
use super::super::super::health::{Health, Why};
use super::super::super::node::{Power, Quarantine};
use super::super::super::promote::{Attempt, Phase};
use super::super::super::view::{NoPrimary, Primary};
use super::acts::{STABLE, UNIT};
use super::ghost::Ghost;
use super::{MonoTime, State};
use crate::core::time::Span;

/// Written out, one byte for each thing.
#[derive(Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    fn put(&mut self, value: impl Into<u64>) {
        self.0.push(u8::try_from(value.into().min(250)).unwrap_or(250));
    }

    fn maybe(&mut self, value: Option<u64>) {
        self.0
            .push(value.map_or(255, |value| u8::try_from(value.min(250)).unwrap_or(250)));
    }

    fn node(&mut self, node: Option<usize>) {
        self.maybe(node.map(|node| node as u64));
    }

    fn flags<'a>(&mut self, flags: impl IntoIterator<Item = &'a bool>) {
        let bits = flags.into_iter().fold(1_u64, |bits, flag| bits << 1 | u64::from(*flag));
        self.put(bits);
    }

    fn attempt(&mut self, attempt: Attempt) {
        self.node(attempt.wanted);
        self.put(attempt.ordered);
    }

    pub(super) fn of(state: &State) -> Vec<u8> {
        let mut key = Self(Vec::with_capacity(96));
        key.machine(state);
        key.ghost(&state.ghost);
        key.0
    }

    fn machine(&mut self, state: &State) {
        let (m, now) = (&state.machine, state.now);
        let units = |at: MonoTime| (now.saturating_sub(at.as_micros()) / UNIT).min(3);
        let left = |at: MonoTime| at.as_micros().saturating_sub(now).div_ceil(UNIT).min(3);
        for node in &m.nodes {
            let fresh = match m.phase {
                Phase::Choosing(_, since) | Phase::Promoting(_, since, _) => node.said_sent > since,
                Phase::Idle | Phase::Fencing(..) | Phase::Stopped { .. } => false,
            };
            self.put(match node.health {
                Health::Unprobed => 0_u64,
                Health::Up { failures } => 10 + u64::from(failures),
                Health::Down { successes, why } => 20 + u64::from(successes) + if why == Why::Status { 10 } else { 0 },
            });
            self.put(match node.power {
                Power::Running => 0,
                Power::Off => 1,
                Power::Failed => 2,
                Power::Starting { until } => 10 + left(until),
            });
            self.maybe(match node.quarantine {
                Quarantine::Over => None,
                Quarantine::Until(goal) => Some(goal.map_or(200, |goal| goal.0)),
            });
            self.maybe(node.sound_since.map(units));
            let stable = node.sound_since.map(|since| since.after(Span::from_secs(STABLE)));
            let shown = stable.zip(node.passed).is_some_and(|(at, passed)| passed >= at);
            self.maybe(node.said.role.map(|role| u64::from(role == Role::Primary)));
            self.maybe(node.said.term);
            self.maybe(node.said.position.map(|position| position.0));
            let ever = node.said_sent > m.reign_since;
            self.flags(&[
                node.filled,
                node.drained,
                node.ejected,
                node.in_sync,
                ever,
                fresh,
                shown,
            ]);
        }
        match m.phase {
            Phase::Idle => self.put(0_u64),
            Phase::Fencing(attempt, whom) => {
                self.put(1_u64);
                self.attempt(attempt);
                self.node(Some(whom));
            }
            Phase::Choosing(attempt, _) => {
                self.put(2_u64);
                self.attempt(attempt);
            }
            Phase::Promoting(attempt, _, chosen) => {
                self.put(3_u64);
                self.attempt(attempt);
                self.node(Some(chosen.node));
                self.put(chosen.lossy);
            }
            Phase::Stopped { why, again } => {
                self.put(4 + no(why));
                self.maybe(again.map(left));
            }
        }
        for node in [m.primary, m.deposed, m.pinned, m.kept] {
            self.node(node);
        }
        self.put(match m.answer {
            Primary::Any => 0,
            Primary::Homes => 1,
            Primary::Pending => 2,
            Primary::None(why) => 3 + no(why),
            Primary::Node(node) => 100 + node as u64,
        });
        self.maybe(m.claim.map(|claim| claim.term));
        self.node(m.claim.map(|claim| claim.node));
        self.maybe(m.unclaimed_since.map(units));
        self.node(m.pending.map(|pending| pending.node));
        self.maybe(m.pending.and_then(|pending| pending.reached).map(|reached| reached.0));
        self.put(m.pending.is_some_and(|pending| pending.lossy));
        self.put(m.failures.min(2));
        self.put(m.superseded.is_some());
    }

    fn ghost(&mut self, g: &Ghost) {
        for flags in [&g.out, &g.drained, &g.ejected, &g.up] {
            self.flags(flags);
        }
        for claim in &g.claims {
            self.maybe(claim.map(|term| term.unwrap_or(200)));
        }
        for position in &g.fresh {
            self.maybe(*position);
        }
        for units in &g.sound {
            self.put(*units);
        }
        for (passed, row) in &g.rows {
            self.put(u64::from(*row).min(2) + if *passed { 10 } else { 0 });
        }
        self.maybe(g.highest);
        self.maybe(g.shown);
        for node in [g.holder, g.ordered, g.begun.map(|begun| begun.0)] {
            self.node(node);
        }
        self.maybe(g.begun.and_then(|begun| begun.1));
        self.flags(&g.fenced);
        self.flags(&[g.stopped, g.hooked, g.word, g.superseded]);
    }
}

fn no(why: NoPrimary) -> u64 {
    match why {
        NoPrimary::Nobody => 0,
        NoPrimary::Conflict => 1,
        NoPrimary::Behind => 2,
        NoPrimary::NotFenced => 3,
        NoPrimary::NotPromoted => 4,
        NoPrimary::Superseded => 5,
        NoPrimary::Manual => 6,
    }
}
