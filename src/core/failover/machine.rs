//! The state machine of one upstream with `replication = "shared"`: probes in, view and effects out. Pure: the owner feeds it events
//! one at a time with the time they happened.
//!
//! Active-active: every healthy node takes traffic. Active-passive: the active node keeps it until it is unhealthy, then the first
//! healthy node in the order of preference takes over; a node that returns waits in reserve (failback is manual). The first active
//! node is not chosen while a node preferred to it is still unprobed: else the order in which first probes end would decide.

use super::health::{Health, Outcome, Thresholds, Turn, Why};
use super::view::{Epoch, Primary, View};
use crate::core::reason::NodeState;
use crate::core::time::MonoTime;
use std::time::Duration;

/// How traffic is spread.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Active-active.
    All,
    /// Active-passive.
    One,
}

/// What is known of the nodes before any probe.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Nothing: no traffic before the first probe.
    Unprobed,
    /// They count as healthy (no health check, or `initial = "healthy"`).
    Healthy,
}

/// What the machine must know of an upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How traffic is spread.
    pub spread: Spread,
    /// When a node turns over.
    pub thresholds: Thresholds,
    /// Before the first probe.
    pub initial: Initial,
    /// For each node, whether it waits in reserve.
    pub standby: Vec<bool>,
    /// The epoch to start in.
    pub epoch: Epoch,
}

/// What happened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A probe ended.
    Probed {
        /// Of this node.
        node: usize,
        /// Like this.
        outcome: Outcome,
    },
}

/// What must be done about it. The new view itself is read from the machine.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A node's state changed.
    State {
        /// Which node.
        node: usize,
        /// What it is now.
        state: NodeState,
    },
    /// Close all connections to this node, in flight too: nothing in flight will end well.
    CloseAll {
        /// Which node.
        node: usize,
    },
    /// Close the idle connections to this node; requests in flight may end.
    CloseIdle {
        /// Which node.
        node: usize,
    },
    /// Traffic moved from one node to another.
    Failover {
        /// The node that had it.
        from: usize,
        /// The node that has it.
        to: usize,
        /// From the first failed probe of the row that took `from` out of service until now.
        took: Duration,
    },
}

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
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Tracked {
    health: Health,
    /// The first failure of the current row; none while the last probe passed.
    failing_since: Option<MonoTime>,
}

impl Machine {
    /// The machine before any event.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let health = match settings.initial {
            Initial::Unprobed => Health::Unprobed,
            Initial::Healthy => Health::Up { failures: 0 },
        };
        let nodes = vec![
            Tracked {
                health,
                failing_since: None
            };
            settings.standby.len()
        ];
        // R30: the first node without `standby` is the first active one; after it the order of the file counts.
        let first = settings.standby.iter().position(|standby| !standby).unwrap_or(0);
        let rest = (0..nodes.len()).filter(|node| *node != first);
        let preference = std::iter::once(first)
            .filter(|f| *f < nodes.len())
            .chain(rest)
            .collect();
        let epoch = settings.epoch;
        let mut machine = Self {
            settings,
            nodes,
            preference,
            active: None,
            last_active: None,
            epoch,
        };
        machine.elect();
        machine
    }

    /// Takes one event; pushes what must be done.
    pub fn step(&mut self, now: MonoTime, event: Event, effects: &mut Vec<Effect>) {
        let Event::Probed { node, outcome } = event;
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
