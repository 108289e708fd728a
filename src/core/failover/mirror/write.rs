//! One mirrored write, from its turn to its answer (R33): durable intent, primary, copies, the set shrinks, ack.
//!
//! Each step is given the view of the moment. The write is acked only if the node that applied it is still the primary of the same epoch
//! and every node of the set, as it is then, has confirmed it: a node that joined meanwhile, or whose removal could not be made durable,
//! makes it unknown by the same look.

use super::Standing;
use crate::core::failover::view::Epoch;
use crate::core::reason::WriteOutcome;
use std::collections::BTreeSet;

/// What has happened to a write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come.
    Turn,
    /// Its intent is durable, or cannot be made so.
    Intended(bool),
    /// The primary's answer, as [`crate::core::consistency::write::judge`] sees it.
    Answered(WriteOutcome),
    /// A copy was confirmed, or was not in time.
    Copied {
        /// By which node.
        node: usize,
        /// With a 2xx.
        confirmed: bool,
    },
    /// The owner of the view has removed the node, or could not: the view says which.
    Removed {
        /// Which node.
        node: usize,
    },
}

/// What must be done for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make its intent durable.
    Intend,
    /// Send it to the primary, with its client's conditions.
    Send {
        /// Who that is.
        node: usize,
    },
    /// Send it to this node, without conditions. All of these are sent at once.
    Copy {
        /// Which node.
        node: usize,
    },
    /// Have the owner of the view remove this node from the set, durably.
    Remove {
        /// Which node.
        node: usize,
    },
    /// Nothing more comes of it.
    End(End),
}

/// How a write ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Nothing was sent.
    NotApplied(Why),
    /// The primary refused it; no other node has seen it.
    Rejected,
    /// Every node of the set holds it.
    Acked,
    /// It may be applied anywhere, now or until it settles.
    Unknown,
}

/// Why a write was not sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The view has no primary, or another one than a moment ago.
    NoPrimary,
    /// Fewer nodes are in sync than must hold a write.
    TooFew,
    /// Its intent could not be made durable.
    NotDurable,
    /// The primary could not be reached.
    NotSent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Waiting,
    Intending,
    AtPrimary,
    Copying(BTreeSet<usize>),
    Shrinking(BTreeSet<usize>),
    Over,
}

/// A write at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// `min_in_sync`.
    enough: usize,
    primary: usize,
    epoch: Epoch,
    confirmed: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    phase: Phase,
}

impl Write {
    /// A write that waits for its turn. At least `enough` nodes must hold it in the end.
    #[must_use]
    pub const fn new(enough: usize) -> Self {
        Self {
            enough,
            primary: 0,
            epoch: Epoch(0),
            confirmed: BTreeSet::new(),
            failed: BTreeSet::new(),
            phase: Phase::Waiting,
        }
    }

    /// Who it is for since its turn, and in which epoch.
    #[must_use]
    pub const fn aim(&self) -> (usize, Epoch) {
        (self.primary, self.epoch)
    }

    /// Takes one event under the view of the moment; says what must be done. An event that does not belong to its phase does nothing.
    #[must_use]
    pub fn step(&mut self, view: &Standing, event: Event) -> Vec<Effect> {
        match (std::mem::replace(&mut self.phase, Phase::Over), event) {
            (Phase::Waiting, Event::Turn) => self.begin(view),
            (Phase::Intending, Event::Intended(false)) => vec![Effect::End(End::NotApplied(Why::NotDurable))],
            (Phase::Intending, Event::Intended(true)) if !view.is_still(self.primary, self.epoch) => {
                vec![Effect::End(End::NotApplied(Why::NoPrimary))]
            }
            (Phase::Intending, Event::Intended(true)) => {
                self.phase = Phase::AtPrimary;
                vec![Effect::Send { node: self.primary }]
            }
            (Phase::AtPrimary, Event::Answered(outcome)) => self.answered(view, outcome),
            (Phase::Copying(mut waiting), Event::Copied { node, confirmed }) => {
                if waiting.remove(&node) {
                    let set = if confirmed {
                        &mut self.confirmed
                    } else {
                        &mut self.failed
                    };
                    set.insert(node);
                }
                self.copying(view, waiting)
            }
            (Phase::Shrinking(mut waiting), Event::Removed { node }) => {
                waiting.remove(&node);
                self.shrinking(view, waiting)
            }
            (phase, _) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn begin(&mut self, view: &Standing) -> Vec<Effect> {
        let Some(primary) = view.primary.filter(|primary| view.in_sync.contains(primary)) else {
            return vec![Effect::End(End::NotApplied(Why::NoPrimary))];
        };
        if view.in_sync.len() < self.enough {
            return vec![Effect::End(End::NotApplied(Why::TooFew))]; // R33: before anything is sent
        }
        (self.primary, self.epoch, self.phase) = (primary, view.epoch, Phase::Intending);
        vec![Effect::Intend]
    }

    fn answered(&mut self, view: &Standing, outcome: WriteOutcome) -> Vec<Effect> {
        let end = match outcome {
            WriteOutcome::NotApplied => End::NotApplied(Why::NotSent),
            WriteOutcome::Unknown => End::Unknown,
            // R29: what a deposed primary answers is no promise of the view's.
            WriteOutcome::Applied | WriteOutcome::Rejected if !view.is_still(self.primary, self.epoch) => End::Unknown,
            WriteOutcome::Rejected => End::Rejected,
            WriteOutcome::Applied => {
                let others: BTreeSet<_> = view
                    .in_sync
                    .iter()
                    .copied()
                    .filter(|node| *node != self.primary)
                    .collect();
                self.confirmed.insert(self.primary);
                let mut effects: Vec<_> = others.iter().map(|&node| Effect::Copy { node }).collect();
                effects.extend(self.copying(view, others));
                return effects;
            }
        };
        vec![Effect::End(end)]
    }

    fn copying(&mut self, view: &Standing, waiting: BTreeSet<usize>) -> Vec<Effect> {
        if !waiting.is_empty() {
            self.phase = Phase::Copying(waiting);
            return Vec::new();
        }
        // R33: who has not confirmed leaves the set, durably, before the ack.
        let failed = std::mem::take(&mut self.failed);
        let mut effects: Vec<_> = failed.iter().map(|&node| Effect::Remove { node }).collect();
        effects.extend(self.shrinking(view, failed));
        effects
    }

    fn shrinking(&mut self, view: &Standing, waiting: BTreeSet<usize>) -> Vec<Effect> {
        if !waiting.is_empty() {
            self.phase = Phase::Shrinking(waiting);
            return Vec::new();
        }
        // R29: before the ack.
        let held = view.in_sync.iter().all(|node| self.confirmed.contains(node));
        let acked = view.is_still(self.primary, self.epoch) && held && view.in_sync.len() >= self.enough;
        vec![Effect::End(if acked { End::Acked } else { End::Unknown })]
    }
}
