//! Other settings for a machine that runs (R31): a reload has changed them, or who its nodes are. What is known of a node that stays
//! stays. One that is new brings nothing but its own first probe: over one store that is enough; where nodes hold data of their own it
//! stays out of the in-sync set until it is shown to hold every acked write, never by configuration alone (R33b, R36). One that is gone
//! leaves its place empty.
//!
//! Invariant: no reload makes anybody primary where nodes hold data of their own, and none takes away who is: such a one is refused
//! before anything has changed.

use super::event::{Effect, Event, Observed};
use super::health::Health;
use super::machine::Machine;
use super::node::{Power, Tracked};
use super::promote::Phase;
use super::settings::{Grade, Initial, Settings, Sharing, Slot, Spread};
use crate::core::rules::Rule;
use crate::core::time::MonoTime;

/// Other settings, and what comes with them.
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// From now on. A place never changes its node: it is filled, or emptied, for good.
    pub settings: Settings,
    /// Whether nodes are probed: if not, nothing else would ever say that one is healthy again.
    pub probed: bool,
    /// How many nodes must hold every acked write, beside the primary's own office (mirrored).
    pub min_in_sync: usize,
    /// The first probes of nodes that are new.
    pub probes: Vec<Event>,
}

/// Why other settings cannot be taken over now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The node to go is the primary, or the last one there was.
    InOffice {
        /// Which node.
        node: usize,
    },
    /// A promotion is under way, or stopped half way.
    Promoting,
    /// It is new, and an earlier process has left its view: who holds what is taken up at the start alone.
    Remembered,
    /// Without the node too few would hold every acked write.
    TooFew {
        /// Which node.
        node: usize,
    },
}

impl Unfit {
    /// What to do about it.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::InOffice { .. } => "it is the primary: promote another node first (tidegate promote), then reload",
            Self::Promoting => "a promotion is under way, or has stopped half way: reload when there is a primary",
            Self::Remembered => "needs a restart: state_dir remembers an upstream of this name; or give it another one",
            Self::TooFew { .. } => {
                "without it fewer than min_in_sync nodes hold every acknowledged write: bring another node back first, or lower min_in_sync"
            }
        }
    }
}

impl Machine {
    /// Why other settings cannot be taken over now; none: they can.
    #[must_use]
    pub fn unfit(&self, to: &TakeOver) -> Option<Unfit> {
        if !self.has_primary() {
            return None;
        }
        let goes = |node: usize| {
            let filled = |slots: &[Slot]| slots.get(node).is_some_and(|slot| slot.filled);
            filled(&self.settings.nodes) && !filled(&to.settings.nodes)
        };
        if let Some(node) = self.primary.or(self.deposed).filter(|node| goes(*node)) {
            return Some(Unfit::InOffice { node });
        }
        let changes = self.settings.sharing != to.settings.sharing || (0..self.nodes.len()).any(goes);
        if (self.phase != Phase::Idle || self.pending.is_some()) && changes {
            return Some(Unfit::Promoting);
        }
        if matches!(to.settings.sharing, Sharing::Mirrored { .. }) {
            let in_sync = |node: &usize| self.node(*node).is_some_and(|tracked| tracked.in_sync);
            let left = (0..self.nodes.len()).filter(|node| in_sync(node) && !goes(*node));
            let gone = (0..self.nodes.len()).find(|node| in_sync(node) && goes(*node));
            if let Some(node) = gone.filter(|_| left.count() < to.min_in_sync.max(1)) {
                return Some(Unfit::TooFew { node });
            }
        }
        None
    }

    /// Goes on under other settings. Those that are [`Machine::unfit`] are not to be given.
    pub fn take_over(&mut self, now: MonoTime, to: TakeOver, observed: Observed, effects: &mut Vec<Effect>) {
        self.stepping(now, observed, effects, |machine, effects| {
            machine.exchange(now, to, effects);
        });
    }

    fn exchange(&mut self, now: MonoTime, to: TakeOver, effects: &mut Vec<Effect>) {
        let there = |machine: &Self| -> Vec<bool> { machine.nodes.iter().map(|node| node.filled).collect() };
        let before = there(self);
        self.settings = Settings {
            epoch: self.settings.epoch,
            ..to.settings
        };
        for node in 0..self.settings.nodes.len() {
            self.reseat(now, node, effects);
        }
        let stay = there(self).iter().zip(&before).any(|(is, was)| *is && *was);
        if self.settings.sharing == Sharing::Store && self.settings.spread == Spread::All {
            self.primary = None;
            // All traffic moves to nodes that had none: what is stored is confirmed there once. Active-passive counts it by itself.
            if before.contains(&true) && !stay && Rule::R53.holds() {
                self.epoch = self.epoch.next(); // R53
            }
        }
        if !to.probed {
            self.trust_all(now);
        }
        for event in to.probes {
            self.take(now, event, effects);
        }
    }

    /// Who sits in a place now.
    fn reseat(&mut self, now: MonoTime, node: usize, effects: &mut Vec<Effect>) {
        let Some(slot) = self.settings.nodes.get(node).copied() else {
            return;
        };
        let initial = self.settings.initial;
        let holds = matches!(self.settings.sharing, Sharing::Store | Sharing::Homes) || !Rule::R33b.holds();
        let Some(tracked) = self.nodes.get_mut(node) else {
            // R33b, R36: it may hold anything.
            let mut joined = Tracked::new(now, slot, initial, holds && slot.filled);
            joined.late = true;
            self.nodes.push(joined);
            return;
        };
        match (tracked.filled, slot.filled) {
            (true, true) => tracked.regrade(slot.standby, initial),
            (false, true) => {
                *tracked = Tracked::new(now, slot, initial, holds);
                tracked.late = true;
            }
            (true, false) => {
                *tracked = Tracked::new(now, slot, initial, false);
                effects.push(Effect::CloseIdle { node });
                self.pinned = self.pinned.filter(|pinned| *pinned != node);
                self.kept = self.kept.filter(|kept| *kept != node);
                if let Some(claim) = self.claim.as_mut().filter(|claim| claim.node == node) {
                    claim.node = usize::MAX; // R51: still nobody else may claim that term
                }
            }
            (false, false) => {}
        }
    }

    /// Nobody is probed any more.
    fn trust_all(&mut self, now: MonoTime) {
        let there = self.nodes.iter_mut().filter(|node| node.filled);
        for tracked in there.filter(|node| node.power == Power::Running && !node.health.is_up()) {
            tracked.health = Health::Up { failures: 0 };
            tracked.failing_since = None;
            tracked.sound_since = Some(now);
        }
        for tracked in &mut self.nodes {
            tracked.passed = None;
        }
    }
}

impl Tracked {
    /// It waits in reserve another way than before.
    fn regrade(&mut self, standby: Option<Grade>, initial: Initial) {
        let is_cold = |grade: Option<Grade>| matches!(grade, Some(Grade::Cold { .. }));
        let (was, is) = (is_cold(self.standby), is_cold(standby));
        self.standby = standby;
        if was && !is {
            self.power = Power::Running;
            if initial == Initial::Healthy && self.health == Health::Unprobed {
                self.health = Health::Up { failures: 0 };
            }
        } else if is && !was && !self.health.is_up() {
            self.power = Power::Off;
        }
    }
}
