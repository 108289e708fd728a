//! What is remembered of one node. It decides nothing about the others.

use super::event::{Role, Said};
use super::health::{Health, Outcome, Thresholds, Turn};
use super::settings::{Grade, Initial, Slot};
use crate::core::consistency::bound::Position;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;

/// One slot and the node in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    pub(super) filled: bool,
    pub(super) standby: Option<Grade>,
    pub(super) health: Health,
    /// The first failure of the current row; none while the last probe passed.
    pub(super) failing_since: Option<MonoTime>,
    /// Since when it has been healthy without a single failure.
    pub(super) sound_since: Option<MonoTime>,
    /// What it said on the last probe that passed, and when that was sent; nothing once it is down.
    pub(super) said: Said,
    pub(super) said_sent: MonoTime,
    /// When its last probe that passed was sent; none where none has.
    pub(super) passed: Option<MonoTime>,
    pub(super) drained: bool,
    pub(super) ejected: bool,
    pub(super) in_sync: bool,
    pub(super) quarantine: Quarantine,
    pub(super) power: Power,
    /// Whether it was out of service before: then it starts slowly.
    pub(super) late: bool,
    /// Since when it takes traffic, where that began later than the process.
    pub(super) since: Option<MonoTime>,
}

/// R52: whether a node that returned must show first that it has caught up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Quarantine {
    /// No.
    Over,
    /// It must reach where the primary was when it returned; none: the primary has not said yet.
    Until(Option<Position>),
}

impl Quarantine {
    /// R36: where the last primary was says nothing of how far a node must come under this one.
    pub(super) fn under_another(self) -> Self {
        match self {
            Self::Until(Some(_)) if Rule::R36.holds() => Self::Until(None),
            Self::Until(goal) => Self::Until(goal),
            Self::Over => Self::Over,
        }
    }
}

/// Whether a cold node runs, as far as is known. Others always count as running.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Running,
    Off,
    /// Told to start; its probes must pass by then.
    Starting {
        until: MonoTime,
    },
    /// It did not come; not tried again before somebody has taken the traffic.
    Failed,
}

impl Tracked {
    pub(super) fn new(now: MonoTime, slot: Slot, initial: Initial, in_sync: bool) -> Self {
        let cold = matches!(slot.standby, Some(Grade::Cold { .. }));
        let health = match initial {
            Initial::Healthy if !cold => Health::Up { failures: 0 },
            Initial::Healthy | Initial::Unprobed => Health::Unprobed,
        };
        Self {
            filled: slot.filled,
            standby: slot.standby,
            health,
            failing_since: None,
            sound_since: health.is_up().then_some(now),
            said: Said::default(),
            said_sent: now,
            passed: None,
            drained: false,
            ejected: false,
            in_sync,
            quarantine: Quarantine::Over,
            power: if cold { Power::Off } else { Power::Running },
            late: false,
            since: None,
        }
    }

    /// Takes a probe's result.
    pub(super) fn probed(
        &mut self,
        now: MonoTime,
        outcome: Outcome,
        said: Said,
        sent: MonoTime,
        thresholds: Thresholds,
    ) -> Turn {
        let thresholds = if Rule::R39.holds() {
            thresholds
        } else {
            Thresholds {
                healthy: 1,
                unhealthy: 1,
            }
        };
        let (health, turn) = self.health.after(outcome, thresholds); // R39
        self.health = health;
        match outcome {
            Outcome::Passed => {
                self.failing_since = None;
                self.said = said;
                self.said_sent = sent;
                self.passed = Some(sent);
                if health.is_up() {
                    self.sound_since.get_or_insert(now);
                    self.power = Power::Running;
                }
            }
            Outcome::Refused | Outcome::Unreachable => {
                self.failing_since.get_or_insert(now);
                self.sound_since = None;
                self.late |= !health.is_up();
                if !health.is_up() {
                    // Down, it claims nothing; how far it had come is still so.
                    self.said.role = None;
                    self.said.term = None;
                }
            }
        }
        turn
    }

    /// R37: one of the two bits.
    pub(super) fn is_alive(&self) -> bool {
        self.filled && self.health.is_up()
    }

    /// Whether it may be made the primary by a machine.
    pub(super) fn is_willing(&self) -> bool {
        self.is_alive() && !self.drained
    }

    /// Whether it may take reads that any node may answer.
    pub(super) fn is_in_service(&self) -> bool {
        self.is_willing() && !self.ejected && self.in_sync && self.quarantine == Quarantine::Over
    }

    /// Whether it may keep traffic that it has alone.
    pub(super) fn keeps_traffic(&self) -> bool {
        self.is_willing() && self.in_sync && self.quarantine == Quarantine::Over
    }

    /// Whether its first probe is to be awaited.
    pub(super) fn is_awaited(&self) -> bool {
        self.filled && self.health == Health::Unprobed && self.power == Power::Running
    }

    pub(super) fn is_down(&self) -> bool {
        !self.is_alive() && !self.is_awaited()
    }

    pub(super) fn claims(&self) -> bool {
        self.filled && self.said.role == Some(Role::Primary)
    }

    /// The position it reported on a probe that was sent after `since`: earlier ones may be of another history (R36).
    pub(super) fn position(&self, since: MonoTime) -> Option<Position> {
        self.said.position.filter(|_| self.said_sent > since)
    }
}
