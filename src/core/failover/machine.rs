//! The state machine of one upstream with `replication = "shared"`: probes in, view and effects out. Pure: the owner feeds it events
//! one at a time with the time they happened.
//!
//! Active-active: every healthy node takes traffic. Active-passive: the active node keeps it until it is unhealthy, then the first
//! healthy node in the order of preference takes over; a node that returns waits in reserve (failback is manual). The first active
//! node is not chosen while a node preferred to it is still unprobed: else the order in which first probes end would decide.

use super::event::{Effect, Event, Observed};
use super::health::{Health, Outcome, Turn, Why};
use super::observed::Observing;
use super::settings::{Initial, Record, Settings, Spread};
use super::view::{Epoch, Primary, View};
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use std::sync::Arc;

/// One upstream's nodes and who takes traffic.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    nodes: Vec<Tracked>,
    /// Nodes in the order in which they are preferred as active.
    preference: Vec<usize>,
    active: Option<usize>,
    /// The node that was active last, also while none is.
    last_active: Option<usize>,
    epoch: Epoch,
    observing: Arc<Observing>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Tracked {
    health: Health,
    /// The first failure of the current row; none while the last probe passed.
    failing_since: Option<MonoTime>,
}

impl Machine {
    /// The machine before any event, as it was left when a record of that is remembered.
    #[must_use]
    pub fn new(now: MonoTime, settings: Settings, remembered: Option<&Record>) -> Self {
        let health = match settings.initial {
            Initial::Unprobed => Health::Unprobed,
            Initial::Healthy => Health::Up { failures: 0 },
        };
        let nodes = vec![
            Tracked {
                health,
                failing_since: None
            };
            settings.nodes.len()
        ];
        // R30: the first node without `standby` is the first active one; after it the order of the file counts.
        let first = settings
            .nodes
            .iter()
            .position(|slot| slot.standby.is_none())
            .unwrap_or(0);
        let rest = (0..nodes.len()).filter(|node| *node != first);
        let preference = std::iter::once(first)
            .filter(|f| *f < nodes.len())
            .chain(rest)
            .collect();
        let epoch = remembered.map_or(settings.epoch, |record| record.epoch);
        let mut machine = Self {
            settings,
            nodes,
            preference,
            active: None,
            last_active: None,
            epoch,
            observing: Arc::new(Observing::from(now)),
        };
        machine.elect();
        machine
    }

    /// What must be durable of it.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            epoch: self.epoch,
            primary: self.active,
            deposed: None,
            in_sync: vec![true; self.nodes.len()],
            term: None,
        }
    }

    /// What clients have been shown of the present primary's time in office: to be read for every step.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.observing.read()
    }

    /// Takes one event; pushes what must be done.
    pub fn step(&mut self, now: MonoTime, event: Event, _observed: Observed, effects: &mut Vec<Effect>) {
        let Event::Probed { node, outcome, .. } = event else {
            return;
        };
        let before = self.states();
        let active_before = self.last_active;
        let Some(tracked) = self.nodes.get_mut(node) else {
            return;
        };
        let (health, turn) = tracked.health.after(outcome, self.settings.thresholds);
        tracked.health = health;
        match outcome {
            Outcome::Passed => tracked.failing_since = None,
            Outcome::Refused | Outcome::Unreachable => {
                tracked.failing_since.get_or_insert(now);
            }
        }
        match turn {
            Turn::None | Turn::Up => {}
            Turn::Down(Why::Status) => effects.push(Effect::CloseIdle { node }),
            Turn::Down(Why::Unreachable) | Turn::Lost => effects.push(Effect::CloseAll { node }),
        }
        self.elect();
        for (node, (was, is)) in before.into_iter().zip(self.states()).enumerate() {
            if was != is {
                effects.push(Effect::State { node, state: is });
            }
        }
        if let (Some(from), Some(to)) = (active_before, self.active)
            && from != to
        {
            let since = self.nodes.get(from).and_then(|n| n.failing_since).unwrap_or(now);
            let took = now.duration_since(since);
            effects.push(Effect::Failover { from, to, took });
        }
    }

    /// What requests should see now.
    #[must_use]
    pub fn view(&self) -> View {
        let candidates = match self.settings.spread {
            Spread::All => (0..self.nodes.len()).filter(|node| self.is_up(*node)).collect(),
            Spread::One => self.active.into_iter().collect(),
        };
        View {
            epoch: self.epoch,
            primary: match (self.settings.spread, self.active) {
                (Spread::All, _) => Primary::Any,
                (Spread::One, Some(node)) => Primary::Node(node),
                (Spread::One, None) => Primary::Pending,
            },
            candidates,
            states: self.states(),
            in_sync: vec![true; self.nodes.len()],
            since: vec![None; self.nodes.len()],
            observed: Arc::clone(&self.observing),
        }
    }

    fn is_up(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|n| n.health.is_up())
    }

    /// Active-passive: keeps a healthy active node, else chooses one. The epoch grows when another node takes over (R53).
    fn elect(&mut self) {
        match self.settings.spread {
            Spread::All => return,
            Spread::One => {}
        }
        if self.active.is_some_and(|node| self.is_up(node)) {
            return;
        }
        self.active = None;
        for &node in &self.preference {
            match self.nodes.get(node).map(|n| n.health) {
                Some(Health::Up { .. }) => {
                    self.active = Some(node);
                    break;
                }
                // Before the first election the verdict on a preferred node is awaited.
                Some(Health::Unprobed) if self.last_active.is_none() => break,
                Some(Health::Unprobed | Health::Down { .. }) | None => {}
            }
        }
        if let Some(node) = self.active {
            if self.last_active.is_some_and(|last| last != node) {
                self.epoch = self.epoch.next();
            }
            self.last_active = Some(node);
        }
    }

    fn states(&self) -> Vec<NodeState> {
        let state = |(node, tracked): (usize, &Tracked)| match tracked.health {
            Health::Unprobed => NodeState::Unprobed,
            Health::Down { .. } => NodeState::Unhealthy,
            Health::Up { .. } => match self.settings.spread {
                Spread::All => NodeState::Active,
                Spread::One if self.active == Some(node) => NodeState::Active,
                Spread::One => NodeState::Standby,
            },
        };
        self.nodes.iter().enumerate().map(state).collect()
    }
}
